//! Time structures as the guest lays them out.

use core::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::errno::{Errno, Result};

/// `struct timespec`, also the form in which times are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec {
    pub const fn new(sec: i64, nsec: i64) -> Timespec {
        Timespec { sec, nsec }
    }

    pub const fn from_ns(ns: i64) -> Timespec {
        Timespec { sec: ns.div_euclid(1_000_000_000), nsec: ns.rem_euclid(1_000_000_000) }
    }

    /// Nanoseconds, saturating.
    pub const fn as_ns(self) -> i64 {
        self.sec.saturating_mul(1_000_000_000).saturating_add(self.nsec)
    }

    /// A relative time as the kernel takes it: `EINVAL` when negative or `nsec` is out of range.
    pub fn duration(self) -> Result<Duration> {
        if self.sec < 0 || !(0..1_000_000_000).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        Ok(Duration::new(self.sec as u64, self.nsec as u32))
    }

    pub const fn from_duration(d: Duration) -> Timespec {
        Timespec { sec: d.as_secs() as i64, nsec: d.subsec_nanos() as i64 }
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    pub sec: i64,
    pub usec: i64,
}

impl Timeval {
    pub const fn from_ns(ns: i64) -> Timeval {
        Timeval { sec: ns.div_euclid(1_000_000_000), usec: ns.rem_euclid(1_000_000_000) / 1000 }
    }

    pub const fn as_ns(self) -> i64 {
        self.sec.saturating_mul(1_000_000_000).saturating_add(self.usec.saturating_mul(1000))
    }
}
