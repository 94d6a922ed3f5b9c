//! Starts the processes of a sandbox (DESIGN §1) and says when they are up.
//!
//! [`Plan`] is what is to run, [`Plan::launch`] runs it, [`Sandbox`] is the result. `ids` chooses users, `facts` reads what a sentry without /proc
//! cannot know, `boot_file` makes boot messages.
//!
//! Invariants: when anything fails, everything that was started is killed and waited for; the error is the deepest cause known. Until
//! [`Sandbox::detach`] the sandbox dies with this process.
//! Deliberately absent: OCI (the caller translates), cgroups.
#![forbid(unsafe_code)]

mod boot_file;
mod connection;
mod facts;
mod ids;
mod plan;
mod sandbox;

pub use connection::{Wait, connect, listen};
pub use facts::host_facts;
pub use plan::{Console, Plan, PlannedTree};
pub use runsc_control::SandboxConfig;
pub use sandbox::{Pids, Sandbox};
pub use sentry_confine::Privilege;

use std::io;

/// Why a sandbox did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{what}")]
    Host { what: &'static str, source: io::Error },
    #[error(transparent)]
    Start(#[from] sentry_confine::StartError),
    /// The sentry's own report.
    #[error("{}", .0.join(": "))]
    Sentry(Vec<String>),
    #[error("the sentry died while starting: {0}")]
    SentryDied(String),
    #[error("boot message: {0}")]
    Boot(String),
}

pub(crate) fn host(what: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError::Host { what, source }
}
