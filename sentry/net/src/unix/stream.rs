//! Sending and receiving on SOCK_STREAM.

use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result, Signal};
use sentry_sync::Events;
use sentry_vfs::Caller;

use super::message::{Charge, Message, Rights, split};
use super::{Phase, State, UnixSocket};
use crate::control::Control;
use crate::family::{MsgFlags, Outgoing, PeerCredentials, Received};
use crate::options::so;

/// The most that one message of a stream holds.
const CHUNK: usize = 32768;

impl UnixSocket {
    pub(super) fn send_stream(&self, caller: &dyn Caller, message: Outgoing<'_>) -> Result<usize> {
        let result = self.send_chunks(caller, message.data, message.address.is_some_and(|a| !a.is_empty()), message.control);
        if result == Err(Errno::EPIPE) && !message.flags.contains(MsgFlags::NOSIGNAL) {
            caller.signal_self(Signal::SIGPIPE);
        }
        result
    }

    fn send_chunks(&self, caller: &dyn Caller, data: &[u8], addressed: bool, control: Vec<Control>) -> Result<usize> {
        if addressed {
            let connected = self.state.lock().phase == Phase::Connected;
            return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        let (mut files, claimed) = split(control);
        let credentials = claimed.unwrap_or_else(|| PeerCredentials::of(caller));
        let mut sent = 0;
        while sent < data.len() {
            let peer = match self.peer_to_send() {
                Ok(peer) => peer,
                Err(_) if sent > 0 => return Ok(sent),
                Err(e) => return Err(e),
            };
            if !self.may_send_more() {
                return if sent > 0 { Ok(sent) } else { Err(Errno::EAGAIN) };
            }
            let most = CHUNK.min((self.options.send_buffer() / 2).saturating_sub(64)).max(1);
            let chunk = &data[sent..data.len().min(sent + most)];
            self.space.depart(&files)?;
            let rights = Rights::new(std::mem::take(&mut files), &self.space);
            let message = Message::new(chunk, rights, credentials, None, Charge::new(self, chunk.len()));
            let refused = peer.take_message(message);
            if refused.is_some() {
                return if sent > 0 { Ok(sent) } else { Err(Errno::EPIPE) };
            }
            peer.queue.wake(Events::READ);
            sent += chunk.len();
        }
        Ok(sent)
    }

    /// `ENOTCONN`, `EPIPE`.
    fn peer_to_send(&self) -> Result<Arc<UnixSocket>> {
        let peer = {
            let state = self.state.lock();
            if state.phase != Phase::Connected {
                return Err(Errno::ENOTCONN);
            }
            if state.shut_send {
                return Err(Errno::EPIPE);
            }
            state.peer.clone()
        };
        peer.as_ref().and_then(Weak::upgrade).ok_or(Errno::EPIPE)
    }

    /// Gives the message back, to be dropped unlocked, when nothing more is received here.
    fn take_message(&self, message: Message) -> Option<Message> {
        let mut state = self.state.lock();
        if state.shut_receive {
            return Some(message);
        }
        state.inbox.push_back(message);
        None
    }

    pub(super) fn receive_stream(&self, dst: &mut [u8], flags: MsgFlags) -> Result<Received> {
        let passes = self.options.flag(so::PASSCRED);
        let mut done = Vec::new();
        let received = {
            let mut state = self.state.lock();
            if state.phase != Phase::Connected {
                return Err(Errno::EINVAL);
            }
            if state.inbox.is_empty() {
                return end_of_stream(&mut state, dst.len());
            }
            gather(&mut state, dst, flags.contains(MsgFlags::PEEK), passes, &mut done)
        };
        // Their charges wake the sender.
        drop(done);
        Ok(received)
    }
}

fn end_of_stream(state: &mut State, wanted: usize) -> Result<Received> {
    if let Some(errno) = state.error.take() {
        return Err(errno);
    }
    if state.shut_receive || wanted == 0 { Ok(Received::default()) } else { Err(Errno::EAGAIN) }
}

/// Copies from as many messages as belong together: with one set of credentials, if those are told, and at most one set of descriptors.
fn gather(state: &mut State, dst: &mut [u8], peek: bool, passes: bool, done: &mut Vec<Message>) -> Received {
    let mut received = Received::default();
    let mut credentials: Option<PeerCredentials> = None;
    let mut index = 0;
    while received.bytes < dst.len() || received.bytes == 0 {
        let Some(message) = state.inbox.get_mut(index) else { break };
        if passes && credentials.is_some_and(|c| c != message.credentials) {
            break;
        }
        credentials = Some(message.credentials);
        let n = message.copy(&mut dst[received.bytes..]);
        received.bytes += n;
        let rights = if peek { message.rights.files().to_vec() } else { message.rights.take() };
        if !peek {
            message.consume(n);
        }
        let used_up = if peek { n == message.len() } else { message.is_empty() };
        if used_up && !peek {
            done.extend(state.inbox.remove(index));
        } else {
            index += 1;
        }
        if !rights.is_empty() {
            received.control.push(Control::Rights(rights));
            break;
        }
        if !used_up || dst.is_empty() {
            break;
        }
    }
    if let Some(who) = credentials.filter(|_| passes) {
        received.control.insert(0, Control::Credentials(who));
    }
    received
}
