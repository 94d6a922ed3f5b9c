//! One file of the overlay.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use sentry_abi::{Errno, FileKind, Result};
use sentry_fs_tmpfs::TmpInode;
use sentry_vfs::{Attr, AttrChange, Caller, FileOps, Inode, InodeState, NewNode, OpenHow, RenameMode};

use crate::fs::Shared;
use crate::index::Key;
use crate::names::Names;
use crate::open::{OverlayDirectory, OverlayFile};

/// The lower side of a file, with what of its attributes never changes.
pub(crate) struct Lower {
    pub inode: Arc<dyn Inode>,
    pub key: Key,
    nlink: u32,
}

pub struct OverlayInode {
    me: Weak<OverlayInode>,
    pub(crate) shared: Arc<Shared>,
    kind: FileKind,
    pub(crate) ino: u64,
    pub(crate) lower: Option<Lower>,
    /// Attributes and, once they have been copied or written, contents.
    pub(crate) upper: OnceLock<Arc<TmpInode>>,
    /// Links beyond those of the lower; all of them for a file without lower.
    links: AtomicI64,
    /// Made by O_TMPFILE: may still get its first name.
    linkable: AtomicBool,
    /// No name leads here any more.
    gone: AtomicBool,
    /// Of a directory.
    pub(crate) names: Option<Names>,
    state: InodeState,
}

impl OverlayInode {
    /// For a lower file that nobody has seen yet.
    pub(crate) fn from_lower(shared: &Arc<Shared>, inode: Arc<dyn Inode>, attr: &Attr) -> Arc<OverlayInode> {
        let lower = Lower { inode, key: Key::of(attr), nlink: attr.nlink };
        OverlayInode::make(shared, attr.kind, attr.ino, Some(lower), OnceLock::new())
    }

    /// For a file that only the overlay has.
    pub(crate) fn from_upper(shared: &Arc<Shared>, upper: Arc<TmpInode>) -> Arc<OverlayInode> {
        OverlayInode::make(shared, upper.kind(), upper.ino(), None, OnceLock::from(upper))
    }

    fn make(shared: &Arc<Shared>, kind: FileKind, ino: u64, lower: Option<Lower>, upper: OnceLock<Arc<TmpInode>>) -> Arc<OverlayInode> {
        Arc::new_cyclic(|me| OverlayInode {
            me: me.clone(),
            shared: shared.clone(),
            kind,
            ino,
            lower,
            upper,
            links: AtomicI64::new(0),
            linkable: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            names: (kind == FileKind::Directory).then(Names::new),
            state: InodeState::default(),
        })
    }

    pub(crate) fn strong(&self) -> Result<Arc<OverlayInode>> {
        self.me.upgrade().ok_or(Errno::EIO)
    }

    pub(crate) fn weak(&self) -> Weak<OverlayInode> {
        self.me.clone()
    }

    pub(crate) fn of(inode: &Arc<dyn Inode>) -> Result<&OverlayInode> {
        inode.as_any().downcast_ref::<OverlayInode>().ok_or(Errno::EXDEV)
    }

    pub(crate) fn names(&self) -> Result<&Names> {
        self.names.as_ref().ok_or(Errno::ENOTDIR)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    pub(crate) fn nlink(&self) -> u32 {
        let links = self.links.load(Ordering::Relaxed);
        let base = self.lower.as_ref().map_or(0, |l| l.nlink);
        if self.is_dir() && base == 1 && !self.gone.load(Ordering::Relaxed) {
            // A lower that does not count its directories' links.
            return 1;
        }
        u32::try_from(i64::from(base) + links).unwrap_or(0)
    }

    pub(crate) fn relink(&self, delta: i64) {
        self.links.fetch_add(delta, Ordering::Relaxed);
        if self.nlink() > 0 {
            self.keep();
        }
    }

    /// Remembers the inode, since it differs from its lower.
    pub(crate) fn keep(&self) {
        if let (Some(lower), Some(me)) = (&self.lower, self.me.upgrade())
            && !self.gone.load(Ordering::Relaxed)
        {
            self.shared.index.keep(lower.key, me);
        }
    }

    /// The last name is gone.
    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.linkable.store(false, Ordering::Relaxed);
        if let (Some(lower), Some(me)) = (&self.lower, self.me.upgrade()) {
            self.shared.index.let_go(lower.key, &me);
        }
    }

    pub(crate) fn set_linkable(&self) {
        self.linkable.store(true, Ordering::Relaxed);
    }

    pub(crate) fn may_be_linked(&self) -> bool {
        self.nlink() > 0 || self.linkable.load(Ordering::Relaxed)
    }

