//! Clocks and timers. Clocks are the host's own, read as the guest's vDSO reads them, so that both always agree ([`ClockId`]);
//! timers of all kinds (itimers, POSIX timers, timerfd, alarm) are [`Timer`]s of one [`TimerQueue`].
//!
//! Deliberately absent: the clocks of CPU time (they belong to tasks) and setting a clock (`EPERM` for every guest).
#![forbid(unsafe_code)]

mod clock;
mod timer;

pub use clock::{ClockId, now, now_ns, thread_cpu_ns};
pub use timer::{Remaining, Timer, TimerCallback, TimerQueue};
