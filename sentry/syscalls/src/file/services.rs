//! What file system calls need that the kernel does not own. The wiring makes it.

use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_fs_pipefs::Pipes;
use sentry_fs_tmpfs::memfd::Memfds;
use sentry_vfs::FileSystem;

use super::buffer::Buffers;
use super::deadlock::LockWaits;

/// What mount(2) asks for.
pub struct MountRequest<'a> {
    /// "tmpfs", "proc".
    pub kind: &'a [u8],
    pub source: &'a [u8],
    /// File-system specific options.
    pub data: &'a [u8],
}

/// Makes file systems for mount(2). The wiring implements it, since it knows them all.
pub trait FileSystems: Send + Sync {
    /// `ENODEV` for a kind that there is not, `EINVAL` for bad options.
    fn make(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>>;

    /// MS_REMOUNT's data. `EINVAL`.
    fn reconfigure(&self, fs: &Arc<dyn FileSystem>, data: &[u8]) -> Result<()> {
        let _ = fs;
        if data.is_empty() { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

/// What file system calls own or use, per sandbox.
pub struct FileServices {
    pub pipes: Arc<Pipes>,
    pub memfds: Arc<Memfds>,
    pub file_systems: Arc<dyn FileSystems>,
    pub(crate) lock_waits: LockWaits,
    pub(crate) buffers: Buffers,
}

impl FileServices {
    pub fn new(pipes: Arc<Pipes>, memfds: Arc<Memfds>, file_systems: Arc<dyn FileSystems>) -> FileServices {
        FileServices { pipes, memfds, file_systems, lock_waits: LockWaits::default(), buffers: Buffers::default() }
    }
}
