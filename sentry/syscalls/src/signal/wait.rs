//! Waiting for signals: pause(2), rt_sigsuspend(2), rt_sigtimedwait(2).

use std::time::Instant;

use sentry_abi::{Errno, SigSet, Timespec, UserAddr};
use sentry_kernel::{BlockError, CurrentTask, Restart, Stop, SysResult};
use sentry_sync::Events;

use super::action::SIGSET_SIZE;

/// [pause(2)](https://man7.org/linux/man-pages/man2/pause.2.html).
pub fn pause(task: &mut CurrentTask) -> SysResult {
    let _ = task.sleep(None);
    Err(Stop::Restart(Restart::WithoutHandler))
}

/// [rt_sigsuspend(2)](https://man7.org/linux/man-pages/man2/sigsuspend.2.html).
pub fn rt_sigsuspend(task: &mut CurrentTask, mask: UserAddr, size: u64) -> SysResult {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let mask: SigSet = task.mm().read_obj(mask)?;
    task.set_temporary_mask(mask);
    let _ = task.sleep(None);
    Err(Stop::Restart(Restart::WithoutHandler))
}

/// [rt_sigtimedwait(2)](https://man7.org/linux/man-pages/man2/sigwaitinfo.2.html).
pub fn rt_sigtimedwait(task: &mut CurrentTask, set: UserAddr, info: UserAddr, timeout: UserAddr, size: u64) -> SysResult {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL.into());
    }
    let wanted = task.mm().read_obj::<SigSet>(set)?.without(SigSet::UNBLOCKABLE);
    let deadline = if timeout.is_null() {
        None
    } else {
        let limit = task.mm().read_obj::<Timespec>(timeout)?.duration()?;
        Instant::now().checked_add(limit)
    };
    task.task.set_awaited(wanted);
    let got = task.block_until(Events::all(), deadline, |_| task.task.take_signal(wanted));
    task.task.set_awaited(SigSet::EMPTY);
    let got = match got {
        Ok(got) => got,
        Err(BlockError::TimedOut) => return Err(Errno::EAGAIN.into()),
        // One of the awaited may have come together with another signal.
        Err(BlockError::Interrupted) => task.task.take_signal(wanted).ok_or(Stop::Fail(Errno::EINTR))?,
    };
    if !info.is_null() {
        task.mm().write_obj(info, &got)?;
    }
    Ok(got.signo as u64)
}
