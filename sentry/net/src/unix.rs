//! AF_UNIX (unix(7)). net/unix/af_unix.c.
//!
//! Every socket owns the queue of what was sent to it; a sender locks its own state, lets go, then locks the receiver's: no two sockets are ever
//! locked at once. Peers know each other weakly; a socket that is dropped tells the other end. What a sender may have on its way unread is
//! bounded by its SO_SNDBUF ([`message::Charge`]).
//! Differs: MSG_OOB is refused on streams too; SO_PEEK_OFF is ignored; credentials always travel, also when SO_PASSCRED came later.

mod connect;
mod datagram;
mod message;
mod space;
mod stream;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result, UserAddr};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_vfs::Caller;

use crate::address::UnixName;
use crate::family::{Family, MsgFlags, Outgoing, PeerCredentials, Received, Shutdown, Socket, SocketKind};
use crate::names::Names;
use crate::options::{Options, SOL_SOCKET, int, so};
use message::Message;
pub(crate) use space::UnixSpace;

/// net.unix.max_dgram_qlen: so many, and one, wait at a datagram socket for those who are not its peer.
const MAX_DATAGRAMS: usize = 10;
/// net.core.somaxconn.
const MAX_BACKLOG: i32 = 4096;

const SIOCINQ: u32 = 0x541b;
const SIOCOUTQ: u32 = 0x5411;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Idle,
    /// A connect(2) is under way in another thread.
    Connecting,
    Connected,
    Listening,
}

struct State {
    phase: Phase,
    name: Option<UnixName>,
    peer: Option<Weak<UnixSocket>>,
    peer_name: Option<UnixName>,
    peer_credentials: Option<PeerCredentials>,
    inbox: VecDeque<Message>,
    /// Nothing more will be received, or may be sent.
    shut_receive: bool,
    shut_send: bool,
    error: Option<Errno>,
    /// Of a connection that nobody has accepted yet.
    embryo: bool,
    backlog: usize,
    pending: VecDeque<Arc<UnixSocket>>,
    /// Who waits for room in `inbox` or `pending`.
    blocked: Vec<Weak<UnixSocket>>,
}

pub struct UnixSocket {
    kind: SocketKind,
    options: Options,
    space: Arc<UnixSpace>,
    state: Mutex<State>,
    queue: WaitQueue,
    /// Charge of what this socket sent and nobody has read.
    outstanding: AtomicUsize,
    me: Weak<UnixSocket>,
}

impl UnixSocket {
    pub(crate) fn new(kind: SocketKind, space: &Arc<UnixSpace>) -> Arc<UnixSocket> {
        let state = State {
            phase: Phase::Idle,
            name: None,
            peer: None,
            peer_name: None,
            peer_credentials: None,
            inbox: VecDeque::new(),
            shut_receive: false,
            shut_send: false,
            error: None,
            embryo: false,
            backlog: 0,
            pending: VecDeque::new(),
            blocked: Vec::new(),
        };
        Arc::new_cyclic(|me| UnixSocket {
            kind,
            options: Options::default(),
            space: space.clone(),
            state: Mutex::new(Level::Socket, state),
            queue: WaitQueue::new(),
            outstanding: AtomicUsize::new(0),
            me: me.clone(),
        })
    }

