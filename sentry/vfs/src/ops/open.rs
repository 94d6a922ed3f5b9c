//! open(2) and looking at files.

use std::sync::Arc;

use bitflags::bitflags;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::Access;

use super::change::truncate_to;
use super::{check, check_add, event, is_owner, new_ownership, notify, tell};
use crate::attr::Attr;
use crate::caller::{Caller, FsContext};
use crate::file_description::{FileDescription, StatusFlags};
use crate::inode::{NewNode, OpenHow};
use crate::mount::MountFlags;
use crate::path::Path;
use crate::text::WriteAccess;
use crate::walk::{Follow, Walk, may_follow, resolve, resolve_parent_within};

bitflags! {
    /// Flags of open(2) besides the access mode, x86-64 numbers.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct OpenFlags: u32 {
        const WRITE_ONLY = 1;
        const READ_WRITE = 2;
        const CREATE = 0o100;
        const EXCLUSIVE = 0o200;
        const NO_CTTY = 0o400;
        const TRUNCATE = 0o1000;
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DSYNC = 0o10000;
        const ASYNC = 0o20000;
        const DIRECT = 0o40000;
        const LARGE_FILE = 0o100000;
        const DIRECTORY = 0o200000;
        const NO_FOLLOW = 0o400000;
        const NO_ATIME = 0o1000000;
        const CLOSE_ON_EXEC = 0o2000000;
        const SYNC = 0o4000000;
        const PATH = 0o10000000;
        const TEMPORARY = 0o20000000;
    }
}

impl OpenFlags {
    /// (read, write); access mode 3 asks for both rights and gives neither, as Linux does for ioctl-only opens.
    fn access(self) -> (bool, bool) {
        match self.bits() & 3 {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => (false, false),
        }
    }

    fn wanted(self) -> Access {
        let mut want = match self.bits() & 3 {
            0 => Access::READ,
            1 => Access::WRITE,
            _ => Access::READ | Access::WRITE,
        };
        if self.contains(OpenFlags::TRUNCATE) {
            want |= Access::WRITE;
        }
        want
    }
}

/// open(2), openat(2), openat2(2): from `start`, with `mode` (umask not yet applied) for a file that is made.
pub fn open(
    cx: &FsContext,
    caller: &dyn Caller,
    start: &Path,
    path: &[u8],
    flags: OpenFlags,
    mode: Mode,
    walk: Walk,
) -> Result<Arc<FileDescription>> {
    let follow = if flags.contains(OpenFlags::NO_FOLLOW) { Follow::No } else { Follow::Yes };
    if flags.contains(OpenFlags::PATH) {
        let at = resolve(cx, start, path, follow, walk)?;
        if flags.contains(OpenFlags::DIRECTORY) && at.inode().kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        return Ok(FileDescription::path_only(at, flags.bits() & (OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW).bits()));
    }
    if flags.contains(OpenFlags::CREATE | OpenFlags::DIRECTORY) && !flags.contains(OpenFlags::TEMPORARY) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OpenFlags::TEMPORARY) {
        return open_unnamed(cx, caller, start, path, flags, mode, walk);
    }
    if !flags.contains(OpenFlags::CREATE) {
        let at = resolve(cx, start, path, follow, walk)?;
        return open_path(cx, caller, &at, flags);
    }
    create(cx, caller, start, path, flags, mode, walk)
}

