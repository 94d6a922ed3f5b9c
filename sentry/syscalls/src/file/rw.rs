//! read(2), write(2), readv(2), pread(2), preadv2(2) and so on; lseek(2).

use std::sync::Arc;

use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_mm::{IoVec, MAX_RW_COUNT};
use sentry_vfs::{FileDescription, Seek};

use super::transfer::{self, How, Position};
use crate::args::Flags;

const RWF_HIPRI: u32 = 0x1;
const RWF_DSYNC: u32 = 0x2;
const RWF_SYNC: u32 = 0x4;
const RWF_NOWAIT: u32 = 0x8;
const RWF_APPEND: u32 = 0x10;
const RWF_NOAPPEND: u32 = 0x20;

fn for_reading(task: &CurrentTask, fd: i32) -> Result<Arc<FileDescription>> {
    let file = task.file(fd)?;
    file.require_readable()?;
    Ok(file)
}

fn for_writing(task: &CurrentTask, fd: i32) -> Result<Arc<FileDescription>> {
    let file = task.file(fd)?;
    file.require_writable()?;
    Ok(file)
}

/// The whole buffer has to lie in the guest's range, however little of it will be used.
fn one_buffer(task: &CurrentTask, base: UserAddr, len: u64) -> Result<IoVec> {
    if task.mm().access_ok(base, len) { Ok(IoVec { base, len: len.min(MAX_RW_COUNT) }) } else { Err(Errno::EFAULT) }
}

/// Explicit positions: `EINVAL` for negative ones, `ESPIPE` for streams.
fn position(file: &FileDescription, at: i64) -> Result<Position> {
    if file.ops.seek_kind() == Seek::Stream {
        return Err(Errno::ESPIPE);
    }
    Ok(Position::At(at as u64))
}

/// `EINVAL` when the end of the transfer is beyond what an offset can say.
fn check_end(at: i64, len: u64) -> Result<()> {
    if i64::try_from(len).ok().and_then(|len| at.checked_add(len)).is_some() { Ok(()) } else { Err(Errno::EINVAL) }
}

/// [read(2)](https://man7.org/linux/man-pages/man2/read.2.html).
pub fn read(task: &mut CurrentTask, fd: i32, buf: UserAddr, count: u64) -> SysResult {
    let file = for_reading(task, fd)?;
    let vector = [one_buffer(task, buf, count)?];
    transfer::read(task, &file, &vector, Position::Current, How::default())
}

/// [write(2)](https://man7.org/linux/man-pages/man2/write.2.html).
pub fn write(task: &mut CurrentTask, fd: i32, buf: UserAddr, count: u64) -> SysResult {
    let file = for_writing(task, fd)?;
    let vector = [one_buffer(task, buf, count)?];
    transfer::write(task, &file, &vector, Position::Current, How::default())
}

/// [pread(2)](https://man7.org/linux/man-pages/man2/pread.2.html).
pub fn pread64(task: &mut CurrentTask, fd: i32, buf: UserAddr, count: u64, offset: i64) -> SysResult {
    if offset < 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.file(fd)?;
    let at = position(&file, offset)?;
    file.require_readable()?;
    let vector = [one_buffer(task, buf, count)?];
    check_end(offset, vector[0].len)?;
    transfer::read(task, &file, &vector, at, How::default())
}

/// [pwrite(2)](https://man7.org/linux/man-pages/man2/pwrite.2.html). With O_APPEND data goes to the end, whatever the offset, as in Linux.
pub fn pwrite64(task: &mut CurrentTask, fd: i32, buf: UserAddr, count: u64, offset: i64) -> SysResult {
    if offset < 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.file(fd)?;
    let at = position(&file, offset)?;
    file.require_writable()?;
    let vector = [one_buffer(task, buf, count)?];
    check_end(offset, vector[0].len)?;
    transfer::write(task, &file, &vector, at, How::default())
}

/// [readv(2)](https://man7.org/linux/man-pages/man2/readv.2.html).
pub fn readv(task: &mut CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64) -> SysResult {
    let file = for_reading(task, fd)?;
    read_vector(task, &file, iov, iovcnt, Position::Current, 0)
}

/// [writev(2)](https://man7.org/linux/man-pages/man2/writev.2.html).
pub fn writev(task: &mut CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64) -> SysResult {
    let file = for_writing(task, fd)?;
    write_vector(task, &file, iov, iovcnt, Position::Current, 0)
}

/// [preadv(2)](https://man7.org/linux/man-pages/man2/preadv.2.html). `pos_h` means nothing on 64-bit machines.
pub fn preadv(task: &mut CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64, pos_l: i64, _pos_h: u64) -> SysResult {
    read_at(task, fd, iov, iovcnt, pos_l, 0)
}

/// [pwritev(2)](https://man7.org/linux/man-pages/man2/pwritev.2.html).
pub fn pwritev(task: &mut CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64, pos_l: i64, _pos_h: u64) -> SysResult {
    write_at(task, fd, iov, iovcnt, pos_l, 0)
}

