//! Blocking on a socket, as long as SO_RCVTIMEO and SO_SNDTIMEO allow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentry_abi::{Errno, Result};
use sentry_kernel::{BlockError, CurrentTask, Restart, Stop};
use sentry_net::{Socket, socket_of};
use sentry_sync::Events;
use sentry_vfs::FileDescription;

/// The open socket behind a descriptor. `EBADF`, `ENOTSOCK`.
pub fn find(task: &CurrentTask, fd: i32) -> Result<(Arc<FileDescription>, Arc<dyn Socket>)> {
    let file = task.file(fd)?;
    let socket = socket_of(&file)?.clone();
    Ok((file, socket))
}

/// How a call waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub want: Events,
    pub nonblocking: bool,
    pub timeout: Option<Duration>,
}

impl Patience {
    /// Of accept(2) and recv(2).
    pub fn reading(file: &FileDescription, socket: &dyn Socket, nonblocking: bool) -> Patience {
        Patience { want: Events::READ | Events::RDHUP, nonblocking: nonblocking || file.nonblocking(), timeout: socket.receive_timeout() }
    }

    /// Of connect(2) and send(2).
    pub fn writing(file: &FileDescription, socket: &dyn Socket, nonblocking: bool) -> Patience {
        Patience { want: Events::WRITE, nonblocking: nonblocking || file.nonblocking(), timeout: socket.send_timeout() }
    }
}

/// Calls `attempt` until it answers something else than EAGAIN. `EAGAIN` when the time is up; an interrupted call with a time limit is not restarted.
pub fn wait<T>(task: &CurrentTask, socket: &dyn Socket, patience: Patience, mut attempt: impl FnMut() -> Result<T>) -> Result<T, Stop> {
    match attempt() {
        Err(Errno::EAGAIN) if !patience.nonblocking => {}
        result => return result.map_err(Stop::from),
    }
    // A limit beyond the clock is none.
    let deadline = patience.timeout.and_then(|limit| Instant::now().checked_add(limit));
    let done = task.block_until(patience.want, deadline, |waiter| {
        if let Some(waiter) = waiter {
            socket.ready(patience.want, Some(waiter));
        }
        match attempt() {
            Err(Errno::EAGAIN) => None,
            other => Some(other),
        }
    });
    match done {
        Ok(result) => result.map_err(Stop::from),
        Err(BlockError::TimedOut) => Err(Errno::EAGAIN.into()),
        Err(BlockError::Interrupted) if patience.timeout.is_some() => Err(Errno::EINTR.into()),
        Err(BlockError::Interrupted) => Err(Stop::Restart(Restart::IfAllowed)),
    }
}
