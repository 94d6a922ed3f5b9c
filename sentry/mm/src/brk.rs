//! brk(2): a region of its own, grown by mmap; the host's brk is never called (LAWS 13.9).

use sentry_abi::user::page_up;
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_platform::{GuestThread, Prot, Share};

use crate::layout::STACK_GUARD;
use crate::map::Fresh;
use crate::mm::{Mm, Tree};
use crate::vma::{Vma, VmaFlags};

/// What a change of the break asks of the host.
enum Change {
    /// Within the last page.
    None,
    Shrink(UserRange),
    Grow(Vma),
}

impl Mm {
    /// The raw system call: the break afterwards, unchanged when the request cannot be met.
    pub fn brk(&self, thread: &mut dyn GuestThread, to: UserAddr) -> UserAddr {
        {
            let tree = self.tree.read();
            if to.0 < tree.exec.start_brk || to.0 == tree.exec.brk {
                return UserAddr(tree.exec.brk);
            }
        }
        let operation = self.begin_operation();
        let change = self.tree.read().brk_change(self, to.0);
        let mut populate = None;
        let done = match change {
            Ok(Change::None) => Ok(()),
            Ok(Change::Shrink(range)) => self.unmap_range(thread, range),
            Ok(Change::Grow(vma)) => {
                let range = UserRange::from_bounds(vma.start, vma.end);
                let flags = vma.flags;
                populate = range.filter(|_| flags & (VmaFlags::LOCKED | VmaFlags::LOCKONFAULT) == VmaFlags::LOCKED);
                self.install(thread, vma, Fresh::No)
            }
            Err(errno) => Err(errno),
        };
        let now = {
            let mut tree = self.tree.write();
            if done.is_ok() {
                tree.exec.brk = to.0;
            }
            tree.exec.brk
        };
        drop(operation);
        if let (Ok(()), Some(range)) = (done, populate) {
            self.populate(thread, range, Prot::READ | Prot::WRITE, Share::Private);
        }
        UserAddr(now)
    }
}

impl Tree {
    fn brk_change(&self, mm: &Mm, to: u64) -> Result<Change> {
        let exec = &self.exec;
        if to < exec.start_brk {
            return Err(Errno::ENOMEM);
        }
        let data = (to - exec.start_brk).saturating_add(exec.end_data.saturating_sub(exec.start_data));
        if data > self.limits.data {
            return Err(Errno::ENOMEM);
        }
        let (old, new) = (page_up(exec.brk).ok_or(Errno::ENOMEM)?, page_up(to).ok_or(Errno::ENOMEM)?);
        if new == old {
            return Ok(Change::None);
        }
        if new < old {
            return UserRange::from_bounds(new, old).map(Change::Shrink).ok_or(Errno::ENOMEM);
        }
        let range = UserRange::from_bounds(old, new).filter(|r| mm.guest.contains_range(*r)).ok_or(Errno::ENOMEM)?;
        let free = self.vmas.overlapping(old, new.saturating_add(PAGE_SIZE)).next().is_none();
        let guarded = self
            .vmas
            .after(new)
            .is_some_and(|v| v.flags.contains(VmaFlags::GROWSDOWN) && v.start.saturating_sub(STACK_GUARD) < new.saturating_add(PAGE_SIZE));
        if !free || guarded {
            return Err(Errno::ENOMEM);
        }
        let vma = Vma::anonymous(range, Prot::READ | Prot::WRITE, self.future_lock);
        self.check_count(1)?;
        if !self.may_expand(range.len(), &vma) {
            return Err(Errno::ENOMEM);
        }
        if self.future_lock.contains(VmaFlags::LOCKED) {
            self.admit_lock(range.len(), false)?;
        }
        Ok(Change::Grow(vma))
    }
}
