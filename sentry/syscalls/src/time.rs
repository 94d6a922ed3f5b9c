//! Clocks, sleeping, timers.

pub mod clock;
pub mod sleep;
pub mod timer;
