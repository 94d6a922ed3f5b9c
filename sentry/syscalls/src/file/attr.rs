//! Changing attributes: chmod(2), chown(2), utimensat(2), truncate(2), fallocate(2), umask(2).

use sentry_abi::time::Timeval;
use sentry_abi::{Errno, FileKind, Mode, Result, Signal, Timespec, UserAddr};
use sentry_kernel::{CurrentTask, Resource, SysResult};
use sentry_vfs::{Caller, Follow, Path, Seek, TimeChange, watch_event as event};

use super::at::{self, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, check_flags};
use super::transfer::{remove_privileges, tell};
use crate::args::{Flags, PathArg};

/// [chmod(2)](https://man7.org/linux/man-pages/man2/chmod.2.html).
pub fn chmod(task: &mut CurrentTask, path: PathArg, mode: u32) -> SysResult {
    fchmodat2(task, AT_FDCWD, path, mode, Flags(0))
}

/// [fchmod(2)](https://man7.org/linux/man-pages/man2/fchmod.2.html).
pub fn fchmod(task: &mut CurrentTask, fd: i32, mode: u32) -> SysResult {
    let file = task.file(fd)?;
    sentry_vfs::chmod(&task.fs_context(), &file.path, Mode::new(mode))?;
    Ok(0)
}

/// [fchmodat(2)](https://man7.org/linux/man-pages/man2/fchmodat.2.html): the call itself has no flags.
pub fn fchmodat(task: &mut CurrentTask, dirfd: i32, path: PathArg, mode: u32) -> SysResult {
    fchmodat2(task, dirfd, path, mode, Flags(0))
}

