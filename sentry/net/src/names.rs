//! Names in the file system, for AF_UNIX sockets that are bound to one.

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::Access;
use sentry_vfs::{Follow, FsContext, Inode, Path, Walk, access, mknod, resolve};

/// Finds and makes the files that sockets are bound to.
pub trait Names {
    /// The file `path`, which the caller may write to.
    fn find(&self, path: &[u8]) -> Result<Arc<dyn Inode>>;
    /// A new file of kind socket. `EADDRINUSE` when the name is taken.
    fn make(&self, path: &[u8]) -> Result<Arc<dyn Inode>>;
}

/// The caller's file system.
pub struct FsNames<'a> {
    pub context: &'a FsContext,
}

impl FsNames<'_> {
    fn start(&self) -> &Path {
        &self.context.cwd
    }
}

impl Names for FsNames<'_> {
    fn find(&self, path: &[u8]) -> Result<Arc<dyn Inode>> {
        let at = resolve(self.context, self.start(), path, Follow::Yes, Walk::empty())?;
        access(&self.context.credentials, &at, Access::WRITE)?;
        Ok(at.inode().clone())
    }

    fn make(&self, path: &[u8]) -> Result<Arc<dyn Inode>> {
        let made = mknod(self.context, self.start(), path, FileKind::Socket, Mode(0o777), 0);
        match made {
            Ok(at) => Ok(at.inode().clone()),
            Err(Errno::EEXIST) => Err(Errno::EADDRINUSE),
            Err(e) => Err(e),
        }
    }
}

/// For calls that carry no address.
pub struct NoNames;

impl Names for NoNames {
    fn find(&self, _: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn make(&self, _: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }
}
