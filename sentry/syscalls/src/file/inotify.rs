//! inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2).

use sentry_abi::{Errno, Result};
use sentry_auth::Access;
use sentry_fs_anonfs::{Inotify, WatchMask};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::{FileDescription, FileOps, Follow, StatusFlags};

use super::at;
use super::fd::{O_CLOEXEC, O_NONBLOCK};
use crate::args::{Flags, PathArg};

/// [inotify_init(2)](https://man7.org/linux/man-pages/man2/inotify_init.2.html).
pub fn inotify_init(task: &mut CurrentTask) -> SysResult {
    inotify_init1(task, Flags(0))
}

/// [inotify_init1(2)](https://man7.org/linux/man-pages/man2/inotify_init1.2.html).
pub fn inotify_init1(task: &mut CurrentTask, flags: Flags) -> SysResult {
    if flags.0 & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let status = StatusFlags::from_bits_truncate(flags.0 & O_NONBLOCK);
    let file = task.kernel().anon.read_only_file(Inotify::new(), Inotify::NAME, status);
    Ok(task.install(file, flags.0 & O_CLOEXEC != 0)? as u64)
}

fn inotify_of(file: &FileDescription) -> Result<&Inotify> {
    let ops: &dyn FileOps = file.ops.as_ref();
    ops.as_any().downcast_ref::<Inotify>().ok_or(Errno::EINVAL)
}

/// [inotify_add_watch(2)](https://man7.org/linux/man-pages/man2/inotify_add_watch.2.html).
pub fn inotify_add_watch(task: &mut CurrentTask, fd: i32, pathname: PathArg, mask: Flags) -> SysResult {
    let asked = WatchMask::from_bits_truncate(mask.0);
    if !asked.intersects(WatchMask::ALL_EVENTS) {
        return Err(Errno::EINVAL.into());
    }
    let file = task.file(fd)?;
    if asked.contains(WatchMask::MASK_ADD | WatchMask::MASK_CREATE) {
        return Err(Errno::EINVAL.into());
    }
    let inotify = inotify_of(&file)?;
    let cx = task.fs_context();
    let how = if asked.contains(WatchMask::DONT_FOLLOW) { Follow::No } else { Follow::Yes };
    let place = at::from_cwd(task, &cx, pathname, how)?;
    // Whoever may read a file may know what happens to it.
    sentry_vfs::access(&cx.credentials, &place, Access::READ)?;
    Ok(inotify.add_watch(place.inode(), mask.0)? as u64)
}

/// [inotify_rm_watch(2)](https://man7.org/linux/man-pages/man2/inotify_rm_watch.2.html).
pub fn inotify_rm_watch(task: &mut CurrentTask, fd: i32, wd: i32) -> SysResult {
    let file = task.file(fd)?;
    inotify_of(&file)?.remove_watch(wd)?;
    Ok(0)
}
