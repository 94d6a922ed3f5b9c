//! The Linux user ABI as types: error numbers, call numbers, signals, addresses, structs and flags. x86-64.
//!
//! Constants that need no type of their own are taken from [`uapi`] (the kernel's own headers, Linux 6.17).
//! Structs that cross to a guest are written here, without padding, so that a copy out cannot leak sentry memory.
#![forbid(unsafe_code)]
#![no_std]

pub mod errno;
pub mod file;
pub mod message;
pub mod nr;
pub mod signal;
pub mod stat;
pub mod time;
pub mod user;

pub use errno::{Errno, Result};
pub use signal::{SigInfo, SigSet, Signal};
pub use stat::{FileKind, Mode};
pub use time::Timespec;
pub use user::{PAGE_SIZE, UserAddr, UserRange};

/// The kernel's user headers as constants and plain structs. The structs are for host calls and for constants;
/// what is copied to a guest is one of this crate's own.
pub use linux_raw_sys as uapi;
