//! Callers and waiters for the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sentry_abi::{Errno, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_sync::{Events, Notify, Waiter};
use sentry_vfs::{Caller, FileDescription, JobControl};

/// A caller without memory, of no session.
pub struct Nobody;

impl Caller for Nobody {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::new(0, 0, &[], Caps::all()))
    }

    fn pid(&self) -> i32 {
        1
    }

    fn copy_in(&self, _: UserAddr, _: &mut [u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }

    fn copy_out(&self, _: UserAddr, _: &[u8]) -> Result<()> {
        Err(Errno::EFAULT)
    }

    fn signal_self(&self, _: Signal) {}

    fn job_control(&self) -> &dyn JobControl {
        self
    }

    fn now(&self) -> Timespec {
        Timespec::default()
    }

    fn install_file(&self, _: Arc<FileDescription>, _: bool) -> Result<i32> {
        Err(Errno::EMFILE)
    }
}

impl JobControl for Nobody {
    fn session(&self) -> i32 {
        1
    }

    fn process_group(&self) -> i32 {
        1
    }

    fn is_session_leader(&self) -> bool {
        false
    }

    fn controlling_terminal(&self) -> Option<u64> {
        None
    }

    fn set_controlling_terminal(&self, _: Option<u64>) -> Result<()> {
        Ok(())
    }

    fn group_in_session(&self, _: i32) -> bool {
        false
    }

    fn group_is_orphaned(&self) -> bool {
        false
    }

    fn ignores(&self, _: Signal) -> bool {
        false
    }

    fn signal_group(&self, _: i32, _: Signal) {}

    fn to_user(&self, id: i32) -> i32 {
        id
    }

    fn from_user(&self, id: i32) -> Option<i32> {
        Some(id)
    }
}

/// Counts wake-ups.
pub struct Count(AtomicU32);

impl Count {
    pub fn waiter(mask: Events) -> (Waiter, Arc<Count>) {
        let count = Arc::new(Count(AtomicU32::new(0)));
        (Waiter::new(count.clone(), mask), count)
    }

    pub fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Notify for Count {
    fn notify(&self, _: Events) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
