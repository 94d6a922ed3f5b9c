//! Advisory locks: flock(2), and the record locks of fcntl(2).

use std::sync::Arc;

use sentry_abi::file::Flock;
use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::{CurrentTask, Stop, SysResult};
use sentry_sync::Events;
use sentry_vfs::{FileDescription, LockKind, LockOwner, LockRange, PosixLock};

use super::transfer::{finished, settle};
use crate::args::Flags;
use crate::dispatch::System;

const LOCK_SH: u32 = 1;
const LOCK_EX: u32 = 2;
const LOCK_NB: u32 = 4;
const LOCK_UN: u32 = 8;
const LOCK_MAND: u32 = 32;

/// [flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html).
pub fn flock(task: &mut CurrentTask, fd: i32, operation: Flags) -> SysResult {
    // Mandatory locks are gone from the kernel; asking for one does nothing.
    if operation.0 & LOCK_MAND != 0 {
        return Ok(0);
    }
    let kind = match operation.0 & !LOCK_NB {
        LOCK_SH => Some(LockKind::Shared),
        LOCK_EX => Some(LockKind::Exclusive),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL.into()),
    };
    let file = task.file(fd)?;
    let locks = &file.path.inode().state().locks;
    match locks.flock(file.id, kind) {
        Err(Errno::EAGAIN) if operation.0 & LOCK_NB == 0 => {}
        result => return result.map(|()| 0).map_err(Stop::from),
    }
    let done = task.block_until(Events::all(), None, |waiter| {
        if let Some(waiter) = waiter {
            locks.watch(waiter);
        }
        finished(locks.flock(file.id, kind))
    });
    settle(done).map(|()| 0)
}

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

/// Whose lock, and what happens when it is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    Get,
    Try,
    Wait,
}

/// F_GETLK, F_SETLK, F_SETLKW and their open-file-description forms.
pub(super) fn record(task: &CurrentTask, file: &Arc<FileDescription>, ask: Ask, ofd: bool, at: UserAddr) -> SysResult {
    let asked: Flock = task.mm().read_obj(at)?;
    if ofd && asked.pid != 0 {
        return Err(Errno::EINVAL.into());
    }
    let kind = lock_kind(asked.kind)?;
    let (current, size) = bases(file, asked.whence)?;
    let range = lock_range(&asked, current, size)?;
    let owner = if ofd { LockOwner::Description(file.id) } else { LockOwner::Process { table: task.files().id, pid: task.task.pid() } };
    if ask == Ask::Get {
        let kind = kind.ok_or(Errno::EINVAL)?;
        let found = file.path.inode().state().locks.test_record(owner, kind, range);
        task.mm().write_obj(at, &told(&asked, found))?;
        return Ok(0);
    }
    let allowed = match kind {
        Some(LockKind::Shared) => file.readable,
        Some(LockKind::Exclusive) => file.writable,
        None => true,
    };
    if !allowed {
        return Err(Errno::EBADF.into());
    }
    set(task, file, owner, kind, range, ask)
}

fn set(task: &CurrentTask, file: &Arc<FileDescription>, owner: LockOwner, kind: Option<LockKind>, range: LockRange, ask: Ask) -> SysResult {
    let inode = file.path.inode();
    let locks = &inode.state().locks;
    match (locks.set_record(owner, kind, range), kind) {
        (Err(Errno::EAGAIN), Some(kind)) if ask == Ask::Wait => {
            let waits = &System::of(task)?.files.lock_waits;
            if !waits.begin(inode, owner, kind, range) {
                return Err(Errno::EDEADLK.into());
            }
            let done = task.block_until(Events::all(), None, |waiter| {
                if let Some(waiter) = waiter {
                    locks.watch(waiter);
                }
                finished(locks.set_record(owner, Some(kind), range))
            });
            waits.end(owner);
            settle(done)?;
        }
        (result, _) => result?,
    }
    // A descriptor that another thread closed meanwhile took the process's locks with it (fcntl_setlk).
    if kind.is_some() && matches!(owner, LockOwner::Process { .. }) && !is_still_open(task, file) {
        // Fails never: clearing meets no conflict.
        let _ = locks.set_record(owner, None, range);
        return Err(Stop::from(Errno::EBADF));
    }
    Ok(0)
}

fn is_still_open(task: &CurrentTask, file: &Arc<FileDescription>) -> bool {
    let fd = task.call().args[0] as i32;
    task.files().get(fd).is_ok_and(|now| Arc::ptr_eq(&now, file))
}

