//! Numbers of tasks, processes, groups and sessions.

use std::sync::atomic::Ordering;

use sentry_abi::{Errno, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};

/// [getpid(2)](https://man7.org/linux/man-pages/man2/getpid.2.html).
pub fn getpid(task: &mut CurrentTask) -> SysResult {
    Ok(task.task.pid() as u64)
}

/// [gettid(2)](https://man7.org/linux/man-pages/man2/gettid.2.html).
pub fn gettid(task: &mut CurrentTask) -> SysResult {
    Ok(task.task.tid() as u64)
}

/// [getppid(2)](https://man7.org/linux/man-pages/man2/getppid.2.html).
pub fn getppid(task: &mut CurrentTask) -> SysResult {
    Ok(task.kernel().processes.parent(task.task.pid()) as u64)
}

/// [getpgrp(2)](https://man7.org/linux/man-pages/man2/getpgrp.2.html).
pub fn getpgrp(task: &mut CurrentTask) -> SysResult {
    getpgid(task, 0)
}

/// [getpgid(2)](https://man7.org/linux/man-pages/man2/getpgid.2.html).
pub fn getpgid(task: &mut CurrentTask, pid: i32) -> SysResult {
    let pid = process(task, pid)?;
    Ok(task.kernel().processes.process_group(pid).ok_or(Errno::ESRCH)? as u64)
}

/// [getsid(2)](https://man7.org/linux/man-pages/man2/getsid.2.html).
pub fn getsid(task: &mut CurrentTask, pid: i32) -> SysResult {
    let pid = process(task, pid)?;
    Ok(task.kernel().processes.session(pid).ok_or(Errno::ESRCH)? as u64)
}

/// The process of a task id; 0 is the caller's.
fn process(task: &CurrentTask, pid: i32) -> Result<i32, Errno> {
    if pid == 0 {
        return Ok(task.task.pid());
    }
    match task.kernel().processes.task(pid) {
        Some(other) => Ok(other.pid()),
        None => task.kernel().processes.group(pid).map(|g| g.id).ok_or(Errno::ESRCH),
    }
}

/// [setpgid(2)](https://man7.org/linux/man-pages/man2/setpgid.2.html).
pub fn setpgid(task: &mut CurrentTask, pid: i32, group: i32) -> SysResult {
    let caller = task.task.pid();
    let target = if pid == 0 { caller } else { pid };
    let group = if group == 0 { target } else { group };
    if group < 0 {
        return Err(Errno::EINVAL.into());
    }
    task.kernel().processes.set_process_group(caller, target, group)?;
    Ok(0)
}

/// [setsid(2)](https://man7.org/linux/man-pages/man2/setsid.2.html).
pub fn setsid(task: &mut CurrentTask) -> SysResult {
    Ok(task.kernel().processes.new_session(task.task.pid())? as u64)
}

/// [set_tid_address(2)](https://man7.org/linux/man-pages/man2/set_tid_address.2.html).
pub fn set_tid_address(task: &mut CurrentTask, at: UserAddr) -> SysResult {
    task.task.clear_child_tid.store(at.0, Ordering::Relaxed);
    gettid(task)
}

const ROBUST_HEAD_SIZE: u64 = 24;

/// [set_robust_list(2)](https://man7.org/linux/man-pages/man2/set_robust_list.2.html).
pub fn set_robust_list(task: &mut CurrentTask, head: UserAddr, len: u64) -> SysResult {
    if len != ROBUST_HEAD_SIZE {
        return Err(Errno::EINVAL.into());
    }
    task.task.robust_list.store(head.0, Ordering::Relaxed);
    Ok(0)
}

/// [get_robust_list(2)](https://man7.org/linux/man-pages/man2/get_robust_list.2.html).
pub fn get_robust_list(task: &mut CurrentTask, pid: i32, head: UserAddr, len: UserAddr) -> SysResult {
    let target = if pid == 0 { task.task.clone() } else { task.kernel().processes.task(pid).ok_or(Errno::ESRCH)? };
    if !super::pidfd::may_access(task, &target.group) {
        return Err(Errno::EPERM.into());
    }
    task.mm().write_obj(len, &ROBUST_HEAD_SIZE)?;
    task.mm().write_obj(head, &target.robust_list.load(Ordering::Relaxed))?;
    Ok(0)
}
