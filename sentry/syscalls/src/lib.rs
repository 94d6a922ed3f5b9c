//! The system calls of x86-64 Linux: one table ([`table`]), one file a family, one handler a call.
//!
//! A handler decodes in argument order, refuses unknown flags, copies in once, makes one call into the kernel crates, copies out. What a call may
//! return is in its manual page; departures are `Differs:` lines in its documentation.
#![forbid(unsafe_code)]

mod args;
mod dispatch;
mod file;
mod futex;
mod memory;
mod signal;
mod socket;
mod strace;
mod system;
mod sysv;
mod table;
mod task;
#[cfg(test)]
mod testing;
mod time;

pub use dispatch::System;
pub use file::{FileServices, FileSystems, MountRequest};
pub use table::{Entry, Support, entries};