fn create(
    cx: &FsContext,
    caller: &dyn Caller,
    start: &Path,
    path: &[u8],
    flags: OpenFlags,
    mode: Mode,
    walk: Walk,
) -> Result<Arc<FileDescription>> {
    let base = start;
    let mut start = start.clone();
    let mut path = path.to_vec();
    // A link as the last component is followed by hand: what it names may have to be made.
    for _ in 0..40 {
        let (dir, name, slash) = resolve_parent_within(cx, base, &start, &path, walk)?;
        if matches!(name.as_slice(), b"" | b"." | b"..") {
            return Err(if flags.contains(OpenFlags::EXCLUSIVE) { Errno::EEXIST } else { Errno::EISDIR });
        }
        if slash {
            return Err(Errno::EISDIR);
        }
        match dir.dentry.child(&name) {
            Ok(_) if flags.contains(OpenFlags::EXCLUSIVE) => return Err(Errno::EEXIST),
            Ok(dentry) => {
                let at = cx.namespace.cross(Path::new(dir.mount.clone(), dentry));
                if walk.contains(Walk::NO_XDEV) && !Arc::ptr_eq(&at.mount, &base.mount) {
                    return Err(Errno::EXDEV);
                }
                if at.inode().kind() == FileKind::Symlink && !flags.contains(OpenFlags::NO_FOLLOW) {
                    if walk.contains(Walk::NO_SYMLINKS) {
                        return Err(Errno::ELOOP);
                    }
                    if let Some(target) = at.inode().magic_target(&cx.credentials) {
                        if walk.contains(Walk::NO_MAGICLINKS) {
                            return Err(Errno::ELOOP);
                        }
                        if walk.intersects(Walk::BENEATH | Walk::IN_ROOT | Walk::NO_XDEV) {
                            return Err(Errno::EXDEV);
                        }
                        return open_path(cx, caller, &target?, flags);
                    }
                    may_follow(&cx.credentials, &dir.inode().attr()?, at.inode())?;
                    path = at.inode().read_link()?;
                    start = dir;
                    continue;
                }
                return open_path(cx, caller, &at, flags);
            }
            Err(Errno::ENOENT) => match make(cx, &dir, &name, mode) {
                Ok(at) => return open_checked(cx, caller, &at, flags, true),
                Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCLUSIVE) => continue,
                Err(e) => return Err(e),
            },
            Err(e) => return Err(e),
        }
    }
    Err(Errno::ELOOP)
}

fn make(cx: &FsContext, dir: &Path, name: &[u8], mode: Mode) -> Result<Path> {
    let dir_attr = check_add(cx, dir)?;
    let (uid, gid, mode) = new_ownership(cx, &dir_attr, FileKind::Regular, mode.masked(cx.umask));
    let seen = dir.dentry.changes();
    let inode = dir.inode().create(name, &NewNode { kind: FileKind::Regular, mode, uid, gid, rdev: 0 })?;
    let dentry = dir.dentry.adopt_new(name, inode, seen);
    tell(dir.inode(), event::CREATE, Some(name));
    Ok(Path::new(dir.mount.clone(), dentry))
}

fn open_unnamed(
    cx: &FsContext,
    caller: &dyn Caller,
    start: &Path,
    path: &[u8],
    flags: OpenFlags,
    mode: Mode,
    walk: Walk,
) -> Result<Arc<FileDescription>> {
    // O_TMPFILE has O_DIRECTORY in it, so that old kernels refuse it.
    if !flags.access().1 || !flags.contains(OpenFlags::DIRECTORY) || flags.contains(OpenFlags::CREATE) {
        return Err(Errno::EINVAL);
    }
    let dir = resolve(cx, start, path, Follow::Yes, walk)?;
    let dir_attr = check_add(cx, &dir)?;
    let (uid, gid, mode) = new_ownership(cx, &dir_attr, FileKind::Regular, mode.masked(cx.umask));
    let inode = dir.inode().create_unnamed(&NewNode { kind: FileKind::Regular, mode, uid, gid, rdev: 0 })?;
    let name = format!("/#{}", inode.attr()?.ino).into_bytes();
    let dentry = crate::dentry::Dentry::pseudo(dir.dentry.fs().clone(), inode, [name.as_slice(), b" (deleted)"].concat());
    open_checked(cx, caller, &Path::new(dir.mount.clone(), dentry), flags - OpenFlags::DIRECTORY, true)
}

/// Opens a place that is known, with all checks.
pub fn open_path(cx: &FsContext, caller: &dyn Caller, at: &Path, flags: OpenFlags) -> Result<Arc<FileDescription>> {
    open_checked(cx, caller, at, flags, false)
}

