//! What a file system implements for each of its files.

use std::any::Any;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_auth::Credentials;
use sentry_sync::{Level, Mutex};

use crate::attr::{Attr, AttrChange};
use crate::caller::Caller;
use crate::file::FileOps;
use crate::lock::FileLocks;
use crate::path::Path;
use crate::text::Writers;
use crate::watch::Watches;

/// A node to be made in a directory. The umask has been applied; owner and set-gid inheritance have been settled by [`crate::ops`].
#[derive(Clone, Copy, Debug)]
pub struct NewNode {
    /// Anything but a symlink.
    pub kind: FileKind,
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    /// For devices.
    pub rdev: u64,
}

/// How a file is opened. Permission has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHow {
    pub read: bool,
    pub write: bool,
    /// `O_TRUNC` has been done by [`crate::ops`] through `set_attr`; this says that it was.
    pub truncated: bool,
    pub nonblocking: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    Replace,
    NoReplace,
    Exchange,
}

/// What the virtual file system keeps for each inode; every implementation owns one and hands it out by [`Inode::state`].
pub struct InodeState {
    pub locks: FileLocks,
    pub watches: Watches,
    pub(crate) writers: Writers,
    /// Open descriptions of it (O_PATH left out).
    opens: AtomicU32,
    /// The pipe of an opened FIFO, the socket bound to a name: whatever the object's own crate puts there.
    pub attached: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
    /// Set once by a crate that needs per-inode data and owns neither the file system nor `attached`.
    pub extension: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Default for InodeState {
    fn default() -> InodeState {
        InodeState {
            locks: FileLocks::default(),
            watches: Watches::default(),
            writers: Writers::default(),
            opens: AtomicU32::new(0),
            attached: Mutex::new(Level::InodeState, None),
            extension: OnceLock::new(),
        }
    }
}

impl InodeState {
    pub fn is_open(&self) -> bool {
        self.opens.load(Ordering::Acquire) != 0
    }

    pub(crate) fn opened(&self) {
        self.opens.fetch_add(1, Ordering::AcqRel);
    }

    /// Was it the last one?
    pub(crate) fn closed(&self) -> bool {
        self.opens.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// A file, directory, link, device … of a file system. All methods may be called from many threads at once.
///
/// Permission checks are the caller's ([`crate::ops`]), existence and type checks are the inode's. Names are single components, neither
/// empty nor "." nor "..", at most 255 bytes, without '/'.
pub trait Inode: Send + Sync + 'static {
    fn as_any(&self) -> &dyn Any;
    fn state(&self) -> &InodeState;

    /// Never changes.
    fn kind(&self) -> FileKind;
    fn attr(&self) -> Result<Attr>;
    fn set_attr(&self, change: &AttrChange) -> Result<()>;

    /// The file behind a name. `ENOENT`, `ENOTDIR`.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let _ = name;
        Err(Errno::ENOTDIR)
    }

    /// May a dentry found by `lookup` be kept? Directories whose contents change by themselves (pids in proc) say no.
    fn keeps_children(&self) -> bool {
        true
    }

    /// Is the kept `child` still what `name` means? Asked on each use of a kept dentry; cheap.
    fn still_valid(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        let _ = (name, child);
        true
    }

    /// Hint before a walk: these components will be looked up one after the other. A remote file system fetches them in one message.
    fn prefetch(&self, names: &[&[u8]]) {
        let _ = names;
    }

    /// Makes a file. `EEXIST`.
    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        let _ = (name, node);
        Err(Errno::EPERM)
    }

    fn symlink(&self, name: &[u8], target: &[u8], uid: u32, gid: u32) -> Result<Arc<dyn Inode>> {
        let _ = (name, target, uid, gid);
        Err(Errno::EPERM)
    }

    /// Another name for `target`, an inode of the same file system.
    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let _ = (name, target);
        Err(Errno::EPERM)
    }

    /// Removes a name that is not a directory. `EISDIR`.
    fn unlink(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM)
    }

    /// Removes an empty directory. `ENOTEMPTY`, `ENOTDIR`.
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EPERM)
    }

    /// Moves `name` of this directory to `new_name` of `new_dir`, an inode of the same file system. Loops have been excluded.
    fn rename(&self, name: &[u8], new_dir: &Arc<dyn Inode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        let _ = (name, new_dir, new_name, mode);
        Err(Errno::EPERM)
    }

    /// A nameless file in this directory (O_TMPFILE).
    fn create_unnamed(&self, node: &NewNode) -> Result<Arc<dyn Inode>> {
        let _ = node;
        Err(Errno::EOPNOTSUPP)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// A link that leads to an object rather than to a name (/proc/self/fd/3, /proc/self/exe), for somebody with these rights. `EACCES`.
    fn magic_target(&self, who: &Arc<Credentials>) -> Option<Result<Path>> {
        let _ = who;
        None
    }

    /// Opens a file of this inode. FIFOs, sockets and devices that another crate implements are opened through [`crate::FileSystem`]'s device hook
    /// by [`crate::ops`]; this is asked for the rest.
    fn open(self: Arc<Self>, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>>;

    /// A FIFO or socket that is opened by [`Inode::open`] all the same: one of the host that the sandbox was started with.
    fn opens_itself(&self) -> bool {
        false
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// `create` and `replace` as XATTR_CREATE, XATTR_REPLACE.
    fn set_xattr(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
        let _ = (name, value, create, replace);
        Err(Errno::EOPNOTSUPP)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// Names.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
}
