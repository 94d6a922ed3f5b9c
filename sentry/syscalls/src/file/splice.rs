//! Moving bytes between files without the guest's memory: sendfile(2), splice(2), tee(2), vmsplice(2), copy_file_range(2).

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result, UserAddr};
use sentry_fs_pipefs::PipeEnd;
use sentry_kernel::{CurrentTask, Stop, SysResult};
use sentry_mm::{IoVec, MAX_RW_COUNT};
use sentry_sync::Events;
use sentry_vfs::{FileDescription, Seek, StatusFlags, watch_event as event};

use super::buffer::Buffer;
use super::fcntl::pipe_end;
use super::transfer::{self, How, Position, Spot, finished, settle, tell};
use crate::args::Flags;

const CHUNK: usize = 64 << 10;
const SPLICE_F_NONBLOCK: u32 = 2;
const SPLICE_F_KNOWN: u32 = 15;

/// An offset that a call takes from the guest and tells back, or the description's own.
struct Cursor<'a> {
    file: &'a FileDescription,
    at: Option<u64>,
    pointer: UserAddr,
}

impl<'a> Cursor<'a> {
    /// `EFAULT`, `EINVAL` for negative offsets.
    fn read(task: &CurrentTask, file: &'a FileDescription, pointer: UserAddr) -> Result<Cursor<'a>> {
        if pointer.is_null() {
            return Ok(Cursor { file, at: None, pointer });
        }
        let offset: i64 = task.mm().read_obj(pointer)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        Ok(Cursor { file, at: Some(offset), pointer })
    }

    fn position(&self) -> Position {
        self.at.map_or(Position::Current, Position::At)
    }

    fn offset(&self) -> u64 {
        self.at.unwrap_or_else(|| *self.file.offset.lock())
    }

    /// After `n` more bytes were read. A write at the description's own offset moves that by itself.
    fn advance(&mut self, n: u64) {
        match &mut self.at {
            Some(at) => *at = at.saturating_add(n),
            None => {
                let mut offset = self.file.offset.lock();
                *offset = offset.saturating_add(n);
            }
        }
    }

    fn tell(&self, task: &CurrentTask) -> Result<()> {
        match self.at {
            Some(at) => task.mm().write_obj(self.pointer, &at),
            None => Ok(()),
        }
    }
}

/// Writes all of `src` that `file` takes, as its flags allow waiting: how much, and why no more.
fn write_all(task: &CurrentTask, file: &FileDescription, at: Position, src: &[u8]) -> (usize, Result<(), Stop>) {
    let append = file.status().contains(StatusFlags::APPEND);
    transfer::write_chunk(task, file, src, &Spot { at, done: 0, append, nonblocking: file.nonblocking() })
}

/// [sendfile(2)](https://man7.org/linux/man-pages/man2/sendfile.2.html).
pub fn sendfile(task: &mut CurrentTask, out_fd: i32, in_fd: i32, offset: UserAddr, count: u64) -> SysResult {
    let input = task.file(in_fd)?;
    input.require_readable()?;
    let mut from = Cursor::read(task, &input, offset)?;
    if from.at.is_some() && input.ops.seek_kind() == Seek::Stream {
        return Err(Errno::ESPIPE.into());
    }
    let output = task.file(out_fd)?;
    output.require_writable()?;
    if !matches!(input.ops.seek_kind(), Seek::Offset | Seek::Ignored) || output.status().contains(StatusFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    let count = count.min(MAX_RW_COUNT);
    let result = copy(task, &mut from, &output, Position::Current, count);
    finish(task, &[&from], result, &input, &output)
}

/// Reads from a file with offsets, writes to any. Bytes moved; an error only when there were none.
fn copy(task: &CurrentTask, from: &mut Cursor<'_>, output: &FileDescription, to: Position, count: u64) -> Result<u64, Stop> {
    transfer::remove_privileges(task, output)?;
    let mut buffer = Buffer::new(task, count.min(CHUNK as u64) as usize);
    let mut done = 0;
    while done < count {
        let want = (count - done).min(CHUNK as u64) as usize;
        let dst = &mut buffer.bytes()[..want];
        let n = match from.file.ops.read(task, from.offset(), dst) {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        };
        let to = match to {
            Position::Current => Position::Current,
            Position::At(base) => Position::At(base.saturating_add(done)),
        };
        let (written, result) = write_all(task, output, to, &dst[..n]);
        from.advance(written as u64);
        done += written as u64;
        match result {
            Err(stop) if done == 0 => return Err(stop),
            Err(_) => break,
            Ok(()) if written < n => break,
            Ok(()) => {}
        }
    }
    Ok(done)
}

/// Tells watchers and the guest what was moved.
fn finish(
    task: &CurrentTask,
    cursors: &[&Cursor<'_>],
    result: Result<u64, Stop>,
    input: &FileDescription,
    output: &FileDescription,
) -> SysResult {
    let done = result?;
    if done > 0 {
        tell(input, event::ACCESS);
        tell(output, event::MODIFY);
    }
    for cursor in cursors {
        cursor.tell(task)?;
    }
    Ok(done)
}

/// [copy_file_range(2)](https://man7.org/linux/man-pages/man2/copy_file_range.2.html).
pub fn copy_file_range(
    task: &mut CurrentTask,
    fd_in: i32,
    off_in: UserAddr,
    fd_out: i32,
    off_out: UserAddr,
    len: u64,
    flags: Flags,
) -> SysResult {
    let input = task.file(fd_in)?;
    let output = task.file(fd_out)?;
    let mut from = Cursor::read(task, &input, off_in)?;
    let mut to = Cursor::read(task, &output, off_out)?;
    if flags.0 != 0 {
        return Err(Errno::EINVAL.into());
    }
    check_regular(&input, &output)?;
    if !input.readable || !output.writable || output.status().contains(StatusFlags::APPEND) {
        return Err(Errno::EBADF.into());
    }
    let (start_in, start_out) = (from.offset(), to.offset());
    let size = input.attr()?.size;
    let fits = |at: u64| i64::try_from(len).ok().and_then(|len| (at as i64).checked_add(len)).is_some();
    if !fits(start_in) || !fits(start_out) {
        return Err(Errno::EOVERFLOW.into());
    }
    let count = len.min(size.saturating_sub(start_in)).min(MAX_RW_COUNT);
    let same = Arc::ptr_eq(input.path.inode(), output.path.inode());
    if same && start_in < start_out.saturating_add(count) && start_out < start_in.saturating_add(count) {
        return Err(Errno::EINVAL.into());
    }
    let result = copy(task, &mut from, &output, to.position(), count);
    if let (Some(_), Ok(done)) = (to.at, &result) {
        to.advance(*done);
    }
    finish(task, &[&from, &to], result, &input, &output)
}

fn check_regular(input: &FileDescription, output: &FileDescription) -> Result<()> {
    let (a, b) = (input.path.inode().kind(), output.path.inode().kind());
    if a == FileKind::Directory || b == FileKind::Directory {
        return Err(Errno::EISDIR);
    }
    let plain = |f: &FileDescription| f.path.inode().kind() == FileKind::Regular && f.ops.seek_kind() == Seek::Offset;
    if plain(input) && plain(output) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// [splice(2)](https://man7.org/linux/man-pages/man2/splice.2.html).
pub fn splice(task: &mut CurrentTask, fd_in: i32, off_in: UserAddr, fd_out: i32, off_out: UserAddr, len: u64, flags: Flags) -> SysResult {
    if len == 0 {
        return Ok(0);
    }
    if flags.0 & !SPLICE_F_KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    let input = task.file(fd_in)?;
    let output = task.file(fd_out)?;
    let ends = (pipe_end(&input).ok(), pipe_end(&output).ok());
    if (ends.0.is_some() && !off_in.is_null()) || (ends.1.is_some() && !off_out.is_null()) {
        return Err(Errno::ESPIPE.into());
    }
    let mut from = Cursor::read(task, &input, off_in)?;
    let mut to = Cursor::read(task, &output, off_out)?;
    if !input.readable || !output.writable {
        return Err(Errno::EBADF.into());
    }
    let len = len.min(MAX_RW_COUNT);
    let wait = flags.0 & SPLICE_F_NONBLOCK == 0;
    let result = match ends {
        (Some(a), Some(b)) => {
            if Arc::ptr_eq(a.pipe(), b.pipe()) {
                return Err(Errno::EINVAL.into());
            }
            let wait = wait && !input.nonblocking() && !output.nonblocking();
            retry(task, &input, &output, wait, || a.read_into(len as usize, &mut |chunk| output.ops.write(task, 0, chunk)))
        }
        (Some(a), None) => from_pipe(task, a, &input, &mut to, len, wait),
        (None, Some(b)) => to_pipe(task, &mut from, b, &output, len, wait),
        (None, None) => return Err(Errno::EINVAL.into()),
    };
    finish(task, &[&from, &to], result, &input, &output)
}

fn from_pipe(task: &CurrentTask, pipe: &PipeEnd, input: &FileDescription, to: &mut Cursor<'_>, len: u64, wait: bool) -> Result<u64, Stop> {
    let output = to.file;
    if to.at.is_some() && output.ops.seek_kind() == Seek::Stream {
        return Err(Errno::ESPIPE.into());
    }
    if output.status().contains(StatusFlags::APPEND) {
        return Err(Errno::EINVAL.into());
    }
    transfer::remove_privileges(task, output)?;
    retry(task, input, output, wait, || {
        pipe.read_into(len as usize, &mut |chunk| {
            let spot = Spot { at: to.position(), done: 0, append: false, nonblocking: true };
            let (n, result) = transfer::write_chunk(task, output, chunk, &spot);
            if to.at.is_some() {
                to.advance(n as u64);
            }
            match result {
                Err(Stop::Fail(errno)) if n == 0 => Err(errno),
                Err(Stop::Restart(_)) if n == 0 => Err(Errno::EAGAIN),
                _ => Ok(n),
            }
        })
    })
}

fn to_pipe(task: &CurrentTask, from: &mut Cursor<'_>, pipe: &PipeEnd, output: &FileDescription, len: u64, wait: bool) -> Result<u64, Stop> {
    let input = from.file;
    let seekable = match input.ops.seek_kind() {
        Seek::Stream if from.at.is_some() => return Err(Errno::ESPIPE.into()),
        Seek::Directory => return Err(Errno::EINVAL.into()),
        Seek::Offset => true,
        Seek::Stream | Seek::Ignored => false,
    };
    retry(task, input, output, wait, || {
        pipe.write_from(task, len as usize, &mut |chunk| {
            let n = input.ops.read(task, if seekable { from.offset() } else { 0 }, chunk)?;
            if seekable {
                from.advance(n as u64);
            }
            Ok(n)
        })
    })
}

/// Calls `attempt` until it moves something, sleeping on both files while the answer is EAGAIN and `wait` allows.
fn retry(
    task: &CurrentTask,
    input: &FileDescription,
    output: &FileDescription,
    wait: bool,
    mut attempt: impl FnMut() -> Result<usize>,
) -> Result<u64, Stop> {
    let first = attempt();
    if first != Err(Errno::EAGAIN) || !wait {
        return first.map(|n| n as u64).map_err(Stop::from);
    }
    let done = task.block_until(Events::READ | Events::WRITE, None, |waiter| {
        if let Some(waiter) = waiter {
            input.ops.ready(Events::READ, Some(waiter));
            output.ops.ready(Events::WRITE, Some(waiter));
        }
        finished(attempt())
    });
    settle(done).map(|n| n as u64)
}

/// [tee(2)](https://man7.org/linux/man-pages/man2/tee.2.html).
pub fn tee(task: &mut CurrentTask, fd_in: i32, fd_out: i32, len: u64, flags: Flags) -> SysResult {
    if flags.0 & !SPLICE_F_KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    if len == 0 {
        return Ok(0);
    }
    let input = task.file(fd_in)?;
    let output = task.file(fd_out)?;
    if !input.readable || !output.writable {
        return Err(Errno::EBADF.into());
    }
    let (Ok(a), Ok(b)) = (pipe_end(&input), pipe_end(&output)) else { return Err(Errno::EINVAL.into()) };
    let len = len.min(MAX_RW_COUNT) as usize;
    let wait = flags.0 & SPLICE_F_NONBLOCK == 0 && !input.nonblocking() && !output.nonblocking();
    retry(task, &input, &output, wait, || a.tee(task, b, len))
}

/// [vmsplice(2)](https://man7.org/linux/man-pages/man2/vmsplice.2.html): the pages are copied, which no caller can tell from a gift.
pub fn vmsplice(task: &mut CurrentTask, fd: i32, iov: UserAddr, nr_segs: u64, flags: Flags) -> SysResult {
    if flags.0 & !SPLICE_F_KNOWN != 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.file(fd)?;
    pipe_end(&file)?;
    let vector = task.mm().read_iovecs(iov, nr_segs)?;
    if IoVec::total(&vector) == 0 {
        return Ok(0);
    }
    let how = How { nonblocking: flags.0 & SPLICE_F_NONBLOCK != 0, ..How::default() };
    if file.writable {
        transfer::write(task, &file, &vector, Position::Current, how)
    } else {
        transfer::read(task, &file, &vector, Position::Current, how)
    }
}
