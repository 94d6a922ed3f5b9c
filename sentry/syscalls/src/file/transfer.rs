//! Moving bytes between guest memory and open files: what read(2), write(2) and their kin share. fs/read_write.c.
//!
//! Data goes through a bounded buffer of the sentry; no lock is held over a copy from or to the guest. A shared offset is read, and moved
//! only if nobody else moved it meanwhile, so that of two concurrent calls none repeats or overwrites the other's bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sentry_abi::{Errno, FileKind, Mode, Result, Signal};
use sentry_auth::Caps;
use sentry_kernel::{BlockError, CurrentTask, INFINITY, Resource, Restart, Stop};
use sentry_mm::IoVec;
use sentry_net::{Socket, socket_of};
use sentry_sync::Events;
use sentry_vfs::{AttrChange, Caller, FileDescription, Seek, StatusFlags, watch_event as event};

use super::buffer::{Buffer, KEPT_SIZE};

/// What one step moves for files with offsets and for pipes; small enough to stay in the cache between the two copies.
const CHUNK: usize = KEPT_SIZE;
/// The same for sockets and whatever else has records: a step must hold a whole one.
const STREAM_CHUNK: usize = 256 << 10;

/// Where on the file a transfer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Position {
    /// The description's own offset, which moves.
    Current,
    At(u64),
}

/// How a transfer departs from what the description's flags say (RWF_*).
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct How {
    pub nonblocking: bool,
    pub append: Option<bool>,
    pub sync: bool,
}

fn chunk_size(file: &FileDescription, total: u64) -> usize {
    let small = file.ops.seek_kind() == Seek::Offset || file.path.inode().kind() == FileKind::Fifo;
    let most = if small { CHUNK } else { STREAM_CHUNK };
    (most as u64).min(total) as usize
}

/// Pipes, sockets, terminals: bytes come and go, and a blocking write insists on all of them.
fn is_channel(file: &FileDescription) -> bool {
    matches!(file.path.inode().kind(), FileKind::Fifo | FileKind::Socket | FileKind::CharDevice)
}

/// One read that waits while there is nothing, unless told not to.
pub(super) fn read_some(task: &CurrentTask, file: &FileDescription, offset: u64, dst: &mut [u8], nonblocking: bool) -> Result<usize, Stop> {
    match file.ops.read(task, offset, dst) {
        Err(Errno::EAGAIN) if !nonblocking => {}
        result => return result.map_err(Stop::from),
    }
    let timeout = socket(file).and_then(|s| s.receive_timeout());
    let done = task.block_until(Events::READ | Events::RDHUP, deadline(timeout), |waiter| {
        if let Some(waiter) = waiter {
            file.ops.ready(Events::READ, Some(waiter));
        }
        finished(file.ops.read(task, offset, dst))
    });
    settle_within(done, timeout)
}

/// One write that waits while there is no room, unless told not to. May write a part.
pub(super) fn write_some(task: &CurrentTask, file: &FileDescription, offset: u64, src: &[u8], nonblocking: bool) -> Result<usize, Stop> {
    match file.ops.write(task, offset, src) {
        Err(Errno::EAGAIN) if !nonblocking => {}
        result => return result.map_err(Stop::from),
    }
    let timeout = socket(file).and_then(|s| s.send_timeout());
    let done = task.block_until(Events::WRITE, deadline(timeout), |waiter| {
        if let Some(waiter) = waiter {
            file.ops.ready(Events::WRITE, Some(waiter));
        }
        finished(file.ops.write(task, offset, src))
    });
    settle_within(done, timeout)
}

fn socket(file: &FileDescription) -> Option<&Arc<dyn Socket>> {
    if file.path.inode().kind() == FileKind::Socket { socket_of(file).ok() } else { None }
}

/// SO_RCVTIMEO and SO_SNDTIMEO; a limit beyond the clock is none.
fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|limit| Instant::now().checked_add(limit))
}

/// A wait with a time limit answers EAGAIN when it is up, and is not restarted after a signal.
fn settle_within<T>(done: Result<Result<T>, BlockError>, timeout: Option<Duration>) -> Result<T, Stop> {
    match done {
        Err(BlockError::TimedOut) => Err(Errno::EAGAIN.into()),
        Err(BlockError::Interrupted) if timeout.is_some() => Err(Errno::EINTR.into()),
        other => settle(other),
    }
}

/// What an attempt says to the wait around it: nothing while the answer is EAGAIN.
pub(super) fn finished<T>(result: Result<T>) -> Option<Result<T>> {
    match result {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    }
}

