//! An open file description (open(2)): what descriptors, also of several processes, share: operations, offset, status flags.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bitflags::bitflags;
use sentry_abi::{Errno, Result};
use sentry_memory::{MapLabel, Mapping};
use sentry_sync::{Level, Mutex};

use crate::attr::Attr;
use crate::file::{FileOps, Seek};
use crate::path::Path;
use crate::text::WriteAccess;
use crate::watch::{event, notify, notify_last_close};

bitflags! {
    /// The part of open(2)'s flags that fcntl(F_SETFL) can change.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct StatusFlags: u32 {
        const APPEND = 0o2000;
        const NONBLOCK = 0o4000;
        const DSYNC = 0o10000;
        const ASYNC = 0o20000;
        const DIRECT = 0o40000;
        const NOATIME = 0o1000000;
    }
}

pub struct FileDescription {
    /// Never reused; the owner of flock(2) locks.
    pub id: u64,
    pub ops: Arc<dyn FileOps>,
    /// What it was opened as. Anonymous files have a path on an internal mount.
    pub path: Path,
    pub readable: bool,
    pub writable: bool,
    /// O_PATH: names a file, opens nothing.
    pub path_only: bool,
    /// Flags as F_GETFL shows them besides access mode and status flags (O_DIRECTORY, O_LARGEFILE, O_NOFOLLOW, O_PATH …).
    pub open_flags: u32,
    status: AtomicU32,
    pub offset: Mutex<u64>,
    /// F_SETOWN: kernel-global pid, negative for a group; F_SETSIG in the upper half.
    pub owner: AtomicU64,
    /// Keeps the file from being executed while this description may write it.
    pub(crate) write_access: OnceLock<WriteAccess>,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl FileDescription {
    pub fn new(
        ops: Arc<dyn FileOps>,
        path: Path,
        readable: bool,
        writable: bool,
        status: StatusFlags,
        open_flags: u32,
    ) -> Arc<FileDescription> {
        path.inode().state().opened();
        Arc::new(FileDescription {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            ops,
            path,
            readable,
            writable,
            path_only: false,
            open_flags,
            status: AtomicU32::new(status.bits()),
            offset: Mutex::new(Level::FileOffset, 0),
            owner: AtomicU64::new(0),
            write_access: OnceLock::new(),
        })
    }

    /// O_PATH.
    pub fn path_only(path: Path, open_flags: u32) -> Arc<FileDescription> {
        Arc::new(FileDescription {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            ops: Arc::new(PathOnly),
            path,
            readable: false,
            writable: false,
            path_only: true,
            open_flags,
            status: AtomicU32::new(0),
            offset: Mutex::new(Level::FileOffset, 0),
            owner: AtomicU64::new(0),
            write_access: OnceLock::new(),
        })
    }

    pub fn status(&self) -> StatusFlags {
        StatusFlags::from_bits_retain(self.status.load(Ordering::Relaxed))
    }

    pub fn set_status(&self, flags: StatusFlags) {
        self.status.store(flags.bits(), Ordering::Relaxed);
        self.ops.status_changed(flags);
    }

    pub fn nonblocking(&self) -> bool {
        self.status().contains(StatusFlags::NONBLOCK)
    }

    /// F_GETFL.
    pub fn flags(&self) -> u32 {
        let access = match (self.readable, self.writable) {
            (true, true) => 2,
            (false, true) => 1,
            _ => 0,
        };
        self.open_flags | self.status().bits() | access
    }

    pub fn attr(&self) -> Result<Attr> {
        match self.ops.attr() {
            Some(attr) => attr,
            None => self.path.inode().attr(),
        }
    }

    /// What to map, under the name that the file has for somebody with this root. `write` as for [`FileOps::mapping`].
    pub fn mapping(&self, write: bool, root: &Path) -> Result<Mapping> {
        let inner = self.ops.mapping(write)?;
        let label = Arc::new(Label { inner: inner.label, path: self.path.clone(), root: root.clone() });
        Ok(Mapping { fd: inner.fd, max_prot: inner.max_prot, label, resident: inner.resident })
    }

    /// `EBADF` unless open for reading.
    pub fn require_readable(&self) -> Result<()> {
        if self.readable { Ok(()) } else { Err(Errno::EBADF) }
    }

    pub fn require_writable(&self) -> Result<()> {
        if self.writable { Ok(()) } else { Err(Errno::EBADF) }
    }
}

/// A mapping's name follows the file: renamed, it changes; removed, it says so.
struct Label {
    inner: Arc<dyn MapLabel>,
    path: Path,
    root: Path,
}

impl MapLabel for Label {
    fn path(&self) -> Option<Vec<u8>> {
        Some(self.inner.path().unwrap_or_else(|| self.path.display(&self.root)))
    }

    fn id(&self) -> (u64, u64) {
        self.inner.id()
    }
}

impl Drop for FileDescription {
    fn drop(&mut self) {
        if !self.path_only {
            self.path.inode().state().locks.release_description(self.id);
            notify(&self.path, if self.writable { event::CLOSE_WRITE } else { event::CLOSE_NOWRITE });
            if self.path.inode().state().closed() {
                notify_last_close(&self.path);
            }
        }
    }
}

/// Operations of an O_PATH description: none.
struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Offset
    }
}