    /// socketpair(2).
    pub(crate) fn pair(kind: SocketKind, space: &Arc<UnixSpace>, caller: &dyn Caller) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
        let (a, b) = (UnixSocket::new(kind, space), UnixSocket::new(kind, space));
        let who = PeerCredentials::of(caller);
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut state = one.state.lock();
            state.phase = Phase::Connected;
            state.peer = Some(Arc::downgrade(other));
            state.peer_credentials = Some(who);
        }
        (a, b)
    }

    fn connects(&self) -> bool {
        self.kind != SocketKind::Datagram
    }

    /// May it send, as poll(2) sees it? A quarter of the buffer must be all that is on its way.
    fn has_send_room(&self) -> bool {
        self.outstanding.load(Ordering::Acquire).saturating_mul(4) <= self.options.send_buffer()
    }

    /// May one more message go on its way?
    fn may_send_more(&self) -> bool {
        self.outstanding.load(Ordering::Acquire) < self.options.send_buffer()
    }

    fn uncharge(&self, amount: usize) {
        let had_room = self.has_send_room();
        self.outstanding.fetch_sub(amount, Ordering::AcqRel);
        if !had_room && self.has_send_room() {
            self.queue.wake(Events::WRITE | Events::WRBAND);
        }
    }

    /// Wakes those who waited for room here.
    fn wake_blocked(blocked: Vec<Weak<UnixSocket>>) {
        for socket in blocked.iter().filter_map(Weak::upgrade) {
            socket.queue.wake(Events::WRITE | Events::WRBAND);
        }
    }

    /// Remembers `sender` among those who wait for room.
    fn block(state: &mut State, sender: &Weak<UnixSocket>) {
        state.blocked.retain(|s| s.strong_count() != 0);
        if !state.blocked.iter().any(|s| s.ptr_eq(sender)) {
            state.blocked.push(sender.clone());
        }
    }

    /// A datagram socket's peer has no room; `self` is remembered there.
    fn peer_is_full(&self) -> bool {
        if self.kind != SocketKind::Datagram {
            return false;
        }
        let peer = self.state.lock().peer.as_ref().and_then(Weak::upgrade);
        let Some(peer) = peer else { return false };
        let mut state = peer.state.lock();
        let ours = state.peer.as_ref().is_some_and(|p| p.ptr_eq(&self.me));
        let full = !ours && state.inbox.len() > MAX_DATAGRAMS;
        if full {
            UnixSocket::block(&mut state, &self.me);
        }
        full
    }

    /// Bytes that a read would find (SIOCINQ).
    fn unread(&self) -> Result<usize> {
        let state = self.state.lock();
        match self.kind {
            _ if state.phase == Phase::Listening => Err(Errno::EINVAL),
            SocketKind::Datagram => Ok(state.inbox.front().map_or(0, Message::len)),
            _ => Ok(state.inbox.iter().map(Message::len).sum()),
        }
    }
}

impl Socket for UnixSocket {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn family(&self) -> Family {
        Family::Unix
    }

