//! Several channels to one peer, for many calling threads.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Call, Channel, IpcError, Protocol};

/// Channels that all lead to the same peer, each served by a thread of its own there. A call takes the first free one; when all are busy it
/// waits for one in turn. Calls of different threads may thus be answered in any order.
pub struct ChannelPool {
    channels: Vec<Channel>,
    next: AtomicUsize,
}

impl ChannelPool {
    /// `sockets` must not be empty: an empty pool answers every call with [`IpcError::Closed`].
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        Self { channels: sockets.into_iter().map(Channel::new).collect(), next: AtomicUsize::new(0) }
    }

    /// Greets on every channel.
    pub fn hello(&self, ours: Protocol) -> Result<(), IpcError> {
        self.channels.iter().try_for_each(|channel| channel.hello(ours))
    }

    pub fn call<C: Call>(&self, call: &C) -> Result<C::Reply, IpcError> {
        Ok(self.call_with_fds(call, &[])?.0)
    }

    /// As [`Channel::call_with_fds`].
    pub fn call_with_fds<C: Call>(&self, call: &C, fds: &[BorrowedFd<'_>]) -> Result<(C::Reply, Vec<OwnedFd>), IpcError> {
        for channel in &self.channels {
            if let Some(result) = channel.try_call(call, fds) {
                return result;
            }
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.channels.len()).ok_or(IpcError::Closed)?;
        self.channels[turn].call_with_fds(call, fds)
    }

    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }
}
