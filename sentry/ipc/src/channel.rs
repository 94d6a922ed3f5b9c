//! The calling side.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Call, Hello, IpcError, Protocol, codec, frame};

/// A reply with the descriptors that came with it.
type Replied<C> = Result<(<C as Call>::Reply, Vec<OwnedFd>), IpcError>;

/// One socket to a peer that answers calls, one at a time.
///
/// Any number of threads may call; they take turns (a mutex held over the whole exchange, the one lock that is: it guards nothing but the
/// exchange). Where turns would be waited for, use a [`crate::ChannelPool`].
pub struct Channel {
    socket: OwnedFd,
    exchange: Mutex<Exchange>,
}

/// Buffers that are kept between calls, and whether the socket may still be used.
struct Exchange {
    broken: bool,
    out: Vec<u8>,
    packet: Vec<u8>,
}

impl Channel {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, exchange: Mutex::new(Exchange { broken: false, out: Vec::new(), packet: Vec::new() }) }
    }

    /// Greets the peer; the first call on a channel.
    pub fn hello(&self, ours: Protocol) -> Result<(), IpcError> {
        let theirs = self.call(&Hello { protocol: ours })?.protocol;
        if theirs == ours { Ok(()) } else { Err(IpcError::Version { ours, theirs }) }
    }

    /// Sends `call` and waits for its reply. Descriptors that come with the reply are closed.
    pub fn call<C: Call>(&self, call: &C) -> Result<C::Reply, IpcError> {
        Ok(self.call_with_fds(call, &[])?.0)
    }

    /// Sends `call` with copies of `fds`, waits for the reply and the descriptors that came with it (close-on-exec, at most [`crate::MAX_FDS`]).
    pub fn call_with_fds<C: Call>(&self, call: &C, fds: &[BorrowedFd<'_>]) -> Replied<C> {
        self.call_locked(&mut self.lock(), call, fds)
    }

    /// The same when no other thread is in a call, else nothing.
    pub(crate) fn try_call<C: Call>(&self, call: &C, fds: &[BorrowedFd<'_>]) -> Option<Replied<C>> {
        let mut exchange = match self.exchange.try_lock() {
            Ok(guard) => guard,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        Some(self.call_locked(&mut exchange, call, fds))
    }

    fn call_locked<C: Call>(&self, exchange: &mut Exchange, call: &C, fds: &[BorrowedFd<'_>]) -> Replied<C> {
        if exchange.broken {
            return Err(IpcError::Broken);
        }
        exchange.out.clear();
        codec::encode_into(call, &mut exchange.out)?;
        match frame::send(self.socket.as_fd(), C::TAG, &exchange.out, fds) {
            Ok(()) => {}
            // Refused before anything was sent.
            Err(error @ (IpcError::TooLarge(_) | IpcError::TooManyFds(_))) => return Err(error),
            Err(error) => {
                exchange.broken = true;
                return Err(error);
            }
        }
        let reply = self.reply::<C>(exchange);
        exchange.broken |= reply.is_err();
        reply
    }

    fn reply<C: Call>(&self, exchange: &mut Exchange) -> Replied<C> {
        let incoming = frame::receive(self.socket.as_fd(), &mut exchange.packet)?;
        if incoming.tag != C::TAG {
            return Err(IpcError::WrongReply { asked: C::TAG, got: incoming.tag });
        }
        Ok((codec::decode(&incoming.data)?, incoming.fds))
    }

    /// Bounds every later wait for the peer; a call that runs into it breaks the channel. Needs a host call that our confined processes do not
    /// have: set it before.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), IpcError> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        set_socket_timeout(&self.socket, Timeout::Recv, timeout).map_err(std::io::Error::from)?;
        set_socket_timeout(&self.socket, Timeout::Send, timeout).map_err(std::io::Error::from)?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
