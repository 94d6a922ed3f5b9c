//! Open files and directories.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result};
use sentry_memory::Mapping;
use sentry_vfs::{Caller, DirEntry, FileOps, Seek};

use crate::contents::Contents;
use crate::dir::FIRST_COOKIE;
use crate::inode::{Body, TmpInode};

/// An open regular file.
pub(crate) struct TmpFile {
    inode: Arc<TmpInode>,
}

impl TmpFile {
    pub fn new(inode: Arc<TmpInode>) -> Result<TmpFile> {
        if inode.contents().is_none() {
            return Err(Errno::EIO);
        }
        Ok(TmpFile { inode })
    }

    fn contents(&self) -> Result<&Contents> {
        self.inode.contents().ok_or(Errno::EIO)
    }

    pub fn inode(&self) -> &Arc<TmpInode> {
        &self.inode
    }
}

impl FileOps for TmpFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Offset
    }

    fn read(&self, _: &dyn Caller, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let n = self.contents()?.read(offset, dst)?;
        self.inode.touch_atime();
        Ok(n)
    }

    fn write(&self, caller: &dyn Caller, offset: u64, src: &[u8]) -> Result<usize> {
        let n = self.contents()?.write(offset, src)?;
        self.inode.written(caller);
        Ok(n)
    }

    fn append(&self, caller: &dyn Caller, src: &[u8]) -> Result<(usize, u64)> {
        let done = self.contents()?.append(src)?;
        self.inode.written(caller);
        Ok(done)
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.contents()?.truncate(len)?;
        self.inode.touch_mtime();
        Ok(())
    }

    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        self.contents()?.allocate(mode, offset, len)?;
        self.inode.touch_mtime();
        Ok(())
    }

    fn seek_data_or_hole(&self, offset: u64, hole: bool) -> Result<u64> {
        self.contents()?.seek_data_or_hole(offset, hole)
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn mapping(&self, write: bool) -> Result<Mapping> {
        self.contents()?.mapping(write, (self.inode.store.device, self.inode.ino()))
    }
}

/// An open directory.
pub(crate) struct TmpDirectory {
    inode: Arc<TmpInode>,
}

/// Entries taken out under the lock at a time.
const BATCH: usize = 64;

impl TmpDirectory {
    pub fn new(inode: Arc<TmpInode>) -> TmpDirectory {
        TmpDirectory { inode }
    }
}

impl FileOps for TmpDirectory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Directory
    }

    fn iterate(&self, _: &dyn Caller, from: u64, emit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let Body::Dir(dir) = &self.inode.body else { return Err(Errno::ENOTDIR) };
        dir.alive()?;
        self.inode.touch_atime();
        let mut at = from;
        while at < FIRST_COOKIE {
            let (name, ino) = match at {
                0 => (b".".as_slice(), self.inode.ino()),
                _ => (b"..".as_slice(), dir.parent().map_or(self.inode.ino(), |p| p.ino())),
            };
            at += 1;
            if emit(&DirEntry { name, ino, kind: FileKind::Directory, next: at }).is_break() {
                return Ok(());
            }
        }
        loop {
            let batch = dir.list(at, BATCH);
            let Some(last) = batch.last() else { return Ok(()) };
            at = last.next;
            for entry in &batch {
                if emit(&DirEntry { name: &entry.name, ino: entry.ino, kind: entry.kind, next: entry.next }).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }
}
