//! Donated descriptors: kept with their inode while it is known, so that a second open costs no message; bounded per file system.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use gofer_proto::Access;
use sentry_abi::{Errno, Result};
use sentry_sync::{Level, Mutex};

use crate::inode::GoferInode;

/// Descriptors beyond this many are given up when their file is not open.
const IDLE: usize = 4096;
/// How many owners are looked at when one has to give up.
const LOOK: usize = 64;

/// Counts one held descriptor.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Donated {
    fd: Arc<OwnedFd>,
    _held: Held,
}

/// The descriptors of one file.
#[derive(Default)]
pub(crate) struct Files {
    read: Option<Donated>,
    write: Option<Donated>,
}

impl Files {
    fn slot(&mut self, access: Access) -> &mut Option<Donated> {
        match access {
            Access::Read => &mut self.read,
            Access::ReadWrite => &mut self.write,
        }
    }

    /// A description with exactly that access.
    pub fn exact(&self, access: Access) -> Option<Arc<OwnedFd>> {
        let slot = match access {
            Access::Read => &self.read,
            Access::ReadWrite => &self.write,
        };
        slot.as_ref().map(|donated| Arc::clone(&donated.fd))
    }

    /// One that allows that access.
    pub fn enough(&self, access: Access) -> Option<Arc<OwnedFd>> {
        match access {
            Access::Read => self.exact(Access::Read).or_else(|| self.exact(Access::ReadWrite)),
            Access::ReadWrite => self.exact(Access::ReadWrite),
        }
    }

    /// Those that nobody else uses.
    fn take_idle(&mut self) -> (Option<Donated>, Option<Donated>) {
        let idle = |donated: &Donated| Arc::strong_count(&donated.fd) == 1;
        (self.read.take_if(|d| idle(d)), self.write.take_if(|d| idle(d)))
    }
}

/// How many descriptors a file system holds, and who holds them, in the order in which they came.
pub(crate) struct FileCache {
    held: Arc<AtomicUsize>,
    max: usize,
    owners: Mutex<VecDeque<Weak<GoferInode>>>,
}

impl FileCache {
    pub fn new(max: usize) -> FileCache {
        FileCache { held: Arc::new(AtomicUsize::new(0)), max, owners: Mutex::new(Level::InodeState, VecDeque::new()) }
    }

    /// Makes room for one more. `ENFILE` when all are in use.
    pub fn make_room(&self) -> Result<()> {
        if self.held.load(Ordering::Relaxed) >= IDLE.min(self.max) {
            self.shrink();
        }
        if self.held.load(Ordering::Relaxed) >= self.max { Err(Errno::ENFILE) } else { Ok(()) }
    }

    fn shrink(&self) {
        let mut looked = 0;
        while looked < LOOK {
            let Some(owner) = self.owners.lock().pop_front() else { return };
            // One that is gone has given up already, and is out of the queue now.
            let Some(inode) = owner.upgrade() else { continue };
            if inode.give_up_idle_files() {
                return;
            }
            self.owners.lock().push_back(owner);
            looked += 1;
        }
    }

    /// Keeps `fd` with the inode; one that came first stays and is returned instead.
    pub fn keep(&self, owner: &Weak<GoferInode>, files: &Mutex<Files>, access: Access, fd: OwnedFd) -> Arc<OwnedFd> {
        self.held.fetch_add(1, Ordering::Relaxed);
        let donated = Donated { fd: Arc::new(fd), _held: Held(Arc::clone(&self.held)) };
        let kept = {
            let mut files = files.lock();
            let slot = files.slot(access);
            if let Some(first) = slot {
                return Arc::clone(&first.fd);
            }
            Arc::clone(&slot.insert(donated).fd)
        };
        self.owners.lock().push_back(Weak::clone(owner));
        kept
    }
}

impl GoferInode {
    /// Gives up descriptors that nobody uses. Whether it had any.
    pub(crate) fn give_up_idle_files(&self) -> bool {
        let (read, write) = self.files.lock().take_idle();
        if write.is_some() {
            // From now on only the gofer knows what was written through it.
            self.attr_is_stale();
        }
        read.is_some() || write.is_some()
    }

    /// A description that allows `access`; by message if there is none yet.
    pub(crate) fn file(&self, access: Access) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.files.lock().enough(access) {
            return Ok(fd);
        }
        self.fetch_file(access)
    }

    /// A description with exactly that access, to be mapped. Of a file without a name only what is at hand can be had.
    pub(crate) fn file_to_map(&self, access: Access) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.files.lock().exact(access) {
            return Ok(fd);
        }
        match self.fetch_file(access) {
            Err(Errno::ESTALE) => self.files.lock().enough(access).ok_or(Errno::ESTALE),
            other => other,
        }
    }

    fn fetch_file(&self, access: Access) -> Result<Arc<OwnedFd>> {
        self.shared.files.make_room()?;
        let fd = self.open_by_message(access)?;
        if access == Access::ReadWrite {
            self.changing();
        }
        Ok(self.keep_file(access, fd))
    }

    pub(crate) fn keep_file(&self, access: Access, fd: OwnedFd) -> Arc<OwnedFd> {
        self.shared.files.keep(&self.this, &self.files, access, fd)
    }
}
