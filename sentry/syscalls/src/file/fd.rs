//! Descriptors: close(2), close_range(2), dup(2), pipe(2), memfd_create(2).

use sentry_abi::{Errno, UserAddr};
use sentry_fs_tmpfs::memfd;
use sentry_kernel::{CurrentTask, Resource, SysResult};
use sentry_vfs::StatusFlags;

use crate::args::{Flags, PathArg};
use crate::dispatch::System;

pub(crate) const O_CLOEXEC: u32 = 0o2000000;
pub(crate) const O_NONBLOCK: u32 = 0o4000;
const O_DIRECT: u32 = 0o40000;
const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// [close(2)](https://man7.org/linux/man-pages/man2/close.2.html).
pub fn close(task: &mut CurrentTask, fd: i32) -> SysResult {
    let file = task.files().remove(fd)?;
    if !file.path_only {
        file.ops.flush(task);
    }
    Ok(0)
}

/// [close_range(2)](https://man7.org/linux/man-pages/man2/close_range.2.html).
pub fn close_range(task: &mut CurrentTask, first: u32, last: u32, flags: Flags) -> SysResult {
    if flags.0 & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL.into());
    }
    if flags.0 & CLOSE_RANGE_UNSHARE != 0 {
        let own = std::sync::Arc::new(task.files().fork());
        task.task.set_files(own);
    }
    let files = task.files();
    if flags.0 & CLOSE_RANGE_CLOEXEC != 0 {
        files.mark_range(first, last);
    } else {
        files.remove_range(first, last);
    }
    Ok(0)
}

/// [dup(2)](https://man7.org/linux/man-pages/man2/dup.2.html).
pub fn dup(task: &mut CurrentTask, oldfd: i32) -> SysResult {
    let file = task.files().get(oldfd)?;
    Ok(task.install(file, false)? as u64)
}

/// [dup2(2)](https://man7.org/linux/man-pages/man2/dup2.2.html).
pub fn dup2(task: &mut CurrentTask, oldfd: i32, newfd: i32) -> SysResult {
    if oldfd == newfd {
        task.files().get(oldfd)?;
        return Ok(newfd as u64);
    }
    replace(task, oldfd, newfd, false)
}

/// [dup3(2)](https://man7.org/linux/man-pages/man2/dup3.2.html).
pub fn dup3(task: &mut CurrentTask, oldfd: i32, newfd: i32, flags: Flags) -> SysResult {
    if flags.0 & !O_CLOEXEC != 0 || oldfd == newfd {
        return Err(Errno::EINVAL.into());
    }
    replace(task, oldfd, newfd, flags.0 & O_CLOEXEC != 0)
}

fn replace(task: &CurrentTask, oldfd: i32, newfd: i32, close_on_exec: bool) -> SysResult {
    let limit = task.limit(Resource::Files);
    if newfd < 0 || newfd as u64 >= limit {
        return Err(Errno::EBADF.into());
    }
    let files = task.files();
    let file = files.get(oldfd)?;
    let old = files.replace(newfd, file, close_on_exec, limit)?;
    if let Some(old) = old
        && !old.path_only
    {
        old.ops.flush(task);
    }
    Ok(newfd as u64)
}

/// [pipe(2)](https://man7.org/linux/man-pages/man2/pipe.2.html).
pub fn pipe(task: &mut CurrentTask, pipefd: UserAddr) -> SysResult {
    pipe2(task, pipefd, Flags(0))
}

/// [pipe2(2)](https://man7.org/linux/man-pages/man2/pipe2.2.html).
pub fn pipe2(task: &mut CurrentTask, pipefd: UserAddr, flags: Flags) -> SysResult {
    if flags.0 & !(O_CLOEXEC | O_NONBLOCK | O_DIRECT) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let creds = task.creds();
    let status = StatusFlags::from_bits_truncate(flags.0 & (O_NONBLOCK | O_DIRECT));
    let (read, write) = System::of(task)?.files.pipes.pair(status, creds.fsuid, creds.fsgid);
    install_pair(task, pipefd, read, write, flags.0 & O_CLOEXEC != 0)
}

/// Installs two files and tells their numbers; nothing stays installed when telling fails.
pub(crate) fn install_pair(
    task: &CurrentTask,
    at: UserAddr,
    first: std::sync::Arc<sentry_vfs::FileDescription>,
    second: std::sync::Arc<sentry_vfs::FileDescription>,
    close_on_exec: bool,
) -> SysResult {
    let a = task.install(first, close_on_exec)?;
    let told = task.install(second, close_on_exec).and_then(|b| {
        let told = task.mm().write_array(at, &[a, b]);
        if told.is_err() {
            drop(task.files().remove(b));
        }
        told
    });
    if let Err(errno) = told {
        drop(task.files().remove(a));
        return Err(errno.into());
    }
    Ok(0)
}

/// [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html).
pub fn memfd_create(task: &mut CurrentTask, name: PathArg, flags: Flags) -> SysResult {
    // The name is at most 249 bytes; the buffer counts the NUL.
    let name = task.mm().read_cstring(name.0, 250).map_err(|e| if e == Errno::ENAMETOOLONG { Errno::EINVAL } else { e })?;
    let creds = task.creds();
    let file = System::of(task)?.files.memfds.create(&name, flags.0, creds.fsuid, creds.fsgid)?;
    Ok(task.install(file, flags.0 & memfd::CLOEXEC != 0)? as u64)
}
