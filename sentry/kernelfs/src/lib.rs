//! File systems that show the kernel: proc(5) and sysfs(5).
//!
//! [`pseudo`] has the inodes that both are made of: directories, generated texts, links. What they show is computed when it is read.
#![forbid(unsafe_code)]

mod proc;
mod pseudo;
mod sys;

pub use proc::{HostFacts, ProcFs};
pub use sys::SysFs;
