//! Who reads the lower during a copy-up: the kernel itself.

use std::sync::Arc;

use sentry_abi::{Errno, Result, Signal, Timespec, UserAddr};
use sentry_auth::{Caps, Credentials};
use sentry_vfs::{Caller, FileDescription, JobControl};

/// Root without memory, signals or terminals.
pub(crate) struct Kernel;

impl Caller for Kernel {
    fn credentials(&self) -> Arc<Credentials> {
        Arc::new(Credentials::new(0, 0, &[], Caps::all()))
    }

    fn pid(&self) -> i32 {
        0
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
        Err(Errno::EBADF)
    }
}

impl JobControl for Kernel {
    fn session(&self) -> i32 {
        0
    }

    fn process_group(&self) -> i32 {
        0
    }

    fn is_session_leader(&self) -> bool {
        false
    }

    fn controlling_terminal(&self) -> Option<u64> {
        None
    }

    fn set_controlling_terminal(&self, _: Option<u64>) -> Result<()> {
        Err(Errno::EPERM)
    }

    fn group_in_session(&self, _: i32) -> bool {
        false
    }

    fn group_is_orphaned(&self) -> bool {
        false
    }

    fn ignores(&self, _: Signal) -> bool {
        true
    }

    fn signal_group(&self, _: i32, _: Signal) {}

    fn to_user(&self, id: i32) -> i32 {
        id
    }

    fn from_user(&self, id: i32) -> Option<i32> {
        Some(id)
    }
}
