//! AF_NETLINK as far as getifaddrs(3), if_nameindex(3) and `ip addr` ask: NETLINK_ROUTE dumps of links and addresses (rtnetlink(7)).
//! NETLINK_KOBJECT_UEVENT can be opened, and tells nothing.

mod route;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_vfs::Caller;

use crate::family::{Family, MsgFlags, Outgoing, Received, Shutdown, Socket, SocketKind};
use crate::names::Names;
use crate::namespace::NetNamespace;
use crate::options::{Options, SOL_SOCKET, int, so};

const NETLINK_ROUTE: i32 = 0;
const NETLINK_KOBJECT_UEVENT: i32 = 15;
const SOL_NETLINK: i32 = 270;
/// `struct sockaddr_nl`.
const SOCKADDR_NL: usize = 12;
/// Replies kept for a reader.
const MAX_REPLIES: usize = 256;
const MAX_REQUEST: usize = 65536;

#[derive(Default)]
struct State {
    /// 0 until bound.
    port: u32,
    groups: u32,
    replies: VecDeque<Vec<u8>>,
    /// A reply was dropped (`ENOBUFS`).
    overrun: bool,
}

pub struct NetlinkSocket {
    kind: SocketKind,
    protocol: i32,
    options: Options,
    state: Mutex<State>,
    queue: WaitQueue,
    namespace: Arc<NetNamespace>,
}

impl NetlinkSocket {
    /// `EPROTONOSUPPORT`.
    pub fn create(kind: SocketKind, protocol: i32, namespace: &Arc<NetNamespace>) -> Result<Arc<NetlinkSocket>> {
        if protocol != NETLINK_ROUTE && protocol != NETLINK_KOBJECT_UEVENT {
            return Err(Errno::EPROTONOSUPPORT);
        }
        Ok(Arc::new(NetlinkSocket {
            kind,
            protocol,
            options: Options::default(),
            state: Mutex::new(Level::Socket, State::default()),
            queue: WaitQueue::new(),
            namespace: namespace.clone(),
        }))
    }

    fn bind_port(&self, wanted: u32) -> Result<u32> {
        let mut state = self.state.lock();
        if state.port != 0 {
            return if wanted == 0 || wanted == state.port { Ok(state.port) } else { Err(Errno::EINVAL) };
        }
        let mut used = self.namespace.netlink_ports().lock();
        let port = if wanted != 0 { wanted } else { (1 << 22..u32::MAX).find(|p| !used.contains(p)).ok_or(Errno::EADDRINUSE)? };
        if !used.insert(port) {
            return Err(Errno::EADDRINUSE);
        }
        state.port = port;
        Ok(port)
    }

    /// A bind without a wish takes the caller's pid, if that is free.
    fn bind_automatically(&self, caller: &dyn Caller) -> Result<u32> {
        if self.state.lock().port != 0 {
            return self.bind_port(0);
        }
        match self.bind_port(caller.pid().unsigned_abs()) {
            Err(Errno::EADDRINUSE) => self.bind_port(0),
            other => other,
        }
    }
}

/// Port and groups of a `struct sockaddr_nl`.
fn parse(address: &[u8]) -> Result<(u32, u32)> {
    if address.len() < SOCKADDR_NL || crate::address::family_of(address)? != Family::Netlink as u16 {
        return Err(Errno::EINVAL);
    }
    let word = |at: usize| u32::from_ne_bytes([address[at], address[at + 1], address[at + 2], address[at + 3]]);
    Ok((word(4), word(8)))
}

fn encode(port: u32, groups: u32) -> Vec<u8> {
    let mut out = (Family::Netlink as u16).to_ne_bytes().to_vec();
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&port.to_ne_bytes());
    out.extend_from_slice(&groups.to_ne_bytes());
    out
}

