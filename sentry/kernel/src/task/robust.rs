//! Futexes that the sentry must touch itself: in the memory and the wait queues of the running task's own process.

use std::sync::atomic::Ordering;

use sentry_abi::{Errno, Result, UserAddr};
use sentry_futex::{FutexMemory, walk_robust_list};
use sentry_platform::Share;

use super::CurrentTask;

/// [`FutexMemory`] of a running task.
pub struct TaskFutexes<'a> {
    pub task: &'a mut CurrentTask,
    /// `None`: waiters of both kinds are woken.
    pub share: Option<Share>,
}

impl FutexMemory for TaskFutexes<'_> {
    fn read_u64(&mut self, at: UserAddr) -> Result<u64> {
        self.task.mm.read_obj(at)
    }

    fn read_u64s(&mut self, at: UserAddr) -> Result<[u64; 3]> {
        self.task.mm.read_obj(at)
    }

    fn read_u32(&mut self, at: UserAddr) -> Result<u32> {
        self.task.mm.read_obj(at)
    }

    /// Not atomic against the process's own threads: a waiter's bit that comes between is lost, so every change is followed by a wake-up.
    fn replace_u32(&mut self, at: UserAddr, old: u32, new: u32) -> Result<std::result::Result<(), u32>> {
        let now: u32 = self.task.mm.read_obj(at)?;
        if now != old {
            return Ok(Err(now));
        }
        self.task.mm.write_obj(at, &new)?;
        Ok(Ok(()))
    }

    fn wake(&mut self, at: UserAddr, count: u32) -> Result<u32> {
        let shares = match self.share {
            Some(share) => vec![share],
            None => vec![Share::Private, Share::Shared],
        };
        let mut woken = 0;
        for share in shares {
            woken += self.task.thread.futex_wake(at, count, share).map_err(|e| match e.errno() {
                Errno::ESRCH => Errno::EFAULT,
                other => other,
            })?;
        }
        Ok(woken)
    }
}

impl CurrentTask {
    /// exit_robust_list(): marks the locks that this thread holds as owned by the dead and wakes a waiter of each.
    pub(crate) fn release_robust_list(&mut self) {
        let head = self.task.robust_list.swap(0, Ordering::Relaxed);
        if head != 0 {
            let tid = self.task.tid() as u32;
            walk_robust_list(UserAddr(head), tid, &mut TaskFutexes { task: self, share: None });
        }
    }
}
