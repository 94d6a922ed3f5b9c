//! Futex operations that the stub cannot execute natively, as pure logic over [`FutexMemory`].
//!
//! Waiting and waking are the host's own (LAWS 3.3). Nothing is queued here: a requeue is a wake of both counts, which is legal since waiters
//! look at their word again. Deliberately absent: priority inheritance (the tid in the word is not the host's; ENOSYS), futex_waitv.
#![forbid(unsafe_code)]

mod operation;
mod robust;

pub use operation::{FutexCall, Request, WakeOp, execute};
pub use robust::{ROBUST_LIST_HEAD_SIZE, walk_robust_list};

use sentry_abi::{Result, UserAddr};

/// Guest memory and the host's futex queues, as the dying or calling thread reaches them.
pub trait FutexMemory {
    fn read_u64(&mut self, at: UserAddr) -> Result<u64>;
    /// Three in a row; one access to guest memory instead of three where the implementation can.
    fn read_u64s(&mut self, at: UserAddr) -> Result<[u64; 3]> {
        Ok([self.read_u64(at)?, self.read_u64(at.offset(8)?)?, self.read_u64(at.offset(16)?)?])
    }
    fn read_u32(&mut self, at: UserAddr) -> Result<u32>;
    /// Stores `new` if the word is still `old`; otherwise says what it is. As atomic as the platform can.
    fn replace_u32(&mut self, at: UserAddr, old: u32, new: u32) -> Result<std::result::Result<(), u32>>;
    /// Wakes up to `count` waiters of the word; how many were.
    fn wake(&mut self, at: UserAddr, count: u32) -> Result<u32>;
}
