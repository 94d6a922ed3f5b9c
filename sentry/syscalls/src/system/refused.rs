//! Calls that a sandbox does not have; each answers what a Linux without the feature, or without the right to it, answers.

use sentry_abi::Errno;
use sentry_kernel::{CurrentTask, SysResult};

/// The kernel was built without it.
pub fn enosys(_task: &mut CurrentTask) -> SysResult {
    Err(Errno::ENOSYS.into())
}

/// Privileges over the machine that no container has.
pub fn eperm(_task: &mut CurrentTask) -> SysResult {
    Err(Errno::EPERM.into())
}

/// There is nothing of the kind.
pub fn einval(_task: &mut CurrentTask) -> SysResult {
    Err(Errno::EINVAL.into())
}

/// pkey_alloc(2) without memory protection keys.
pub fn enospc(_task: &mut CurrentTask) -> SysResult {
    Err(Errno::ENOSPC.into())
}
