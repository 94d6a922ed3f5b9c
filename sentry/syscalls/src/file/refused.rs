//! Calls that answer as a kernel without the feature does.

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};

/// Not configured into this kernel: asynchronous I/O, io_uring, fanotify, landlock, the new mount calls.
pub fn not_built_in(_: &mut CurrentTask) -> SysResult {
    Err(Errno::ENOSYS.into())
}

/// [name_to_handle_at(2)](https://man7.org/linux/man-pages/man2/open_by_handle_at.2.html): file systems without export operations.
pub fn no_handles(_: &mut CurrentTask) -> SysResult {
    Err(Errno::EOPNOTSUPP.into())
}

/// Needs a capability that no container has.
pub fn not_permitted(_: &mut CurrentTask) -> SysResult {
    Err(Errno::EPERM.into())
}

/// [ustat(2)](https://man7.org/linux/man-pages/man2/ustat.2.html): no device of this sandbox is a mounted block device.
pub fn ustat(_: &mut CurrentTask, _dev: u32, _ubuf: UserAddr) -> SysResult {
    Err(Errno::EINVAL.into())
}
