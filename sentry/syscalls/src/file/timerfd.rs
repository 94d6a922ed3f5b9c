//! timerfd_create(2), timerfd_settime(2), timerfd_gettime(2).

use std::sync::Arc;

use sentry_abi::file::ItimerSpec;
use sentry_abi::{Errno, Result, Timespec, UserAddr};
use sentry_auth::Caps;
use sentry_fs_anonfs::{TimerFd, TimerFdFlags};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_time::{ClockId, Remaining};
use sentry_vfs::{FileDescription, FileOps, StatusFlags};

use super::fd::{O_CLOEXEC, O_NONBLOCK};
use crate::args::Flags;

/// [timerfd_create(2)](https://man7.org/linux/man-pages/man2/timerfd_create.2.html).
pub fn timerfd_create(task: &mut CurrentTask, clockid: i32, flags: Flags) -> SysResult {
    if flags.0 & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let clock = ClockId::from_raw(clockid).ok_or(Errno::EINVAL)?;
    if clock.is_alarm() {
        task.creds().require(Caps::WAKE_ALARM)?;
    }
    let ops = TimerFd::new(&task.kernel().timers, clock)?;
    let file = task.kernel().anon.file(ops, TimerFd::NAME, StatusFlags::from_bits_truncate(flags.0 & O_NONBLOCK));
    Ok(task.install(file, flags.0 & O_CLOEXEC != 0)? as u64)
}

fn timer_of(file: &FileDescription) -> Result<&TimerFd> {
    let ops: &dyn FileOps = file.ops.as_ref();
    ops.as_any().downcast_ref::<TimerFd>().ok_or(Errno::EINVAL)
}

fn to_spec(remaining: Remaining) -> ItimerSpec {
    let time = |ns: u64| Timespec::from_ns(i64::try_from(ns).unwrap_or(i64::MAX));
    ItimerSpec { interval: time(remaining.interval_ns), value: time(remaining.remaining_ns) }
}

/// [timerfd_settime(2)](https://man7.org/linux/man-pages/man2/timerfd_settime.2.html).
pub fn timerfd_settime(task: &mut CurrentTask, fd: i32, flags: Flags, new_value: UserAddr, old_value: UserAddr) -> SysResult {
    let new: ItimerSpec = task.mm().read_obj(new_value)?;
    let flags = TimerFdFlags::from_bits(flags.0).ok_or(Errno::EINVAL)?;
    new.value.duration()?;
    new.interval.duration()?;
    let file: Arc<FileDescription> = task.file(fd)?;
    let before = timer_of(&file)?.set(flags, new.value, new.interval)?;
    if !old_value.is_null() {
        task.mm().write_obj(old_value, &to_spec(before))?;
    }
    Ok(0)
}

/// [timerfd_gettime(2)](https://man7.org/linux/man-pages/man2/timerfd_gettime.2.html).
pub fn timerfd_gettime(task: &mut CurrentTask, fd: i32, curr_value: UserAddr) -> SysResult {
    let file: Arc<FileDescription> = task.file(fd)?;
    let now = timer_of(&file)?.get();
    task.mm().write_obj(curr_value, &to_spec(now))?;
    Ok(0)
}
