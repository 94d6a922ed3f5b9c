//! Locks with an order, wait queues and parking. Every lock of the sentry comes from here and names its [`Level`].
//!
//! Rule: a thread takes locks in rising level order, holds none over an IPC call, a guest run or a copy to or from a guest.
#![forbid(unsafe_code)]

mod level;
mod lock;
mod wait;

pub use level::Level;
pub use lock::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use wait::{Events, Notify, Parker, WaitQueue, Waiter};
