//! Operations on names, with the permission checks and side effects that are the same for every file system. fs/namei.c, fs/open.c, fs/attr.c.

mod change;
mod dir;
mod open;
mod xattr;

pub use change::{access, chmod, chown, set_times, truncate, without_set_ids};
pub use dir::{link, link_source, mkdir, mknod, rename, rmdir, symlink, unlink};
pub use open::{OpenFlags, open, open_path, read_link, stat};
pub use xattr::{get_xattr, list_xattr, remove_xattr, set_xattr};

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::{Access, Caps, Credentials, may_access_attr};

use crate::attr::Attr;
use crate::caller::FsContext;
use crate::inode::Inode;
use crate::path::Path;
use crate::watch::{WatchEvent, event, notify};

/// inode_permission(): rights of the file, and of a read-only mount for what writes to a file system.
pub(crate) fn check(cx: &FsContext, path: &Path, want: Access) -> Result<Attr> {
    let attr = path.inode().attr()?;
    if want.contains(Access::WRITE) {
        check_writable_mount(path, attr.kind)?;
    }
    may_access_attr(&cx.credentials, attr.kind, attr.mode, attr.uid, attr.gid, want)?;
    Ok(attr)
}

fn check_writable_mount(path: &Path, kind: FileKind) -> Result<()> {
    let stored = matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink);
    if stored && path.mount.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}

/// `EROFS`.
pub(crate) fn require_writable(path: &Path) -> Result<()> {
    if path.mount.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}

/// Owner of the file or CAP_FOWNER.
pub(crate) fn is_owner(who: &Credentials, attr: &Attr) -> bool {
    who.fsuid == attr.uid || who.has(Caps::FOWNER)
}

/// May an entry be added to `dir`?
fn check_add(cx: &FsContext, dir: &Path) -> Result<Attr> {
    if dir.inode().kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    require_writable(dir)?;
    if dir.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    check(cx, dir, Access::WRITE | Access::EXEC)
}

/// May `victim` be taken out of `dir` (may_delete)? The sticky bit protects what others own.
fn check_remove(cx: &FsContext, dir: &Path, victim: &Arc<dyn Inode>) -> Result<()> {
    let dir_attr = check_add(cx, dir)?;
    let attr = victim.attr()?;
    if dir_attr.mode.0 & Mode::STICKY != 0 && cx.credentials.fsuid != attr.uid && !is_owner(&cx.credentials, &dir_attr) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Owner and mode of a new node: a set-gid directory hands on its group, and its bit to directories.
fn new_ownership(cx: &FsContext, dir: &Attr, kind: FileKind, mode: Mode) -> (u32, u32, Mode) {
    let who = &cx.credentials;
    let mut mode = mode;
    let mut gid = who.fsgid;
    if dir.mode.0 & Mode::SET_GID != 0 {
        gid = dir.gid;
        if kind == FileKind::Directory {
            mode.0 |= Mode::SET_GID;
        } else if mode.0 & (Mode::SET_GID | 0o010) == (Mode::SET_GID | 0o010) && !who.in_group(gid) && !who.has(Caps::FSETID) {
            mode.0 &= !Mode::SET_GID;
        }
    }
    (who.fsuid, gid, mode)
}

fn tell(inode: &Arc<dyn Inode>, mask: u32, name: Option<&[u8]>) {
    inode.state().watches.notify(&WatchEvent { mask, name, cookie: 0 });
}
