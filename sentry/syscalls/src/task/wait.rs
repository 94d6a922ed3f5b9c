//! wait4(2), waitid(2).

use sentry_abi::signal::{CLD_CONTINUED, CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, CLD_TRAPPED};
use sentry_abi::{Errno, SigInfo, Signal, UserAddr};
use sentry_kernel::task::{Change, WaitEvent, WaitOptions, WaitTarget};
use sentry_kernel::{CurrentTask, ExitStatus, SysResult};

use crate::args::Flags;
use crate::task::limits::rusage;

const WNOHANG: u32 = 1;
const WUNTRACED: u32 = 2;
const WEXITED: u32 = 4;
const WCONTINUED: u32 = 8;
const WNOWAIT: u32 = 0x0100_0000;
const WNOTHREAD: u32 = 0x2000_0000;
const WALL: u32 = 0x4000_0000;
const WCLONE: u32 = 0x8000_0000;

/// [wait4(2)](https://man7.org/linux/man-pages/man2/wait4.2.html); kernel/exit.c.
pub fn wait4(task: &mut CurrentTask, pid: i32, status: UserAddr, options: Flags, usage: UserAddr) -> SysResult {
    if options.0 & !(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WALL | WCLONE) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let target = match pid {
        i32::MIN => return Err(Errno::ESRCH.into()),
        -1 => WaitTarget::Any,
        0 => WaitTarget::Group(own_group(task)),
        p if p < 0 => WaitTarget::Group(-p),
        p => WaitTarget::Process(p),
    };
    let Some(event) = task.wait(target, decode(options.0 | WEXITED))? else { return Ok(0) };
    if !status.is_null() {
        task.mm().write(status, &event.status().to_le_bytes())?;
    }
    if !usage.is_null() {
        task.mm().write_obj(usage, &rusage(&event.usage))?;
    }
    Ok(event.pid as u64)
}

/// [waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html).
pub fn waitid(task: &mut CurrentTask, kind: i32, id: i32, info: UserAddr, options: Flags, usage: UserAddr) -> SysResult {
    let known = WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT | WNOTHREAD | WALL | WCLONE;
    if options.0 & !known != 0 || options.0 & (WEXITED | WUNTRACED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL.into());
    }
    let mut options = options.0;
    let mut or_again = false;
    let target = match (kind, id) {
        (0, _) => WaitTarget::Any,
        (1, id) if id > 0 => WaitTarget::Process(id),
        (2, id) if id > 0 => WaitTarget::Group(id),
        (2, 0) => WaitTarget::Group(own_group(task)),
        (3, fd) if fd >= 0 => {
            let (group, nonblocking) = super::pidfd::target(task, fd)?;
            or_again = nonblocking && options & WNOHANG == 0;
            if nonblocking {
                options |= WNOHANG;
            }
            WaitTarget::Process(group.id)
        }
        _ => return Err(Errno::EINVAL.into()),
    };
    let event = task.wait(target, decode(options))?;
    if event.is_none() && or_again {
        return Err(Errno::EAGAIN.into());
    }
    if !info.is_null() {
        let told = event.as_ref().map_or(SigInfo { signo: 0, errno: 0, code: 0, pad: 0, fields: [0; 14] }, siginfo);
        task.mm().write_obj(info, &told)?;
    }
    if !usage.is_null()
        && let Some(event) = &event
    {
        task.mm().write_obj(usage, &rusage(&event.usage))?;
    }
    Ok(0)
}

fn own_group(task: &CurrentTask) -> i32 {
    task.kernel().processes.process_group(task.task.pid()).unwrap_or(0)
}

fn decode(options: u32) -> WaitOptions {
    WaitOptions {
        exited: options & WEXITED != 0,
        stopped: options & WUNTRACED != 0,
        continued: options & WCONTINUED != 0,
        no_hang: options & WNOHANG != 0,
        no_wait: options & WNOWAIT != 0,
        all: options & WALL != 0,
        clones: options & WCLONE != 0,
    }
}

fn siginfo(event: &WaitEvent) -> SigInfo {
    let (code, status) = match event.change {
        Change::Ended(ExitStatus::Exited(code)) => (CLD_EXITED, code as i32),
        Change::Ended(ExitStatus::Signaled { signal, core: true }) => (CLD_DUMPED, signal.number() as i32),
        Change::Ended(ExitStatus::Signaled { signal, core: false }) => (CLD_KILLED, signal.number() as i32),
        Change::Stopped(signal) => (CLD_STOPPED, signal.number() as i32),
        Change::Trapped(signal) => (CLD_TRAPPED, signal.number() as i32),
        Change::Continued => (CLD_CONTINUED, Signal::SIGCONT.number() as i32),
    };
    SigInfo::child(code, event.pid, event.uid, status, 0, 0)
}
