//! Extended attributes: xattr(7).

use sentry_abi::{Errno, FileKind, Result};
use sentry_auth::{Access, Caps};

use super::{check, is_owner, require_writable};
use crate::caller::FsContext;
use crate::path::Path;

/// Rules of the name's class (xattr(7)): user.* only on files and directories and by their rights, trusted.* by CAP_SYS_ADMIN.
fn check_class(cx: &FsContext, at: &Path, name: &[u8], write: bool) -> Result<()> {
    if name.is_empty() || name.len() > 255 {
        return Err(Errno::ERANGE);
    }
    if write {
        require_writable(at)?;
    }
    if name.starts_with(b"user.") {
        if !matches!(at.inode().kind(), FileKind::Regular | FileKind::Directory) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        check(cx, at, if write { Access::WRITE } else { Access::READ })?;
    } else if name.starts_with(b"trusted.") {
        if !cx.credentials.has(Caps::SYS_ADMIN) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
    } else if name.starts_with(b"security.") {
        if write && !cx.credentials.has(Caps::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
    } else if name.starts_with(b"system.") {
        let attr = at.inode().attr()?;
        if write && !is_owner(&cx.credentials, &attr) {
            return Err(Errno::EPERM);
        }
    } else {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(())
}

pub fn get_xattr(cx: &FsContext, at: &Path, name: &[u8]) -> Result<Vec<u8>> {
    check_class(cx, at, name, false)?;
    at.inode().get_xattr(name)
}

pub fn set_xattr(cx: &FsContext, at: &Path, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
    check_class(cx, at, name, true)?;
    at.inode().set_xattr(name, value, create, replace)
}

pub fn remove_xattr(cx: &FsContext, at: &Path, name: &[u8]) -> Result<()> {
    check_class(cx, at, name, true)?;
    at.inode().remove_xattr(name)
}

/// Names, without trusted.* for those who may not read them.
pub fn list_xattr(cx: &FsContext, at: &Path) -> Result<Vec<Vec<u8>>> {
    let mut names = at.inode().list_xattr()?;
    if !cx.credentials.has(Caps::SYS_ADMIN) {
        names.retain(|n| !n.starts_with(b"trusted."));
    }
    Ok(names)
}
