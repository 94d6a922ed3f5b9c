//! Files that are nothing but memory, each with a description that can only read it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use gofer_proto::{Access, MAX_MEMORY_FILES, MemoryFiles};
use rustix::fs::{AtFlags, Mode};
use sentry_abi::{Errno, Result};

use crate::Gofer;
use crate::host::{self, Submounts, errno};

/// Where such files are made.
pub(crate) struct Memory {
    dir: OwnedFd,
    next: AtomicU64,
}

impl Memory {
    pub fn new(dir: OwnedFd) -> Memory {
        Memory { dir, next: AtomicU64::new(0) }
    }

    /// Adds the two descriptions of a new file to `files`. The name lives only for as long as that takes.
    fn make(&self, files: &mut Vec<OwnedFd>) -> Result<()> {
        let name = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let write = host::create_regular(self.dir.as_fd(), name.as_bytes(), Access::ReadWrite)?;
        let read = rustix::fs::fchmod(&write, Mode::RUSR | Mode::WUSR)
            .map_err(errno)
            .and_then(|()| host::open_regular(self.dir.as_fd(), name.as_bytes(), Access::Read, Submounts::Refuse));
        rustix::fs::unlinkat(&self.dir, name.as_bytes(), AtFlags::empty()).map_err(errno)?;
        files.extend([write, read?.0]);
        Ok(())
    }
}

impl Gofer {
    pub(crate) fn memory_files(&self, call: &MemoryFiles) -> Result<Vec<OwnedFd>> {
        let memory = self.memory.as_ref().ok_or(Errno::EOPNOTSUPP)?;
        let count = usize::try_from(call.count).ok().filter(|n| (1..=MAX_MEMORY_FILES).contains(n)).ok_or(Errno::EINVAL)?;
        let mut files = Vec::with_capacity(2 * count);
        for _ in 0..count {
            memory.make(&mut files)?;
        }
        Ok(files)
    }
}
