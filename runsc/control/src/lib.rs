//! What runsc and its processes say to each other: the configuration and boot messages that start them ([`SandboxConfig`], [`SentryBoot`],
//! [`GoferBoot`], [`NetstackBoot`]), and the calls on the sentry's control socket.
//!
//! A boot message is a sealed memfd at [`BOOT_FD`]; descriptors that belong to it are at the numbers that it names. Nothing here is ever written by
//! a guest. Neighbours: `runsc-launch` makes these, `sentry`, `gofer` and `netstack` read them.
#![forbid(unsafe_code)]

mod boot;
mod calls;
mod config;
mod process;

pub use boot::{BOOT_FD, BootError, GoferBoot, GoferTree, NetstackBoot, NetstackHello, SentryBoot, SentryFds, StatusFailed, StatusReady};
pub use calls::{ExitStatus, Pids, ResizeTerminal, SendSignal, SignalTarget, Start, StartFailed, State, StateReply, Status, Wait};
pub use config::{HostFacts, NetworkMode, PlatformKind, RootOverlay, SandboxConfig};
pub use process::{CapabilitySets, ConsoleSize, Mount, MountKind, Process, Rlimit, Root};

use sentry_ipc::Protocol;

/// The language of the control socket.
pub const CONTROL: Protocol = Protocol::new(*b"ctrl", 1);
/// The language of the status channel, on which a starting sentry tells runsc how it goes. There the sentry calls and runsc answers.
pub const STATUS: Protocol = Protocol::new(*b"stat", 1);
/// The language of netstack's control channel.
pub const NETSTACK: Protocol = Protocol::new(*b"nets", 1);
