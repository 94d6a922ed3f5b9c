//! Memory.

pub mod map;
pub mod process;
