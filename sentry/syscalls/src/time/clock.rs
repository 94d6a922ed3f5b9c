//! Reading clocks. The vDSO answers most of these without a call.

use std::time::Duration;

use sentry_abi::time::Timeval;
use sentry_abi::{Errno, Timespec, UserAddr};
use sentry_auth::Caps;
use sentry_kernel::timers::process_cpu_time;
use sentry_kernel::{CurrentTask, SysResult};
use sentry_time::ClockId;

const CLOCK_PROCESS_CPUTIME: i32 = 2;
const CLOCK_THREAD_CPUTIME: i32 = 3;

/// What a clock number means to the calling task.
pub enum Clock {
    Host(ClockId),
    ProcessCpu(i32),
    ThreadCpu(i32),
}

/// CPU clocks of processes and threads are negative numbers: ~pid << 3 | per-thread | type (clock_getcpuclockid(3)).
pub fn decode(task: &CurrentTask, clock: i32) -> Result<Clock, Errno> {
    match clock {
        CLOCK_PROCESS_CPUTIME => Ok(Clock::ProcessCpu(task.task.pid())),
        CLOCK_THREAD_CPUTIME => Ok(Clock::ThreadCpu(task.task.tid())),
        c if c < 0 => {
            let (id, per_thread) = (!(c >> 3), c & 4 != 0);
            if c & 3 == 3 {
                return Err(Errno::EINVAL);
            }
            let id = match (id, per_thread) {
                (0, true) => task.task.tid(),
                (0, false) => task.task.pid(),
                (id, _) => id,
            };
            if per_thread {
                let other = task.kernel().processes.task(id).ok_or(Errno::EINVAL)?;
                if other.pid() != task.task.pid() {
                    return Err(Errno::EINVAL);
                }
                Ok(Clock::ThreadCpu(id))
            } else {
                task.kernel().processes.group(id).ok_or(Errno::EINVAL)?;
                Ok(Clock::ProcessCpu(id))
            }
        }
        c => ClockId::from_raw(c).map(Clock::Host).ok_or(Errno::EINVAL),
    }
}

fn read(task: &mut CurrentTask, clock: i32) -> Result<Timespec, Errno> {
    Ok(match decode(task, clock)? {
        Clock::Host(id) => return Ok(id.now()),
        other => {
            task.task.note_system_time();
            read_cpu(task, &other)?
        }
    })
}

fn read_cpu(task: &mut CurrentTask, clock: &Clock) -> Result<Timespec, Errno> {
    Ok(match *clock {
        Clock::Host(id) => id.now(),
        Clock::ProcessCpu(pid) => {
            let group = task.kernel().processes.group(pid).ok_or(Errno::EINVAL)?;
            Timespec::from_duration(process_cpu_time(&group))
        }
        Clock::ThreadCpu(tid) if tid == task.task.tid() => {
            let used: Duration = task.thread.cpu_time() + task.task.system_time();
            Timespec::from_duration(used)
        }
        // Only a thread itself can ask for its clock (LAWS 13.2).
        Clock::ThreadCpu(_) => return Err(Errno::EINVAL),
    })
}

/// [clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html).
pub fn clock_gettime(task: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    let now = read(task, clock)?;
    task.mm().write_obj(at, &now)?;
    Ok(0)
}

/// [clock_getres(2)](https://man7.org/linux/man-pages/man2/clock_getres.2.html).
pub fn clock_getres(task: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    let resolution = match decode(task, clock)? {
        Clock::Host(id) => id.resolution(),
        _ => Timespec::new(0, 1),
    };
    if !at.is_null() {
        task.mm().write_obj(at, &resolution)?;
    }
    Ok(0)
}

/// [clock_settime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html): no guest sets the host's clocks.
pub fn clock_settime(task: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    task.mm().read_obj::<Timespec>(at)?;
    match decode(task, clock)? {
        Clock::Host(ClockId::Realtime) => Err(Errno::EPERM.into()),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// [gettimeofday(2)](https://man7.org/linux/man-pages/man2/gettimeofday.2.html).
pub fn gettimeofday(task: &mut CurrentTask, at: UserAddr, zone: UserAddr) -> SysResult {
    if !at.is_null() {
        let now = Timeval::from_ns(ClockId::Realtime.now_ns());
        task.mm().write_obj(at, &now)?;
    }
    if !zone.is_null() {
        task.mm().write_array(zone, &[0i32, 0])?;
    }
    Ok(0)
}

/// [settimeofday(2)](https://man7.org/linux/man-pages/man2/gettimeofday.2.html).
pub fn settimeofday(task: &mut CurrentTask, _at: UserAddr, _zone: UserAddr) -> SysResult {
    task.creds().require(Caps::SYS_TIME)?;
    Err(Errno::EPERM.into())
}

/// [time(2)](https://man7.org/linux/man-pages/man2/time.2.html).
pub fn time(task: &mut CurrentTask, at: UserAddr) -> SysResult {
    let now = ClockId::Realtime.now().sec;
    if !at.is_null() {
        task.mm().write_obj(at, &now)?;
    }
    Ok(now as u64)
}

/// `struct timex` is 208 bytes; modes, the first word, must be 0 for reading.
const TIMEX_SIZE: usize = 208;

/// [adjtimex(2)](https://man7.org/linux/man-pages/man2/adjtimex.2.html): reading answers an unsynchronised clock.
pub fn adjtimex(task: &mut CurrentTask, at: UserAddr) -> SysResult {
    let modes: u32 = task.mm().read_obj(at)?;
    if modes != 0 {
        return Err(Errno::EPERM.into());
    }
    let mut out = [0u8; TIMEX_SIZE];
    const STA_UNSYNC: i32 = 0x40;
    const TIME_ERROR: u64 = 5;
    out[40..44].copy_from_slice(&STA_UNSYNC.to_le_bytes());
    let now = Timeval::from_ns(ClockId::Realtime.now_ns());
    out[72..80].copy_from_slice(&now.sec.to_le_bytes());
    out[80..88].copy_from_slice(&now.usec.to_le_bytes());
    out[88..96].copy_from_slice(&10_000i64.to_le_bytes());
    task.mm().write(at, &out)?;
    Ok(TIME_ERROR)
}

/// [clock_adjtime(2)](https://man7.org/linux/man-pages/man2/adjtimex.2.html).
pub fn clock_adjtime(task: &mut CurrentTask, clock: i32, at: UserAddr) -> SysResult {
    match decode(task, clock)? {
        Clock::Host(ClockId::Realtime) => adjtimex(task, at),
        _ => Err(Errno::EOPNOTSUPP.into()),
    }
}
