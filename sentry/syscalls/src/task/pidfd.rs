//! pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).

use std::any::Any;
use std::sync::Arc;

use sentry_abi::{Errno, SigInfo, UserAddr};
use sentry_fs_anonfs::{PidFd, PidTarget};
use sentry_kernel::signal::signal_argument;
use sentry_kernel::{AccessIds, CurrentTask, Kernel, SysResult, ThreadGroup};
use sentry_sync::Waiter;
use sentry_vfs::StatusFlags;

use crate::args::Flags;

const PIDFD_NONBLOCK: u32 = 0o4000;

/// A process behind a pidfd.
struct Process {
    group: Arc<ThreadGroup>,
    kernel: Arc<Kernel>,
}

impl PidTarget for Process {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn exited(&self) -> bool {
        self.group.state.lock().zombie.is_some()
    }

    fn reaped(&self) -> bool {
        self.exited() && self.kernel.processes.group(self.group.id).is_none_or(|g| !Arc::ptr_eq(&g, &self.group))
    }

    fn register(&self, waiter: &Waiter) {
        self.group.ended.add(waiter);
    }

    fn fdinfo(&self) -> String {
        let shown = if self.reaped() { -1 } else { self.group.id };
        format!("Pid:\t{shown}\nNSpid:\t{shown}\n")
    }
}

/// A descriptor for process `pid`, close-on-exec.
pub fn open_for(task: &mut CurrentTask, pid: i32, nonblocking: bool) -> Result<i32, Errno> {
    let group = task.kernel().processes.group(pid).ok_or(Errno::ESRCH)?;
    open_group(task, &group, nonblocking)
}

/// The same for a process that is at hand.
pub fn open_group(task: &mut CurrentTask, group: &Arc<ThreadGroup>, nonblocking: bool) -> Result<i32, Errno> {
    let (kernel, group) = (task.kernel().clone(), group.clone());
    let status = if nonblocking { StatusFlags::NONBLOCK } else { StatusFlags::empty() };
    let file = kernel.anon.file(PidFd::new(Arc::new(Process { group, kernel: kernel.clone() })), PidFd::NAME, status);
    task.install(file, true)
}

/// The process behind a pidfd, and whether the descriptor is non-blocking. `EBADF`.
pub fn target(task: &CurrentTask, fd: i32) -> Result<(Arc<ThreadGroup>, bool), Errno> {
    let file = task.file(fd)?;
    let pidfd = file.ops.as_any().downcast_ref::<PidFd>().ok_or(Errno::EBADF)?;
    let process = pidfd.target().as_any().downcast_ref::<Process>().ok_or(Errno::EBADF)?;
    Ok((process.group.clone(), file.nonblocking()))
}

/// [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html).
pub fn pidfd_open(task: &mut CurrentTask, pid: i32, flags: Flags) -> SysResult {
    if flags.0 & !PIDFD_NONBLOCK != 0 || pid <= 0 {
        return Err(Errno::EINVAL.into());
    }
    if task.kernel().processes.group(pid).is_none() && task.kernel().processes.task(pid).is_some() {
        // A thread that is no leader; Linux answers ENOENT since 6.9, EINVAL before.
        return Err(Errno::ENOENT.into());
    }
    Ok(open_for(task, pid, flags.0 & PIDFD_NONBLOCK != 0)? as u64)
}

/// [pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html).
pub fn pidfd_send_signal(task: &mut CurrentTask, fd: i32, signal: i32, info: UserAddr, flags: Flags) -> SysResult {
    if flags.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (group, _) = target(task, fd)?;
    let signal_number = signal;
    let signal = signal_argument(signal)?;
    let told: Option<SigInfo> = if info.is_null() { None } else { Some(task.mm().read_obj(info)?) };
    if told.is_some_and(|i| i.signo != signal_number) {
        return Err(Errno::EINVAL.into());
    }
    if group.state.lock().zombie.is_some() && task.kernel().processes.group(group.id).is_none() {
        return Err(Errno::ESRCH.into());
    }
    if told.is_some_and(|i| i.code >= 0 || i.code == sentry_abi::signal::SI_TKILL) && group.id != task.task.pid() {
        return Err(Errno::EPERM.into());
    }
    crate::signal::send::to_group(task, &group, signal, told)?;
    Ok(0)
}

/// [pidfd_getfd(2)](https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html).
pub fn pidfd_getfd(task: &mut CurrentTask, pidfd: i32, fd: i32, flags: Flags) -> SysResult {
    if flags.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (group, _) = target(task, pidfd)?;
    let other = group.any_task().ok_or(Errno::ESRCH)?;
    // Taken first, judged then: the process may change its credentials in between.
    let file = other.files().get(fd);
    if !may_access(task, &group) {
        return Err(Errno::EPERM.into());
    }
    let file = file?;
    Ok(task.install(file, true)? as u64)
}

/// ptrace_may_access(PTRACE_MODE_ATTACH_REALCREDS). What is asked for must have been taken before.
pub fn may_access(task: &CurrentTask, group: &ThreadGroup) -> bool {
    group.may_access(&task.creds(), task.task.pid(), AccessIds::Real)
}
