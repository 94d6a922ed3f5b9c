//! A network namespace: what its sockets share, and where they are made.

use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, Mutex, RwLock};
use sentry_vfs::{Caller, FileDescription, StatusFlags};

use crate::family::{Family, Socket, SocketKind};
use crate::inet::{self, Ports};
use crate::interfaces::Interface;
use crate::netlink::NetlinkSocket;
use crate::sockfs::SockFs;
use crate::unix::{UnixSocket, UnixSpace};

pub struct NetNamespace {
    unix: Arc<UnixSpace>,
    sockfs: SockFs,
    interfaces: RwLock<Vec<Interface>>,
    ports: Mutex<Ports>,
    /// Port ids of netlink sockets in use.
    netlink_ports: Mutex<std::collections::HashSet<u32>>,
}

impl NetNamespace {
    /// `device` is the `st_dev` of its sockets.
    pub fn new(device: u64) -> Arc<NetNamespace> {
        Arc::new(NetNamespace {
            unix: UnixSpace::new(),
            sockfs: SockFs::new(device),
            interfaces: RwLock::new(Level::Leaf, vec![Interface::loopback()]),
            // Below sockets' own locks is their order: a port is looked for with no socket locked.
            ports: Mutex::new(Level::Inode, Ports::default()),
            netlink_ports: Mutex::new(Level::Leaf, Default::default()),
        })
    }

    /// socket(2), without SOCK_NONBLOCK and SOCK_CLOEXEC in `kind`. `EAFNOSUPPORT`, `EINVAL`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`.
    pub fn socket(self: &Arc<NetNamespace>, family: i32, kind: i32, protocol: i32) -> Result<Arc<dyn Socket>> {
        let kind = SocketKind::from_raw(kind);
        match family {
            1 => {
                let socket: Arc<dyn Socket> = UnixSocket::new(unix_kind(kind?, protocol)?, &self.unix);
                Ok(socket)
            }
            2 => Ok(inet::create(Family::Inet, kind?, protocol, self.clone())?),
            10 => Ok(inet::create(Family::Inet6, kind?, protocol, self.clone())?),
            16 => {
                if !matches!(kind?, SocketKind::Raw | SocketKind::Datagram) {
                    return Err(Errno::ESOCKTNOSUPPORT);
                }
                Ok(NetlinkSocket::create(kind?, protocol, self)?)
            }
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// socketpair(2). `EOPNOTSUPP` for other families than AF_UNIX.
    pub fn pair(&self, caller: &dyn Caller, family: i32, kind: i32, protocol: i32) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
        let kind = SocketKind::from_raw(kind)?;
        match family {
            1 => {
                let (a, b) = UnixSocket::pair(unix_kind(kind, protocol)?, &self.unix, caller);
                Ok((a, b))
            }
            2 | 10 | 16 => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EAFNOSUPPORT),
        }
    }

    /// An open file of a socket. Of `status` NONBLOCK matters.
    pub fn file(&self, socket: Arc<dyn Socket>, caller: &dyn Caller, status: StatusFlags) -> Arc<FileDescription> {
        self.sockfs.file(socket, caller, status)
    }

    pub fn interfaces(&self) -> Vec<Interface> {
        self.interfaces.read().clone()
    }

    /// What the netstack process told.
    pub fn set_interfaces(&self, interfaces: Vec<Interface>) {
        *self.interfaces.write() = interfaces;
    }

    pub(crate) fn ports(&self) -> &Mutex<Ports> {
        &self.ports
    }

    pub(crate) fn netlink_ports(&self) -> &Mutex<std::collections::HashSet<u32>> {
        &self.netlink_ports
    }
}

/// SOCK_RAW is another word for a datagram socket (unix_create()).
fn unix_kind(kind: SocketKind, protocol: i32) -> Result<SocketKind> {
    if protocol != 0 && protocol != Family::Unix as i32 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    Ok(if kind == SocketKind::Raw { SocketKind::Datagram } else { kind })
}
