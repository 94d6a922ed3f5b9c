//! timerfd_create(2): a timer to wait on. fs/timerfd.c.
//!
//! The file keeps deadline and period itself and computes expirations when asked; the queue's [`Timer`] only wakes those who wait, once per
//! read, so that an unread periodic timer costs nothing.

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

use bitflags::bitflags;
use sentry_abi::{Errno, Result, Timespec, UserAddr};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_time::{ClockId, Remaining, Timer, TimerQueue};
use sentry_vfs::{Caller, FileOps};

bitflags! {
    /// Flags of timerfd_settime(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct TimerFdFlags: u32 {
        const ABSTIME = 1;
        const CANCEL_ON_SET = 2;
    }
}

/// `_IOW('T', 0, __u64)`.
const TFD_IOC_SET_TICKS: u32 = 0x4008_5400;

struct State {
    /// The clock that the deadline is on: relative times of a settable clock are measured by the monotonic one.
    clock: ClockId,
    deadline_ns: Option<i64>,
    interval_ns: u64,
    ticks: u64,
    flags: TimerFdFlags,
}

impl State {
    /// Moves expirations that have come into `ticks`.
    fn advance(&mut self) {
        let Some(deadline) = self.deadline_ns else { return };
        let now = self.clock.now_ns();
        if now < deadline {
            return;
        }
        if self.interval_ns == 0 {
            self.ticks = self.ticks.saturating_add(1);
            self.deadline_ns = None;
            return;
        }
        let passed = (now.abs_diff(deadline) / self.interval_ns).saturating_add(1);
        self.ticks = self.ticks.saturating_add(passed);
        let step = i64::try_from(passed.saturating_mul(self.interval_ns)).unwrap_or(i64::MAX);
        self.deadline_ns = Some(deadline.saturating_add(step));
    }

    fn remaining(&self) -> Remaining {
        let left = self.deadline_ns.map_or(0, |d| d.saturating_sub(self.clock.now_ns()).max(1) as u64);
        Remaining { remaining_ns: left, interval_ns: self.interval_ns }
    }
}

pub struct TimerFd {
    clock: ClockId,
    state: Mutex<State>,
    queue: WaitQueue,
    /// One on the file's clock, one on the clock of relative times; made when first needed.
    timers: [OnceLock<Timer>; 2],
    source: Arc<TimerQueue>,
    me: Weak<TimerFd>,
}

impl TimerFd {
    pub const NAME: &'static str = "anon_inode:[timerfd]";

    /// `EINVAL` for clocks without timers. CAP_WAKE_ALARM for the alarm clocks is the caller's check.
    pub fn new(source: &Arc<TimerQueue>, clock: ClockId) -> Result<Arc<TimerFd>> {
        let allowed = [ClockId::Realtime, ClockId::Monotonic, ClockId::Boottime, ClockId::RealtimeAlarm, ClockId::BoottimeAlarm];
        if !allowed.contains(&clock) {
            return Err(Errno::EINVAL);
        }
        let state = State { clock, deadline_ns: None, interval_ns: 0, ticks: 0, flags: TimerFdFlags::empty() };
        Ok(Arc::new_cyclic(|me| TimerFd {
            clock,
            state: Mutex::new(Level::Epoll, state),
            queue: WaitQueue::new(),
            timers: [OnceLock::new(), OnceLock::new()],
            source: source.clone(),
            me: me.clone(),
        }))
    }

    pub fn clock(&self) -> ClockId {
        self.clock
    }

    /// timerfd_settime(2). A zero `value` disarms. Returns what it was set to.
    pub fn set(&self, flags: TimerFdFlags, value: Timespec, interval: Timespec) -> Result<Remaining> {
        let (value_ns, interval_ns) = (valid_ns(value)?, valid_ns(interval)?);
        let mut state = self.state.lock();
        state.advance();
        let before = state.remaining();
        let absolute = flags.contains(TimerFdFlags::ABSTIME);
        state.clock = if !absolute && self.clock.is_settable() { ClockId::Monotonic } else { self.clock };
        state.deadline_ns = match (value_ns, absolute) {
            (0, _) => None,
            (at, true) => Some(at),
            (after, false) => Some(state.clock.now_ns().saturating_add(after)),
        };
        state.interval_ns = interval_ns as u64;
        state.ticks = 0;
        state.flags = flags;
        self.rearm(&state);
        Ok(before)
    }

    /// timerfd_gettime(2).
    pub fn get(&self) -> Remaining {
        let mut state = self.state.lock();
        let deadline = state.deadline_ns;
        state.advance();
        if state.deadline_ns != deadline {
            self.rearm(&state);
        }
        state.remaining()
    }

    fn rearm(&self, state: &State) {
        for (index, slot) in self.timers.iter().enumerate() {
            let clock = if index == 0 { self.clock } else { ClockId::Monotonic };
            let wanted = state.deadline_ns.filter(|_| state.clock == clock && (index == 0 || self.clock != clock));
            match (wanted, slot.get()) {
                (Some(at), _) => {
                    slot.get_or_init(|| self.make_timer(clock)).arm(at, 0);
                }
                (None, Some(timer)) => {
                    timer.disarm();
                }
                (None, None) => {}
            }
        }
    }

