//! Sending and receiving on SOCK_DGRAM and SOCK_SEQPACKET.

use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result};
use sentry_sync::Events;
use sentry_vfs::Caller;

use super::message::{Charge, Message, Rights, split};
use super::{MAX_DATAGRAMS, Phase, UnixSocket};
use crate::address::{UnixAddress, UnixName};
use crate::control::Control;
use crate::family::{MsgFlags, Outgoing, PeerCredentials, Received, SocketKind};
use crate::names::Names;
use crate::options::so;

impl UnixSocket {
    pub(super) fn send_datagram(&self, caller: &dyn Caller, names: &dyn Names, message: Outgoing<'_>) -> Result<usize> {
        let address = match message.address.filter(|a| !a.is_empty() && self.kind == SocketKind::Datagram) {
            None => None,
            Some(address) => match UnixAddress::parse(address)? {
                UnixAddress::Named(name) => Some(name),
                _ => return Err(Errno::EINVAL),
            },
        };
        let from = {
            let state = self.state.lock();
            if self.kind == SocketKind::SeqPacket && state.phase != Phase::Connected {
                return Err(Errno::ENOTCONN);
            }
            state.name.clone()
        };
        let from = if from.is_none() && self.options.flag(so::PASSCRED) {
            self.bind_if_credentials_pass()?;
            self.state.lock().name.clone()
        } else {
            from
        };
        let target = self.target(names, address.as_ref())?;
        if message.data.len() > self.options.send_buffer() - 32 {
            return Err(Errno::EMSGSIZE);
        }
        if self.state.lock().shut_send {
            return Err(Errno::EPIPE);
        }
        if !self.may_send_more() {
            return Err(Errno::EAGAIN);
        }
        let (files, claimed) = split(message.control);
        self.space.depart(&files)?;
        let rights = Rights::new(files, &self.space);
        let credentials = claimed.unwrap_or_else(|| PeerCredentials::of(caller));
        let parcel = Message::new(message.data, rights, credentials, from, Charge::new(self, message.data.len()));
        target.take_datagram(&mut Some(parcel), &self.me)?;
        target.queue.wake(Events::READ);
        Ok(message.data.len())
    }

    /// Where a message goes. `ENOTCONN`, `ECONNREFUSED` for a peer that is gone, `EPIPE` for one of a seqpacket socket.
    fn target(&self, names: &dyn Names, address: Option<&UnixName>) -> Result<Arc<UnixSocket>> {
        if let Some(name) = address {
            return self.find(names, name);
        }
        let peer = self.state.lock().peer.clone().ok_or(Errno::ENOTCONN)?;
        if let Some(peer) = peer.upgrade() {
            return Ok(peer);
        }
        if self.connects() {
            return Err(Errno::EPIPE);
        }
        // The association is over, and what the peer sent is gone with it.
        let inbox = {
            let mut state = self.state.lock();
            (state.peer, state.peer_name, state.phase) = (None, None, Phase::Idle);
            std::mem::take(&mut state.inbox)
        };
        drop(inbox);
        Err(Errno::ECONNREFUSED)
    }

    /// Takes the message; one that is refused stays, to be dropped unlocked.
    fn take_datagram(&self, message: &mut Option<Message>, sender: &Weak<UnixSocket>) -> Result<()> {
        let mut state = self.state.lock();
        let from_peer = state.peer.as_ref().is_some_and(|p| p.ptr_eq(sender));
        if self.kind == SocketKind::Datagram && state.peer.is_some() && !from_peer {
            return Err(Errno::EPERM);
        }
        if state.shut_receive {
            return Err(Errno::EPIPE);
        }
        let to_itself = self.me.ptr_eq(sender);
        if !from_peer && !to_itself && state.inbox.len() > MAX_DATAGRAMS {
            UnixSocket::block(&mut state, sender);
            return Err(Errno::EAGAIN);
        }
        state.inbox.extend(message.take());
        Ok(())
    }

    pub(super) fn receive_datagram(&self, dst: &mut [u8], flags: MsgFlags) -> Result<Received> {
        let peek = flags.contains(MsgFlags::PEEK);
        let passes = self.options.flag(so::PASSCRED);
        let (received, done, blocked) = {
            let mut state = self.state.lock();
            if self.kind == SocketKind::SeqPacket && state.phase != Phase::Connected {
                return Err(Errno::ENOTCONN);
            }
            let Some(message) = state.inbox.front_mut() else {
                return match state.error.take() {
                    Some(errno) => Err(errno),
                    None if state.shut_receive => Ok(Received::default()),
                    None => Err(Errno::EAGAIN),
                };
            };
            let received = deliver(message, dst, flags, passes, self.kind);
            let done = if peek { None } else { state.inbox.pop_front() };
            let blocked = if peek { Vec::new() } else { std::mem::take(&mut state.blocked) };
            (received, done, blocked)
        };
        drop(done);
        UnixSocket::wake_blocked(blocked);
        Ok(received)
    }
}

fn deliver(message: &mut Message, dst: &mut [u8], flags: MsgFlags, passes: bool, kind: SocketKind) -> Received {
    let copied = message.copy(dst);
    let full = message.len();
    let mut received = Received { bytes: copied, ..Received::default() };
    if copied < full {
        received.flags |= MsgFlags::TRUNC;
    }
    if flags.contains(MsgFlags::TRUNC) {
        received.bytes = full;
    }
    if kind == SocketKind::Datagram {
        received.address = Some(message.from.as_ref().map_or_else(Vec::new, |name| UnixName::encode(Some(name))));
    }
    if passes {
        received.control.push(Control::Credentials(message.credentials));
    }
    let rights = if flags.contains(MsgFlags::PEEK) { message.rights.files().to_vec() } else { message.rights.take() };
    if !rights.is_empty() {
        received.control.push(Control::Rights(rights));
    }
    received
}