    fn kind(&self) -> SocketKind {
        self.kind
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn bind(&self, _: &dyn Caller, names: &dyn Names, address: &[u8]) -> Result<()> {
        self.bind_name(names, address)
    }

    fn listen(&self, caller: &dyn Caller, backlog: i32) -> Result<()> {
        self.start_listening(caller, backlog)
    }

    fn accept(&self, _: &dyn Caller) -> Result<Arc<dyn Socket>> {
        let socket: Arc<dyn Socket> = self.take_connection()?;
        Ok(socket)
    }

    fn connect(&self, caller: &dyn Caller, names: &dyn Names, address: &[u8]) -> Result<()> {
        if self.connects() { self.connect_to_listener(caller, names, address) } else { self.associate(names, address) }
    }

    fn send(&self, caller: &dyn Caller, names: &dyn Names, message: Outgoing<'_>) -> Result<usize> {
        if message.flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        match self.kind {
            SocketKind::Stream => self.send_stream(caller, message),
            _ => self.send_datagram(caller, names, message),
        }
    }

    fn receive(&self, _: &dyn Caller, dst: &mut [u8], flags: MsgFlags) -> Result<Received> {
        if flags.contains(MsgFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        if flags.contains(MsgFlags::ERRQUEUE) {
            return Err(Errno::EAGAIN);
        }
        match self.kind {
            SocketKind::Stream => self.receive_stream(dst, flags),
            _ => self.receive_datagram(dst, flags),
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let peer = {
            let mut state = self.state.lock();
            state.shut_receive |= how.read();
            state.shut_send |= how.write();
            state.peer.as_ref().filter(|_| self.connects()).and_then(Weak::upgrade)
        };
        self.queue.wake_all();
        if let Some(peer) = peer {
            {
                let mut state = peer.state.lock();
                state.shut_receive |= how.write();
                state.shut_send |= how.read();
            }
            peer.queue.wake_all();
        }
        Ok(())
    }

    fn local_address(&self) -> Result<Vec<u8>> {
        Ok(UnixName::encode(self.state.lock().name.as_ref()))
    }

    fn peer_address(&self) -> Result<Vec<u8>> {
        let (peer, remembered) = {
            let state = self.state.lock();
            let peer = state.peer.as_ref().ok_or(Errno::ENOTCONN)?;
            (peer.upgrade(), state.peer_name.clone())
        };
        let name = match &peer {
            Some(peer) => peer.state.lock().name.clone(),
            None => remembered,
        };
        Ok(UnixName::encode(name.as_ref()))
    }

    fn get_option(&self, _: &dyn Caller, level: i32, name: i32, _: usize) -> Result<Vec<u8>> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(match name {
            so::TYPE => int(self.kind as u64),
            so::DOMAIN => int(Family::Unix as u64),
            so::PROTOCOL => int(0),
            so::ACCEPTCONN => int((self.state.lock().phase == Phase::Listening) as u64),
            so::ERROR => int(self.state.lock().error.take().map_or(0, |e| e.raw() as u64)),
            so::PEERCRED => {
                let nobody = PeerCredentials { pid: 0, uid: u32::MAX, gid: u32::MAX };
                self.state.lock().peer_credentials.unwrap_or(nobody).encode().to_vec()
            }
            so::PEERGROUPS if self.state.lock().peer_credentials.is_some() => Vec::new(),
            so::PEERGROUPS => return Err(Errno::ENODATA),
            so::COOKIE => (self.me.as_ptr() as u64 >> 4 & 0xffff_ffff).to_ne_bytes().to_vec(),
            _ => self.options.get(name)?,
        })
    }

    fn set_option(&self, caller: &dyn Caller, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != SOL_SOCKET {
            return Err(Errno::EOPNOTSUPP);
        }
        self.options.set(caller, name, value)
    }

    /// unix_poll(), unix_dgram_poll().
    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.queue.add(waiter);
        }
        let mut writable = self.has_send_room();
        if writable && want.intersects(Events::WRITE | Events::WRBAND) {
            writable = !self.peer_is_full();
        }
        let state = self.state.lock();
        let mut now = Events::empty();
        if state.error.is_some() {
            now |= Events::ERR;
        }
        if state.shut_receive {
            now |= Events::RDHUP | Events::READ;
        }
        if state.shut_receive && state.shut_send {
            now |= Events::HUP;
        }
        if !state.inbox.is_empty() || !state.pending.is_empty() {
            now |= Events::READ;
        }
        if self.connects() && matches!(state.phase, Phase::Idle | Phase::Connecting) {
            now |= Events::HUP;
        }
        if writable && state.phase != Phase::Listening {
            now |= Events::WRITE | Events::WRBAND;
        }
        now & (want | Events::ERR | Events::HUP)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        let value = match command {
            SIOCINQ => self.unread()?,
            SIOCOUTQ => self.outstanding.load(Ordering::Acquire),
            _ => return Err(Errno::ENOTTY),
        };
        caller.copy_out(UserAddr(argument), &i32::try_from(value).unwrap_or(i32::MAX).to_ne_bytes())?;
        Ok(0)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let (name, peer, inbox, pending, blocked, embryo) = {
            let mut state = self.state.lock();
            (
                state.name.take(),
                state.peer.take(),
                std::mem::take(&mut state.inbox),
                std::mem::take(&mut state.pending),
                std::mem::take(&mut state.blocked),
                state.embryo,
            )
        };
        if let Some(UnixName::Abstract(name)) = name {
            self.space.unbind(self.kind, &name);
        }
        if self.connects()
            && let Some(peer) = peer.as_ref().and_then(Weak::upgrade)
        {
            {
                let mut state = peer.state.lock();
                (state.shut_receive, state.shut_send) = (true, true);
                if embryo || !inbox.is_empty() {
                    state.error = Some(Errno::ECONNRESET);
                }
            }
            peer.queue.wake_all();
        }
        drop(inbox);
        drop(pending);
        UnixSocket::wake_blocked(blocked);
    }
}

#[cfg(test)]
mod tests;
