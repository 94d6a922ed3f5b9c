//! Tasks, processes and what belongs to them.

pub mod clone;
pub mod creds;
pub mod exec;
pub mod exit;
pub mod ids;
pub mod limits;
pub mod namespace;
pub mod pidfd;
pub mod prctl;
pub mod ptrace;
pub mod sched;
pub mod wait;