/// `made`: the file was just created by this open, whose rights its mode does not limit.
fn open_checked(cx: &FsContext, caller: &dyn Caller, at: &Path, flags: OpenFlags, made: bool) -> Result<Arc<FileDescription>> {
    let kind = at.inode().kind();
    let (read, write) = flags.access();
    match kind {
        FileKind::Symlink => return Err(Errno::ELOOP),
        FileKind::Socket if !at.inode().opens_itself() => return Err(Errno::ENXIO),
        FileKind::Directory if write || flags.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) => return Err(Errno::EISDIR),
        FileKind::CharDevice | FileKind::BlockDevice if at.mount.flags().contains(MountFlags::NO_DEV) => return Err(Errno::EACCES),
        _ => {}
    }
    if flags.contains(OpenFlags::DIRECTORY) && kind != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if !made {
        let attr = check(cx, at, flags.wanted())?;
        if flags.contains(OpenFlags::NO_ATIME) && !is_owner(&cx.credentials, &attr) {
            return Err(Errno::EPERM);
        }
        check_sticky_create(cx, at, flags, &attr)?;
    }
    let write_access = if write && kind == FileKind::Regular { Some(WriteAccess::take(at.inode())?) } else { None };
    let truncated = flags.contains(OpenFlags::TRUNCATE) && kind == FileKind::Regular && !made;
    let how = OpenHow { read, write, truncated, nonblocking: flags.contains(OpenFlags::NONBLOCK) };
    let ops = match kind {
        FileKind::Fifo if !at.inode().opens_itself() => cx.special.open_fifo(at.inode(), &how)?,
        FileKind::CharDevice | FileKind::BlockDevice => {
            let attr = at.inode().attr()?;
            match at.inode().clone().open(&how, caller) {
                Err(Errno::ENXIO) => cx.special.open_device(at.inode(), kind, attr.rdev, &how, caller)?,
                other => other?,
            }
        }
        _ => {
            if truncated {
                truncate_to(cx, at, 0)?;
            }
            at.inode().clone().open(&how, caller)?
        }
    };
    notify(at, event::OPEN);
    if !flags.contains(OpenFlags::NO_CTTY) {
        ops.claim_terminal(caller, read);
    }
    let status = StatusFlags::from_bits_truncate(flags.bits());
    let kept = flags & (OpenFlags::LARGE_FILE | OpenFlags::DIRECTORY | OpenFlags::NO_FOLLOW | OpenFlags::SYNC | OpenFlags::TEMPORARY);
    let file = FileDescription::new(ops, at.clone(), read, write, status, (kept | OpenFlags::LARGE_FILE).bits());
    if let Some(access) = write_access {
        // A new description has none yet.
        let _ = file.write_access.set(access);
    }
    Ok(file)
}

/// fs.protected_regular / protected_fifos, at their usual setting of 1: no O_CREAT open of somebody else's file in a world-writable sticky directory.
fn check_sticky_create(cx: &FsContext, at: &Path, flags: OpenFlags, attr: &Attr) -> Result<()> {
    if !flags.contains(OpenFlags::CREATE) || !matches!(attr.kind, FileKind::Regular | FileKind::Fifo) {
        return Ok(());
    }
    let Some(parent) = at.dentry.parent() else { return Ok(()) };
    let dir = parent.inode().attr()?;
    let sticky = dir.mode.0 & Mode::STICKY != 0 && dir.mode.0 & 0o002 != 0;
    if sticky && attr.uid != dir.uid && attr.uid != cx.credentials.fsuid { Err(Errno::EACCES) } else { Ok(()) }
}

/// stat(2) of a name.
pub fn stat(cx: &FsContext, start: &Path, path: &[u8], follow: Follow) -> Result<Attr> {
    resolve(cx, start, path, follow, Walk::empty())?.inode().attr()
}

/// readlink(2).
pub fn read_link(cx: &FsContext, start: &Path, path: &[u8]) -> Result<Vec<u8>> {
    let at = resolve(cx, start, path, Follow::No, Walk::empty())?;
    if at.inode().kind() != FileKind::Symlink {
        return Err(Errno::EINVAL);
    }
    match at.inode().magic_target(&cx.credentials) {
        Some(target) => Ok(target?.display(&cx.root)),
        None => at.inode().read_link(),
    }
}
