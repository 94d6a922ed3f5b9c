//! How our own processes are locked up: namespaces, an empty root, capabilities, seccomp, and the sealed image they are started from.
//!
//! [`Role`] describes one process of ours and [`Role::begin`] brings it up (ZYGOTE §1: mounts before dropping, ids after mounts, exec last);
//! [`lock_down`] is the last step, made by the process itself. [`Image`] is the copy of the binary that roles are executed from.
//! All raw host calls are in `sys`.
//!
//! Invariants: a role never holds a descriptor that was not listed for it; a failure before exec reaches the caller as text that names the step;
//! when the caller dies, a half-made role dies. [`Role::begin`] forks, so its caller must have one thread only.
//! Deliberately absent: what the roles do, cgroups, the stub's filter (platform).

mod caps;
mod descriptors;
mod image;
mod mounts;
mod profile;
mod program;
mod role;
mod sys;
mod userns;
mod zygote;

pub use caps::Capabilities;
pub use descriptors::{DescriptorError, take};
pub use image::{Image, require_static};
pub use mounts::{MEMORY, Tree};
pub use profile::{Profile, ProfileError};
pub use program::{Action, Instruction};
pub use role::{Child, Namespaces, Role, RoleStart, Root, StartError, UserNamespace};
pub use userns::{IdMap, Privilege};
pub use zygote::{Zygote, ZygoteBirth};

use std::io;

/// Why a process could not be locked up.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("seccomp profile")]
    Profile(#[from] ProfileError),
    #[error("{what}")]
    Host { what: &'static str, source: io::Error },
}

/// The last step of a role, before it reads anything that others wrote: not dumpable, no new privileges, the seccomp filter on all threads.
pub fn lock_down(profile: &Profile) -> Result<(), ConfineError> {
    sys::set_undumpable().map_err(|source| ConfineError::Host { what: "make the process undumpable", source })?;
    let program = profile.compile()?;
    sys::no_new_privileges().map_err(|source| ConfineError::Host { what: "no_new_privs", source })?;
    sys::install_filter(&program).map_err(|source| ConfineError::Host { what: "install the seccomp filter", source })
}

/// Names the process and makes it undumpable; the first step of a role.
pub fn hide(name: &str) -> Result<(), ConfineError> {
    sys::set_name(name).map_err(|source| ConfineError::Host { what: "name the process", source })?;
    sys::set_undumpable().map_err(|source| ConfineError::Host { what: "make the process undumpable", source })
}