    /// Status change now, if attributes are in the upper.
    pub(crate) fn touch_ctime(&self) {
        if let Some(upper) = self.upper.get() {
            upper.touch_ctime();
        }
    }

    pub(crate) fn touch_mtime(&self) {
        if let Some(upper) = self.upper.get() {
            upper.touch_mtime();
        }
    }

    /// The inode that holds the attributes.
    fn attributes(&self) -> Result<&dyn Inode> {
        match (self.upper.get(), &self.lower) {
            (Some(upper), _) => Ok(upper.as_ref()),
            (None, Some(lower)) => Ok(lower.inode.as_ref()),
            (None, None) => Err(Errno::EIO),
        }
    }

    /// The upper file once it has bytes; before, the bytes are the lower's.
    pub(crate) fn upper_with_bytes(&self) -> Option<&Arc<TmpInode>> {
        self.upper.get().filter(|u| u.contents().is_some())
    }

    fn open_file(self: Arc<Self>, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        if how.write {
            self.copy_up_bytes(None)?;
        }
        let inner = match (self.upper_with_bytes(), &self.lower) {
            (Some(upper), _) => upper.clone().open(how, caller)?,
            (None, Some(lower)) => lower.inode.clone().open(how, caller)?,
            (None, None) => return Err(Errno::EIO),
        };
        Ok(Arc::new(OverlayFile::new(self, inner)))
    }
}

impl Drop for OverlayInode {
    fn drop(&mut self) {
        if let Some(names) = &mut self.names {
            names.dismantle();
        }
    }
}

impl Inode for OverlayInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        let mut attr = self.attributes()?.attr()?;
        if let (Some(upper), Some(lower)) = (self.upper.get(), &self.lower) {
            let below = lower.inode.attr()?;
            attr.btime = below.btime;
            if self.kind != FileKind::Regular || upper.contents().is_none() {
                (attr.size, attr.blocks, attr.blksize) = (below.size, below.blocks, below.blksize);
            }
        }
        (attr.dev, attr.ino, attr.nlink) = (self.shared.store.device, self.ino, self.nlink());
        Ok(attr)
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        if change.size.is_some() {
            if self.kind != FileKind::Regular {
                return Err(if self.is_dir() { Errno::EISDIR } else { Errno::EINVAL });
            }
            self.copy_up_bytes(change.size)?;
        }
        self.copy_up()?.set_attr(change)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.child(name)?;
        Ok(found)
    }

    fn prefetch(&self, names: &[&[u8]]) {
        let (Some(lower), Some(own), Some(first)) = (&self.lower, &self.names, names.first()) else { return };
        if own.knows_nothing_of(first) {
            lower.inode.prefetch(names);
        }
    }

    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.make_room_for_new(name)?;
        let upper = TmpInode::new(&self.shared.store, node)?;
        let inode = OverlayInode::from_upper(&self.shared, upper);
        self.add_new(name, inode.clone())?;
        Ok(inode)
    }

    fn symlink(&self, name: &[u8], target: &[u8], uid: u32, gid: u32) -> Result<Arc<dyn Inode>> {
        self.make_room_for_new(name)?;
        let upper = TmpInode::new_link(&self.shared.store, target, uid, gid)?;
        let inode = OverlayInode::from_upper(&self.shared, upper);
        self.add_new(name, inode.clone())?;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.add_link(name, OverlayInode::of(target)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_file(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_dir(name)
    }

    fn rename(&self, name: &[u8], new_dir: &Arc<dyn Inode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        self.move_name(name, OverlayInode::of(new_dir)?, new_name, mode)
    }

    fn create_unnamed(&self, node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.names()?;
        let inode = OverlayInode::from_upper(&self.shared, TmpInode::new(&self.shared.store, node)?);
        inode.set_linkable();
        Ok(inode)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        match &self.lower {
            Some(lower) => lower.inode.read_link(),
            None => self.attributes()?.read_link(),
        }
    }

    fn open(self: Arc<Self>, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            FileKind::Regular => self.open_file(how, caller),
            FileKind::Directory => Ok(Arc::new(OverlayDirectory::new(self))),
            FileKind::Symlink => Err(Errno::ELOOP),
            // Never the lower's own: devices, pipes and sockets are the sentry's.
            _ => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.attributes()?.get_xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
        self.copy_up()?.set_xattr(name, value, create, replace)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.get_xattr(name)?;
        self.copy_up()?.remove_xattr(name)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        self.attributes()?.list_xattr()
    }
}
