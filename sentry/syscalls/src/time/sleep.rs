//! nanosleep(2), clock_nanosleep(2).

use std::time::{Duration, Instant};

use sentry_abi::{Errno, Timespec, UserAddr};
use sentry_kernel::{BlockError, CurrentTask, Restart, Stop, SysResult};

use super::clock::{Clock, decode};

const TIMER_ABSTIME: i32 = 1;
/// A clock that may be set is looked at this often.
const RECHECK: Duration = Duration::from_millis(500);

/// [nanosleep(2)](https://man7.org/linux/man-pages/man2/nanosleep.2.html).
pub fn nanosleep(task: &mut CurrentTask, request: UserAddr, remain: UserAddr) -> SysResult {
    let time = task.mm().read_obj::<Timespec>(request)?.duration()?;
    relative(task, time, remain)
}

/// [clock_nanosleep(2)](https://man7.org/linux/man-pages/man2/clock_nanosleep.2.html).
pub fn clock_nanosleep(task: &mut CurrentTask, clock: i32, flags: i32, request: UserAddr, remain: UserAddr) -> SysResult {
    let clock = match decode(task, clock)? {
        Clock::Host(id) if id.has_timers() => id,
        Clock::Host(_) | Clock::ProcessCpu(_) => return Err(Errno::EOPNOTSUPP.into()),
        Clock::ThreadCpu(_) => return Err(Errno::EINVAL.into()),
    };
    let time = task.mm().read_obj::<Timespec>(request)?;
    let length = time.duration()?;
    if flags & TIMER_ABSTIME == 0 {
        return relative(task, length, remain);
    }
    loop {
        let left = time.as_ns().saturating_sub(clock.now_ns());
        if left <= 0 {
            return Ok(0);
        }
        let mut step = Duration::from_nanos(left as u64);
        if clock.is_settable() {
            step = step.min(RECHECK);
        }
        if task.sleep(Instant::now().checked_add(step)).is_err() {
            return Err(Stop::Restart(Restart::WithoutHandler));
        }
    }
}

fn relative(task: &mut CurrentTask, time: Duration, remain: UserAddr) -> SysResult {
    until(task, Instant::now().checked_add(time), remain)
}

/// Sleeps until `deadline`; interrupted, it tells what remains and leaves a restart that keeps the deadline.
fn until(task: &mut CurrentTask, deadline: Option<Instant>, remain: UserAddr) -> SysResult {
    match task.sleep(deadline) {
        Ok(()) => Ok(0),
        Err(BlockError::TimedOut) => Ok(0),
        Err(BlockError::Interrupted) => {
            if !remain.is_null() {
                let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
                task.mm().write_obj(remain, &Timespec::from_duration(left))?;
            }
            task.set_restart(Box::new(move |task| until(task, deadline, remain)));
            Err(Stop::Restart(Restart::Block))
        }
    }
}

/// [restart_syscall(2)](https://man7.org/linux/man-pages/man2/restart_syscall.2.html).
pub fn restart_syscall(task: &mut CurrentTask) -> SysResult {
    task.run_restart()
}