/// [fchmodat2(2)](https://man7.org/linux/man-pages/man2/fchmodat.2.html).
pub fn fchmodat2(task: &mut CurrentTask, dirfd: i32, path: PathArg, mode: u32, flags: Flags) -> SysResult {
    check_flags(flags.0, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let cx = task.fs_context();
    let target = at::target(task, &cx, dirfd, path, flags.0)?;
    sentry_vfs::chmod(&cx, target.path(), Mode::new(mode))?;
    Ok(0)
}

/// An id argument of chown(2): −1 leaves it as it is.
fn id(value: u32) -> Option<u32> {
    (value != u32::MAX).then_some(value)
}

/// [chown(2)](https://man7.org/linux/man-pages/man2/chown.2.html).
pub fn chown(task: &mut CurrentTask, path: PathArg, owner: u32, group: u32) -> SysResult {
    fchownat(task, AT_FDCWD, path, owner, group, Flags(0))
}

/// [lchown(2)](https://man7.org/linux/man-pages/man2/lchown.2.html).
pub fn lchown(task: &mut CurrentTask, path: PathArg, owner: u32, group: u32) -> SysResult {
    fchownat(task, AT_FDCWD, path, owner, group, Flags(AT_SYMLINK_NOFOLLOW))
}

/// [fchown(2)](https://man7.org/linux/man-pages/man2/fchown.2.html).
pub fn fchown(task: &mut CurrentTask, fd: i32, owner: u32, group: u32) -> SysResult {
    let file = task.file(fd)?;
    sentry_vfs::chown(&task.fs_context(), &file.path, id(owner), id(group))?;
    Ok(0)
}

/// [fchownat(2)](https://man7.org/linux/man-pages/man2/fchownat.2.html).
pub fn fchownat(task: &mut CurrentTask, dirfd: i32, path: PathArg, owner: u32, group: u32, flags: Flags) -> SysResult {
    check_flags(flags.0, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let cx = task.fs_context();
    let target = at::target(task, &cx, dirfd, path, flags.0)?;
    sentry_vfs::chown(&cx, target.path(), id(owner), id(group))?;
    Ok(0)
}

/// [umask(2)](https://man7.org/linux/man-pages/man2/umask.2.html).
pub fn umask(task: &mut CurrentTask, mask: u32) -> SysResult {
    Ok(task.task.fs().set_umask((mask & 0o777) as u16) as u64)
}

/// Access and modification time, each to be set or left.
type Times = (Option<TimeChange>, Option<TimeChange>);
const NOW: Times = (Some(TimeChange::Now), Some(TimeChange::Now));

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// [utimensat(2)](https://man7.org/linux/man-pages/man2/utimensat.2.html). Without a path it is about `dirfd` itself (futimens(3)).
pub fn utimensat(task: &mut CurrentTask, dirfd: i32, path: PathArg, times: UserAddr, flags: Flags) -> SysResult {
    let changes = if times.is_null() {
        NOW
    } else {
        let [atime, mtime]: [Timespec; 2] = task.mm().read_obj(times)?;
        // Nothing to do is no error, not even for a file that is not there.
        if atime.nsec == UTIME_OMIT && mtime.nsec == UTIME_OMIT {
            return Ok(0);
        }
        (one_time(atime)?, one_time(mtime)?)
    };
    if path.0.is_null() && dirfd != AT_FDCWD {
        if flags.0 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let file = task.file(dirfd)?;
        return set_times(task, &file.path, changes);
    }
    check_flags(flags.0, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let cx = task.fs_context();
    let target = at::target(task, &cx, dirfd, path, flags.0)?;
    set_times(task, target.path(), changes)
}

fn one_time(t: Timespec) -> Result<Option<TimeChange>> {
    match t.nsec {
        UTIME_NOW => Ok(Some(TimeChange::Now)),
        UTIME_OMIT => Ok(None),
        0..1_000_000_000 => Ok(Some(TimeChange::At(t))),
        _ => Err(Errno::EINVAL),
    }
}

fn set_times(task: &CurrentTask, place: &Path, (atime, mtime): Times) -> SysResult {
    sentry_vfs::set_times(&task.fs_context(), place, atime, mtime)?;
    Ok(0)
}

/// [utime(2)](https://man7.org/linux/man-pages/man2/utime.2.html).
pub fn utime(task: &mut CurrentTask, path: PathArg, times: UserAddr) -> SysResult {
    let changes = if times.is_null() {
        NOW
    } else {
        let [actime, modtime]: [i64; 2] = task.mm().read_obj(times)?;
        let at = |sec| Some(TimeChange::At(Timespec::new(sec, 0)));
        (at(actime), at(modtime))
    };
    let place = at::from_cwd(task, &task.fs_context(), path, Follow::Yes)?;
    set_times(task, &place, changes)
}

/// [utimes(2)](https://man7.org/linux/man-pages/man2/utimes.2.html).
pub fn utimes(task: &mut CurrentTask, path: PathArg, times: UserAddr) -> SysResult {
    futimesat(task, AT_FDCWD, path, times)
}

/// [futimesat(2)](https://man7.org/linux/man-pages/man2/futimesat.2.html).
pub fn futimesat(task: &mut CurrentTask, dirfd: i32, path: PathArg, times: UserAddr) -> SysResult {
    let changes = if times.is_null() {
        NOW
    } else {
        let [atime, mtime]: [Timeval; 2] = task.mm().read_obj(times)?;
        (Some(exact(atime)?), Some(exact(mtime)?))
    };
    if path.0.is_null() && dirfd != AT_FDCWD {
        let file = task.file(dirfd)?;
        return set_times(task, &file.path, changes);
    }
    let cx = task.fs_context();
    let target = at::target(task, &cx, dirfd, path, 0)?;
    set_times(task, target.path(), changes)
}

fn exact(t: Timeval) -> Result<TimeChange> {
    if (0..1_000_000).contains(&t.usec) { Ok(TimeChange::At(Timespec::new(t.sec, t.usec * 1000))) } else { Err(Errno::EINVAL) }
}

/// A new size: `EINVAL` when negative, `EFBIG` and SIGXFSZ beyond RLIMIT_FSIZE.
fn check_size(task: &CurrentTask, length: i64, current: u64) -> Result<u64> {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    if length > current && length > task.limit(Resource::FileSize) {
        task.signal_self(Signal::SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok(length)
}

/// [truncate(2)](https://man7.org/linux/man-pages/man2/truncate.2.html).
pub fn truncate(task: &mut CurrentTask, path: PathArg, length: i64) -> SysResult {
    if length < 0 {
        return Err(Errno::EINVAL.into());
    }
    let cx = task.fs_context();
    let place = at::from_cwd(task, &cx, path, Follow::Yes)?;
    let current = if place.inode().kind() == FileKind::Regular { place.inode().attr()?.size } else { u64::MAX };
    let length = check_size(task, length, current)?;
    sentry_vfs::truncate(&cx, &place, length)?;
    Ok(0)
}

/// [ftruncate(2)](https://man7.org/linux/man-pages/man2/ftruncate.2.html).
pub fn ftruncate(task: &mut CurrentTask, fd: i32, length: i64) -> SysResult {
    if length < 0 {
        return Err(Errno::EINVAL.into());
    }
    let file = task.file(fd)?;
    if file.path.inode().kind() != FileKind::Regular || !file.writable {
        return Err(Errno::EINVAL.into());
    }
    let length = check_size(task, length, file.attr()?.size)?;
    remove_privileges(task, &file)?;
    file.ops.truncate(length)?;
    tell(&file, event::MODIFY);
    Ok(0)
}

const FALLOC_KNOWN: i32 = 0x7f;
const FALLOC_KEEP_SIZE: i32 = 1;
const FALLOC_PUNCH_HOLE: i32 = 2;
const FALLOC_COLLAPSE_RANGE: i32 = 8;
const FALLOC_ZERO_RANGE: i32 = 0x10;
const FALLOC_INSERT_RANGE: i32 = 0x20;
const FALLOC_UNSHARE_RANGE: i32 = 0x40;

/// [fallocate(2)](https://man7.org/linux/man-pages/man2/fallocate.2.html).
pub fn fallocate(task: &mut CurrentTask, fd: i32, mode: i32, offset: i64, len: i64) -> SysResult {
    let file = task.file(fd)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL.into());
    }
    check_allocation_mode(mode)?;
    file.require_writable()?;
    match file.path.inode().kind() {
        FileKind::Fifo => return Err(Errno::ESPIPE.into()),
        FileKind::Directory => return Err(Errno::EISDIR.into()),
        FileKind::Regular if file.ops.seek_kind() == Seek::Offset => {}
        _ => return Err(Errno::ENODEV.into()),
    }
    let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
    if mode & FALLOC_KEEP_SIZE == 0 {
        check_size(task, end, file.attr()?.size)?;
    }
    remove_privileges(task, &file)?;
    file.ops.allocate(mode, offset as u64, len as u64)?;
    tell(&file, event::MODIFY);
    Ok(0)
}

/// vfs_fallocate(): which modes go together.
fn check_allocation_mode(mode: i32) -> Result<()> {
    if mode & !FALLOC_KNOWN != 0 || mode & 4 != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    match mode & !FALLOC_KEEP_SIZE {
        FALLOC_PUNCH_HOLE if mode & FALLOC_KEEP_SIZE == 0 => Err(Errno::EOPNOTSUPP),
        0 | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE | FALLOC_UNSHARE_RANGE => Ok(()),
        FALLOC_COLLAPSE_RANGE | FALLOC_INSERT_RANGE if mode & FALLOC_KEEP_SIZE == 0 => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_fallocate() {
        for (mode, expected) in [
            (0, Ok(())),
            (FALLOC_KEEP_SIZE, Ok(())),
            (FALLOC_PUNCH_HOLE, Err(Errno::EOPNOTSUPP)),
            (FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, Ok(())),
            (FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE | FALLOC_ZERO_RANGE, Err(Errno::EINVAL)),
            (FALLOC_COLLAPSE_RANGE | FALLOC_KEEP_SIZE, Err(Errno::EINVAL)),
            (1 << 20, Err(Errno::EOPNOTSUPP)),
        ] {
            assert_eq!(check_allocation_mode(mode), expected, "{mode:#x}");
        }
    }

    #[test]
    fn times_are_checked() {
        assert_eq!(one_time(Timespec::new(5, UTIME_NOW)), Ok(Some(TimeChange::Now)));
        assert_eq!(one_time(Timespec::new(5, UTIME_OMIT)), Ok(None));
        assert_eq!(one_time(Timespec::new(-5, 999_999_999)), Ok(Some(TimeChange::At(Timespec::new(-5, 999_999_999)))));
        assert_eq!(one_time(Timespec::new(5, 1_000_000_000)), Err(Errno::EINVAL));
        assert_eq!(one_time(Timespec::new(5, -1)), Err(Errno::EINVAL));
    }
}
