//! What waits in a socket's queue.

use std::sync::{Arc, Weak};

use sentry_vfs::FileDescription;

use super::{UnixSocket, UnixSpace};
use crate::address::UnixName;
use crate::control::Control;
use crate::family::PeerCredentials;

/// What Linux counts for a message beside its data, and the unit in which it counts data.
const OVERHEAD: usize = 768;
const DATA_ALIGN: usize = 64;

/// A message's share of its sender's buffer, given back when the message is gone.
pub struct Charge {
    sender: Weak<UnixSocket>,
    amount: usize,
}

impl Charge {
    pub fn new(sender: &UnixSocket, len: usize) -> Charge {
        let amount = len / DATA_ALIGN * DATA_ALIGN + OVERHEAD;
        sender.outstanding.fetch_add(amount, std::sync::atomic::Ordering::AcqRel);
        Charge { sender: sender.me.clone(), amount }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.upgrade() {
            sender.uncharge(self.amount);
        }
    }
}

/// Descriptors on their way. They are closed one after the other, not one inside the other, when nobody takes them.
pub struct Rights {
    files: Vec<Arc<FileDescription>>,
    space: Arc<UnixSpace>,
}

impl Rights {
    /// Counted already, by [`UnixSpace::depart`].
    pub fn new(files: Vec<Arc<FileDescription>>, space: &Arc<UnixSpace>) -> Rights {
        Rights { files, space: space.clone() }
    }

    pub fn files(&self) -> &[Arc<FileDescription>] {
        &self.files
    }

    pub fn take(&mut self) -> Vec<Arc<FileDescription>> {
        let files = std::mem::take(&mut self.files);
        self.space.arrive(&files);
        files
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let files = self.take();
        if !files.is_empty() {
            self.space.bury(files);
        }
    }
}

pub struct Message {
    data: Vec<u8>,
    /// How much of a stream's message has been read.
    read: usize,
    pub rights: Rights,
    pub credentials: PeerCredentials,
    pub from: Option<UnixName>,
    _charge: Charge,
}

impl Message {
    pub fn new(data: &[u8], rights: Rights, credentials: PeerCredentials, from: Option<UnixName>, charge: Charge) -> Message {
        Message { data: data.to_vec(), read: 0, rights, credentials, from, _charge: charge }
    }

    /// Bytes unread.
    pub fn len(&self) -> usize {
        self.data.len() - self.read
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies what fits.
    pub fn copy(&self, dst: &mut [u8]) -> usize {
        let unread = &self.data[self.read..];
        let n = unread.len().min(dst.len());
        dst[..n].copy_from_slice(&unread[..n]);
        n
    }

    pub fn consume(&mut self, n: usize) {
        self.read = (self.read + n).min(self.data.len());
    }
}

/// Takes control messages of an outgoing message apart: descriptors and claimed credentials.
pub fn split(control: Vec<Control>) -> (Vec<Arc<FileDescription>>, Option<PeerCredentials>) {
    let mut files = Vec::new();
    let mut credentials = None;
    for item in control {
        match item {
            Control::Rights(more) => files.extend(more),
            Control::Credentials(who) => credentials = Some(who),
        }
    }
    (files, credentials)
}
