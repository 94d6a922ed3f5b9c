//! An open regular file: every operation is a host call on the donated descriptor.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gofer_proto::Access;
use rustix::fs::{FallocateFlags, SeekFrom};
use sentry_abi::{Errno, FileKind, Result};
use sentry_memory::{MapLabel, Mapping};
use sentry_platform::Prot;
use sentry_vfs::{Attr, Caller, FileOps, Seek};

use crate::inode::{GoferInode, host};

pub(crate) struct GoferFile {
    inode: Arc<GoferInode>,
    fd: Arc<OwnedFd>,
    access: Access,
}

impl GoferFile {
    /// `fd` allows at least `access`.
    pub fn new(inode: Arc<GoferInode>, fd: Arc<OwnedFd>, access: Access) -> GoferFile {
        GoferFile { inode, fd, access }
    }

    fn must_be_writable(&self) -> Result<()> {
        if self.access == Access::ReadWrite { Ok(()) } else { Err(Errno::EBADF) }
    }
}

/// As what a mapping is shown; it also keeps the inode, and so its identity, as long as the mapping is there.
struct Label(Arc<GoferInode>);

impl MapLabel for Label {
    fn path(&self) -> Option<Vec<u8>> {
        None
    }

    fn id(&self) -> (u64, u64) {
        (self.0.shared.device, self.0.shared.guest_ino(self.0.id.dev, self.0.id.ino))
    }
}

impl FileOps for GoferFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Offset
    }

    fn read(&self, _: &dyn Caller, offset: u64, dst: &mut [u8]) -> Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::pread(&self.fd, &mut *dst, offset)).map_err(host)
    }

    fn write(&self, _: &dyn Caller, offset: u64, src: &[u8]) -> Result<usize> {
        self.must_be_writable()?;
        rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.fd, src, offset)).map_err(host)
    }

    fn append(&self, _: &dyn Caller, src: &[u8]) -> Result<(usize, u64)> {
        self.must_be_writable()?;
        // One at a time here; in a shared tree others may write at the end meanwhile, as over any network file system.
        let _guard = self.inode.append.lock();
        let stat = rustix::fs::fstat(&self.fd).map_err(host)?;
        let end = u64::try_from(stat.st_size).unwrap_or(0);
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.fd, src, end)).map_err(host)?;
        Ok((written, end.saturating_add(written as u64)))
    }

    fn attr(&self) -> Option<Result<Attr>> {
        // A description that is open answers for its file, also one that has lost its name.
        if self.inode.is_exclusive() && self.access == Access::Read {
            return None;
        }
        Some(self.inode.attr_of(&self.fd).map(|attr| self.inode.shared.guest_attr(&attr, FileKind::Regular)))
    }

    fn truncate(&self, len: u64) -> Result<()> {
        if self.access != Access::ReadWrite {
            return Err(Errno::EINVAL);
        }
        rustix::fs::ftruncate(&self.fd, len).map_err(host)
    }

    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        self.must_be_writable()?;
        let flags = FallocateFlags::from_bits(mode.cast_unsigned()).ok_or(Errno::EOPNOTSUPP)?;
        rustix::fs::fallocate(&self.fd, flags, offset, len).map_err(host)
    }

    fn seek_data_or_hole(&self, offset: u64, hole: bool) -> Result<u64> {
        // The donated description's own position is used for nothing else.
        let to = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        rustix::fs::seek(&self.fd, to).map_err(host)
    }

    fn sync(&self, _: bool) -> Result<()> {
        if self.access == Access::Read && self.inode.is_exclusive() {
            return Ok(());
        }
        rustix::fs::fsync(&self.fd).map_err(host)
    }

    fn mapping(&self, write: bool) -> Result<Mapping> {
        if write {
            self.must_be_writable()?;
        }
        let access = if write { Access::ReadWrite } else { Access::Read };
        let fd = self.inode.file_to_map(access)?;
        let mut max_prot = Prot::READ | Prot::EXEC;
        if write {
            max_prot |= Prot::WRITE;
        }
        Ok(Mapping { fd, max_prot, label: Arc::new(Label(Arc::clone(&self.inode))), resident: false })
    }
}

impl Drop for GoferFile {
    fn drop(&mut self) {
        if self.access == Access::ReadWrite {
            // What was written is known to the host; the next to ask asks it.
            self.inode.attr_is_stale();
        }
    }
}
