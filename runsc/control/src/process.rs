//! The container: its first process, its root and its mounts. Strings are bytes as Linux takes them, checked to hold no NUL.

use serde::{Deserialize, Serialize};

/// What the first process of a container is to be.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    pub args: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
    /// Absolute.
    pub cwd: Vec<u8>,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub umask: u32,
    pub capabilities: CapabilitySets,
    pub rlimits: Vec<Rlimit>,
    pub no_new_privileges: bool,
    /// It gets a terminal of its own as standard input, output and error, fed from [`crate::SentryFds::terminal`].
    pub terminal: bool,
    pub console_size: Option<ConsoleSize>,
    pub oom_score_adj: Option<i32>,
    /// Whether it is an init as in a pid namespace, which signals from inside do not end; false where the command is to meet with what it
    /// meets on the host.
    pub is_protected: bool,
}

/// Bit n is capability n.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CapabilitySets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

/// `resource` is an `RLIMIT_*` number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rlimit {
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConsoleSize {
    pub rows: u16,
    pub columns: u16,
}

/// The root file system: a tree of the gofer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Root {
    pub tree: u32,
    pub read_only: bool,
}

/// Mounts are made in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute, inside the container.
    pub destination: Vec<u8>,
    pub kind: MountKind,
    /// `MS_RDONLY`, `MS_NOSUID`, `MS_NODEV`, `MS_NOEXEC`, `MS_NOATIME` …
    pub flags: u64,
    /// Options that are no flags, as a comma-separated list, such as `size=64m,mode=1777`.
    pub data: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MountKind {
    /// A tree of the gofer; `directory` false: a single file, to be mounted on a file.
    Gofer {
        tree: u32,
        directory: bool,
    },
    Tmpfs,
    Proc,
    Sysfs,
    /// /dev with its usual nodes.
    Dev,
    Devpts,
    Mqueue,
    Cgroup,
}
