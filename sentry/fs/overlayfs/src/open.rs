//! Open files and directories of the overlay.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use sentry_abi::{Errno, FileKind, Result};
use sentry_memory::{MapLabel, Mapping};
use sentry_sync::{Events, Waiter};
use sentry_vfs::{Caller, DirEntry, FileOps, Seek, StatusFlags};

use crate::copy_up::READ;
use crate::inode::OverlayInode;

/// An open regular file: the lower's or the upper's, under the overlay's identity.
pub(crate) struct OverlayFile {
    inode: Arc<OverlayInode>,
    inner: Arc<dyn FileOps>,
}

/// The identity of a mapping; the inner label lives as long (a tmpfs counts its writable mappings by it).
struct Label {
    id: (u64, u64),
    inner: Arc<dyn MapLabel>,
}

impl MapLabel for Label {
    fn path(&self) -> Option<Vec<u8>> {
        self.inner.path()
    }

    fn id(&self) -> (u64, u64) {
        self.id
    }
}

impl OverlayFile {
    pub fn new(inode: Arc<OverlayInode>, inner: Arc<dyn FileOps>) -> OverlayFile {
        OverlayFile { inode, inner }
    }
}

impl FileOps for OverlayFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        self.inner.seek_kind()
    }

    fn read(&self, caller: &dyn Caller, offset: u64, dst: &mut [u8]) -> Result<usize> {
        self.inner.read(caller, offset, dst)
    }

    fn write(&self, caller: &dyn Caller, offset: u64, src: &[u8]) -> Result<usize> {
        self.inner.write(caller, offset, src)
    }

    fn append(&self, caller: &dyn Caller, src: &[u8]) -> Result<(usize, u64)> {
        self.inner.append(caller, src)
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        self.inner.ready(want, waiter)
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.inner.truncate(len)
    }

    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        self.inner.allocate(mode, offset, len)
    }

    fn seek_data_or_hole(&self, offset: u64, hole: bool) -> Result<u64> {
        self.inner.seek_data_or_hole(offset, hole)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.inner.sync(data_only)
    }

    fn mapping(&self, write: bool) -> Result<Mapping> {
        let inner = self.inner.mapping(write)?;
        let id = (self.inode.shared.store.device, self.inode.ino);
        let label = Arc::new(Label { id, inner: inner.label });
        Ok(Mapping { fd: inner.fd, max_prot: inner.max_prot, label, resident: inner.resident })
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        self.inner.ioctl(caller, command, argument)
    }

    fn status_changed(&self, flags: StatusFlags) {
        self.inner.status_changed(flags);
    }
}

/// A name of the lower directory.
struct LowerEntry {
    name: Box<[u8]>,
    ino: u64,
    kind: FileKind,
}

/// An open directory. Cookies: 0 and 1 before "." and "..", then the lower's names in the lower's order, then from [`OWN`] on the overlay's own in the
/// order of their making. The lower's list is taken once; it cannot change.
pub(crate) struct OverlayDirectory {
    inode: Arc<OverlayInode>,
    lower: OnceLock<Vec<LowerEntry>>,
}

/// First cookie of own entries.
const OWN: u64 = 1 << 62;
/// First cookie of the lower's names.
const LOWER: u64 = 2;
const BATCH: usize = 64;

type Emit<'a> = &'a mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>;

impl OverlayDirectory {
    pub fn new(inode: Arc<OverlayInode>) -> OverlayDirectory {
        OverlayDirectory { inode, lower: OnceLock::new() }
    }

    fn lower(&self, caller: &dyn Caller) -> Result<&[LowerEntry]> {
        if let Some(list) = self.lower.get() {
            return Ok(list);
        }
        let mut list = Vec::new();
        if let Some(lower) = &self.inode.lower {
            let open = lower.inode.clone().open(&READ, caller)?;
            open.iterate(caller, 0, &mut |entry| {
                if entry.name != b"." && entry.name != b".." {
                    list.push(LowerEntry { name: entry.name.into(), ino: entry.ino, kind: entry.kind });
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(self.lower.get_or_init(|| list))
    }

    fn emit_dots(&self, from: u64, emit: Emit<'_>) -> ControlFlow<()> {
        let names = self.inode.names.as_ref();
        for at in from..LOWER {
            let (name, ino) = match at {
                0 => (b".".as_slice(), self.inode.ino),
                _ => (b"..".as_slice(), names.and_then(|n| n.parent()).map_or(self.inode.ino, |p| p.ino)),
            };
            emit(&DirEntry { name, ino, kind: FileKind::Directory, next: at + 1 })?;
        }
        ControlFlow::Continue(())
    }

    fn emit_lower(&self, list: &[LowerEntry], from: u64, emit: Emit<'_>) -> Result<ControlFlow<()>> {
        let names = self.inode.names()?;
        let skip = usize::try_from(from.saturating_sub(LOWER)).unwrap_or(usize::MAX);
        for (index, entry) in list.iter().enumerate().skip(skip) {
            let next = if index + 1 == list.len() { OWN } else { LOWER + index as u64 + 1 };
            if !names.knows_nothing_of(&entry.name) {
                continue;
            }
            if emit(&DirEntry { name: &entry.name, ino: entry.ino, kind: entry.kind, next }).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl FileOps for OverlayDirectory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Directory
    }

    fn iterate(&self, caller: &dyn Caller, from: u64, emit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let names = self.inode.names()?;
        if names.is_dead() {
            return Err(Errno::ENOENT);
        }
        if self.emit_dots(from, emit).is_break() {
            return Ok(());
        }
        if from < OWN {
            let list = self.lower(caller)?;
            if self.emit_lower(list, from, emit)?.is_break() {
                return Ok(());
            }
        }
        let mut at = from.saturating_sub(OWN);
        loop {
            let batch = names.list(at, BATCH);
            let Some(last) = batch.last() else { return Ok(()) };
            at = last.next;
            for entry in &batch {
                if emit(&DirEntry { name: &entry.name, ino: entry.ino, kind: entry.kind, next: OWN + entry.next }).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }
}
