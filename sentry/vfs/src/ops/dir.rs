//! Making, removing and moving names.

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::{Access, Caps, may_access};

use super::{check, check_add, check_remove, event, is_owner, new_ownership, tell};
use crate::caller::FsContext;
use crate::dentry::Dentry;
use crate::inode::{Inode, NewNode, RenameMode};
use crate::path::Path;
use crate::walk::{Follow, Walk, resolve, resolve_parent};
use crate::watch::{WatchEvent, next_cookie};

/// Where a new name is to be: its directory and the name. `EEXIST` for what names an existing place by itself.
fn place(cx: &FsContext, start: &Path, path: &[u8]) -> Result<(Path, Vec<u8>, bool)> {
    let (dir, name, slash) = resolve_parent(cx, start, path, Walk::empty())?;
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::EEXIST);
    }
    Ok((dir, name, slash))
}

fn must_be_free(dir: &Path, name: &[u8]) -> Result<()> {
    match dir.dentry.child(name) {
        Ok(_) => Err(Errno::EEXIST),
        Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

/// mkdir(2).
pub fn mkdir(cx: &FsContext, start: &Path, path: &[u8], mode: Mode) -> Result<()> {
    let (dir, name, _) = place(cx, start, path)?;
    must_be_free(&dir, &name)?;
    // mkdir(2) keeps the sticky bit and drops set-id bits.
    let mode = Mode(mode.0 & 0o1777).masked(cx.umask);
    add(cx, &dir, &name, FileKind::Directory, mode, 0).map(drop)
}

/// mknod(2); the inode is returned so that bind(2) can put its socket there.
pub fn mknod(cx: &FsContext, start: &Path, path: &[u8], kind: FileKind, mode: Mode, rdev: u64) -> Result<Path> {
    let (dir, name, slash) = place(cx, start, path)?;
    must_be_free(&dir, &name)?;
    if slash {
        return Err(Errno::ENOENT);
    }
    match kind {
        FileKind::Directory | FileKind::Symlink => return Err(Errno::EINVAL),
        FileKind::CharDevice | FileKind::BlockDevice => cx.credentials.require(Caps::MKNOD)?,
        _ => {}
    }
    add(cx, &dir, &name, kind, mode.masked(cx.umask), rdev)
}

fn add(cx: &FsContext, dir: &Path, name: &[u8], kind: FileKind, mode: Mode, rdev: u64) -> Result<Path> {
    let dir_attr = check_add(cx, dir)?;
    let (uid, gid, mode) = new_ownership(cx, &dir_attr, kind, mode);
    let seen = dir.dentry.changes();
    let inode = dir.inode().create(name, &NewNode { kind, mode, uid, gid, rdev })?;
    let dentry = dir.dentry.adopt_new(name, inode, seen);
    let isdir = if kind == FileKind::Directory { event::ISDIR } else { 0 };
    tell(dir.inode(), event::CREATE | isdir, Some(name));
    Ok(Path::new(dir.mount.clone(), dentry))
}

/// symlink(2).
pub fn symlink(cx: &FsContext, target: &[u8], start: &Path, path: &[u8]) -> Result<()> {
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    if target.len() >= 4096 {
        return Err(Errno::ENAMETOOLONG);
    }
    let (dir, name, slash) = place(cx, start, path)?;
    must_be_free(&dir, &name)?;
    if slash {
        return Err(Errno::ENOENT);
    }
    let dir_attr = check_add(cx, &dir)?;
    let (uid, gid, _) = new_ownership(cx, &dir_attr, FileKind::Symlink, Mode(0o777));
    let seen = dir.dentry.changes();
    let inode = dir.inode().symlink(&name, target, uid, gid)?;
    dir.dentry.adopt_new(&name, inode, seen);
    tell(dir.inode(), event::CREATE, Some(&name));
    Ok(())
}

/// link(2), linkat(2): `from` has been resolved.
pub fn link(cx: &FsContext, from: &Path, start: &Path, path: &[u8]) -> Result<()> {
    let (dir, name, slash) = place(cx, start, path)?;
    must_be_free(&dir, &name)?;
    if slash {
        return Err(Errno::ENOENT);
    }
    if !Arc::ptr_eq(&from.mount, &dir.mount) || from.inode().attr()?.dev != dir.inode().attr()?.dev {
        return Err(Errno::EXDEV);
    }
    if !hardlink_allowed(cx, from)? {
        return Err(Errno::EPERM);
    }
    check_add(cx, &dir)?;
    if from.inode().kind() == FileKind::Directory {
        return Err(Errno::EPERM);
    }
    let seen = dir.dentry.changes();
    dir.inode().link(&name, from.inode())?;
    dir.dentry.adopt_new(&name, from.inode().clone(), seen);
    tell(from.inode(), event::ATTRIB, None);
    tell(dir.inode(), event::CREATE, Some(&name));
    Ok(())
}

/// fs.protected_hardlinks = 1: one's own files, or regular ones that one may read and write and that carry no set-id bits.
fn hardlink_allowed(cx: &FsContext, from: &Path) -> Result<bool> {
    let attr = from.inode().attr()?;
    if is_owner(&cx.credentials, &attr) {
        return Ok(true);
    }
    let exec_sgid = Mode::SET_GID | 0o010;
    let plain = attr.kind == FileKind::Regular && attr.mode.0 & Mode::SET_UID == 0 && attr.mode.0 & exec_sgid != exec_sgid;
    Ok(plain && may_access(&cx.credentials, attr.kind, attr.mode, attr.uid, attr.gid, Access::READ | Access::WRITE))
}

/// unlink(2).
pub fn unlink(cx: &FsContext, start: &Path, path: &[u8]) -> Result<()> {
    let (dir, name, slash) = resolve_parent(cx, start, path, Walk::empty())?;
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::EISDIR);
    }
    let dentry = dir.dentry.child(&name)?;
    if slash {
        return Err(if dentry.inode().kind() == FileKind::Directory { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    check_remove(cx, &dir, dentry.inode())?;
    if dentry.inode().kind() == FileKind::Directory {
        return Err(Errno::EISDIR);
    }
    if dentry.is_mount_point() {
        return Err(Errno::EBUSY);
    }
    dir.inode().unlink(&name)?;
    dir.dentry.removed_as(&name, &dentry);
    tell_unlinked(dentry.inode());
    tell(dir.inode(), event::DELETE, Some(&name));
    Ok(())
}

/// A name less: a change of status, and with the last one the end.
fn tell_unlinked(inode: &Arc<dyn Inode>) {
    if inode.state().watches.is_empty() {
        return;
    }
    tell(inode, event::ATTRIB, None);
    if !inode.state().is_open() && inode.attr().is_ok_and(|a| a.nlink == 0) {
        tell(inode, event::DELETE_SELF, None);
    }
}

/// rmdir(2).
pub fn rmdir(cx: &FsContext, start: &Path, path: &[u8]) -> Result<()> {
    let (dir, name, _) = resolve_parent(cx, start, path, Walk::empty())?;
    match name.as_slice() {
        b"" => return Err(Errno::EBUSY),
        b"." => return Err(Errno::EINVAL),
        b".." => return Err(Errno::ENOTEMPTY),
        _ => {}
    }
    let dentry = dir.dentry.child(&name)?;
    check_remove(cx, &dir, dentry.inode())?;
    if dentry.inode().kind() != FileKind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if dentry.is_mount_point() {
        return Err(Errno::EBUSY);
    }
    dir.inode().rmdir(&name)?;
    dir.dentry.removed_as(&name, &dentry);
    if !dentry.inode().state().is_open() {
        tell(dentry.inode(), event::DELETE_SELF, None);
    }
    tell(dir.inode(), event::DELETE | event::ISDIR, Some(&name));
    Ok(())
}

/// rename(2), renameat2(2).
pub fn rename(cx: &FsContext, old_start: &Path, old_path: &[u8], new_start: &Path, new_path: &[u8], mode: RenameMode) -> Result<()> {
    let (old_dir, old_name, old_slash) = resolve_parent(cx, old_start, old_path, Walk::empty())?;
    let (new_dir, new_name, new_slash) = resolve_parent(cx, new_start, new_path, Walk::empty())?;
    let proper = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    if !Arc::ptr_eq(&old_dir.mount, &new_dir.mount) {
        return Err(Errno::EXDEV);
    }
    if !proper(&old_name) {
        return Err(Errno::EBUSY);
    }
    if !proper(&new_name) {
        return Err(if mode == RenameMode::NoReplace { Errno::EEXIST } else { Errno::EBUSY });
    }
    let source = old_dir.dentry.child(&old_name)?;
    let target = match new_dir.dentry.child(&new_name) {
        Ok(dentry) => Some(dentry),
        Err(Errno::ENOENT) => None,
        Err(e) => return Err(e),
    };
    match (&target, mode) {
        (Some(_), RenameMode::NoReplace) => return Err(Errno::EEXIST),
        (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
        _ => {}
    }
    check_slashes(&source, old_slash, target.as_ref(), new_slash, mode)?;
    // A directory cannot move below itself, nor onto an ancestor.
    if new_dir.dentry.is_below(&source) {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = &target
        && old_dir.dentry.is_below(target)
    {
        return Err(if mode == RenameMode::Exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    if let Some(target) = &target
        && Arc::ptr_eq(target.inode(), source.inode())
    {
        // Two names of one file, or one name: nothing to do.
        return Ok(());
    }
    check_rename(cx, (&old_dir, &source), (&new_dir, target.as_ref()), mode)?;
    let seen = (old_dir.dentry.changes(), new_dir.dentry.changes());
    old_dir.inode().rename(&old_name, new_dir.inode(), &new_name, mode)?;
    match &target {
        Some(target) if mode == RenameMode::Exchange => {
            old_dir.dentry.exchanged(&old_name, &source, &new_dir.dentry, &new_name, target, seen);
        }
        _ => old_dir.dentry.moved(&old_name, &source, &new_dir.dentry, &new_name, seen),
    }
    tell_renamed(&old_dir, &old_name, &new_dir, &new_name, source.inode());
    match (&target, mode) {
        (Some(target), RenameMode::Exchange) => tell_renamed(&new_dir, &new_name, &old_dir, &old_name, target.inode()),
        (Some(target), _) => tell_unlinked(target.inode()),
        (None, _) => {}
    }
    Ok(())
}

/// A slash behind a name says that it is, or is to be, a directory.
fn check_slashes(source: &Dentry, old_slash: bool, target: Option<&Arc<Dentry>>, new_slash: bool, mode: RenameMode) -> Result<()> {
    let is_file = |dentry: &Dentry| dentry.inode().kind() != FileKind::Directory;
    let new_is_file = match mode {
        RenameMode::Exchange => target.is_some_and(|t| is_file(t)),
        _ => is_file(source),
    };
    if (old_slash && is_file(source)) || (new_slash && new_is_file) { Err(Errno::ENOTDIR) } else { Ok(()) }
}

/// Rights and kinds of a rename. A directory that gets a new parent is written to: its ".." changes.
fn check_rename(cx: &FsContext, from: (&Path, &Arc<Dentry>), to: (&Path, Option<&Arc<Dentry>>), mode: RenameMode) -> Result<()> {
    let ((old_dir, source), (new_dir, target)) = (from, to);
    check_remove(cx, old_dir, source.inode())?;
    match target {
        Some(target) => {
            check_remove(cx, new_dir, target.inode())?;
            check_kinds(source.inode(), target.inode(), mode)?;
        }
        None => drop(check_add(cx, new_dir)?),
    }
    if !Arc::ptr_eq(&old_dir.dentry, &new_dir.dentry) {
        check_new_parent(cx, old_dir, source)?;
        if let (Some(target), RenameMode::Exchange) = (target, mode) {
            check_new_parent(cx, new_dir, target)?;
        }
    }
    if source.is_mount_point() || target.is_some_and(|t| t.is_mount_point()) {
        return Err(Errno::EBUSY);
    }
    Ok(())
}

fn check_new_parent(cx: &FsContext, dir: &Path, moved: &Arc<Dentry>) -> Result<()> {
    if moved.inode().kind() == FileKind::Directory {
        check(cx, &Path::new(dir.mount.clone(), moved.clone()), Access::WRITE)?;
    }
    Ok(())
}

fn check_kinds(source: &Arc<dyn Inode>, target: &Arc<dyn Inode>, mode: RenameMode) -> Result<()> {
    if mode == RenameMode::Exchange {
        return Ok(());
    }
    match (source.kind() == FileKind::Directory, target.kind() == FileKind::Directory) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

fn tell_renamed(old_dir: &Path, old_name: &[u8], new_dir: &Path, new_name: &[u8], inode: &Arc<dyn Inode>) {
    let isdir = if inode.kind() == FileKind::Directory { event::ISDIR } else { 0 };
    let cookie = next_cookie();
    old_dir.inode().state().watches.notify(&WatchEvent { mask: event::MOVED_FROM | isdir, name: Some(old_name), cookie });
    new_dir.inode().state().watches.notify(&WatchEvent { mask: event::MOVED_TO | isdir, name: Some(new_name), cookie });
    inode.state().watches.notify(&WatchEvent { mask: event::MOVE_SELF, name: None, cookie: 0 });
}

/// linkat(2)'s source.
pub fn link_source(cx: &FsContext, start: &Path, path: &[u8], follow: Follow) -> Result<Path> {
    resolve(cx, start, path, follow, Walk::empty())
}
