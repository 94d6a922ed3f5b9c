//! unshare(2), setns(2): sharing between tasks can be undone; new namespaces are not there yet.

use std::sync::Arc;

use sentry_abi::Errno;
use sentry_kernel::task::clone_flags as flag;
use sentry_kernel::{CurrentTask, SysResult};

/// [unshare(2)](https://man7.org/linux/man-pages/man2/unshare.2.html).
///
/// Differs: namespaces answer EPERM, as to a task without CAP_SYS_ADMIN on a kernel that forbids user namespaces.
pub fn unshare(task: &mut CurrentTask, flags: u64) -> SysResult {
    let known = flag::FS | flag::FILES | flag::SYSVSEM | flag::THREAD | flag::SIGHAND | flag::VM | flag::NAMESPACES;
    if flags & !known != 0 {
        return Err(Errno::EINVAL.into());
    }
    let threads = task.task.group.state.lock().tasks.len();
    if flags & (flag::THREAD | flag::SIGHAND | flag::VM) != 0 && threads > 1 {
        return Err(Errno::EINVAL.into());
    }
    if flags & flag::NAMESPACES != 0 {
        return Err(Errno::EPERM.into());
    }
    if flags & flag::FS != 0 {
        let own = Arc::new(task.task.fs().fork());
        task.task.set_fs(own);
    }
    if flags & flag::FILES != 0 {
        let own = Arc::new(task.files().fork());
        task.task.set_files(own);
    }
    Ok(0)
}

/// [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html).
pub fn setns(task: &mut CurrentTask, fd: i32, _kind: i32) -> SysResult {
    task.file(fd)?;
    Err(Errno::EINVAL.into())
}
