//! Sending: kill(2), tgkill(2), sigqueue(3).

use std::sync::Arc;

use sentry_abi::signal::{SI_TKILL, SI_USER};
use sentry_abi::{Errno, SigInfo, Signal, UserAddr};
use sentry_kernel::signal::signal_argument;
use sentry_kernel::{CurrentTask, SysResult, Task, ThreadGroup};

/// May the caller send `signal` to a process (kill(2))? SIGCONT passes within a session.
fn check(task: &CurrentTask, group: &ThreadGroup, signal: Option<Signal>) -> Result<(), Errno> {
    let Some(target) = group.any_task() else { return Ok(()) };
    if task.task.pid() == group.id || task.creds().may_signal(&target.credentials()) {
        return Ok(());
    }
    let tree = &task.kernel().processes;
    if signal == Some(Signal::SIGCONT) && tree.session(group.id) == tree.session(task.task.pid()) {
        return Ok(());
    }
    Err(Errno::EPERM)
}

fn own_info(task: &CurrentTask, signal: Signal, code: i32) -> SigInfo {
    SigInfo::from_sender(signal, code, task.task.pid(), task.creds().uid)
}

/// Checks and sends to a process; `info` as the caller made it, or as kill(2) does.
pub fn to_group(task: &CurrentTask, group: &Arc<ThreadGroup>, signal: Option<Signal>, info: Option<SigInfo>) -> Result<(), Errno> {
    check(task, group, signal)?;
    match signal {
        Some(signal) => group.send(signal, info.unwrap_or_else(|| own_info(task, signal, SI_USER))),
        None => Ok(()),
    }
}

/// [kill(2)](https://man7.org/linux/man-pages/man2/kill.2.html); kernel/signal.c.
pub fn kill(task: &mut CurrentTask, pid: i32, signal: i32) -> SysResult {
    let signal = signal_argument(signal)?;
    let kernel = task.kernel().clone();
    let tree = &kernel.processes;
    if pid > 0 {
        // A thread's number names its process.
        let group = tree.group(pid).or_else(|| tree.task(pid).map(|t| t.group.clone()));
        to_group(task, &group.ok_or(Errno::ESRCH)?, signal, None)?;
        return Ok(0);
    }
    let own = task.task.pid();
    // Nobody is made or ends while the signal goes round.
    let lineage = tree.lineage();
    let groups = || match pid {
        i32::MIN => Vec::new(),
        -1 => tree.groups().into_iter().filter(|g| g.id != 1 && g.id != own).collect(),
        0 => tree.process_group(own).map(|id| tree.members(id)).unwrap_or_default(),
        p => tree.members(-p),
    };
    let mut sent = false;
    let mut refused = Errno::ESRCH;
    for group in groups() {
        let done = check(task, &group, signal).and_then(|()| match signal {
            Some(signal) => group.send_as_one_of(&lineage, signal, own_info(task, signal, SI_USER)),
            None => Ok(()),
        });
        match done {
            Ok(()) => sent = true,
            Err(errno) => refused = errno,
        }
    }
    if sent { Ok(0) } else { Err(refused.into()) }
}

fn thread(task: &CurrentTask, group: Option<i32>, tid: i32) -> Result<Arc<Task>, Errno> {
    if tid <= 0 || group.is_some_and(|g| g <= 0) {
        return Err(Errno::EINVAL);
    }
    let target = task.kernel().processes.task(tid).ok_or(Errno::ESRCH)?;
    if group.is_some_and(|g| g != target.pid()) { Err(Errno::ESRCH) } else { Ok(target) }
}

fn to_thread(task: &CurrentTask, target: &Arc<Task>, signal: Option<Signal>, info: Option<SigInfo>) -> SysResult {
    check(task, &target.group, signal)?;
    if let Some(signal) = signal {
        target.send(signal, info.unwrap_or_else(|| own_info(task, signal, SI_TKILL)))?;
    }
    Ok(0)
}

/// [tkill(2)](https://man7.org/linux/man-pages/man2/tkill.2.html).
pub fn tkill(task: &mut CurrentTask, tid: i32, signal: i32) -> SysResult {
    let target = thread(task, None, tid)?;
    to_thread(task, &target, signal_argument(signal)?, None)
}

/// [tgkill(2)](https://man7.org/linux/man-pages/man2/tkill.2.html).
pub fn tgkill(task: &mut CurrentTask, group: i32, tid: i32, signal: i32) -> SysResult {
    let target = thread(task, Some(group), tid)?;
    to_thread(task, &target, signal_argument(signal)?, None)
}

/// A siginfo from user space: nobody but a process itself may look like the kernel or like kill(2).
fn user_info(task: &CurrentTask, target: i32, signal: Signal, at: UserAddr) -> Result<SigInfo, Errno> {
    let mut info: SigInfo = task.mm().read_obj(at)?;
    info.signo = signal.number() as i32;
    if (info.code >= 0 || info.code == SI_TKILL) && target != task.task.pid() {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

/// [rt_sigqueueinfo(2)](https://man7.org/linux/man-pages/man2/rt_sigqueueinfo.2.html).
pub fn rt_sigqueueinfo(task: &mut CurrentTask, pid: i32, signal: i32, info: UserAddr) -> SysResult {
    let Some(signal) = signal_argument(signal)? else { return kill(task, pid, 0) };
    let info = user_info(task, pid, signal, info)?;
    let group = task.kernel().processes.group(pid).ok_or(Errno::ESRCH)?;
    to_group(task, &group, Some(signal), Some(info))?;
    Ok(0)
}

/// [rt_tgsigqueueinfo(2)](https://man7.org/linux/man-pages/man2/rt_sigqueueinfo.2.html).
pub fn rt_tgsigqueueinfo(task: &mut CurrentTask, group: i32, tid: i32, signal: i32, info: UserAddr) -> SysResult {
    let target = thread(task, Some(group), tid)?;
    let Some(signal) = signal_argument(signal)? else { return to_thread(task, &target, None, None) };
    let info = user_info(task, group, signal, info)?;
    to_thread(task, &target, Some(signal), Some(info))
}
