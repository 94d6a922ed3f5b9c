//! Calls on the sentry's control socket. runsc calls, the sentry answers; a connection is one `sentry_ipc::Channel`, greeted with
//! [`crate::CONTROL`].

use sentry_ipc::Call;
use serde::{Deserialize, Serialize};

/// Runs the created container's process. An error is what the user is told, with the exit code that runsc ends with (126 or 127 as a shell would).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Start;

impl Call for Start {
    const TAG: u16 = 1;
    type Reply = Result<(), StartFailed>;
}

/// Why the process could not be executed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartFailed {
    pub message: String,
    /// 127: not found, 126: cannot be executed, else 128.
    pub exit_code: u8,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct State;

impl Call for State {
    const TAG: u16 = 2;
    type Reply = StateReply;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StateReply {
    pub status: Status,
    pub exit: Option<ExitStatus>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Status {
    Created,
    Running,
    Stopped,
}

/// How the container's first process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ExitStatus {
    Code(u8),
    Signal(u8),
}

impl ExitStatus {
    /// As a shell shows it.
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// `signal` is 1–64. The error is a Linux error number.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SendSignal {
    pub signal: u8,
    pub target: SignalTarget,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SignalTarget {
    /// The container's first process.
    Init,
    /// Every process of the container.
    All,
    /// The foreground process group of the container's terminal, else its first process.
    Foreground,
}

impl Call for SendSignal {
    const TAG: u16 = 3;
    type Reply = Result<(), u16>;
}

/// Answered when the container's first process has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wait;

impl Call for Wait {
    const TAG: u16 = 4;
    type Reply = ExitStatus;
}

/// The size of the container's terminal changed. The error is a Linux error number (ENOTTY: it has none).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResizeTerminal {
    pub rows: u16,
    pub columns: u16,
}

impl Call for ResizeTerminal {
    const TAG: u16 = 5;
    type Reply = Result<(), u16>;
}

/// Process ids of the container, as it sees them itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pids;

impl Call for Pids {
    const TAG: u16 = 6;
    type Reply = Vec<i32>;
}
