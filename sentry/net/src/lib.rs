//! Sockets: the layer that all families share ([`Socket`], [`SocketFile`], [`NetNamespace`]), AF_UNIX, and a little of AF_NETLINK.
//!
//! [`NetNamespace::socket`] and [`NetNamespace::pair`] make sockets, [`NetNamespace::file`] open files of them; a descriptor's socket is found
//! by [`socket_of`]. Nothing blocks: what would block answers `EAGAIN`, and the socket's queue is woken when it may have changed.
//! Control messages are decoded and encoded by [`decode_control`] and [`encode_control`].
//!
//! Deliberately absent: AF_INET and AF_INET6 are objects that can be bound and asked, but reach nobody ([`inet`]); they become clients of the
//! netstack process. Of AF_NETLINK there is what getifaddrs(3) asks.
#![forbid(unsafe_code)]

mod address;
mod control;
mod family;
mod inet;
mod interfaces;
mod names;
mod namespace;
mod netlink;
mod options;
mod sockfs;
#[cfg(test)]
mod testing;
mod unix;

pub use address::MAX_ADDRESS;
pub use control::{Control, MAX_RIGHTS, decode_control, encode_control};
pub use family::{Family, MsgFlags, Outgoing, PeerCredentials, Received, Shutdown, Socket, SocketFile, SocketKind, socket_of};
pub use interfaces::{Interface, InterfaceAddress};
pub use names::{FsNames, Names, NoNames};
pub use namespace::NetNamespace;
pub use unix::UnixSocket;
