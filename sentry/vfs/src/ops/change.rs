//! Changing attributes: chmod(2), chown(2), utimensat(2), truncate(2), access(2).

use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::{Access, Caps, Credentials, may_access_attr};

use super::{check, event, is_owner, notify, require_writable};
use crate::attr::{Attr, AttrChange, TimeChange};
use crate::caller::FsContext;
use crate::mount::MountFlags;
use crate::path::Path;
use crate::text::WriteAccess;

/// access(2), faccessat2(2): `who` has the ids to check with as its file system ids.
pub fn access(who: &Credentials, at: &Path, want: Access) -> Result<()> {
    let attr = at.inode().attr()?;
    let stored = matches!(attr.kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink);
    if want.contains(Access::WRITE) && stored && at.mount.is_read_only() {
        return Err(Errno::EROFS);
    }
    if want.contains(Access::EXEC) && attr.kind == FileKind::Regular && at.mount.flags().contains(MountFlags::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    if want.is_empty() {
        return Ok(());
    }
    may_access_attr(who, attr.kind, attr.mode, attr.uid, attr.gid, want)
}

/// chmod(2) and its kin.
pub fn chmod(cx: &FsContext, at: &Path, mode: Mode) -> Result<()> {
    require_writable(at)?;
    let attr = at.inode().attr()?;
    if attr.kind == FileKind::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    if !is_owner(&cx.credentials, &attr) {
        return Err(Errno::EPERM);
    }
    let mut mode = mode;
    if !cx.credentials.in_group(attr.gid) && !cx.credentials.has(Caps::FSETID) {
        mode.0 &= !Mode::SET_GID;
    }
    at.inode().set_attr(&AttrChange { mode: Some(mode), ..AttrChange::default() })?;
    notify(at, event::ATTRIB);
    Ok(())
}

/// chown(2) and its kin; `None` leaves an id as it is.
pub fn chown(cx: &FsContext, at: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    require_writable(at)?;
    let who = &cx.credentials;
    let attr = at.inode().attr()?;
    if !who.has(Caps::CHOWN) {
        let owns = who.fsuid == attr.uid;
        let uid_ok = uid.is_none_or(|u| owns && u == attr.uid);
        let gid_ok = gid.is_none_or(|g| owns && (g == attr.gid || who.in_group(g)));
        if !uid_ok || !gid_ok {
            return Err(Errno::EPERM);
        }
    }
    let mode = (attr.kind != FileKind::Directory).then(|| without_set_ids(who, &attr)).filter(|m| *m != attr.mode);
    at.inode().set_attr(&AttrChange { uid, gid, mode, ..AttrChange::default() })?;
    notify(at, event::ATTRIB);
    Ok(())
}

/// Mode after a change by `who` that must not keep privileges (chown(2), write(2)): no set-uid, no set-gid where the group may execute or where the
/// group is not one's own.
pub fn without_set_ids(who: &Credentials, attr: &Attr) -> Mode {
    let mut mode = attr.mode;
    mode.0 &= !Mode::SET_UID;
    if mode.0 & 0o010 != 0 || !(who.in_group(attr.gid) || who.has(Caps::FSETID)) {
        mode.0 &= !Mode::SET_GID;
    }
    mode
}

/// utimensat(2). `None` leaves a time as it is.
pub fn set_times(cx: &FsContext, at: &Path, atime: Option<TimeChange>, mtime: Option<TimeChange>) -> Result<()> {
    if atime.is_none() && mtime.is_none() {
        return Ok(());
    }
    require_writable(at)?;
    let attr = at.inode().attr()?;
    if !is_owner(&cx.credentials, &attr) {
        if atime != Some(TimeChange::Now) || mtime != Some(TimeChange::Now) {
            return Err(Errno::EPERM);
        }
        check(cx, at, Access::WRITE)?;
    }
    at.inode().set_attr(&AttrChange { atime, mtime, ..AttrChange::default() })?;
    notify(at, event::ATTRIB);
    Ok(())
}

/// truncate(2).
pub fn truncate(cx: &FsContext, at: &Path, len: u64) -> Result<()> {
    match at.inode().kind() {
        FileKind::Directory => return Err(Errno::EISDIR),
        FileKind::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    check(cx, at, Access::WRITE)?;
    let _access = WriteAccess::take(at.inode())?;
    truncate_to(cx, at, len)
}

/// The rights have been checked. Whoever may not set set-id bits leaves none behind.
pub(super) fn truncate_to(cx: &FsContext, at: &Path, len: u64) -> Result<()> {
    let mode = if cx.credentials.has(Caps::FSETID) {
        None
    } else {
        let attr = at.inode().attr()?;
        Some(without_set_ids(&cx.credentials, &attr)).filter(|m| *m != attr.mode)
    };
    at.inode().set_attr(&AttrChange { size: Some(len), mode, ..AttrChange::default() })?;
    notify(at, event::MODIFY);
    Ok(())
}
