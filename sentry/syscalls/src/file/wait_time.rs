//! How long poll(2) and its kin wait: relative times, kept as a deadline, and what is left of them.

use std::time::{Duration, Instant};

use sentry_abi::time::Timeval;
use sentry_abi::{Errno, Result, Timespec, UserAddr};
use sentry_kernel::CurrentTask;

/// A limit to a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// Only looks.
    Now,
    Until(Instant),
    Never,
}

impl Limit {
    pub fn after(duration: Duration) -> Limit {
        if duration.is_zero() {
            return Limit::Now;
        }
        // Beyond what the host's clock can say is never.
        Instant::now().checked_add(duration).map_or(Limit::Never, Limit::Until)
    }

    /// poll(2)'s and epoll_wait(2)'s: negative is for ever.
    pub fn after_ms(ms: i32) -> Limit {
        u64::try_from(ms).map_or(Limit::Never, |ms| Limit::after(Duration::from_millis(ms)))
    }

    /// A `struct timespec` of the guest, NULL for ever. `EINVAL`.
    pub fn read_timespec(task: &CurrentTask, at: UserAddr) -> Result<Limit> {
        if at.is_null() {
            return Ok(Limit::Never);
        }
        let time: Timespec = task.mm().read_obj(at)?;
        time.duration().map(Limit::after)
    }

    /// select(2)'s `struct timeval`: microseconds may be more than a million.
    pub fn read_timeval(task: &CurrentTask, at: UserAddr) -> Result<Limit> {
        if at.is_null() {
            return Ok(Limit::Never);
        }
        let time: Timeval = task.mm().read_obj(at)?;
        duration_of(time).map(Limit::after)
    }

    pub fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Until(at) => Some(at),
            Limit::Now | Limit::Never => None,
        }
    }

    /// What is left, for calls that write it back; nothing for waits without end.
    pub fn left(self) -> Option<Timespec> {
        match self {
            Limit::Never => None,
            Limit::Now => Some(Timespec::default()),
            Limit::Until(at) => Some(Timespec::from_duration(at.saturating_duration_since(Instant::now()))),
        }
    }
}

fn duration_of(time: Timeval) -> Result<Duration> {
    let seconds = time.sec.checked_add(time.usec / 1_000_000).ok_or(Errno::EINVAL)?;
    Timespec::new(seconds, time.usec % 1_000_000 * 1000).duration()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_their_limits() {
        assert_eq!(Limit::after_ms(-1), Limit::Never);
        assert_eq!(Limit::after_ms(0), Limit::Now);
        assert_eq!(Limit::after(Duration::MAX), Limit::Never);
        assert!(Limit::after_ms(10_000).left().is_some_and(|t| t.sec == 9 && t.nsec > 0));
        assert_eq!(duration_of(Timeval { sec: 1, usec: 2_500_000 }), Ok(Duration::from_millis(3500)));
        assert_eq!(duration_of(Timeval { sec: 0, usec: -1 }), Err(Errno::EINVAL));
        assert_eq!(duration_of(Timeval { sec: -1, usec: 0 }), Err(Errno::EINVAL));
        assert_eq!(duration_of(Timeval { sec: i64::MAX, usec: 1_000_000 }), Err(Errno::EINVAL));
    }
}
