//! Extended attributes: xattr(7).

use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::{Access, Caps};

use super::{check, event, is_owner, notify, require_writable};
use crate::caller::FsContext;
use crate::path::Path;

const CLASSES: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];
const VALUE_MAX: usize = 65536;

/// Rules of the name's class (xattr(7)): user.* only on files and directories and by their rights, trusted.* by CAP_SYS_ADMIN.
fn check_class(cx: &FsContext, at: &Path, name: &[u8], write: bool) -> Result<()> {
    if name.is_empty() || name.len() > 255 {
        return Err(Errno::ERANGE);
    }
    if write {
        require_writable(at)?;
    }
    let class = *CLASSES.iter().find(|c| name.starts_with(c)).ok_or(Errno::EOPNOTSUPP)?;
    if name.len() == class.len() {
        return Err(Errno::EINVAL);
    }
    let who = &cx.credentials;
    match class {
        b"user." => check_user(cx, at, write),
        b"trusted." if who.has(Caps::SYS_ADMIN) => Ok(()),
        b"trusted." => Err(if write { Errno::EPERM } else { Errno::ENODATA }),
        _ if !write => Ok(()),
        b"security." if name == b"security.capability" => who.require(Caps::SETFCAP),
        b"security." => who.require(Caps::SYS_ADMIN),
        _ if is_owner(who, &at.inode().attr()?) => Ok(()),
        _ => Err(Errno::EPERM),
    }
}

fn check_user(cx: &FsContext, at: &Path, write: bool) -> Result<()> {
    if !matches!(at.inode().kind(), FileKind::Regular | FileKind::Directory) {
        return Err(if write { Errno::EPERM } else { Errno::ENODATA });
    }
    let attr = check(cx, at, if write { Access::WRITE } else { Access::READ })?;
    // In a sticky directory only its owner leaves marks on it.
    if write && attr.kind == FileKind::Directory && attr.mode.0 & Mode::STICKY != 0 && !is_owner(&cx.credentials, &attr) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

pub fn get_xattr(cx: &FsContext, at: &Path, name: &[u8]) -> Result<Vec<u8>> {
    check_class(cx, at, name, false)?;
    at.inode().get_xattr(name)
}

pub fn set_xattr(cx: &FsContext, at: &Path, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
    if value.len() > VALUE_MAX {
        return Err(Errno::E2BIG);
    }
    check_class(cx, at, name, true)?;
    at.inode().set_xattr(name, value, create, replace)?;
    notify(at, event::ATTRIB);
    Ok(())
}

pub fn remove_xattr(cx: &FsContext, at: &Path, name: &[u8]) -> Result<()> {
    check_class(cx, at, name, true)?;
    at.inode().remove_xattr(name)?;
    notify(at, event::ATTRIB);
    Ok(())
}

/// Names, without trusted.* for those who may not read them.
pub fn list_xattr(cx: &FsContext, at: &Path) -> Result<Vec<Vec<u8>>> {
    let mut names = at.inode().list_xattr()?;
    if !cx.credentials.has(Caps::SYS_ADMIN) {
        names.retain(|n| !n.starts_with(b"trusted."));
    }
    Ok(names)
}
