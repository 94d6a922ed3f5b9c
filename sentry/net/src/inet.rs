//! AF_INET and AF_INET6 without a network: sockets that can be made, bound, asked and listened on, and that reach nobody.
//!
//! Connecting or sending to the loopback finds nobody there (`ECONNREFUSED`), to anywhere else no route (`ENETUNREACH`). Options of the protocols
//! are kept and told, and change nothing. The client of the netstack process takes this module's place.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result};
use sentry_auth::Caps;
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_vfs::Caller;

use crate::address::family_of;
use crate::family::{Family, MsgFlags, Outgoing, Received, Shutdown, Socket, SocketKind};
use crate::interfaces;
use crate::names::Names;
use crate::namespace::NetNamespace;
use crate::options::{Options, SOL_SOCKET, int, so};

const IPPROTO_TCP: i32 = 6;
const IPPROTO_UDP: i32 = 17;
/// Levels whose options are kept: IP, TCP, UDP, IPv6.
const LEVELS: [i32; 4] = [0, IPPROTO_TCP, IPPROTO_UDP, 41];
/// Options kept for one socket, and bytes of each.
const MAX_KEPT: usize = 64;
const MAX_VALUE: usize = 256;
/// net.ipv4.ip_local_port_range.
const AUTOMATIC_PORTS: std::ops::RangeInclusive<u16> = 32768..=60999;
const FIRST_FREE_PORT: u16 = 1024;

/// `struct sockaddr_in` and `sockaddr_in6`.
const SOCKADDR_IN: usize = 16;
const SOCKADDR_IN6: usize = 28;

/// Ports in use, by kind, with the sockets that hold them.
#[derive(Default)]
pub struct Ports(BTreeMap<(i32, u16), Vec<Weak<InetSocket>>>);

impl Ports {
    fn holders(&mut self, kind: SocketKind, port: u16) -> Vec<Arc<InetSocket>> {
        let Some(list) = self.0.get_mut(&(kind as i32, port)) else { return Vec::new() };
        list.retain(|s| s.strong_count() != 0);
        let holders = list.iter().filter_map(Weak::upgrade).collect();
        if list.is_empty() {
            self.0.remove(&(kind as i32, port));
        }
        holders
    }
}

#[derive(Default)]
struct State {
    local: Option<Vec<u8>>,
    listening: bool,
    kept: BTreeMap<(i32, i32), Vec<u8>>,
}

pub struct InetSocket {
    family: Family,
    kind: SocketKind,
    options: Options,
    state: Mutex<State>,
    queue: WaitQueue,
    namespace: Arc<NetNamespace>,
    me: Weak<InetSocket>,
}

/// socket(2). `EPROTONOSUPPORT`, `EPERM` for raw sockets.
pub fn create(family: Family, kind: SocketKind, protocol: i32, namespace: Arc<NetNamespace>) -> Result<Arc<InetSocket>> {
    match (kind, protocol) {
        (SocketKind::Stream, 0 | IPPROTO_TCP) | (SocketKind::Datagram, 0 | IPPROTO_UDP) => {}
        (SocketKind::Raw, _) => return Err(Errno::EPERM),
        (SocketKind::SeqPacket, _) => return Err(Errno::ESOCKTNOSUPPORT),
        _ => return Err(Errno::EPROTONOSUPPORT),
    }
    Ok(Arc::new_cyclic(|me| InetSocket {
        family,
        kind,
        options: Options::default(),
        state: Mutex::new(Level::Socket, State::default()),
        queue: WaitQueue::new(),
        namespace,
        me: me.clone(),
    }))
}

impl InetSocket {
    fn address_len(&self) -> usize {
        if self.family == Family::Inet { SOCKADDR_IN } else { SOCKADDR_IN6 }
    }

