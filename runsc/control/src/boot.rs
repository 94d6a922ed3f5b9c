//! Boot messages: what each process is started with.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;

use sentry_ipc::{Call, codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Mount, Process, Root, SandboxConfig};

/// Where every role finds its boot message. 0 and 1 are /dev/null, 2 is the log.
pub const BOOT_FD: i32 = 3;

#[derive(Debug)]
pub enum BootError {
    Read(io::Error),
    Decode(sentry_ipc::IpcError),
}

impl std::fmt::Display for BootError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(error) => write!(f, "read the boot message: {error}"),
            Self::Decode(error) => write!(f, "decode the boot message: {error}"),
        }
    }
}

impl std::error::Error for BootError {}

/// Reads a boot message; both ends are one binary, so its form needs no version.
fn read<T: DeserializeOwned>(file: OwnedFd) -> Result<T, BootError> {
    let mut file = File::from(file);
    let mut bytes = Vec::new();
    file.rewind().map_err(BootError::Read)?;
    file.take(codec::MAX_DOCUMENT as u64).read_to_end(&mut bytes).map_err(BootError::Read)?;
    codec::decode_document(&bytes).map_err(BootError::Decode)
}

/// For the sentry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SentryBoot {
    pub container_id: String,
    pub config: SandboxConfig,
    pub process: Process,
    pub hostname: Vec<u8>,
    pub domainname: Vec<u8>,
    pub root: Root,
    pub mounts: Vec<Mount>,
    /// Paths that the guest sees as empty.
    pub masked_paths: Vec<Vec<u8>>,
    pub read_only_paths: Vec<Vec<u8>>,
    /// `kernel.…` and `net.…` parameters.
    pub sysctls: Vec<(String, String)>,
    pub fds: SentryFds,
    /// The user id that a control connection must come from, as the sentry's namespace shows it.
    pub control_uid: u32,
}

impl SentryBoot {
    pub fn read(file: OwnedFd) -> Result<Self, BootError> {
        read(file)
    }
}

/// Numbers of the descriptors that the sentry is started with. Each is to be taken over by `sentry_confine::take`, once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SentryFds {
    /// The guest's standard input, output and error, when it has no terminal of its own.
    pub stdio: Vec<i32>,
    /// What /proc/self/fd calls each of them where runsc runs; empty when that says nothing outside.
    pub stdio_names: Vec<Vec<u8>>,
    /// User and group of each, which the sentry's own user namespace hides from it.
    pub stdio_owners: Vec<(u32, u32)>,
    /// With [`Process::terminal`]: the host's side, in raw mode, whose bytes are those of keyboard and screen.
    pub terminal: Option<i32>,
    /// Channels of the one gofer, for a [`sentry_ipc::ChannelPool`].
    pub gofer: Vec<i32>,
    pub netstack: i32,
    /// A listening `SOCK_SEQPACKET` socket.
    pub control: i32,
    /// A channel to the starting runsc; its end ends the sandbox, unless runsc has answered [`StatusReady`].
    pub status: i32,
    /// Where the zygote's maker sends the zygote (`sentry_platform_systrap::zygote::receive`).
    pub zygote: i32,
}

/// For the gofer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GoferBoot {
    /// Tree n is `/n`.
    pub trees: Vec<GoferTree>,
    /// Sockets whose other ends the sentry has.
    pub channels: Vec<i32>,
}

impl GoferBoot {
    pub fn read(file: OwnedFd) -> Result<Self, BootError> {
        read(file)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GoferTree {
    pub writable: bool,
    pub directory: bool,
}

/// For netstack.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetstackBoot {
    pub channel: i32,
}

impl NetstackBoot {
    pub fn read(file: OwnedFd) -> Result<Self, BootError> {
        read(file)
    }
}

/// Placeholder of netstack's protocol: proves that it lives.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetstackHello;

impl Call for NetstackHello {
    const TAG: u16 = 1;
    type Reply = ();
}

/// The sentry to runsc on the status channel: the container is created. With the zygote's pidfd, if it has one.
///
/// The reply means that the sandbox shall live on without this runsc. In the foreground it never comes: then the channel's end, which is also
/// runsc's death, ends the sandbox.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusReady;

impl Call for StatusReady {
    const TAG: u16 = 1;
    type Reply = ();
}

/// The sentry to runsc: it could not come up, and why, from the outermost cause to the innermost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StatusFailed {
    pub causes: Vec<String>,
}

impl Call for StatusFailed {
    const TAG: u16 = 2;
    type Reply = ();
}