    fn make_timer(&self, clock: ClockId) -> Timer {
        let me = self.me.clone();
        let callback = move |_| {
            if let Some(me) = me.upgrade() {
                me.queue.wake(Events::READ);
            }
        };
        Timer::new(&self.source, clock, Arc::new(callback))
    }
}

fn valid_ns(t: Timespec) -> Result<i64> {
    t.duration()?;
    Ok(t.as_ns())
}

impl FileOps for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ignores_lseek(&self) -> bool {
        true
    }

    fn read(&self, _: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        let dst = dst.get_mut(..8).ok_or(Errno::EINVAL)?;
        let mut state = self.state.lock();
        state.advance();
        if state.ticks == 0 {
            return Err(Errno::EAGAIN);
        }
        dst.copy_from_slice(&std::mem::take(&mut state.ticks).to_ne_bytes());
        self.rearm(&state);
        Ok(8)
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.queue.add(waiter);
        }
        let state = self.state.lock();
        let due = state.ticks > 0 || state.deadline_ns.is_some_and(|d| state.clock.now_ns() >= d);
        if due { want & Events::READ } else { Events::empty() }
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        if command != TFD_IOC_SET_TICKS {
            return Err(Errno::ENOTTY);
        }
        let mut bytes = [0; 8];
        caller.copy_in(UserAddr(argument), &mut bytes)?;
        let ticks = u64::from_ne_bytes(bytes);
        if ticks == 0 {
            return Err(Errno::EINVAL);
        }
        self.state.lock().ticks = ticks;
        self.queue.wake(Events::READ);
        Ok(0)
    }

    fn fdinfo(&self) -> String {
        let state = self.state.lock();
        let Remaining { remaining_ns, interval_ns } = state.remaining();
        format!(
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: ({}, {})\nit_interval: ({}, {})\n",
            self.clock as i32,
            state.ticks,
            state.flags.bits(),
            remaining_ns / 1_000_000_000,
            remaining_ns % 1_000_000_000,
            interval_ns / 1_000_000_000,
            interval_ns % 1_000_000_000
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::testing::{Count, Nobody};

    const MS: i64 = 1_000_000;

    fn take(fd: &TimerFd) -> Result<u64> {
        let mut out = [0; 8];
        fd.read(&Nobody, 0, &mut out)?;
        Ok(u64::from_ne_bytes(out))
    }

    fn wait(fd: &TimerFd) {
        let (waiter, count) = Count::waiter(Events::IN);
        let end = Instant::now() + Duration::from_secs(5);
        if fd.ready(Events::IN, Some(&waiter)).is_empty() {
            while count.get() == 0 {
                assert!(Instant::now() < end, "never woken");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(fd.ready(Events::IN, None), Events::IN);
    }

    #[test]
    fn relative_absolute_and_periodic() {
        let queue = TimerQueue::new();
        for clock in [ClockId::Realtime, ClockId::Monotonic, ClockId::Boottime] {
            let fd = TimerFd::new(&queue, clock).unwrap();
            assert_eq!(take(&fd), Err(Errno::EAGAIN));
            fd.set(TimerFdFlags::empty(), Timespec::from_ns(2 * MS), Timespec::default()).unwrap();
            wait(&fd);
            assert_eq!((take(&fd), take(&fd)), (Ok(1), Err(Errno::EAGAIN)));
            fd.set(TimerFdFlags::ABSTIME, Timespec::from_ns(clock.now_ns() - 10 * MS), Timespec::from_ns(MS)).unwrap();
            wait(&fd);
            assert!(take(&fd).unwrap() >= 11);
            wait(&fd);
            assert!(take(&fd).unwrap() >= 1);
            let before = fd.set(TimerFdFlags::empty(), Timespec::default(), Timespec::default()).unwrap();
            assert_eq!(before.interval_ns, MS as u64);
            assert_eq!(fd.get(), Remaining::default());
        }
    }

    #[test]
    fn bad_arguments() {
        let queue = TimerQueue::new();
        assert!(TimerFd::new(&queue, ClockId::Tai).is_err());
        let fd = TimerFd::new(&queue, ClockId::Monotonic).unwrap();
        let bad = Timespec::new(0, 1_000_000_000);
        assert_eq!(fd.set(TimerFdFlags::empty(), bad, Timespec::default()), Err(Errno::EINVAL));
        assert_eq!(fd.read(&Nobody, 0, &mut [0; 4]), Err(Errno::EINVAL));
        let long = Timespec::new(i64::MAX, 0);
        fd.set(TimerFdFlags::ABSTIME, long, long).unwrap();
        assert!(fd.get().remaining_ns > 1 << 60);
        assert!(fd.fdinfo().starts_with("clockid: 1\nticks: 0\n"));
    }
}
