//! The control socket of a sandbox: a name in its container's state directory, which only its owner can enter.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use runsc_control::CONTROL;
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect as connect_socket, listen as listen_socket, socket_with,
};
use sentry_ipc::{Channel, IpcError};

const NAME: &str = "control.sock";
/// Calls that do not wait for the container answer within this, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Through /proc, since a path of its own could be longer than a socket's address may be.
fn address(dir: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", dir.as_fd().as_raw_fd()))?)
}

fn open(dir: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Makes the socket that a sentry will be given.
pub fn listen(dir: &Path) -> io::Result<OwnedFd> {
    let (dir, socket) = (open(dir)?, socket()?);
    bind(&socket, &address(&dir)?)?;
    listen_socket(&socket, 64)?;
    Ok(socket)
}

/// A greeted connection to the sentry. `wait` says how long its calls may take.
pub fn connect(dir: &Path, wait: Wait) -> Result<Channel, IpcError> {
    let (dir, socket) = (open(dir)?, socket()?);
    connect_socket(&socket, &address(&dir)?).map_err(io::Error::from)?;
    let channel = Channel::new(socket);
    channel.set_timeout(Some(PATIENCE))?;
    channel.hello(CONTROL)?;
    if wait == Wait::ForEver {
        channel.set_timeout(None)?;
    }
    Ok(channel)
}

/// How long a connection's calls may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    Bounded,
    ForEver,
}
