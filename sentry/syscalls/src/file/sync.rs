//! Getting data to where it lasts, and hints about it: sync(2), fsync(2), sync_file_range(2), posix_fadvise(2), readahead(2).

use std::sync::Arc;

use sentry_abi::{Errno, FileKind};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::{FileSystem, Seek};

use crate::args::Flags;

/// [sync(2)](https://man7.org/linux/man-pages/man2/sync.2.html).
pub fn sync(task: &mut CurrentTask) -> SysResult {
    let mut seen: Vec<Arc<dyn FileSystem>> = Vec::new();
    for mount in task.task.fs().places().namespace.mounts() {
        let fs = mount.root().fs();
        if !seen.iter().any(|s| Arc::ptr_eq(s, fs)) {
            seen.push(fs.clone());
        }
    }
    for fs in seen {
        // sync(2) has no errors.
        if let Err(errno) = fs.sync() {
            tracing::debug!(fs = fs.name(), %errno, "sync");
        }
    }
    Ok(0)
}

/// [syncfs(2)](https://man7.org/linux/man-pages/man2/syncfs.2.html).
pub fn syncfs(task: &mut CurrentTask, fd: i32) -> SysResult {
    let file = task.file(fd)?;
    file.path.dentry.fs().sync()?;
    Ok(0)
}

/// [fsync(2)](https://man7.org/linux/man-pages/man2/fsync.2.html).
pub fn fsync(task: &mut CurrentTask, fd: i32) -> SysResult {
    task.file(fd)?.ops.sync(false)?;
    Ok(0)
}

/// [fdatasync(2)](https://man7.org/linux/man-pages/man2/fdatasync.2.html).
pub fn fdatasync(task: &mut CurrentTask, fd: i32) -> SysResult {
    task.file(fd)?.ops.sync(true)?;
    Ok(0)
}

/// [sync_file_range(2)](https://man7.org/linux/man-pages/man2/sync_file_range.2.html): waits for all of the file's data if asked to wait for any.
pub fn sync_file_range(task: &mut CurrentTask, fd: i32, offset: i64, nbytes: i64, flags: Flags) -> SysResult {
    const WAIT: u32 = 1 | 4;
    let file = task.file(fd)?;
    if flags.0 & !7 != 0 || offset < 0 || nbytes < 0 || offset.checked_add(nbytes).is_none() {
        return Err(Errno::EINVAL.into());
    }
    match file.path.inode().kind() {
        FileKind::Regular | FileKind::BlockDevice | FileKind::Directory | FileKind::Symlink => {}
        _ => return Err(Errno::ESPIPE.into()),
    }
    if flags.0 & WAIT != 0 && file.ops.seek_kind() == Seek::Offset {
        file.ops.sync(true)?;
    }
    Ok(0)
}

/// [posix_fadvise(2)](https://man7.org/linux/man-pages/man2/posix_fadvise.2.html): a hint that nothing here needs.
pub fn fadvise64(task: &mut CurrentTask, fd: i32, _offset: i64, len: i64, advice: i32) -> SysResult {
    let file = task.file(fd)?;
    if file.path.inode().kind() == FileKind::Fifo {
        return Err(Errno::ESPIPE.into());
    }
    if len < 0 || !(0..=5).contains(&advice) {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}

/// [readahead(2)](https://man7.org/linux/man-pages/man2/readahead.2.html): the host reads ahead by itself.
pub fn readahead(task: &mut CurrentTask, fd: i32, _offset: i64, _count: u64) -> SysResult {
    let file = task.file(fd)?;
    file.require_readable()?;
    if file.path.inode().kind() != FileKind::Regular || file.ops.seek_kind() != Seek::Offset {
        return Err(Errno::EINVAL.into());
    }
    Ok(0)
}
