//! The kernel proper: tasks, processes, signals, descriptors, program loading.
//!
//! [`Task`] is what other tasks may see of a thread, [`CurrentTask`] the running one, [`ThreadGroup`] a process, [`Kernel`] what all share.
//! System calls themselves live in the crate above; they reach everything through [`CurrentTask`].
#![forbid(unsafe_code)]

pub mod cpu;
mod fd_table;
mod fs_state;
mod kernel;
mod limits;
pub mod loader;
mod process_tree;
mod ptrace;
mod ptrace_access;
pub mod random;
pub mod signal;
pub mod task;
mod thread_group;
pub mod timers;
pub mod uts;

pub use fd_table::FdTable;
pub use fs_state::{FsState, Places};
pub use kernel::{InitProcess, Kernel, KernelParts, MemoryInfo, PreparedInit, SystemCalls, Terminals, mm_limits};
pub use limits::{INFINITY, Limit, Limits, Resource};
pub use process_tree::{PID_MAX, ProcessTree};
pub use ptrace::TraceStop;
pub use ptrace_access::AccessIds;
pub use task::{BlockError, CurrentTask, Restart, RunState, Stop, SysResult, Task};
pub use thread_group::{ExitStatus, StopReport, ThreadGroup, Usage};
