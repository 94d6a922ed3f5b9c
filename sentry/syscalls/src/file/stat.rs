//! Looking at files: stat(2), statx(2), statfs(2), access(2), readlink(2).

use std::sync::Arc;

use sentry_abi::file::{Statx, StatxTime};
use sentry_abi::stat::{StatFs, dev_major, dev_minor};
use sentry_abi::{Errno, FileKind, Result, UserAddr};
use sentry_auth::{Access, Caps, Credentials};
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::{Attr, Follow, MountFlags, Path};

use super::at::{self, AT_EACCESS, AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, Target, check_flags, write_cut};
use crate::args::{Flags, PathArg};

/// [stat(2)](https://man7.org/linux/man-pages/man2/stat.2.html).
pub fn stat(task: &mut CurrentTask, path: PathArg, statbuf: UserAddr) -> SysResult {
    newfstatat(task, AT_FDCWD, path, statbuf, Flags(0))
}

/// [lstat(2)](https://man7.org/linux/man-pages/man2/lstat.2.html).
pub fn lstat(task: &mut CurrentTask, path: PathArg, statbuf: UserAddr) -> SysResult {
    newfstatat(task, AT_FDCWD, path, statbuf, Flags(AT_SYMLINK_NOFOLLOW))
}

/// [fstat(2)](https://man7.org/linux/man-pages/man2/fstat.2.html).
pub fn fstat(task: &mut CurrentTask, fd: i32, statbuf: UserAddr) -> SysResult {
    let attr = task.files().get(fd)?.attr()?;
    task.mm().write_obj(statbuf, &attr.to_stat())?;
    Ok(0)
}

/// [fstatat(2)](https://man7.org/linux/man-pages/man2/fstatat.2.html).
pub fn newfstatat(task: &mut CurrentTask, dirfd: i32, path: PathArg, statbuf: UserAddr, flags: Flags) -> SysResult {
    check_flags(flags.0, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)?;
    let cx = task.fs_context();
    let attr = at::target(task, &cx, dirfd, path, flags.0)?.attr()?;
    task.mm().write_obj(statbuf, &attr.to_stat())?;
    Ok(0)
}

const STATX_BASIC_STATS: u32 = 0x7ff;
const STATX_BTIME: u32 = 0x800;
const STATX_MNT_ID: u32 = 0x1000;
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
const STATX_RESERVED: u32 = 1 << 31;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// [statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html).
pub fn statx(task: &mut CurrentTask, dirfd: i32, path: PathArg, flags: Flags, mask: Flags, statxbuf: UserAddr) -> SysResult {
    if mask.0 & STATX_RESERVED != 0 || flags.0 & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL.into());
    }
    check_flags(flags.0, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)?;
    let cx = task.fs_context();
    let target = at::target(task, &cx, dirfd, path, flags.0)?;
    let attr = target.attr()?;
    task.mm().write_obj(statxbuf, &to_statx(&attr, target.path(), mask.0))?;
    Ok(0)
}

fn to_statx(attr: &Attr, path: &Path, wanted: u32) -> Statx {
    let is_root = Arc::ptr_eq(&path.dentry, path.mount.root()) && !path.mount.is_internal();
    let mut mask = STATX_BASIC_STATS | STATX_MNT_ID;
    if wanted & STATX_MNT_ID_UNIQUE != 0 {
        mask = mask & !STATX_MNT_ID | STATX_MNT_ID_UNIQUE;
    }
    if attr.btime.is_some() {
        mask |= STATX_BTIME;
    }
    Statx {
        mask,
        blksize: attr.blksize,
        attributes: if is_root { STATX_ATTR_MOUNT_ROOT } else { 0 },
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        mode: attr.full_mode() as u16,
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        attributes_mask: STATX_ATTR_MOUNT_ROOT,
        atime: attr.atime.into(),
        btime: attr.btime.map(StatxTime::from).unwrap_or_default(),
        ctime: attr.ctime.into(),
        mtime: attr.mtime.into(),
        rdev_major: dev_major(attr.rdev),
        rdev_minor: dev_minor(attr.rdev),
        dev_major: dev_major(attr.dev),
        dev_minor: dev_minor(attr.dev),
        mnt_id: path.mount.id as u64,
        ..Statx::default()
    }
}

/// [statfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html).
pub fn statfs(task: &mut CurrentTask, path: PathArg, buf: UserAddr) -> SysResult {
    let cx = task.fs_context();
    let place = at::from_cwd(task, &cx, path, Follow::Yes)?;
    task.mm().write_obj(buf, &describe_fs(&place)?)?;
    Ok(0)
}

