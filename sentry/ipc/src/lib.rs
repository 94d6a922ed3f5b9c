//! How our processes speak to each other: framed, typed calls over `SOCK_SEQPACKET` unix sockets, with descriptors as ancillary data.
//!
//! A [`Call`] names its reply, so a wrong pair does not compile. [`Channel`] is the calling side, [`Server`] the answering one, [`ChannelPool`]
//! several channels to one peer for many calling threads. Bytes are made and read by [`codec`] alone.
//!
//! Invariants: the peer is never trusted; every length is checked before anything is allocated for it; a message holds at most [`MAX_MESSAGE`]
//! bytes and [`MAX_FDS`] descriptors; a channel on which anything went wrong is broken for ever, since request and reply could no longer be
//! told apart. Messages longer than one packet travel as several, the first carries the descriptors.
//!
//! Rules for message types: no recursion (a nested message overflows the decoder's stack), no collection of zero-sized elements (its length
//! costs no bytes, so no limit catches it).
#![forbid(unsafe_code)]

mod channel;
pub mod codec;
mod frame;
mod pool;
mod server;

pub use channel::Channel;
pub use frame::{MAX_FDS, MAX_MESSAGE, seqpacket_pair};
pub use pool::ChannelPool;
pub use server::{Answer, Request, Server};

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A request that a peer answers with [`Call::Reply`].
pub trait Call: Serialize + DeserializeOwned {
    /// Tells the calls of one protocol apart; never 0, which is [`Hello`]'s.
    const TAG: u16;
    type Reply: Serialize + DeserializeOwned;
}

/// Which language a channel speaks. Both ends must agree on both numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Protocol {
    pub id: u32,
    pub version: u32,
}

impl Protocol {
    /// `name` is four letters that show up in a dump.
    pub const fn new(name: [u8; 4], version: u32) -> Self {
        Self { id: u32::from_le_bytes(name), version }
    }
}

/// The first message on every channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: Protocol,
}

impl Call for Hello {
    const TAG: u16 = 0;
    type Reply = Hello;
}

/// Why a call got no reply. All but `TooLarge` and `TooManyFds` leave the channel broken.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    #[error("channel: {0}")]
    Io(#[from] io::Error),
    #[error("the peer closed the channel")]
    Closed,
    #[error("the channel is broken by an earlier error")]
    Broken,
    #[error("message of {0} bytes is over the limit")]
    TooLarge(usize),
    #[error("{0} descriptors are over the limit")]
    TooManyFds(usize),
    #[error("peer broke the framing: {0}")]
    Framing(&'static str),
    #[error("cannot decode message: {0}")]
    Decode(String),
    #[error("cannot encode message: {0}")]
    Encode(String),
    #[error("peer speaks {theirs:?}, not {ours:?}")]
    Version { ours: Protocol, theirs: Protocol },
    #[error("peer answered call {asked} with tag {got}")]
    WrongReply { asked: u16, got: u16 },
    #[error("peer sent unknown call {0}")]
    UnknownCall(u16),
}

#[cfg(test)]
mod tests;