pub(super) fn settle<T>(done: Result<Result<T>, BlockError>) -> Result<T, Stop> {
    match done {
        Ok(result) => result.map_err(Stop::from),
        Err(_) => Err(Stop::Restart(Restart::IfAllowed)),
    }
}

/// Reads into the guest's buffers. At most one wait: with something read, the call returns rather than sleeps again.
pub(super) fn read(task: &CurrentTask, file: &FileDescription, vector: &[IoVec], at: Position, how: How) -> Result<u64, Stop> {
    let total = IoVec::total(vector);
    let seek = file.ops.seek_kind();
    if seek == Seek::Directory {
        return Err(Errno::EISDIR.into());
    }
    if total == 0 && is_channel(file) {
        return Ok(0);
    }
    let nonblocking = how.nonblocking || file.nonblocking();
    let mut buffer = Buffer::new(task, chunk_size(file, total));
    let mut done = 0;
    loop {
        let want = ((total - done).min(buffer.len() as u64)) as usize;
        let dst = &mut buffer.bytes()[..want];
        let step = match (seek, at) {
            (Seek::Offset, Position::Current) => read_at_current(task, file, dst, nonblocking || done > 0),
            (Seek::Offset, Position::At(base)) => read_some(task, file, base.saturating_add(done), dst, nonblocking || done > 0),
            _ => read_some(task, file, 0, dst, nonblocking || done > 0),
        };
        let n = match step {
            Ok(n) => n,
            Err(_) if done > 0 => break,
            Err(stop) => return Err(stop),
        };
        let copied = match task.mm().write_vectored(vector, done, &dst[..n]) {
            Ok(copied) => copied,
            Err(errno) => {
                give_back(file, at, n);
                if done > 0 {
                    break;
                }
                return Err(errno.into());
            }
        };
        done += copied as u64;
        if copied < n {
            give_back(file, at, n - copied);
            break;
        }
        if n < want || done >= total {
            break;
        }
    }
    if done > 0 {
        tell(file, event::ACCESS);
    }
    Ok(done)
}

/// At the shared offset. Reading is repeatable, so a call that lost the race against another simply reads again behind it.
fn read_at_current(task: &CurrentTask, file: &FileDescription, dst: &mut [u8], nonblocking: bool) -> Result<usize, Stop> {
    loop {
        let offset = *file.offset.lock();
        let n = read_some(task, file, offset, dst, nonblocking)?;
        let mut now = file.offset.lock();
        if *now == offset {
            *now = offset.saturating_add(n as u64);
            return Ok(n);
        }
    }
}

/// Bytes that were read but could not be stored are read again by the next call.
fn give_back(file: &FileDescription, at: Position, n: usize) {
    if at == Position::Current && file.ops.seek_kind() == Seek::Offset {
        let mut offset = file.offset.lock();
        *offset = offset.saturating_sub(n as u64);
    }
}

/// Writes the guest's buffers. A blocking write to a pipe, socket or terminal goes on until all is written or a signal comes.
pub(super) fn write(task: &CurrentTask, file: &FileDescription, vector: &[IoVec], at: Position, how: How) -> Result<u64, Stop> {
    let total = IoVec::total(vector);
    let nonblocking = how.nonblocking || file.nonblocking();
    let append = how.append.unwrap_or_else(|| file.status().contains(StatusFlags::APPEND));
    remove_privileges(task, file)?;
    let mut buffer = Buffer::new(task, chunk_size(file, total));
    let mut done = 0;
    let result = loop {
        let want = ((total - done).min(buffer.len() as u64)) as usize;
        let src = &mut buffer.bytes()[..want];
        let copied = match task.mm().read_vectored(vector, done, src) {
            Ok(copied) => copied,
            Err(errno) => break Err(errno.into()),
        };
        let spot = Spot { at, done, append, nonblocking };
        match write_chunk(task, file, &src[..copied], &spot) {
            (n, Ok(())) => {
                done += n as u64;
                if n < want || done >= total {
                    break Ok(());
                }
            }
            (n, Err(stop)) => {
                done += n as u64;
                break Err(stop);
            }
        }
    };
    if done == 0 {
        result?;
        return Ok(0);
    }
    tell(file, event::MODIFY);
    if how.sync || file.status().contains(StatusFlags::DSYNC) {
        sync_written(file)?;
    }
    Ok(done)
}

