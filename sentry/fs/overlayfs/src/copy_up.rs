//! Copying up: attributes first, bytes when needed.
//!
//! Without a lock: whoever is second throws its copy away. Nobody can have changed the first one's lower meanwhile, and nobody changes an upper
//! before it is in place.

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result};
use sentry_fs_tmpfs::{Contents, TmpInode};
use sentry_vfs::{Attr, FileOps, Inode, NewNode, OpenHow};

use crate::caller::Kernel;
use crate::inode::{Lower, OverlayInode};

/// Bytes copied at a time; a piece of zeros becomes a hole.
const CHUNK: usize = 128 * 1024;

pub(crate) const READ: OpenHow = OpenHow { read: true, write: false, truncated: false, nonblocking: false };

impl OverlayInode {
    /// The upper inode, made from the lower's attributes if there is none yet.
    pub(crate) fn copy_up(&self) -> Result<&Arc<TmpInode>> {
        if let Some(upper) = self.upper.get() {
            return Ok(upper);
        }
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        let attr = lower.inode.attr()?;
        let upper = self.new_upper(lower, &attr)?;
        copy_xattrs(&lower.inode, &upper)?;
        upper.set_all_times(attr.atime, attr.mtime, attr.ctime);
        self.keep();
        Ok(self.upper.get_or_init(|| upper))
    }

    fn new_upper(&self, lower: &Lower, attr: &Attr) -> Result<Arc<TmpInode>> {
        let store = &self.shared.store;
        let node = NewNode { kind: attr.kind, mode: attr.mode, uid: attr.uid, gid: attr.gid, rdev: attr.rdev };
        match attr.kind {
            FileKind::Regular => TmpInode::new_without_contents(store, &node),
            FileKind::Symlink => TmpInode::new_link(store, &lower.inode.read_link()?, attr.uid, attr.gid),
            _ => TmpInode::new(store, &node),
        }
    }

    /// Gives the upper file its bytes, at most the first `limit` of them (the file is about to be truncated to that).
    pub(crate) fn copy_up_bytes(&self, limit: Option<u64>) -> Result<()> {
        let upper = self.copy_up()?;
        if upper.contents().is_some() {
            return Ok(());
        }
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        let size = lower.inode.attr()?.size;
        let wanted = limit.map_or(size, |l| l.min(size));
        let contents = Contents::new(self.shared.store.clone());
        if wanted > 0 {
            let source = lower.inode.clone().open(&READ, &Kernel)?;
            copy_bytes(source.as_ref(), &contents, wanted)?;
        }
        upper.install(contents);
        Ok(())
    }
}

fn copy_bytes(source: &dyn FileOps, target: &Contents, size: u64) -> Result<()> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(size).unwrap_or(CHUNK))];
    let mut at = 0;
    while at < size {
        let most = buffer.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
        let n = source.read(&Kernel, at, &mut buffer[..most])?;
        if n == 0 {
            break;
        }
        let piece = &buffer[..n];
        if n < CHUNK || piece.iter().any(|b| *b != 0) {
            write_all(target, at, piece)?;
        }
        at += n as u64;
    }
    // Trailing holes.
    target.truncate(at)
}

fn write_all(target: &Contents, mut at: u64, mut piece: &[u8]) -> Result<()> {
    while !piece.is_empty() {
        let n = target.write(at, piece)?;
        if n == 0 {
            return Err(Errno::ENOSPC);
        }
        at += n as u64;
        piece = &piece[n..];
    }
    Ok(())
}

/// What the upper cannot hold (system.*) is left behind.
fn copy_xattrs(lower: &Arc<dyn Inode>, upper: &TmpInode) -> Result<()> {
    let names = match lower.list_xattr() {
        Ok(names) => names,
        Err(Errno::EOPNOTSUPP | Errno::EPERM) => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names {
        let value = match lower.get_xattr(&name) {
            Ok(value) => value,
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => continue,
            Err(e) => return Err(e),
        };
        match upper.set_xattr(&name, &value, false, false) {
            Ok(()) | Err(Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