    /// Checks length and family; `EINVAL`, `EAFNOSUPPORT`.
    fn check<'a>(&self, address: &'a [u8]) -> Result<&'a [u8]> {
        let family = family_of(address)?;
        // The scope of an IPv6 address may be missing.
        let least = if self.family == Family::Inet { SOCKADDR_IN } else { SOCKADDR_IN6 - 4 };
        if address.len() < least {
            return Err(Errno::EINVAL);
        }
        if family == self.family as u16 { Ok(address) } else { Err(Errno::EAFNOSUPPORT) }
    }

    fn any(&self) -> Vec<u8> {
        let mut out = (self.family as u16).to_ne_bytes().to_vec();
        out.resize(self.address_len(), 0);
        out
    }

    /// The host part of an address; an IPv4-mapped one gives 4 bytes.
    fn host<'a>(&self, address: &'a [u8]) -> &'a [u8] {
        if self.family == Family::Inet {
            return &address[4..8];
        }
        let six = &address[8..24];
        if six[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] { &six[12..] } else { six }
    }

    fn reach(&self, address: &[u8]) -> Errno {
        if is_local(self.host(address)) { Errno::ECONNREFUSED } else { Errno::ENETUNREACH }
    }

    /// Takes `port`, or any for 0, and remembers the address.
    fn take_port(&self, mut address: Vec<u8>) -> Result<()> {
        let asked = u16::from_be_bytes([address[2], address[3]]);
        let mut ports = self.namespace.ports().lock();
        let port = if asked != 0 {
            let shared = |o: &InetSocket| {
                [so::REUSEADDR, so::REUSEPORT].iter().any(|f| self.options.flag(*f) && o.options.flag(*f)) && o.family == self.family
            };
            if !ports.holders(self.kind, asked).iter().all(|other| shared(other)) {
                return Err(Errno::EADDRINUSE);
            }
            asked
        } else {
            AUTOMATIC_PORTS.clone().find(|p| ports.holders(self.kind, *p).is_empty()).ok_or(Errno::EADDRINUSE)?
        };
        ports.0.entry((self.kind as i32, port)).or_default().push(self.me.clone());
        drop(ports);
        address[2..4].copy_from_slice(&port.to_be_bytes());
        self.state.lock().local = Some(address);
        Ok(())
    }
}

/// The loopback and the unspecified address, 4 or 16 bytes.
fn is_local(host: &[u8]) -> bool {
    match host {
        [127, ..] if host.len() == 4 => true,
        [rest @ .., last] => rest.iter().all(|b| *b == 0) && (*last == 0 || (*last == 1 && host.len() == 16)),
        [] => false,
    }
}