/// [preadv2(2)](https://man7.org/linux/man-pages/man2/preadv2.2.html).
pub fn preadv2(task: &mut CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64, pos_l: i64, _pos_h: u64, flags: Flags) -> SysResult {
    if pos_l == -1 {
        let file = for_reading(task, fd)?;
        return read_vector(task, &file, iov, iovcnt, Position::Current, flags.0);
    }
    read_at(task, fd, iov, iovcnt, pos_l, flags.0)
}

/// [pwritev2(2)](https://man7.org/linux/man-pages/man2/pwritev2.2.html).
pub fn pwritev2(task: &mut CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64, pos_l: i64, _pos_h: u64, flags: Flags) -> SysResult {
    if pos_l == -1 {
        let file = for_writing(task, fd)?;
        return write_vector(task, &file, iov, iovcnt, Position::Current, flags.0);
    }
    write_at(task, fd, iov, iovcnt, pos_l, flags.0)
}

/// `EOPNOTSUPP` for flags that this kernel does not know (kiocb_set_rw_flags).
fn how(flags: u32, known: u32) -> Result<How> {
    if flags & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 && flags & RWF_NOAPPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let append = if flags & RWF_APPEND != 0 { Some(true) } else { (flags & RWF_NOAPPEND != 0).then_some(false) };
    Ok(How { nonblocking: flags & RWF_NOWAIT != 0, append, sync: flags & (RWF_DSYNC | RWF_SYNC) != 0 })
}

fn read_at(task: &CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64, pos: i64, flags: u32) -> SysResult {
    if pos < 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.file(fd)?;
    let at = position(&file, pos)?;
    file.require_readable()?;
    read_vector(task, &file, iov, iovcnt, at, flags)
}

fn write_at(task: &CurrentTask, fd: i32, iov: UserAddr, iovcnt: u64, pos: i64, flags: u32) -> SysResult {
    if pos < 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.file(fd)?;
    let at = position(&file, pos)?;
    file.require_writable()?;
    write_vector(task, &file, iov, iovcnt, at, flags)
}

fn import(task: &CurrentTask, iov: UserAddr, iovcnt: u64, at: Position) -> Result<Vec<IoVec>> {
    let vector = task.mm().read_iovecs(iov, iovcnt)?;
    if let Position::At(offset) = at {
        check_end(offset as i64, IoVec::total(&vector))?;
    }
    Ok(vector)
}

/// With nothing to read the flags are not looked at.
fn read_vector(task: &CurrentTask, file: &FileDescription, iov: UserAddr, iovcnt: u64, at: Position, flags: u32) -> SysResult {
    let vector = import(task, iov, iovcnt, at)?;
    if IoVec::total(&vector) == 0 {
        return Ok(0);
    }
    transfer::read(task, file, &vector, at, how(flags, RWF_HIPRI | RWF_NOWAIT)?)
}

fn write_vector(task: &CurrentTask, file: &FileDescription, iov: UserAddr, iovcnt: u64, at: Position, flags: u32) -> SysResult {
    let vector = import(task, iov, iovcnt, at)?;
    if IoVec::total(&vector) == 0 {
        return Ok(0);
    }
    let known = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND;
    transfer::write(task, file, &vector, at, how(flags, known)?)
}

const SEEK_SET: u32 = 0;
const SEEK_CUR: u32 = 1;
const SEEK_END: u32 = 2;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// [lseek(2)](https://man7.org/linux/man-pages/man2/lseek.2.html).
pub fn lseek(task: &mut CurrentTask, fd: i32, offset: i64, whence: Flags) -> SysResult {
    let file = task.file(fd)?;
    let whence = whence.0;
    if whence > SEEK_HOLE {
        return Err(Errno::EINVAL.into());
    }
    match file.ops.seek_kind() {
        Seek::Stream if file.ops.ignores_lseek() => return Ok(0),
        Seek::Stream => return Err(Errno::ESPIPE.into()),
        Seek::Ignored => return Ok(0),
        Seek::Offset | Seek::Directory => {}
    }
    // Asked for before the offset is locked: it may be the file system's affair.
    let base = match whence {
        SEEK_END => file.attr()?.size as i64,
        SEEK_DATA | SEEK_HOLE => {
            let at = data_or_hole(&file, offset, whence == SEEK_HOLE)?;
            *file.offset.lock() = at;
            return Ok(at);
        }
        _ => 0,
    };
    let mut current = file.offset.lock();
    let base = if whence == SEEK_CUR { *current as i64 } else { base };
    debug_assert!(whence != SEEK_SET || base == 0);
    let at = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    if at < 0 {
        return Err(Errno::EINVAL.into());
    }
    *current = at as u64;
    Ok(at as u64)
}

fn data_or_hole(file: &FileDescription, offset: i64, hole: bool) -> Result<u64> {
    let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
    match file.ops.seek_data_or_hole(offset, hole) {
        // No knowledge of holes: all of it is data (generic_file_llseek_size).
        Err(Errno::EINVAL) => {
            let size = file.attr()?.size;
            if offset >= size {
                return Err(Errno::ENXIO);
            }
            Ok(if hole { size } else { offset })
        }
        other => other,
    }
}