/// file_remove_privs(): whoever may not set set-id bits leaves none on a file that he changes.
pub(super) fn remove_privileges(task: &CurrentTask, file: &FileDescription) -> Result<()> {
    let creds = task.creds();
    let inode = file.path.inode();
    if creds.has(Caps::FSETID) || inode.kind() != FileKind::Regular || file.ops.seek_kind() != Seek::Offset {
        return Ok(());
    }
    let attr = inode.attr()?;
    if attr.mode.0 & (Mode::SET_UID | Mode::SET_GID) == 0 {
        return Ok(());
    }
    let mode = sentry_vfs::without_set_ids(&creds, &attr);
    if mode == attr.mode { Ok(()) } else { inode.set_attr(&AttrChange { mode: Some(mode), ..AttrChange::default() }) }
}

fn sync_written(file: &FileDescription) -> Result<()> {
    if file.ops.seek_kind() == Seek::Offset { file.ops.sync(true) } else { Ok(()) }
}

/// Where in a transfer a chunk stands.
pub(super) struct Spot {
    pub at: Position,
    pub done: u64,
    pub append: bool,
    pub nonblocking: bool,
}

/// Writes one chunk: how much of it was written, and why no more.
pub(super) fn write_chunk(task: &CurrentTask, file: &FileDescription, src: &[u8], spot: &Spot) -> (usize, Result<(), Stop>) {
    if file.ops.seek_kind() == Seek::Offset {
        return match write_file(task, file, src, spot) {
            Ok(n) => (n, Ok(())),
            Err(stop) => (0, Err(stop)),
        };
    }
    let insists = is_channel(file);
    let mut done = 0;
    loop {
        match write_some(task, file, 0, &src[done..], spot.nonblocking) {
            Ok(n) => done += n,
            Err(stop) => return (done, Err(stop)),
        }
        if done >= src.len() || !insists {
            return (done, Ok(()));
        }
    }
}

/// Into a file with offsets.
fn write_file(task: &CurrentTask, file: &FileDescription, src: &[u8], spot: &Spot) -> Result<usize, Stop> {
    if spot.append {
        let end = if has_size_limit(task) { file.attr()?.size } else { 0 };
        let room = room_for(task, file, end, src.len())?;
        let (n, after) = file.ops.append(task, &src[..room])?;
        if spot.at == Position::Current {
            *file.offset.lock() = after;
        }
        return Ok(n);
    }
    match spot.at {
        Position::At(base) => {
            let offset = base.saturating_add(spot.done);
            let room = room_for(task, file, offset, src.len())?;
            write_some(task, file, offset, &src[..room], spot.nonblocking)
        }
        Position::Current => write_at_current(task, file, src, spot.nonblocking),
    }
}

/// At the shared offset: the place is taken first, so that two writers never meet, and given back if less is written.
fn write_at_current(task: &CurrentTask, file: &FileDescription, src: &[u8], nonblocking: bool) -> Result<usize, Stop> {
    let (offset, room) = {
        let mut offset = file.offset.lock();
        let start = *offset;
        let room = room_without_signal(task, file, start, src.len());
        *offset = start.saturating_add(room as u64);
        (start, room)
    };
    if room == 0 && !src.is_empty() {
        return Err(too_big(task, file, offset).into());
    }
    let result = write_some(task, file, offset, &src[..room], nonblocking);
    let n = *result.as_ref().unwrap_or(&0);
    if n < room {
        let mut now = file.offset.lock();
        if *now == offset.saturating_add(room as u64) {
            *now = offset.saturating_add(n as u64);
        }
    }
    result
}

fn has_size_limit(task: &CurrentTask) -> bool {
    task.limit(Resource::FileSize) != INFINITY
}

/// How much of `len` bytes at `offset` the limits allow; `EFBIG`, with SIGXFSZ, for none (generic_write_checks).
pub(super) fn room_for(task: &CurrentTask, file: &FileDescription, offset: u64, len: usize) -> Result<usize> {
    let room = room_without_signal(task, file, offset, len);
    if room == 0 && len > 0 { Err(too_big(task, file, offset)) } else { Ok(room) }
}

fn room_without_signal(task: &CurrentTask, file: &FileDescription, offset: u64, len: usize) -> usize {
    if file.path.inode().kind() != FileKind::Regular {
        return len;
    }
    let limit = task.limit(Resource::FileSize).min(i64::MAX as u64);
    limit.saturating_sub(offset).min(len as u64) as usize
}

fn too_big(task: &CurrentTask, _: &FileDescription, offset: u64) -> Errno {
    if offset >= task.limit(Resource::FileSize) {
        task.signal_self(Signal::SIGXFSZ);
    }
    Errno::EFBIG
}

/// Tells those who watch the file, or its directory.
pub(super) fn tell(file: &FileDescription, mask: u32) {
    sentry_vfs::notify(&file.path, mask);
}
