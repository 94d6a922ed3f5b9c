//! How a sandbox is to be run: the flags of runsc and the facts about the host that a process without a /proc cannot find out.

use serde::{Deserialize, Serialize};

/// One per sandbox, passed whole to its processes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SandboxConfig {
    pub platform: PlatformKind,
    pub network: NetworkMode,
    pub root_overlay: RootOverlay,
    /// Log each system call of the guests.
    pub strace: bool,
    pub debug: bool,
    /// Rewrite call sites (DESIGN 2.5).
    pub rewrite: bool,
    pub host: HostFacts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum PlatformKind {
    #[default]
    Systrap,
    Ptrace,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum NetworkMode {
    #[default]
    Sandbox,
    /// Loopback only.
    None,
    /// The sentry's sockets are the host's.
    Host,
}

/// What takes writes to the root file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum RootOverlay {
    /// The files themselves.
    None,
    /// The sentry's memory.
    #[default]
    Memory,
}

/// Read by runsc, for /proc and sysinfo of the guests.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HostFacts {
    /// Processors that the sandbox may use.
    pub cpus: u32,
    /// Bytes.
    pub memory: u64,
    /// /proc/cpuinfo, at most 256 KiB.
    pub cpuinfo: Vec<u8>,
    /// User ids of the host that the gofer's namespace cannot express show up as this; see `rootless`.
    pub overflow_uid: u32,
    pub overflow_gid: u32,
    /// Started without the right to use more than one id: files of others all seem to belong to `overflow_uid`.
    pub rootless: bool,
}
