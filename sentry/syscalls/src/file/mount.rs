//! mount(2), umount2(2), pivot_root(2).
//!
//! `Differs:` there is one mount namespace a container, without propagation: the propagation types are accepted and mean nothing.

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, PAGE_SIZE, Result, UserAddr};
use sentry_auth::Caps;
use sentry_kernel::{CurrentTask, SysResult};
use sentry_vfs::{Dentry, Follow, FsContext, Mount, MountFlags, Path};

use super::at;
use super::services::MountRequest;
use crate::args::{Flags, PathArg};
use crate::dispatch::System;

const MS_REMOUNT: u64 = 32;
const MS_BIND: u64 = 4096;
const MS_MOVE: u64 = 8192;
const MS_REC: u64 = 16384;
const MS_NOATIME: u64 = 1024;
const MS_STRICTATIME: u64 = 1 << 24;
/// MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED.
const MS_PROPAGATION: u64 = 1 << 17 | 1 << 18 | 1 << 19 | 1 << 20;
const MS_MGC_MASK: u64 = 0xffff_0000;
const MS_MGC_VAL: u64 = 0xc0ed_0000;

const MNT_FORCE: u32 = 1;
const MNT_DETACH: u32 = 2;
const MNT_EXPIRE: u32 = 4;
const UMOUNT_NOFOLLOW: u32 = 8;

fn string(task: &CurrentTask, at: UserAddr) -> Result<Vec<u8>> {
    if at.is_null() { Ok(Vec::new()) } else { task.mm().read_cstring(at, PAGE_SIZE as usize).map_err(too_long) }
}

fn too_long(errno: Errno) -> Errno {
    if errno == Errno::ENAMETOOLONG { Errno::EINVAL } else { errno }
}

/// The per-mount part of mount(2)'s flags; relatime unless something else is asked for.
fn mount_flags(flags: u64) -> MountFlags {
    let mut wanted = MountFlags::from_bits_truncate(flags as u32);
    if flags & (MS_NOATIME | MS_STRICTATIME) == 0 {
        wanted |= MountFlags::REL_ATIME;
    }
    wanted
}

/// [mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html).
pub fn mount(task: &mut CurrentTask, source: UserAddr, target: PathArg, fstype: UserAddr, flags: u64, data: UserAddr) -> SysResult {
    let kind = string(task, fstype)?;
    let source_name = string(task, source)?;
    let data = string(task, data)?;
    let cx = task.fs_context();
    let place = at::from_cwd(task, &cx, target, Follow::Yes)?;
    cx.credentials.require(Caps::SYS_ADMIN)?;
    let flags = if flags & MS_MGC_MASK == MS_MGC_VAL { flags & !MS_MGC_MASK } else { flags };
    if flags & MS_REMOUNT != 0 {
        remount(task, &place, flags, &data)?;
    } else if flags & MS_BIND != 0 {
        bind(&cx, &source_name, &place, flags & MS_REC != 0)?;
    } else if flags & MS_PROPAGATION != 0 {
        check_root(&place)?;
    } else if flags & MS_MOVE != 0 {
        return Err(Errno::EINVAL.into());
    } else {
        if kind.is_empty() {
            return Err(Errno::EINVAL.into());
        }
        let request = MountRequest { kind: &kind, source: &source_name, data: &data };
        let fs = System::of(task)?.files.file_systems.make(&request)?;
        let source = if source_name.is_empty() { b"none".to_vec() } else { source_name };
        put(&cx, Mount::new(Dentry::root(fs), mount_flags(flags), source), &place)?;
    }
    Ok(0)
}

fn put(cx: &FsContext, mount: Arc<Mount>, at: &Path) -> Result<()> {
    let is_dir = |d: &Arc<Dentry>| d.inode().kind() == FileKind::Directory;
    if is_dir(mount.root()) != is_dir(&at.dentry) {
        return Err(Errno::ENOTDIR);
    }
    if at.dentry.is_deleted() || at.dentry.is_pseudo() {
        return Err(Errno::ENOENT);
    }
    cx.namespace.mount(mount, at);
    Ok(())
}