fn lock_kind(raw: i16) -> Result<Option<LockKind>> {
    match raw {
        F_RDLCK => Ok(Some(LockKind::Shared)),
        F_WRLCK => Ok(Some(LockKind::Exclusive)),
        F_UNLCK => Ok(None),
        _ => Err(Errno::EINVAL),
    }
}

/// What SEEK_CUR and SEEK_END count from; only the one that is asked for is looked up.
fn bases(file: &FileDescription, whence: i16) -> Result<(u64, u64)> {
    match whence {
        1 => Ok((*file.offset.lock(), 0)),
        2 => Ok((0, file.attr()?.size)),
        _ => Ok((0, 0)),
    }
}

/// flock64_to_posix_lock().
fn lock_range(asked: &Flock, current: u64, size: u64) -> Result<LockRange> {
    let base = match asked.whence {
        0 => 0,
        1 => current as i64,
        2 => size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(asked.start).ok_or(Errno::EOVERFLOW)?;
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    if asked.len == 0 {
        return Ok(LockRange { start: start as u64, end: u64::MAX });
    }
    if asked.len > 0 {
        // The last byte must have a number; a range up to the last possible byte is one without end.
        let last = start.checked_add(asked.len - 1).ok_or(Errno::EOVERFLOW)? as u64;
        let end = if last == i64::MAX as u64 { u64::MAX } else { last + 1 };
        return Ok(LockRange { start: start as u64, end });
    }
    match start.checked_add(asked.len) {
        Some(from) if from >= 0 => Ok(LockRange { start: from as u64, end: start as u64 }),
        _ => Err(Errno::EINVAL),
    }
}

/// F_GETLK's answer: the lock in the way, seen from the file's start, or F_UNLCK with the rest as it was.
fn told(asked: &Flock, found: Option<PosixLock>) -> Flock {
    let Some(lock) = found else { return Flock { kind: F_UNLCK, pad0: 0, pad1: 0, ..*asked } };
    Flock {
        kind: if lock.kind == LockKind::Shared { F_RDLCK } else { F_WRLCK },
        whence: 0,
        pad0: 0,
        start: lock.range.start as i64,
        len: if lock.range.end == u64::MAX { 0 } else { (lock.range.end - lock.range.start) as i64 },
        pid: match lock.owner {
            LockOwner::Process { pid, .. } => pid,
            LockOwner::Description(_) => -1,
        },
        pad1: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(whence: i16, start: i64, len: i64) -> Result<(u64, u64)> {
        lock_range(&Flock { whence, start, len, ..Flock::default() }, 100, 1000).map(|r| (r.start, r.end))
    }

    #[test]
    fn ranges_are_seen_from_where_they_say() {
        assert_eq!(range(0, 10, 5), Ok((10, 15)));
        assert_eq!(range(0, 10, 0), Ok((10, u64::MAX)));
        assert_eq!(range(1, 10, 5), Ok((110, 115)));
        assert_eq!(range(2, -10, 5), Ok((990, 995)));
        assert_eq!(range(0, 10, -5), Ok((5, 10)));
        assert_eq!(range(0, 10, -11), Err(Errno::EINVAL));
        assert_eq!(range(0, -1, 0), Err(Errno::EINVAL));
        assert_eq!(range(3, 0, 0), Err(Errno::EINVAL));
        assert_eq!(range(1, i64::MAX, 1), Err(Errno::EOVERFLOW));
        assert_eq!(range(0, i64::MAX, 1), Ok((i64::MAX as u64, u64::MAX)));
        assert_eq!(range(0, i64::MAX, 2), Err(Errno::EOVERFLOW));
        assert_eq!(range(0, 1, i64::MIN), Err(Errno::EINVAL));
    }

    #[test]
    fn the_lock_in_the_way_is_told() {
        let asked = Flock { kind: F_WRLCK, whence: 1, start: 3, len: 4, ..Flock::default() };
        assert_eq!(told(&asked, None), Flock { kind: F_UNLCK, ..asked });
        let lock = PosixLock {
            owner: LockOwner::Process { table: 1, pid: 42 },
            kind: LockKind::Shared,
            range: LockRange { start: 5, end: u64::MAX },
        };
        assert_eq!(told(&asked, Some(lock)), Flock { kind: F_RDLCK, whence: 0, start: 5, len: 0, pid: 42, ..Flock::default() });
        let ofd = PosixLock { owner: LockOwner::Description(9), range: LockRange { start: 5, end: 7 }, ..lock };
        assert_eq!(told(&asked, Some(ofd)), Flock { kind: F_RDLCK, whence: 0, start: 5, len: 2, pid: -1, ..Flock::default() });
    }
}