impl Socket for InetSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn family(&self) -> Family {
        self.family
    }

    fn kind(&self) -> SocketKind {
        self.kind
    }

    fn protocol(&self) -> i32 {
        if self.kind == SocketKind::Stream { IPPROTO_TCP } else { IPPROTO_UDP }
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, caller: &dyn Caller, _: &dyn Names, address: &[u8]) -> Result<()> {
        let address = self.check(address)?;
        if !is_local(self.host(address)) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let port = u16::from_be_bytes([address[2], address[3]]);
        if port != 0 && port < FIRST_FREE_PORT {
            caller.credentials().require(Caps::NET_BIND_SERVICE).map_err(|_| Errno::EACCES)?;
        }
        if self.state.lock().local.is_some() {
            return Err(Errno::EINVAL);
        }
        let mut local = address.to_vec();
        local.resize(self.address_len(), 0);
        self.take_port(local)
    }

    fn listen(&self, _: &dyn Caller, _: i32) -> Result<()> {
        if self.kind != SocketKind::Stream {
            return Err(Errno::EOPNOTSUPP);
        }
        if self.state.lock().local.is_none() {
            self.take_port(self.any())?;
        }
        self.state.lock().listening = true;
        Ok(())
    }

    fn accept(&self, _: &dyn Caller) -> Result<Arc<dyn Socket>> {
        if self.kind != SocketKind::Stream {
            return Err(Errno::EOPNOTSUPP);
        }
        Err(if self.state.lock().listening { Errno::EAGAIN } else { Errno::EINVAL })
    }

    fn connect(&self, _: &dyn Caller, _: &dyn Names, address: &[u8]) -> Result<()> {
        if family_of(address)? == 0 {
            return Ok(());
        }
        let address = self.check(address)?;
        if self.state.lock().listening {
            return Err(Errno::EISCONN);
        }
        Err(self.reach(address))
    }

    fn send(&self, caller: &dyn Caller, _: &dyn Names, message: Outgoing<'_>) -> Result<usize> {
        match message.address.filter(|_| self.kind == SocketKind::Datagram) {
            Some(address) => Err(self.reach(self.check(address)?)),
            None if self.kind == SocketKind::Datagram => Err(Errno::EDESTADDRREQ),
            None => {
                if !message.flags.contains(MsgFlags::NOSIGNAL) {
                    caller.signal_self(sentry_abi::Signal::SIGPIPE);
                }
                Err(Errno::EPIPE)
            }
        }
    }

    fn receive(&self, _: &dyn Caller, _: &mut [u8], _: MsgFlags) -> Result<Received> {
        Err(if self.kind == SocketKind::Stream { Errno::ENOTCONN } else { Errno::EAGAIN })
    }

    fn shutdown(&self, _: Shutdown) -> Result<()> {
        let listening = std::mem::take(&mut self.state.lock().listening);
        self.queue.wake_all();
        if listening { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(self.state.lock().local.clone().unwrap_or_else(|| self.any()))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        Err(Errno::ENOTCONN)
    }

    fn get_option(&self, _: &dyn Caller, level: i32, name: i32, _: usize) -> Result<Vec<u8>> {
        if level == SOL_SOCKET {
            return Ok(match name {
                so::TYPE => int(self.kind as u64),
                so::DOMAIN => int(self.family as u64),
                so::PROTOCOL => int(self.protocol() as u64),
                so::ACCEPTCONN => int(self.state.lock().listening as u64),
                so::ERROR => int(0),
                _ => self.options.get(name)?,
            });
        }
        if !LEVELS.contains(&level) {
            return Err(Errno::ENOPROTOOPT);
        }
        let kept = self.state.lock().kept.get(&(level, name)).cloned();
        Ok(kept.unwrap_or_else(|| int(0)))
    }

    fn set_option(&self, caller: &dyn Caller, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level == SOL_SOCKET {
            return self.options.set(caller, name, value);
        }
        if !LEVELS.contains(&level) || value.len() > MAX_VALUE {
            return Err(Errno::ENOPROTOOPT);
        }
        let mut state = self.state.lock();
        if state.kept.len() >= MAX_KEPT && !state.kept.contains_key(&(level, name)) {
            return Err(Errno::ENOBUFS);
        }
        state.kept.insert((level, name), value.to_vec());
        Ok(())
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.queue.add(waiter);
        }
        let now = match self.kind {
            SocketKind::Stream if self.state.lock().listening => Events::empty(),
            SocketKind::Stream => Events::WRITE | Events::HUP,
            _ => Events::WRITE,
        };
        now & (want | Events::HUP)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        interfaces::ioctl(&self.namespace.interfaces(), caller, command, argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::NoNames;
    use crate::testing::Person;

    fn address(host: [u8; 4], port: u16) -> Vec<u8> {
        let mut out = 2u16.to_ne_bytes().to_vec();
        out.extend_from_slice(&port.to_be_bytes());
        out.extend_from_slice(&host);
        out.resize(16, 0);
        out
    }

    #[test]
    fn bound_and_unreachable() {
        let namespace = NetNamespace::new(8);
        let root = Person::root();
        let make = || create(Family::Inet, SocketKind::Stream, 0, namespace.clone()).unwrap();
        let socket = make();
        assert_eq!(socket.bind(&root, &NoNames, &address([1, 1, 1, 1], 80)), Err(Errno::EADDRNOTAVAIL));
        assert_eq!(socket.bind(&Person::user(5), &NoNames, &address([127, 0, 0, 1], 80)), Err(Errno::EACCES));
        assert_eq!(socket.bind(&root, &NoNames, &address([127, 0, 0, 1], 0)), Ok(()));
        assert_eq!(socket.local_address().unwrap(), address([127, 0, 0, 1], 32768));
        assert_eq!(socket.listen(&root, 5), Ok(()));
        assert_eq!(socket.accept(&root).err(), Some(Errno::EAGAIN));
        let other = make();
        assert_eq!(other.bind(&root, &NoNames, &address([0; 4], 32768)), Err(Errno::EADDRINUSE));
        assert_eq!(other.connect(&root, &NoNames, &address([127, 0, 0, 1], 9)), Err(Errno::ECONNREFUSED));
        assert_eq!(other.connect(&root, &NoNames, &address([8, 8, 8, 8], 53)), Err(Errno::ENETUNREACH));
        drop(socket);
        assert_eq!(other.bind(&root, &NoNames, &address([0; 4], 32768)), Ok(()));
        assert_eq!(other.set_option(&root, IPPROTO_TCP, 1, &1i32.to_ne_bytes()), Ok(()));
        assert_eq!(other.get_option(&root, IPPROTO_TCP, 1, 4), Ok(int(1)));
        assert_eq!(create(Family::Inet, SocketKind::Raw, 1, namespace).err(), Some(Errno::EPERM));
    }
}
