//! The sentry's side of a copy: a buffer on the stack for small transfers, one of a few kept ones for others.

use std::sync::Arc;

use sentry_kernel::CurrentTask;
use sentry_sync::{Level, Mutex};

use crate::dispatch::System;

/// Transfers up to this size go through the stack.
const SMALL: usize = 512;
/// Size of the kept buffers, and how many are kept while nobody uses them.
pub(crate) const KEPT_SIZE: usize = 64 << 10;
const KEPT: usize = 4;

/// Buffers between uses. What they hold is old data of the sandbox's own files, so whoever takes one passes on only what it has written.
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers(Mutex::new(Level::Leaf, Vec::new()))
    }
}

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().pop();
        kept.unwrap_or_else(|| vec![0; KEPT_SIZE])
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut kept = self.0.lock();
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

/// `len` bytes. Their contents mean nothing.
pub(crate) struct Buffer {
    small: [u8; SMALL],
    large: Vec<u8>,
    len: usize,
    owner: Option<Arc<System>>,
}

impl Buffer {
    pub fn new(task: &CurrentTask, len: usize) -> Buffer {
        let owner = (len > SMALL && len <= KEPT_SIZE).then(|| System::of(task).ok()).flatten();
        let large = match &owner {
            Some(system) => system.files.buffers.take(),
            None if len > SMALL => vec![0; len],
            None => Vec::new(),
        };
        Buffer { small: [0; SMALL], large, len, owner }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        if self.len > SMALL { &mut self.large[..self.len] } else { &mut self.small[..self.len] }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(system) = self.owner.take() {
            system.files.buffers.give(std::mem::take(&mut self.large));
        }
    }
}
