//! OCI containers as the host's tools see them: identity ([`ContainerId`]), configuration ([`spec`]) and recorded state ([`StateRoot`]).
//!
//! Invariants: an id is one harmless path component; configuration is bounded in size, depth and counts before it is used, and its strings hold no
//! NUL; a state directory is private, made once, and its record replaced by atomic rename. Nothing here parses what a guest wrote.
//! Deliberately absent: processes and sockets (`runsc-launch`), cgroups.
#![forbid(unsafe_code)]

mod id;
mod process;
pub mod spec;
mod state;

pub use id::{BadId, ContainerId};
pub use process::{ProcessId, kill_and_wait};
pub use state::{Container, Record, StateError, StateRoot};
