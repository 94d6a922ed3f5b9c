//! /dev: what is in it ([`populate`]) and what its device numbers open ([`Devices`]).
//!
//! The directory itself is any file system that can hold device nodes, as in other containers a tmpfs; a node, whoever made it, is only a number,
//! which [`Devices`] turns into an open file. The wiring's `SpecialFiles` asks it.
//!
//! Neighbours: `tty` and `hostfd` register their numbers, `vfs` above. Deliberately absent: block devices, /dev/mem, /dev/kmsg.
#![forbid(unsafe_code)]

mod devices;
mod memory;
mod populate;

#[cfg(test)]
mod tests;

pub use devices::{Device, DeviceClass, Devices};
pub use populate::{Console, populate};

/// Numbers of Documentation/admin-guide/devices.txt.
pub mod number {
    pub const MEMORY_MAJOR: u32 = 1;
    pub const NULL: u32 = 3;
    pub const ZERO: u32 = 5;
    pub const FULL: u32 = 7;
    pub const RANDOM: u32 = 8;
    pub const URANDOM: u32 = 9;

    pub const TTY_MAJOR: u32 = 5;
    pub const TTY: u32 = 0;
    pub const CONSOLE: u32 = 1;
    pub const PTMX: u32 = 2;

    /// Unix 98 terminals: majors 136–143.
    pub const PTS_MAJOR: u32 = 136;
}
