//! Extended attributes (xattr(7)): user., trusted., security.; their total per file is bounded.

use sentry_abi::{Errno, Result};

use crate::inode::TmpInode;

/// Bytes of names and values that one file may carry.
const MOST_BYTES: usize = 128 * 1024;
const VALUE_MAX: usize = 64 * 1024;

fn check_class(name: &[u8]) -> Result<()> {
    let known = [b"user.".as_slice(), b"trusted.", b"security."];
    if known.iter().any(|class| name.starts_with(class) && name.len() > class.len()) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

impl TmpInode {
    pub(crate) fn xattr_get(&self, name: &[u8]) -> Result<Vec<u8>> {
        check_class(name)?;
        self.meta.lock().xattrs.get(name).map(|v| v.to_vec()).ok_or(Errno::ENODATA)
    }

    pub(crate) fn xattr_set(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
        check_class(name)?;
        if value.len() > VALUE_MAX {
            return Err(Errno::E2BIG);
        }
        let now = self.store.now();
        let mut meta = self.meta.lock();
        let exists = meta.xattrs.contains_key(name);
        if exists && create {
            return Err(Errno::EEXIST);
        }
        if !exists && replace {
            return Err(Errno::ENODATA);
        }
        let others: usize = meta.xattrs.iter().filter(|(k, _)| k.as_ref() != name).map(|(k, v)| k.len() + v.len()).sum();
        if others + name.len() + value.len() > MOST_BYTES {
            return Err(Errno::ENOSPC);
        }
        meta.xattrs.insert(name.into(), value.into());
        meta.ctime = now;
        Ok(())
    }

    pub(crate) fn xattr_remove(&self, name: &[u8]) -> Result<()> {
        check_class(name)?;
        let now = self.store.now();
        let mut meta = self.meta.lock();
        meta.xattrs.remove(name).ok_or(Errno::ENODATA)?;
        meta.ctime = now;
        Ok(())
    }
}
