//! Robust futexes: what the kernel does for the locks of a thread that ends. get_robust_list(2), kernel/futex/core.c `exit_robust_list`.

use std::sync::atomic::Ordering;

use sentry_abi::UserAddr;
use sentry_platform::Share;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::CurrentTask;

const FUTEX_WAITERS: u32 = 0x8000_0000;
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
const FUTEX_TID_MASK: u32 = 0x3fff_ffff;
/// As the kernel: a list that is longer is a loop.
const LIMIT: usize = 2048;

/// `struct robust_list_head`.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Head {
    next: u64,
    futex_offset: i64,
    pending: u64,
}

impl CurrentTask {
    /// Marks the locks that this thread holds as owned by the dead and wakes one waiter of each. Bad addresses end the walk.
    pub(crate) fn release_robust_list(&mut self) {
        let head_at = self.task.robust_list.swap(0, Ordering::Relaxed);
        if head_at == 0 {
            return;
        }
        let Ok(head) = self.mm.read_obj::<Head>(UserAddr(head_at)) else { return };
        let mut entry = head.next;
        for _ in 0..LIMIT {
            // Bit 0 marks a priority-inheriting lock.
            let at = entry & !1;
            if at == head_at || at == 0 {
                break;
            }
            // The next entry is read first: a woken waiter may free this one.
            let next = self.mm.read_obj::<u64>(UserAddr(at));
            if at != head.pending & !1 && !self.owner_died(at.wrapping_add_signed(head.futex_offset)) {
                return;
            }
            let Ok(next) = next else { return };
            entry = next;
        }
        if head.pending & !1 != 0 {
            self.owner_died((head.pending & !1).wrapping_add_signed(head.futex_offset));
        }
    }

    fn owner_died(&mut self, at: u64) -> bool {
        let at = UserAddr(at);
        let Ok(word) = self.mm.read_obj::<u32>(at) else { return false };
        if word & FUTEX_TID_MASK != self.task.tid() as u32 {
            return true;
        }
        let dead = word & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        if self.mm.write(at, &dead.to_le_bytes()).is_err() {
            return false;
        }
        // A waiter may have come between the look and the write: wake whoever waits, whatever the bit said.
        for share in [Share::Private, Share::Shared] {
            let _ = self.thread.futex_wake(at, 1, share);
        }
        true
    }
}
