//! Interval and POSIX timers: setitimer(2), timer_create(2).

use std::sync::Arc;

use sentry_abi::time::Timeval;
use sentry_abi::{Errno, Signal, Timespec, UserAddr};
use sentry_auth::Caps;
use sentry_kernel::timers::{Interval, Notification, TimerClock};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_time::Remaining;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::clock::{Clock, decode};

/// `struct itimerval`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct IntervalValue {
    interval: Timeval,
    value: Timeval,
}

fn which(number: i32) -> Result<Interval, Errno> {
    match number {
        0 => Ok(Interval::Real),
        1 => Ok(Interval::Virtual),
        2 => Ok(Interval::Prof),
        _ => Err(Errno::EINVAL),
    }
}

fn to_ns(time: Timeval) -> Result<u64, Errno> {
    if time.sec < 0 || !(0..1_000_000).contains(&time.usec) { Err(Errno::EINVAL) } else { Ok(time.as_ns() as u64) }
}

fn interval_value(left: Remaining) -> IntervalValue {
    // A timer that is armed never shows 0.
    let value = left.remaining_ns.div_ceil(1000) * 1000;
    IntervalValue { interval: Timeval::from_ns(left.interval_ns as i64), value: Timeval::from_ns(value as i64) }
}

/// [getitimer(2)](https://man7.org/linux/man-pages/man2/getitimer.2.html).
pub fn getitimer(task: &mut CurrentTask, kind: i32, at: UserAddr) -> SysResult {
    let left = task.task.group.timers.interval(which(kind)?);
    task.mm().write_obj(at, &interval_value(left))?;
    Ok(0)
}

/// [setitimer(2)](https://man7.org/linux/man-pages/man2/getitimer.2.html).
pub fn setitimer(task: &mut CurrentTask, kind: i32, new_at: UserAddr, old_at: UserAddr) -> SysResult {
    let (value, interval) = if new_at.is_null() {
        (0, 0)
    } else {
        let new: IntervalValue = task.mm().read_obj(new_at)?;
        (to_ns(new.value)?, to_ns(new.interval)?)
    };
    let group = task.task.group.clone();
    let old = group.timers.set_interval(task.kernel(), &group, which(kind)?, value, interval);
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &interval_value(old))?;
    }
    Ok(0)
}

/// [alarm(2)](https://man7.org/linux/man-pages/man2/alarm.2.html).
pub fn alarm(task: &mut CurrentTask, seconds: u32) -> SysResult {
    let group = task.task.group.clone();
    let old = group.timers.set_interval(task.kernel(), &group, Interval::Real, seconds as u64 * 1_000_000_000, 0);
    let left = old.remaining_ns;
    // Rounded to the nearest second, but never to 0 while something was left.
    let rounded = (left + 500_000_000) / 1_000_000_000;
    Ok(if left > 0 { rounded.max(1) } else { 0 })
}

/// `struct sigevent`: 64 bytes.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SigEvent {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    rest: [i32; 11],
}

const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD_ID: i32 = 4;

/// [timer_create(2)](https://man7.org/linux/man-pages/man2/timer_create.2.html).
pub fn timer_create(task: &mut CurrentTask, clock: i32, event_at: UserAddr, id_at: UserAddr) -> SysResult {
    let clock = match decode(task, clock)? {
        Clock::Host(id) if id.is_alarm() && !task.creds().has(Caps::WAKE_ALARM) => return Err(Errno::EPERM.into()),
        Clock::Host(id) if id.has_timers() => TimerClock::Host(id),
        Clock::Host(_) => return Err(Errno::EOPNOTSUPP.into()),
        Clock::ProcessCpu(pid) if pid == task.task.pid() => TimerClock::ProcessCpu,
        // A thread's CPU clock is approximated by its process's: a timer cannot ask the thread itself.
        Clock::ThreadCpu(_) => TimerClock::ProcessCpu,
        Clock::ProcessCpu(_) => return Err(Errno::EPERM.into()),
    };
    let event: Option<SigEvent> = if event_at.is_null() { None } else { Some(task.mm().read_obj(event_at)?) };
    let group = task.task.group.clone();
    let notification = match event {
        // The value is then the timer's id, which is not known yet; programs that give no event do not look at it.
        None => Notification::Process { signal: Signal::SIGALRM, value: 0 },
        Some(event) => notification(task, &event)?,
    };
    let id = group.timers.create(task.kernel(), &group, clock, notification)?;
    if let Err(errno) = task.mm().write_obj(id_at, &id) {
        group.timers.delete(id)?;
        return Err(errno.into());
    }
    Ok(0)
}

fn notification(task: &CurrentTask, event: &SigEvent) -> Result<Notification, Errno> {
    let signal = || u64::try_from(event.signo).ok().and_then(Signal::new).ok_or(Errno::EINVAL);
    match event.notify {
        SIGEV_NONE => Ok(Notification::None),
        SIGEV_SIGNAL => Ok(Notification::Process { signal: signal()?, value: event.value }),
        SIGEV_THREAD_ID => {
            let target = task.kernel().processes.task(event.tid).filter(|t| t.pid() == task.task.pid()).ok_or(Errno::EINVAL)?;
            Ok(Notification::Thread { signal: signal()?, value: event.value, task: Arc::downgrade(&target) })
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `struct itimerspec`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TimerSpec {
    interval: Timespec,
    value: Timespec,
}

fn timer_spec(left: Remaining) -> TimerSpec {
    TimerSpec { interval: Timespec::from_ns(left.interval_ns as i64), value: Timespec::from_ns(left.remaining_ns as i64) }
}

/// [timer_settime(2)](https://man7.org/linux/man-pages/man2/timer_settime.2.html).
pub fn timer_settime(task: &mut CurrentTask, id: i32, flags: i32, new_at: UserAddr, old_at: UserAddr) -> SysResult {
    const TIMER_ABSTIME: i32 = 1;
    let new: TimerSpec = task.mm().read_obj(new_at).map_err(|e| if new_at.is_null() { Errno::EINVAL } else { e })?;
    let value = new.value.duration()?.as_nanos() as u64;
    let interval = new.interval.duration()?.as_nanos() as u64;
    let old = task.task.group.timers.set(id, flags & TIMER_ABSTIME != 0, value, interval)?;
    if !old_at.is_null() {
        task.mm().write_obj(old_at, &timer_spec(old))?;
    }
    Ok(0)
}

/// [timer_gettime(2)](https://man7.org/linux/man-pages/man2/timer_settime.2.html).
pub fn timer_gettime(task: &mut CurrentTask, id: i32, at: UserAddr) -> SysResult {
    let left = task.task.group.timers.get(id)?;
    task.mm().write_obj(at, &timer_spec(left))?;
    Ok(0)
}

/// [timer_getoverrun(2)](https://man7.org/linux/man-pages/man2/timer_getoverrun.2.html).
pub fn timer_getoverrun(task: &mut CurrentTask, id: i32) -> SysResult {
    Ok(task.task.group.timers.overrun(id)? as u64)
}

/// [timer_delete(2)](https://man7.org/linux/man-pages/man2/timer_delete.2.html).
pub fn timer_delete(task: &mut CurrentTask, id: i32) -> SysResult {
    task.task.group.timers.delete(id)?;
    Ok(0)
}
