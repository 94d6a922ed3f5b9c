//! The answering side.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::{Call, Hello, IpcError, Protocol, codec, frame};

/// One socket whose peer makes calls. Single-threaded: a server with several clients or a pool has one of these for each socket.
pub struct Server {
    socket: OwnedFd,
    packet: Vec<u8>,
    out: Vec<u8>,
}

/// A call that came in, not yet decoded: match on [`Request::tag`], then [`Request::answer`].
pub struct Request {
    tag: u16,
    data: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// An encoded reply with the descriptors that go with it. Made by [`Request::answer`] only, so it fits its call.
pub struct Answer {
    tag: u16,
    data: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Server {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, packet: Vec::new(), out: Vec::new() }
    }

    /// Waits for the greeting and answers it with our protocol, also when the peer's is another (so that it can say so), which then is an error.
    pub fn greet(&mut self, ours: Protocol) -> Result<(), IpcError> {
        let request = self.next_request()?;
        if request.tag != Hello::TAG {
            return Err(IpcError::UnknownCall(request.tag));
        }
        let theirs = codec::decode::<Hello>(&request.data)?.protocol;
        self.out.clear();
        codec::encode_into(&Hello { protocol: ours }, &mut self.out)?;
        frame::send(self.socket.as_fd(), Hello::TAG, &self.out, &[])?;
        if theirs == ours { Ok(()) } else { Err(IpcError::Version { ours, theirs }) }
    }

    /// Greets, then answers calls until the peer closes the channel (`Ok`) or breaks its rules (`Err`); either way the channel is over.
    pub fn serve(&mut self, ours: Protocol, mut handler: impl FnMut(Request) -> Result<Answer, IpcError>) -> Result<(), IpcError> {
        match self.greet(ours) {
            Ok(()) => {}
            Err(IpcError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
        loop {
            let request = match self.next_request() {
                Ok(request) => request,
                Err(IpcError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            };
            let answer = handler(request)?;
            match self.send(&answer) {
                Ok(()) => {}
                Err(IpcError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the next call.
    pub fn next_request(&mut self) -> Result<Request, IpcError> {
        let frame::Incoming { tag, data, fds } = frame::receive(self.socket.as_fd(), &mut self.packet)?;
        Ok(Request { tag, data, fds })
    }

    pub fn send(&mut self, answer: &Answer) -> Result<(), IpcError> {
        let fds: Vec<BorrowedFd<'_>> = answer.fds.iter().map(AsFd::as_fd).collect();
        frame::send(self.socket.as_fd(), answer.tag, &answer.data, &fds)
    }

    /// Bounds every wait for the peer.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), IpcError> {
        use rustix::net::sockopt::{Timeout, set_socket_timeout};
        set_socket_timeout(&self.socket, Timeout::Recv, timeout).map_err(std::io::Error::from)?;
        set_socket_timeout(&self.socket, Timeout::Send, timeout).map_err(std::io::Error::from)?;
        Ok(())
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Request {
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// Descriptors that came with it.
    pub fn fds(&self) -> &[OwnedFd] {
        &self.fds
    }

    /// Decodes the call as `C`, lets `f` make the reply. `f` gets the descriptors that came with it.
    pub fn answer<C: Call>(self, f: impl FnOnce(C, Vec<OwnedFd>) -> C::Reply) -> Result<Answer, IpcError> {
        self.answer_with_fds::<C>(|call, fds| (f(call, fds), Vec::new()))
    }

    /// The same with descriptors to send with the reply (at most [`crate::MAX_FDS`]); our copies are closed after sending.
    pub fn answer_with_fds<C: Call>(self, f: impl FnOnce(C, Vec<OwnedFd>) -> (C::Reply, Vec<OwnedFd>)) -> Result<Answer, IpcError> {
        if self.tag != C::TAG {
            return Err(IpcError::UnknownCall(self.tag));
        }
        let (reply, fds) = f(codec::decode(&self.data)?, self.fds);
        Ok(Answer { tag: C::TAG, data: codec::encode(&reply)?, fds })
    }

    /// For the last arm of a handler's match.
    pub fn unknown(self) -> IpcError {
        IpcError::UnknownCall(self.tag)
    }
}
