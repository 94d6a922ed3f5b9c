//! Pipes and FIFOs: pipe(7), fifo(7).
//!
//! [`Pipe`] is the buffer with its counts of readers and writers; [`PipeEnd`] one open end (or both, for a FIFO opened O_RDWR); [`Pipes`] makes pairs and opens
//! FIFOs of any file system. A FIFO's pipe lives in its inode's [`sentry_vfs::InodeState::attached`]; contents go when the last end is closed.
//!
//! Nothing here blocks: `EAGAIN`, and a wake-up through the pipe's queue. `write` may take less than it was given; a blocking write(2) goes on with the
//! rest, as it does natively. At most `PIPE_BUF` bytes are taken whole or not at all.
//!
//! Locks: one per pipe (Level::Pipe), never two at once, never over a call out of this crate.
#![forbid(unsafe_code)]

mod buffer;
mod end;
mod fs;
mod inode;
mod pipe;

pub use end::PipeEnd;
pub use fs::Pipes;
pub use pipe::{DEFAULT_CAPACITY, MAX_CAPACITY, PIPE_BUF, Pipe};
