//! fcntl(2).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::file::OwnerEx;
use sentry_abi::{Errno, FileKind, Result, Signal, UserAddr};
use sentry_auth::Caps;
use sentry_fs_pipefs::PipeEnd;
use sentry_fs_tmpfs::memfd;
use sentry_kernel::{CurrentTask, Resource, SysResult};
use sentry_vfs::{FileDescription, FileOps, StatusFlags};

use super::lock::{self, Ask};

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_SETLEASE: u32 = 1024;
const F_GETLEASE: u32 = 1025;
const F_DUPFD_QUERY: u32 = 1027;
const F_CREATED_QUERY: u32 = 1028;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;
const F_GET_RW_HINT: u32 = 1035;
const F_SET_RW_HINT: u32 = 1036;
const F_UNLCK: u64 = 2;
const FD_CLOEXEC: u64 = 1;

/// [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html). `Differs:` no leases, no dnotify: `EINVAL`, as on file systems without them;
/// O_ASYNC and F_SETOWN are kept and told, but no SIGIO is sent.
pub fn fcntl(task: &mut CurrentTask, fd: i32, cmd: u32, arg: u64) -> SysResult {
    let file = task.files().get(fd)?;
    match cmd {
        F_DUPFD => return duplicate(task, file, arg, false),
        F_DUPFD_CLOEXEC => return duplicate(task, file, arg, true),
        F_GETFD => return Ok(task.files().close_on_exec(fd)? as u64),
        F_SETFD => {
            task.files().set_close_on_exec(fd, arg & FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        F_GETFL => return Ok(file.flags() as u64),
        F_DUPFD_QUERY => {
            let other = task.files().get(arg as i32)?;
            return Ok(Arc::ptr_eq(&file, &other) as u64);
        }
        _ if file.path_only => return Err(Errno::EBADF.into()),
        _ => {}
    }
    let at = UserAddr(arg);
    match cmd {
        F_SETFL => set_status(task, &file, arg as u32).map(|()| 0).map_err(Into::into),
        F_GETLK => lock::record(task, &file, Ask::Get, false, at),
        F_SETLK => lock::record(task, &file, Ask::Try, false, at),
        F_SETLKW => lock::record(task, &file, Ask::Wait, false, at),
        F_OFD_GETLK => lock::record(task, &file, Ask::Get, true, at),
        F_OFD_SETLK => lock::record(task, &file, Ask::Try, true, at),
        F_OFD_SETLKW => lock::record(task, &file, Ask::Wait, true, at),
        F_SETOWN | F_GETOWN | F_SETOWN_EX | F_GETOWN_EX | F_SETSIG | F_GETSIG => owner(task, &file, cmd, arg),
        F_GETLEASE => Ok(F_UNLCK),
        F_SETLEASE => Err(Errno::EINVAL.into()),
        F_CREATED_QUERY => Ok(0),
        F_GETPIPE_SZ => Ok(pipe_end(&file)?.pipe().capacity() as u64),
        F_SETPIPE_SZ => set_pipe_size(task, &file, arg),
        F_ADD_SEALS => {
            memfd::add_seals(&file, arg as u32)?;
            Ok(0)
        }
        F_GET_SEALS => Ok(memfd::seals(&file)? as u64),
        F_GET_RW_HINT => {
            task.mm().write_obj(at, &0u64)?;
            Ok(0)
        }
        F_SET_RW_HINT => {
            let hint: u64 = task.mm().read_obj(at)?;
            if hint > 5 { Err(Errno::EINVAL.into()) } else { Ok(0) }
        }
        _ => Err(Errno::EINVAL.into()),
    }
}

fn duplicate(task: &CurrentTask, file: Arc<FileDescription>, from: u64, close_on_exec: bool) -> SysResult {
    // An int in the man page, unsigned in the kernel: negative numbers are beyond every limit.
    let from = from as u32;
    if from as u64 >= task.limit(Resource::Files) || from > i32::MAX as u32 {
        return Err(Errno::EINVAL.into());
    }
    Ok(task.install_from(file, close_on_exec, from as i32)? as u64)
}

/// F_SETFL: access mode and creation flags stay as they are.
fn set_status(task: &CurrentTask, file: &FileDescription, flags: u32) -> Result<()> {
    let settable = StatusFlags::APPEND | StatusFlags::NONBLOCK | StatusFlags::ASYNC | StatusFlags::DIRECT | StatusFlags::NOATIME;
    let wanted = StatusFlags::from_bits_truncate(flags) & settable;
    let before = file.status();
    if wanted.contains(StatusFlags::NOATIME) && !before.contains(StatusFlags::NOATIME) {
        let creds = task.creds();
        if creds.fsuid != file.attr()?.uid && !creds.has(Caps::FOWNER) {
            return Err(Errno::EPERM);
        }
    }
    if wanted.contains(StatusFlags::DIRECT) && !matches!(file.path.inode().kind(), FileKind::Regular | FileKind::Fifo) {
        return Err(Errno::EINVAL);
    }
    file.set_status((before - settable) | wanted);
    Ok(())
}

/// `EBADF` for what is no pipe.
pub(super) fn pipe_end(file: &FileDescription) -> Result<&PipeEnd> {
    let ops: &dyn FileOps = file.ops.as_ref();
    ops.as_any().downcast_ref::<PipeEnd>().ok_or(Errno::EBADF)
}

fn set_pipe_size(task: &CurrentTask, file: &FileDescription, size: u64) -> SysResult {
    let size = usize::try_from(size as u32).map_err(|_| Errno::EINVAL)?;
    let privileged = task.creds().has(Caps::SYS_RESOURCE);
    Ok(pipe_end(file)?.pipe().set_capacity(size, privileged)? as u64)
}

/// Owner in the lower half (a pid, negative for a process group), signal in the upper.
fn owner(task: &CurrentTask, file: &FileDescription, cmd: u32, arg: u64) -> SysResult {
    let kept = file.owner.load(Ordering::Relaxed);
    let (pid, signal) = (kept as u32 as i32, kept >> 32);
    let keep = |pid: i32, signal: u64| file.owner.store(pid as u32 as u64 | signal << 32, Ordering::Relaxed);
    match cmd {
        F_GETOWN => Ok(pid as i64 as u64),
        F_SETOWN => {
            let new = arg as i32;
            if new == i32::MIN {
                return Err(Errno::EINVAL.into());
            }
            check_owner(task, new)?;
            keep(new, signal);
            Ok(0)
        }
        F_GETSIG => Ok(signal),
        F_SETSIG => {
            if arg != 0 && Signal::new(arg).is_none() {
                return Err(Errno::EINVAL.into());
            }
            keep(pid, arg);
            Ok(0)
        }
        F_GETOWN_EX => {
            let kind = if pid < 0 { OWNER_PGRP } else { OWNER_PID };
            task.mm().write_obj(UserAddr(arg), &OwnerEx { kind, pid: pid.wrapping_abs() })?;
            Ok(0)
        }
        _ => {
            let asked: OwnerEx = task.mm().read_obj(UserAddr(arg))?;
            let new = match asked.kind {
                OWNER_TID | OWNER_PID if asked.pid >= 0 => asked.pid,
                OWNER_PGRP if asked.pid >= 0 => -asked.pid,
                _ => return Err(Errno::EINVAL.into()),
            };
            if new != 0 {
                check_owner(task, new)?;
            }
            keep(new, signal);
            Ok(0)
        }
    }
}

const OWNER_TID: i32 = 0;
const OWNER_PID: i32 = 1;
const OWNER_PGRP: i32 = 2;

/// `ESRCH` for nobody.
fn check_owner(task: &CurrentTask, pid: i32) -> Result<()> {
    let processes = &task.kernel().processes;
    let known = match pid {
        0 => true,
        1.. => processes.task(pid).is_some() || processes.group(pid).is_some(),
        _ => !processes.members(pid.wrapping_neg()).is_empty(),
    };
    if known { Ok(()) } else { Err(Errno::ESRCH) }
}
