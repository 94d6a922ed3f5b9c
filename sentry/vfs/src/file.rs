//! One open file, as whoever implements it sees it.

use std::any::Any;
use std::ops::ControlFlow;

use sentry_abi::{Errno, FileKind, Result};
use sentry_memory::Mapping;
use sentry_sync::{Events, Waiter};

use crate::attr::Attr;
use crate::caller::Caller;

/// How offsets work on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// Pipes, sockets, terminals: `ESPIPE`; the offset passed to `read` and `write` means nothing.
    Stream,
    /// Regular files and the like.
    Offset,
    /// Directories: offsets are cookies of `iterate`.
    Directory,
    /// Devices like /dev/null: lseek answers 0 and nothing has an offset.
    Ignored,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry<'a> {
    pub name: &'a [u8],
    pub ino: u64,
    pub kind: FileKind,
    /// The cookie with which a later `iterate` goes on after this entry (d_off).
    pub next: u64,
}

/// An open file. Never blocks: what would block answers `EAGAIN`, and a change wakes those who registered by `ready`.
pub trait FileOps: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;

    fn seek_kind(&self) -> Seek {
        Seek::Stream
    }

    /// A stream on which lseek(2) succeeds and does nothing: anonymous files such as an eventfd (noop_llseek).
    fn ignores_lseek(&self) -> bool {
        false
    }

    /// Reads at most `dst.len()` bytes; 0 at the end.
    fn read(&self, caller: &dyn Caller, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let _ = (caller, offset, dst);
        Err(Errno::EINVAL)
    }

    fn write(&self, caller: &dyn Caller, offset: u64, src: &[u8]) -> Result<usize> {
        let _ = (caller, offset, src);
        Err(Errno::EINVAL)
    }

    /// Writes at the end (O_APPEND); returns bytes written and the offset after them.
    fn append(&self, caller: &dyn Caller, src: &[u8]) -> Result<(usize, u64)> {
        let n = self.write(caller, 0, src)?;
        Ok((n, 0))
    }

    /// Which of `want` hold now; ERR and HUP are always told. Registers `waiter`, if given, *before* looking.
    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        let _ = waiter;
        want & (Events::READ | Events::WRITE)
    }

    /// Is the open complete? A FIFO's waits for the other end (fifo(7)); the kernel does the waiting. Registers `waiter` first.
    fn opened(&self, waiter: Option<&Waiter>) -> bool {
        let _ = waiter;
        true
    }

    /// May epoll watch it? Regular files and directories: no (`EPERM`).
    fn pollable(&self) -> bool {
        self.seek_kind() == Seek::Stream
    }

    /// Directory entries from cookie `from` on, until `emit` breaks. "." and ".." are emitted first, by the implementation.
    fn iterate(&self, caller: &dyn Caller, from: u64, emit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let _ = (caller, from, emit);
        Err(Errno::ENOTDIR)
    }

    /// Attributes where they are not the inode's.
    fn attr(&self) -> Option<Result<Attr>> {
        None
    }

    fn truncate(&self, len: u64) -> Result<()> {
        let _ = len;
        Err(Errno::EINVAL)
    }

    /// fallocate(2); ranges are not empty.
    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        let _ = (mode, offset, len);
        Err(Errno::EOPNOTSUPP)
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    fn seek_data_or_hole(&self, offset: u64, hole: bool) -> Result<u64> {
        let _ = (offset, hole);
        Err(Errno::EINVAL)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        let _ = data_only;
        Err(Errno::EINVAL)
    }

    /// What to map. `write`: a shared mapping that may become writable, asked only if the file is open for writing.
    fn mapping(&self, write: bool) -> Result<Mapping> {
        let _ = write;
        Err(Errno::ENODEV)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        let _ = (caller, command, argument);
        Err(Errno::ENOTTY)
    }

    /// Identity of a terminal, to compare with a session's controlling one.
    fn terminal_key(&self) -> Option<u64> {
        None
    }

    /// Told after an open(2) without O_NOCTTY: a terminal may become the controlling one of a session leader that has none.
    fn claim_terminal(&self, caller: &dyn Caller, readable: bool) {
        let _ = (caller, readable);
    }

    /// Told when the O_NONBLOCK, O_ASYNC … of the description change; most need not know.
    fn status_changed(&self, flags: crate::StatusFlags) {
        let _ = flags;
    }

    /// close(2) of one descriptor (not the last): releases what belongs to a process (dnotify, POSIX locks are the kernel's affair).
    fn flush(&self, caller: &dyn Caller) {
        let _ = caller;
    }

    /// Lines for /proc/pid/fdinfo beyond pos, flags, mnt_id, ino.
    fn fdinfo(&self) -> String {
        String::new()
    }
}
