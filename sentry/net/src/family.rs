//! What every address family implements, and the open file around it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bitflags::bitflags;
use sentry_abi::{Errno, Result};
use sentry_sync::{Events, Waiter};
use sentry_vfs::{Caller, FileDescription, FileOps};

use crate::control::Control;
use crate::names::{Names, NoNames};
use crate::options::Options;

/// `AF_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Family {
    Unix = 1,
    Inet = 2,
    Inet6 = 10,
    Netlink = 16,
}

/// `SOCK_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i32)]
pub enum SocketKind {
    Stream = 1,
    Datagram = 2,
    Raw = 3,
    SeqPacket = 5,
}

impl SocketKind {
    /// From the type argument of socket(2), without SOCK_NONBLOCK and SOCK_CLOEXEC. `EINVAL`, `ESOCKTNOSUPPORT`.
    pub fn from_raw(raw: i32) -> Result<SocketKind> {
        match raw {
            1 => Ok(SocketKind::Stream),
            2 => Ok(SocketKind::Datagram),
            3 => Ok(SocketKind::Raw),
            5 => Ok(SocketKind::SeqPacket),
            4 | 6 | 10 => Err(Errno::ESOCKTNOSUPPORT),
            _ => Err(Errno::EINVAL),
        }
    }
}

bitflags! {
    /// `MSG_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MsgFlags: u32 {
        const OOB = 0x1;
        const PEEK = 0x2;
        const DONTROUTE = 0x4;
        const CTRUNC = 0x8;
        const TRUNC = 0x20;
        const DONTWAIT = 0x40;
        const EOR = 0x80;
        const WAITALL = 0x100;
        const CONFIRM = 0x800;
        const ERRQUEUE = 0x2000;
        const NOSIGNAL = 0x4000;
        const MORE = 0x8000;
        const WAITFORONE = 0x10000;
        const CMSG_CLOEXEC = 0x4000_0000;
        const _ = !0;
    }
}

/// `struct ucred`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerCredentials {
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

impl PeerCredentials {
    pub fn of(caller: &dyn Caller) -> PeerCredentials {
        let who = caller.credentials();
        PeerCredentials { pid: caller.pid(), uid: who.euid, gid: who.egid }
    }

    pub fn encode(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..4].copy_from_slice(&self.pid.to_ne_bytes());
        out[4..8].copy_from_slice(&self.uid.to_ne_bytes());
        out[8..].copy_from_slice(&self.gid.to_ne_bytes());
        out
    }

    pub fn decode(bytes: &[u8; 12]) -> PeerCredentials {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        PeerCredentials { pid: word(0) as i32, uid: word(4), gid: word(8) }
    }
}

/// A message to send.
#[derive(Default)]
pub struct Outgoing<'a> {
    pub data: &'a [u8],
    /// As sendto(2) got it; `None` when it got none.
    pub address: Option<&'a [u8]>,
    pub control: Vec<Control>,
    pub flags: MsgFlags,
}

/// A message that was received.
#[derive(Default)]
pub struct Received {
    /// The result of the call: bytes copied, or with MSG_TRUNC the length of the message.
    pub bytes: usize,
    /// Of the sender, where it has one; `Some` of nothing for a sender without a name.
    pub address: Option<Vec<u8>>,
    pub control: Vec<Control>,
    /// MSG_TRUNC, MSG_EOR …; MSG_CTRUNC is [`crate::encode_control`]'s.
    pub flags: MsgFlags,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    Read,
    Write,
    Both,
}

impl Shutdown {
    /// `EINVAL`.
    pub fn from_raw(how: i32) -> Result<Shutdown> {
        match how {
            0 => Ok(Shutdown::Read),
            1 => Ok(Shutdown::Write),
            2 => Ok(Shutdown::Both),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn read(self) -> bool {
        self != Shutdown::Write
    }

    pub fn write(self) -> bool {
        self != Shutdown::Read
    }
}

/// A socket. Never blocks, like [`FileOps`]: `EAGAIN` means "wait for [`Socket::ready`] to change, and try again" unless the caller does not
/// want to wait. For `accept` and `receive` wait for IN, for `connect` and `send` for OUT. A blocking `send` of a stream goes on until all is
/// sent, and `receive` with MSG_WAITALL until all is there: that is the caller's loop too. Addresses are `struct sockaddr` as the guest laid it out.
pub trait Socket: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;
    fn family(&self) -> Family;
    fn kind(&self) -> SocketKind;
    fn protocol(&self) -> i32 {
        0
    }
    fn options(&self) -> &Options;

    fn bind(&self, caller: &dyn Caller, names: &dyn Names, address: &[u8]) -> Result<()>;
    fn listen(&self, caller: &dyn Caller, backlog: i32) -> Result<()> {
        let _ = (caller, backlog);
        Err(Errno::EOPNOTSUPP)
    }
    fn accept(&self, caller: &dyn Caller) -> Result<Arc<dyn Socket>> {
        let _ = caller;
        Err(Errno::EOPNOTSUPP)
    }
    fn connect(&self, caller: &dyn Caller, names: &dyn Names, address: &[u8]) -> Result<()>;
    fn send(&self, caller: &dyn Caller, names: &dyn Names, message: Outgoing<'_>) -> Result<usize>;
    fn receive(&self, caller: &dyn Caller, dst: &mut [u8], flags: MsgFlags) -> Result<Received>;
    fn shutdown(&self, how: Shutdown) -> Result<()>;
    /// getsockname(2).
    fn local_address(&self) -> Result<Vec<u8>>;
    /// getpeername(2). `ENOTCONN`.
    fn peer_address(&self) -> Result<Vec<u8>>;
    /// The value, of which the caller copies as much as was asked for. `len` is what was asked for.
    fn get_option(&self, caller: &dyn Caller, level: i32, name: i32, len: usize) -> Result<Vec<u8>>;
    fn set_option(&self, caller: &dyn Caller, level: i32, name: i32, value: &[u8]) -> Result<()>;
    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events;
    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        let _ = (caller, command, argument);
        Err(Errno::ENOTTY)
    }

    /// SO_RCVTIMEO: how long a blocking accept or receive waits.
    fn receive_timeout(&self) -> Option<Duration> {
        self.options().receive_timeout()
    }
    /// SO_SNDTIMEO: how long a blocking connect or send waits.
    fn send_timeout(&self) -> Option<Duration> {
        self.options().send_timeout()
    }
}

/// An open file that is a socket.
pub struct SocketFile {
    socket: Arc<dyn Socket>,
}

impl SocketFile {
    pub fn new(socket: Arc<dyn Socket>) -> Arc<SocketFile> {
        Arc::new(SocketFile { socket })
    }

    pub fn socket(&self) -> &Arc<dyn Socket> {
        &self.socket
    }
}

/// The socket of an open file. `ENOTSOCK`.
pub fn socket_of(file: &FileDescription) -> Result<&Arc<dyn Socket>> {
    file.ops.as_any().downcast_ref::<SocketFile>().map(SocketFile::socket).ok_or(Errno::ENOTSOCK)
}

impl FileOps for SocketFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, caller: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        Ok(self.socket.receive(caller, dst, MsgFlags::empty())?.bytes)
    }

    fn write(&self, caller: &dyn Caller, _: u64, src: &[u8]) -> Result<usize> {
        self.socket.send(caller, &NoNames, Outgoing { data: src, ..Outgoing::default() })
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        self.socket.ready(want, waiter)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        self.socket.ioctl(caller, command, argument)
    }
}
