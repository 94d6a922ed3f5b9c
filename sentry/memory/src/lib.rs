//! Memory that the sentry owns and guests may map: memfds with their read-only twins, and [`Mapping`], what a file gives to whoever maps it.
//!
//! `mm` and `vfs` do not see each other; both speak of [`Mapping`].

mod file;

pub use file::{FileSource, MemFile, MemfdSource, Pair};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use sentry_platform::Prot;

/// What a mapped file is called in /proc/pid/maps.
pub trait MapLabel: Send + Sync {
    /// The path as the guest would see it, `None` for memory without a name.
    fn path(&self) -> Option<Vec<u8>>;
    /// Device and inode number.
    fn id(&self) -> (u64, u64);
}

/// What a file gives to be mapped: a host description with exactly the rights that the guest may ever have on it.
#[derive(Clone)]
pub struct Mapping {
    pub fd: Arc<OwnedFd>,
    /// The most that a mapping may ever allow (VM_MAY*). For a shared mapping WRITE only if the guest opened it for writing.
    pub max_prot: Prot,
    pub label: Arc<dyn MapLabel>,
    /// The file's pages are in memory: to map them waits for nothing.
    pub resident: bool,
}

impl Mapping {
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
