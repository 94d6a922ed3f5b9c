//! bind, listen, connect, accept.

use std::any::Any;
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::Events;
use sentry_vfs::{Caller, Inode};

use super::{MAX_BACKLOG, Phase, UnixSocket};
use crate::address::{UnixAddress, UnixName};
use crate::family::PeerCredentials;
use crate::names::Names;
use crate::options::so;

/// What a socket leaves in the inode that it is bound to.
struct Bound(Weak<UnixSocket>);

impl UnixSocket {
    pub(super) fn bind_name(&self, names: &dyn Names, address: &[u8]) -> Result<()> {
        let address = UnixAddress::parse(address)?;
        if self.state.lock().name.is_some() {
            // An unnamed address asks for a name only if there is none.
            return if address == UnixAddress::Unnamed { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let name = match address {
            UnixAddress::Unspecified => return Err(Errno::EINVAL),
            UnixAddress::Unnamed => return self.bind_automatically(),
            UnixAddress::Named(name) => name,
        };
        match &name {
            UnixName::Abstract(bytes) => self.space.bind(self, bytes)?,
            UnixName::Path(path) => {
                let inode = names.make(path)?;
                let bound: Arc<dyn Any + Send + Sync> = Arc::new(Bound(self.me.clone()));
                let old = inode.state().attached.lock().replace(bound);
                drop(old);
            }
        }
        self.state.lock().name = Some(name);
        Ok(())
    }

    fn bind_automatically(&self) -> Result<()> {
        if self.state.lock().name.is_some() {
            return Ok(());
        }
        let name = self.space.bind_automatically(self)?;
        self.state.lock().name = Some(UnixName::Abstract(name));
        Ok(())
    }

    /// With SO_PASSCRED a sender gets a name, so that the receiver can answer.
    pub(super) fn bind_if_credentials_pass(&self) -> Result<()> {
        if self.options.flag(so::PASSCRED) { self.bind_automatically() } else { Ok(()) }
    }

    /// The socket that an address names. `ECONNREFUSED`, `EPROTOTYPE`, errors of the path.
    pub(super) fn find(&self, names: &dyn Names, name: &UnixName) -> Result<Arc<UnixSocket>> {
        match name {
            UnixName::Abstract(bytes) => self.space.find(self.kind, bytes),
            UnixName::Path(path) => {
                let found = bound_to(&names.find(path)?)?;
                if found.kind == self.kind { Ok(found) } else { Err(Errno::EPROTOTYPE) }
            }
        }
    }

    pub(super) fn start_listening(&self, caller: &dyn Caller, backlog: i32) -> Result<()> {
        if !self.connects() {
            return Err(Errno::EOPNOTSUPP);
        }
        let blocked = {
            let mut state = self.state.lock();
            if state.name.is_none() || !matches!(state.phase, Phase::Idle | Phase::Listening) {
                return Err(Errno::EINVAL);
            }
            state.phase = Phase::Listening;
            // A negative number is a large one.
            state.backlog = if backlog < 0 { MAX_BACKLOG } else { backlog.min(MAX_BACKLOG) } as usize;
            state.peer_credentials = Some(PeerCredentials::of(caller));
            std::mem::take(&mut state.blocked)
        };
        UnixSocket::wake_blocked(blocked);
        Ok(())
    }

    /// Stream and seqpacket. `EAGAIN` when the listener's backlog is full.
    pub(super) fn connect_to_listener(&self, caller: &dyn Caller, names: &dyn Names, address: &[u8]) -> Result<()> {
        let UnixAddress::Named(name) = UnixAddress::parse(address)? else { return Err(Errno::EINVAL) };
        self.bind_if_credentials_pass()?;
        {
            let mut state = self.state.lock();
            match state.phase {
                Phase::Idle => state.phase = Phase::Connecting,
                Phase::Connected => return Err(Errno::EISCONN),
                Phase::Connecting => return Err(Errno::EALREADY),
                Phase::Listening => return Err(Errno::EINVAL),
            }
        }
        let result = self.find(names, &name).and_then(|listener| self.enter(&listener, caller));
        let mut state = self.state.lock();
        match result {
            Ok((server, credentials)) => {
                state.phase = Phase::Connected;
                state.peer = Some(server);
                state.peer_name = Some(name);
                state.peer_credentials = credentials;
                drop(state);
                self.queue.wake(Events::WRITE);
                Ok(())
            }
            Err(e) => {
                state.phase = Phase::Idle;
                Err(e)
            }
        }
    }

    /// Makes the other end and puts it before the listener.
    fn enter(&self, listener: &Arc<UnixSocket>, caller: &dyn Caller) -> Result<(Weak<UnixSocket>, Option<PeerCredentials>)> {
        let server = UnixSocket::new(self.kind, &self.space);
        server.options.inherit(&listener.options);
        let own_name = self.state.lock().name.clone();
        let listener_name = listener.state.lock().name.clone();
        {
            let mut state = server.state.lock();
            (state.phase, state.embryo) = (Phase::Connected, true);
            (state.name, state.peer_name) = (listener_name, own_name);
            state.peer = Some(self.me.clone());
            state.peer_credentials = Some(PeerCredentials::of(caller));
        }
        let connection = Arc::downgrade(&server);
        match listener.admit(server.clone(), &self.me) {
            Ok(credentials) => {
                listener.queue.wake(Events::READ);
                Ok((connection, credentials))
            }
            Err(e) => {
                // It goes without telling us that a connection broke.
                server.state.lock().peer = None;
                Err(e)
            }
        }
    }

    fn admit(&self, server: Arc<UnixSocket>, client: &Weak<UnixSocket>) -> Result<Option<PeerCredentials>> {
        let mut state = self.state.lock();
        if state.phase != Phase::Listening || state.shut_receive {
            return Err(Errno::ECONNREFUSED);
        }
        if state.pending.len() > state.backlog {
            UnixSocket::block(&mut state, client);
            return Err(Errno::EAGAIN);
        }
        state.pending.push_back(server);
        Ok(state.peer_credentials)
    }

    pub(super) fn take_connection(&self) -> Result<Arc<UnixSocket>> {
        if !self.connects() {
            return Err(Errno::EOPNOTSUPP);
        }
        let (connection, blocked) = {
            let mut state = self.state.lock();
            if state.phase != Phase::Listening {
                return Err(Errno::EINVAL);
            }
            let Some(connection) = state.pending.pop_front() else {
                return Err(if state.shut_receive { Errno::EINVAL } else { Errno::EAGAIN });
            };
            (connection, std::mem::take(&mut state.blocked))
        };
        connection.state.lock().embryo = false;
        UnixSocket::wake_blocked(blocked);
        Ok(connection)
    }

    /// Datagram: sets or dissolves the association.
    pub(super) fn associate(&self, names: &dyn Names, address: &[u8]) -> Result<()> {
        let name = match UnixAddress::parse(address)? {
            UnixAddress::Unspecified => {
                let mut state = self.state.lock();
                (state.peer, state.peer_name, state.phase) = (None, None, Phase::Idle);
                return Ok(());
            }
            UnixAddress::Unnamed => return Err(Errno::EINVAL),
            UnixAddress::Named(name) => name,
        };
        self.bind_if_credentials_pass()?;
        let peer = self.find(names, &name)?;
        if !peer.accepts_from(&self.me) {
            return Err(Errno::EPERM);
        }
        {
            let mut state = self.state.lock();
            state.phase = Phase::Connected;
            state.peer = Some(Arc::downgrade(&peer));
            state.peer_name = Some(name);
        }
        self.queue.wake(Events::WRITE);
        Ok(())
    }

    /// A datagram socket with a peer takes messages from that only.
    fn accepts_from(&self, sender: &Weak<UnixSocket>) -> bool {
        self.state.lock().peer.as_ref().is_none_or(|peer| peer.ptr_eq(sender))
    }
}

fn bound_to(inode: &Arc<dyn Inode>) -> Result<Arc<UnixSocket>> {
    if inode.kind() != FileKind::Socket {
        return Err(Errno::ECONNREFUSED);
    }
    let attached = inode.state().attached.lock().clone();
    let bound = attached.as_ref().and_then(|a| a.downcast_ref::<Bound>()).ok_or(Errno::ECONNREFUSED)?;
    bound.0.upgrade().ok_or(Errno::ECONNREFUSED)
}
