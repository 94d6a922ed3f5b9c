//! A pipe: buffer, capacity, who is at its ends.

use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_sync::{Events, Level, Mutex, MutexGuard, WaitQueue};

use crate::buffer::Buffer;

/// Writes of at most this many bytes are not mixed with others (limits.h).
pub const PIPE_BUF: usize = 4096;
pub const DEFAULT_CAPACITY: usize = 65536;
/// /proc/sys/fs/pipe-max-size.
pub const MAX_CAPACITY: usize = 1 << 20;

pub(crate) struct State {
    pub buffer: Buffer,
    pub capacity: usize,
    pub readers: usize,
    pub writers: usize,
    /// How many readers and writers there ever were; lets a waiting open see one that came and went.
    pub readers_ever: u64,
    pub writers_ever: u64,
}

impl State {
    /// Bytes that may be written now.
    pub fn room(&self) -> usize {
        if self.buffer.packets() >= self.capacity / PIPE_BUF { 0 } else { self.capacity.saturating_sub(self.buffer.len()) }
    }

    pub fn is_full(&self) -> bool {
        self.room() < PIPE_BUF
    }
}

pub struct Pipe {
    state: Mutex<State>,
    pub(crate) queue: WaitQueue,
}

impl Pipe {
    pub fn new() -> Arc<Pipe> {
        let state =
            State { buffer: Buffer::default(), capacity: DEFAULT_CAPACITY, readers: 0, writers: 0, readers_ever: 0, writers_ever: 0 };
        Arc::new(Pipe { state: Mutex::new(Level::Pipe, state), queue: WaitQueue::new() })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// A new end comes.
    pub(crate) fn enter(&self, read: bool, write: bool) {
        let mut state = self.state();
        if read {
            state.readers += 1;
            state.readers_ever += 1;
        }
        if write {
            state.writers += 1;
            state.writers_ever += 1;
        }
        drop(state);
        self.queue.wake_all();
    }

    /// An end goes.
    pub(crate) fn leave(&self, read: bool, write: bool) {
        let mut state = self.state();
        state.readers -= usize::from(read);
        state.writers -= usize::from(write);
        if state.readers == 0 && state.writers == 0 {
            state.buffer.clear();
        }
        drop(state);
        self.queue.wake_all();
    }

    /// Bytes that wait to be read (FIONREAD).
    pub fn pending(&self) -> usize {
        self.state().buffer.len()
    }

    pub fn capacity(&self) -> usize {
        self.state().capacity
    }

    /// fcntl(2) F_SETPIPE_SZ: rounded up to a power of two pages. `EPERM` above [`MAX_CAPACITY`] without `privileged`, `EBUSY` when more is in the pipe.
    pub fn set_capacity(&self, wanted: usize, privileged: bool) -> Result<usize> {
        let size = wanted.max(PIPE_BUF).checked_next_power_of_two().filter(|s| *s <= 1 << 31).ok_or(Errno::EINVAL)?;
        let mut state = self.state();
        if size > state.capacity && size > MAX_CAPACITY && !privileged {
            return Err(Errno::EPERM);
        }
        // However privileged: a pipe's memory is the sentry's.
        if size > 16 * MAX_CAPACITY {
            return Err(Errno::ENOMEM);
        }
        if state.buffer.len() > size || state.buffer.packets() > size / PIPE_BUF {
            return Err(Errno::EBUSY);
        }
        state.capacity = size;
        drop(state);
        self.queue.wake(Events::WRITE);
        Ok(size)
    }
}