impl Socket for NetlinkSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn family(&self) -> Family {
        Family::Netlink
    }

    fn kind(&self) -> SocketKind {
        self.kind
    }

    fn protocol(&self) -> i32 {
        self.protocol
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, caller: &dyn Caller, _: &dyn Names, address: &[u8]) -> Result<()> {
        let (port, groups) = parse(address)?;
        if port == 0 {
            self.bind_automatically(caller)?
        } else {
            self.bind_port(port)?
        };
        self.state.lock().groups = groups;
        Ok(())
    }

    fn connect(&self, caller: &dyn Caller, _: &dyn Names, address: &[u8]) -> Result<()> {
        if crate::address::family_of(address)? == 0 {
            return Ok(());
        }
        let (port, _) = parse(address)?;
        if port != 0 {
            return Err(Errno::ECONNREFUSED);
        }
        self.bind_automatically(caller).map(drop)
    }

    fn send(&self, caller: &dyn Caller, _: &dyn Names, message: Outgoing<'_>) -> Result<usize> {
        if message.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if let Some(address) = message.address.filter(|a| !a.is_empty()) {
            let (port, groups) = parse(address)?;
            if port != 0 || groups != 0 {
                return Err(Errno::ECONNREFUSED);
            }
        }
        if message.data.len() > MAX_REQUEST {
            return Err(Errno::EMSGSIZE);
        }
        let port = self.bind_automatically(caller)?;
        if self.protocol == NETLINK_ROUTE {
            let replies = route::answer(message.data, port, &self.namespace.interfaces());
            let mut state = self.state.lock();
            for reply in replies {
                if state.replies.len() < MAX_REPLIES {
                    state.replies.push_back(reply);
                } else {
                    state.overrun = true;
                }
            }
        }
        self.queue.wake(Events::READ);
        Ok(message.data.len())
    }

    fn receive(&self, _: &dyn Caller, dst: &mut [u8], flags: MsgFlags) -> Result<Received> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.overrun) {
            return Err(Errno::ENOBUFS);
        }
        let reply = if flags.contains(MsgFlags::PEEK) { state.replies.front().cloned() } else { state.replies.pop_front() };
        let reply = reply.ok_or(Errno::EAGAIN)?;
        let n = reply.len().min(dst.len());
        dst[..n].copy_from_slice(&reply[..n]);
        let mut received = Received { bytes: n, address: Some(encode(0, 0)), ..Received::default() };
        if n < reply.len() {
            received.flags |= MsgFlags::TRUNC;
        }
        if flags.contains(MsgFlags::TRUNC) {
            received.bytes = reply.len();
        }
        Ok(received)
    }

    fn shutdown(&self, _: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        let state = self.state.lock();
        Ok(encode(state.port, state.groups))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        Ok(encode(0, 0))
    }

    fn get_option(&self, _: &dyn Caller, level: i32, name: i32, _: usize) -> Result<Vec<u8>> {
        match (level, name) {
            (SOL_SOCKET, so::TYPE) => Ok(int(self.kind as u64)),
            (SOL_SOCKET, so::DOMAIN) => Ok(int(Family::Netlink as u64)),
            (SOL_SOCKET, so::PROTOCOL) => Ok(int(self.protocol as u64)),
            (SOL_SOCKET, so::ERROR | so::ACCEPTCONN) => Ok(int(0)),
            (SOL_SOCKET, _) => self.options.get(name),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn set_option(&self, caller: &dyn Caller, level: i32, name: i32, value: &[u8]) -> Result<()> {
        match level {
            SOL_SOCKET => self.options.set(caller, name, value),
            // Memberships and extended acknowledgements: nothing is ever told by itself.
            SOL_NETLINK if (1..=12).contains(&name) => Ok(()),
            _ => Err(Errno::ENOPROTOOPT),
        }
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.queue.add(waiter);
        }
        let state = self.state.lock();
        let mut now = Events::WRITE | Events::WRBAND;
        if !state.replies.is_empty() {
            now |= Events::READ;
        }
        if state.overrun {
            now |= Events::ERR;
        }
        now & (want | Events::ERR)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        crate::interfaces::ioctl(&self.namespace.interfaces(), caller, command, argument)
    }
}

impl Drop for NetlinkSocket {
    fn drop(&mut self) {
        let port = self.state.lock().port;
        if port != 0 {
            self.namespace.netlink_ports().lock().remove(&port);
        }
    }
}
