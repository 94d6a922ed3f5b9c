//! The main stack: one fixed mapping in full size, since a stack that grows by faults would leave the tree stale (LAWS 13.8).

use sentry_abi::user::page_down;
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_platform::{GuestThread, Prot};

use crate::layout::STACK_GUARD;
use crate::map::Fresh;
use crate::mm::Mm;
use crate::vma::{Vma, VmaFlags};

/// What an unlimited stack gets.
const UNLIMITED_STACK: u64 = 1 << 30;
/// What Linux grants whatever the limit says: arguments and a little.
const MIN_STACK: u64 = 132 << 10;

/// The main stack as mapped; `top` is page aligned and exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackArea {
    pub bottom: UserAddr,
    pub top: UserAddr,
}

impl Mm {
    /// Maps the main stack below the top of the guest's range, with Linux's randomisation, in the size of the stack limit (at least 132 KiB, at most 1 GiB).
    /// Sets `start_stack` to its top; exec moves it to where the program's stack pointer starts.
    pub fn map_stack(&self, thread: &mut dyn GuestThread, prot: Prot) -> Result<StackArea> {
        let top = self.layout.stack_top;
        let _operation = self.begin_operation();
        let vma = {
            let tree = self.tree.read();
            let size = stack_size(tree.limits.stack).min(self.guest.len() / 8);
            let range = UserRange::from_bounds(top.saturating_sub(page_down(size)), top).ok_or(Errno::ENOMEM)?;
            if !self.guest.contains_range(range) || range.is_empty() || !tree.vmas.is_free(range.start(), range.end()) {
                return Err(Errno::ENOMEM);
            }
            Vma::anonymous(range, prot, VmaFlags::GROWSDOWN | VmaFlags::STACK)
        };
        let area = StackArea { bottom: UserAddr(vma.start), top: UserAddr(vma.end) };
        self.install(thread, vma, Fresh::No)?;
        self.tree.write().exec.start_stack = top - 1;
        Ok(area)
    }

    /// After RLIMIT_STACK was raised (and [`Mm::set_limits`] called): extends the main stack as far as the new limit and its neighbours allow.
    /// A lowered limit changes nothing.
    pub fn grow_stack(&self, thread: &mut dyn GuestThread) -> Result<()> {
        let _operation = self.begin_operation();
        let vma = {
            let tree = self.tree.read();
            let Some(lowest) = tree.vmas.iter().find(|v| v.flags.contains(VmaFlags::STACK)) else { return Ok(()) };
            let floor = tree.vmas.before(lowest.start).map_or(self.guest.start(), |v| v.end.saturating_add(STACK_GUARD));
            let wanted = self.layout.stack_top.saturating_sub(stack_size(tree.limits.stack));
            let start = page_down(wanted).max(floor);
            if start >= lowest.start {
                return Ok(());
            }
            let mut more = lowest.clip(lowest.start, lowest.start + PAGE_SIZE);
            (more.start, more.end) = (start, lowest.start);
            more
        };
        self.install(thread, vma, Fresh::No)
    }
}

fn stack_size(limit: u64) -> u64 {
    page_down(limit.min(UNLIMITED_STACK)).max(MIN_STACK)
}
