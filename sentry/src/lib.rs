//! The sentry's process: reads its boot message, locks itself up, wires the kernel together and runs it. Linked into runsc as `runsc boot`.
//!
//! [`boot`] brings the process up and watches its peers, `control` serves runsc, `wiring` puts the crates below together.
#![forbid(unsafe_code)]

mod boot;
mod control;
mod monitor;
mod wiring;

pub use boot::boot;
