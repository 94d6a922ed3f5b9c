//! The clocks of clock_gettime(2) that do not belong to a task.

use nix::time::{ClockId as HostClock, clock_getres, clock_gettime};
use sentry_abi::Timespec;

/// Clock numbers as the kernel's (include/uapi/linux/time.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum ClockId {
    Realtime = 0,
    Monotonic = 1,
    MonotonicRaw = 4,
    RealtimeCoarse = 5,
    MonotonicCoarse = 6,
    Boottime = 7,
    RealtimeAlarm = 8,
    BoottimeAlarm = 9,
    Tai = 11,
}

impl ClockId {
    /// `None` for unknown numbers and for the CPU-time clocks (2, 3 and all negative ones).
    pub const fn from_raw(raw: i32) -> Option<ClockId> {
        Some(match raw {
            0 => ClockId::Realtime,
            1 => ClockId::Monotonic,
            4 => ClockId::MonotonicRaw,
            5 => ClockId::RealtimeCoarse,
            6 => ClockId::MonotonicCoarse,
            7 => ClockId::Boottime,
            8 => ClockId::RealtimeAlarm,
            9 => ClockId::BoottimeAlarm,
            11 => ClockId::Tai,
            _ => return None,
        })
    }

    /// May timers and clock_nanosleep(2) use it? The coarse and raw ones not (`EOPNOTSUPP`).
    pub const fn has_timers(self) -> bool {
        !matches!(self, ClockId::MonotonicRaw | ClockId::RealtimeCoarse | ClockId::MonotonicCoarse)
    }

    /// Does arming a timer on it need CAP_WAKE_ALARM?
    pub const fn is_alarm(self) -> bool {
        matches!(self, ClockId::RealtimeAlarm | ClockId::BoottimeAlarm)
    }

    /// Can somebody set it, so that absolute deadlines move?
    pub const fn is_settable(self) -> bool {
        matches!(self, ClockId::Realtime | ClockId::RealtimeAlarm | ClockId::RealtimeCoarse | ClockId::Tai)
    }

    /// Those of the alarm clocks are read from the clocks they are made of: the host may lack an RTC.
    fn host(self) -> HostClock {
        let raw = match self {
            ClockId::RealtimeAlarm => ClockId::Realtime,
            ClockId::BoottimeAlarm => ClockId::Boottime,
            other => other,
        };
        HostClock::from_raw(raw as i32)
    }

    pub fn now(self) -> Timespec {
        // Every supported host has all of these clocks; should one refuse, its epoch is as good an answer as any.
        clock_gettime(self.host()).map_or(Timespec::default(), |t| Timespec::new(t.tv_sec(), t.tv_nsec()))
    }

    pub fn now_ns(self) -> i64 {
        self.now().as_ns()
    }

    /// clock_getres(2).
    pub fn resolution(self) -> Timespec {
        clock_getres(self.host()).map_or(Timespec::new(0, 1), |t| Timespec::new(t.tv_sec(), t.tv_nsec()))
    }
}

/// CPU time of the calling host thread, ns.
pub fn thread_cpu_ns() -> u64 {
    clock_gettime(HostClock::CLOCK_THREAD_CPUTIME_ID).map_or(0, |t| Timespec::new(t.tv_sec(), t.tv_nsec()).as_ns().unsigned_abs())
}

pub fn now(clock: ClockId) -> Timespec {
    clock.now()
}

pub fn now_ns(clock: ClockId) -> i64 {
    clock.now_ns()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_clocks_run() {
        for raw in -3..20 {
            if let Some(clock) = ClockId::from_raw(raw) {
                assert_eq!(clock as i32, raw);
                assert!(clock.now_ns() > 0);
                let resolution = clock.resolution();
                assert!(resolution.sec == 0 && resolution.nsec > 0);
            }
        }
        assert!(ClockId::from_raw(2).is_none() && ClockId::from_raw(-6).is_none());
        let first = now_ns(ClockId::Monotonic);
        assert!(now_ns(ClockId::Monotonic) >= first);
    }
}