fn remount(task: &CurrentTask, place: &Path, flags: u64, data: &[u8]) -> Result<()> {
    check_root(place)?;
    if flags & MS_BIND == 0 {
        System::of(task)?.files.file_systems.reconfigure(place.dentry.fs(), data)?;
    }
    place.mount.set_flags(mount_flags(flags));
    Ok(())
}

fn bind(cx: &FsContext, source: &[u8], place: &Path, recursive: bool) -> Result<()> {
    let from = sentry_vfs::resolve(cx, &cx.cwd, source, Follow::Yes, sentry_vfs::Walk::empty())?;
    if from.mount.is_internal() {
        return Err(Errno::EINVAL);
    }
    let mount = Mount::new(from.dentry.clone(), from.mount.flags(), from.mount.source.clone());
    let below = if recursive { below(cx, &from) } else { Vec::new() };
    put(cx, mount.clone(), place)?;
    // Mounts further down are put at the same places of the new mount, outer ones first.
    let mut copies = vec![(from.mount.clone(), mount)];
    for (old, point) in below {
        let Some((_, parent)) = copies.iter().find(|(original, _)| Arc::ptr_eq(original, &point.mount)) else { continue };
        let copy = Mount::new(old.root().clone(), old.flags(), old.source.clone());
        cx.namespace.mount(copy.clone(), &Path::new(parent.clone(), point.dentry.clone()));
        copies.push((old, copy));
    }
    Ok(())
}

/// Mounts that stand below `place`, in the order of mounting.
fn below(cx: &FsContext, place: &Path) -> Vec<(Arc<Mount>, Path)> {
    let mut inside: Vec<Arc<Mount>> = Vec::new();
    let mut found = Vec::new();
    for mount in cx.namespace.mounts() {
        let Some(point) = mount.mount_point() else { continue };
        let here = Arc::ptr_eq(&point.mount, &place.mount) && point.dentry.is_below(&place.dentry);
        if here || inside.iter().any(|m| Arc::ptr_eq(m, &point.mount)) {
            inside.push(mount.clone());
            found.push((mount, point));
        }
    }
    found
}

/// `EINVAL` for a place that is not the root of a mount.
fn check_root(place: &Path) -> Result<()> {
    if Arc::ptr_eq(&place.dentry, place.mount.root()) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// [umount2(2)](https://man7.org/linux/man-pages/man2/umount.2.html).
pub fn umount2(task: &mut CurrentTask, target: PathArg, flags: Flags) -> SysResult {
    if flags.0 & !(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let how = if flags.0 & UMOUNT_NOFOLLOW != 0 { Follow::No } else { Follow::Yes };
    let cx = task.fs_context();
    let place = at::from_cwd(task, &cx, target, how)?;
    cx.credentials.require(Caps::SYS_ADMIN)?;
    check_root(&place)?;
    if flags.0 & MNT_EXPIRE != 0 {
        return Err(if flags.0 & (MNT_FORCE | MNT_DETACH) != 0 { Errno::EINVAL } else { Errno::EAGAIN }.into());
    }
    cx.namespace.unmount(&place, flags.0 & MNT_DETACH != 0)?;
    Ok(0)
}

/// [pivot_root(2)](https://man7.org/linux/man-pages/man2/pivot_root.2.html): not inside a container, whose root is a mount that cannot move.
pub fn pivot_root(task: &mut CurrentTask, new_root: PathArg, put_old: PathArg) -> SysResult {
    let cx = task.fs_context();
    cx.credentials.require(Caps::SYS_ADMIN)?;
    let new = at::from_cwd(task, &cx, new_root, Follow::Yes)?;
    let old = at::from_cwd(task, &cx, put_old, Follow::Yes)?;
    for place in [&new, &old] {
        if place.inode().kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR.into());
        }
    }
    check_root(&new)?;
    Err(Errno::EINVAL.into())
}