/// [fstatfs(2)](https://man7.org/linux/man-pages/man2/fstatfs.2.html).
pub fn fstatfs(task: &mut CurrentTask, fd: i32, buf: UserAddr) -> SysResult {
    let file = task.files().get(fd)?;
    task.mm().write_obj(buf, &describe_fs(&file.path)?)?;
    Ok(0)
}

fn describe_fs(place: &Path) -> Result<StatFs> {
    const ST_VALID: i64 = 0x20;
    /// Mount flags whose numbers here and there agree.
    const SAME: u32 = 1 | 2 | 4 | 8 | 1024 | 2048;
    const ST_RELATIME: i64 = 4096;
    let mut stat = place.dentry.fs().stat_fs()?;
    let flags = place.mount.flags();
    stat.flags |= ST_VALID | (flags.bits() & SAME) as i64;
    if flags.contains(MountFlags::REL_ATIME) {
        stat.flags |= ST_RELATIME;
    }
    if stat.frsize == 0 {
        stat.frsize = stat.bsize;
    }
    Ok(stat)
}

/// [access(2)](https://man7.org/linux/man-pages/man2/access.2.html).
pub fn access(task: &mut CurrentTask, path: PathArg, mode: Flags) -> SysResult {
    faccessat2(task, AT_FDCWD, path, mode, Flags(0))
}

/// [faccessat(2)](https://man7.org/linux/man-pages/man2/faccessat.2.html): the call itself has no flags.
pub fn faccessat(task: &mut CurrentTask, dirfd: i32, path: PathArg, mode: Flags) -> SysResult {
    faccessat2(task, dirfd, path, mode, Flags(0))
}

/// [faccessat2(2)](https://man7.org/linux/man-pages/man2/faccessat2.2.html).
pub fn faccessat2(task: &mut CurrentTask, dirfd: i32, path: PathArg, mode: Flags, flags: Flags) -> SysResult {
    if mode.0 & !7 != 0 {
        return Err(Errno::EINVAL.into());
    }
    check_flags(flags.0, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let creds = task.creds();
    let who = if flags.0 & AT_EACCESS != 0 { creds } else { Arc::new(with_real_ids(&creds)) };
    let cx = task.fs_context_as(who.clone());
    let target = at::target(task, &cx, dirfd, path, flags.0)?;
    let place = target.path();
    let want = Access::from_bits_truncate(mode.0 as u8);
    if want.contains(Access::EXEC) && place.inode().kind() == FileKind::Regular && !sentry_vfs::allows_exec(place) {
        return Err(Errno::EACCES.into());
    }
    sentry_vfs::access(&who, place, want)?;
    Ok(0)
}

/// Credentials as the real user would have them (access_override_creds).
fn with_real_ids(creds: &Credentials) -> Credentials {
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    let mut who = creds.clone();
    who.fsuid = who.uid;
    who.fsgid = who.gid;
    if who.securebits & NO_SETUID_FIXUP == 0 {
        who.effective = if who.uid == 0 { who.permitted } else { Caps::empty() };
    }
    who
}

/// [readlink(2)](https://man7.org/linux/man-pages/man2/readlink.2.html).
pub fn readlink(task: &mut CurrentTask, path: PathArg, buf: UserAddr, bufsiz: i32) -> SysResult {
    readlinkat(task, AT_FDCWD, path, buf, bufsiz)
}

/// [readlinkat(2)](https://man7.org/linux/man-pages/man2/readlinkat.2.html). An empty path names the link that `dirfd` (O_PATH) stands for.
pub fn readlinkat(task: &mut CurrentTask, dirfd: i32, path: PathArg, buf: UserAddr, bufsiz: i32) -> SysResult {
    if bufsiz <= 0 {
        return Err(Errno::EINVAL.into());
    }
    let cx = task.fs_context();
    let bytes = task.read_path(path.0)?;
    let place = if bytes.is_empty() {
        if dirfd == AT_FDCWD {
            return Err(Errno::ENOENT.into());
        }
        Target::Open(task.files().get(dirfd)?)
    } else {
        let start = at::start(task, &cx, dirfd, &bytes)?;
        Target::Named(sentry_vfs::resolve(&cx, &start, &bytes, Follow::No, sentry_vfs::Walk::empty())?)
    };
    let inode = place.path().inode();
    if inode.kind() != FileKind::Symlink {
        return Err(if bytes.is_empty() { Errno::ENOENT } else { Errno::EINVAL }.into());
    }
    let link = match inode.magic_target(&cx.credentials) {
        Some(target) => target?.display(&cx.root),
        None => inode.read_link()?,
    };
    write_cut(task, buf, &link, bufsiz as usize).map_err(Into::into)
}
