//! One file of a tmpfs, whatever its kind.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};

use sentry_abi::{Errno, FileKind, Mode, Result, Timespec};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Attr, AttrChange, Caller, FileOps, Inode, InodeState, NewNode, OpenHow, RenameMode, TimeChange};

use crate::contents::{Contents, seal};
use crate::dir::{DIRENT_SIZE, Dir};
use crate::open::{TmpDirectory, TmpFile};
use crate::store::Store;

/// Attributes that change.
pub(crate) struct Meta {
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    pub xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Made without a name (O_TMPFILE): may get one although it has none.
    pub linkable: bool,
}

pub(crate) enum Body {
    /// Empty until [`TmpInode::install`] for what overlayfs copies up in two steps.
    File(OnceLock<Contents>),
    Dir(Dir),
    Link(Box<[u8]>),
    /// FIFO, socket, device: others give it life.
    Special,
}

pub struct TmpInode {
    me: Weak<TmpInode>,
    pub(crate) store: Arc<Store>,
    pub(crate) ino: u64,
    kind: FileKind,
    rdev: u64,
    btime: Timespec,
    state: InodeState,
    pub(crate) meta: Mutex<Meta>,
    pub(crate) body: Body,
}

impl TmpInode {
    /// A node without a name, its link count 0. Of kind symlink only through [`TmpInode::new_link`]. `ENOSPC`.
    pub fn new(store: &Arc<Store>, node: &NewNode) -> Result<Arc<TmpInode>> {
        let body = match node.kind {
            FileKind::Regular => Body::File(OnceLock::from(Contents::new(store.clone()))),
            FileKind::Directory => Body::Dir(Dir::new()),
            FileKind::Symlink => return Err(Errno::EINVAL),
            _ => Body::Special,
        };
        TmpInode::make(store, node, body)
    }

    /// A regular file whose contents come later, by [`TmpInode::install`].
    pub fn new_without_contents(store: &Arc<Store>, node: &NewNode) -> Result<Arc<TmpInode>> {
        TmpInode::make(store, node, Body::File(OnceLock::new()))
    }

    pub fn new_link(store: &Arc<Store>, target: &[u8], uid: u32, gid: u32) -> Result<Arc<TmpInode>> {
        let node = NewNode { kind: FileKind::Symlink, mode: Mode(0o777), uid, gid, rdev: 0 };
        TmpInode::make(store, &node, Body::Link(target.into()))
    }

    pub(crate) fn new_sealable(store: &Arc<Store>, node: &NewNode, seals: u32) -> Result<Arc<TmpInode>> {
        TmpInode::make(store, node, Body::File(OnceLock::from(Contents::with_seals(store.clone(), seals))))
    }

    fn make(store: &Arc<Store>, node: &NewNode, body: Body) -> Result<Arc<TmpInode>> {
        store.limits.take_inode()?;
        let now = store.now();
        let meta = Meta {
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: 0,
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: BTreeMap::new(),
            linkable: false,
        };
        Ok(Arc::new_cyclic(|me| TmpInode {
            me: me.clone(),
            store: store.clone(),
            ino: store.next_ino(),
            kind: node.kind,
            rdev: node.rdev,
            btime: now,
            state: InodeState::default(),
            meta: Mutex::new(Level::InodeChild, meta),
            body,
        }))
    }

    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// The bytes of a regular file, `None` for other kinds and before [`TmpInode::install`].
    pub fn contents(&self) -> Option<&Contents> {
        match &self.body {
            Body::File(contents) => contents.get(),
            _ => None,
        }
    }

    /// Gives a file made without contents its contents; what was there first stays.
    pub fn install(&self, contents: Contents) {
        if let Body::File(cell) = &self.body {
            let _ = cell.set(contents);
        }
    }

    /// Sets all three times as they are, for a copy of another file.
    pub fn set_all_times(&self, atime: Timespec, mtime: Timespec, ctime: Timespec) {
        let mut meta = self.meta.lock();
        (meta.atime, meta.mtime, meta.ctime) = (atime, mtime, ctime);
    }

    /// Status change now.
    pub fn touch_ctime(&self) {
        let now = self.store.now();
        self.meta.lock().ctime = now;
    }

    /// Contents and status changed now.
    pub fn touch_mtime(&self) {
        let now = self.store.now();
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (now, now);
    }

    /// Read now: relatime, as every mount has it by default.
    pub fn touch_atime(&self) {
        const DAY: i64 = 24 * 3600;
        let now = self.store.now();
        let mut meta = self.meta.lock();
        if meta.atime <= meta.mtime || meta.atime <= meta.ctime || now.sec.saturating_sub(meta.atime.sec) >= DAY {
            meta.atime = now;
        }
    }

    /// After a write by `caller`: times, and no privileges left in the mode of what somebody else may have written.
    pub(crate) fn written(&self, caller: &dyn Caller) {
        let now = self.store.now();
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (now, now);
        if meta.mode.0 & (Mode::SET_UID | Mode::SET_GID) != 0 {
            drop(meta);
            self.drop_set_ids(caller);
            meta = self.meta.lock();
        }
        // A capability of the file is a privilege as well.
        meta.xattrs.remove(b"security.capability".as_slice());
    }

    fn drop_set_ids(&self, caller: &dyn Caller) {
        let who = caller.credentials();
        if who.has(sentry_auth::Caps::FSETID) {
            return;
        }
        if let Ok(attr) = self.attr() {
            self.meta.lock().mode = sentry_vfs::without_set_ids(&who, &attr);
        }
    }

    pub(crate) fn dir(&self) -> Result<&Dir> {
        match &self.body {
            Body::Dir(dir) => Ok(dir),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn strong(&self) -> Result<Arc<TmpInode>> {
        self.me.upgrade().ok_or(Errno::EIO)
    }

    pub(crate) fn of(inode: &Arc<dyn Inode>) -> Result<&TmpInode> {
        inode.as_any().downcast_ref::<TmpInode>().ok_or(Errno::EXDEV)
    }

    /// Changes the link count; the status time follows.
    pub(crate) fn relink(&self, delta: i32) {
        let now = self.store.now();
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(delta);
        meta.ctime = now;
    }

    fn check_mode_change(&self, mode: Mode) -> Result<()> {
        let Some(contents) = self.contents() else { return Ok(()) };
        if contents.seals() & seal::EXEC != 0 && (mode.0 ^ self.meta.lock().mode.0) & 0o111 != 0 { Err(Errno::EPERM) } else { Ok(()) }
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        self.store.limits.give_back_inode();
        if let Body::Dir(dir) = &mut self.body {
            dir.dismantle();
        }
    }
}

impl Inode for TmpInode {
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
        let (size, blocks) = match &self.body {
            Body::File(contents) => contents.get().map_or((0, 0), |c| (c.size(), c.blocks())),
            Body::Dir(dir) => (DIRENT_SIZE * (dir.len() + 2), 0),
            Body::Link(target) => (target.len() as u64, 0),
            Body::Special => (0, 0),
        };
        let meta = self.meta.lock();
        Ok(Attr {
            dev: self.store.device,
            ino: self.ino,
            kind: self.kind,
            anonymous: false,
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev: self.rdev,
            size,
            blocks,
            blksize: 4096,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: Some(self.btime),
        })
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        if let Some(mode) = change.mode {
            self.check_mode_change(mode)?;
        }
        if let Some(size) = change.size {
            match &self.body {
                Body::File(contents) => contents.get().ok_or(Errno::EIO)?.truncate(size)?,
                Body::Dir(_) => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
        }
        let now = self.store.now();
        let at = |t: TimeChange| match t {
            TimeChange::Now => now,
            TimeChange::At(time) => time,
        };
        let mut meta = self.meta.lock();
        meta.mode = change.mode.unwrap_or(meta.mode);
        meta.uid = change.uid.unwrap_or(meta.uid);
        meta.gid = change.gid.unwrap_or(meta.gid);
        if change.size.is_some() {
            meta.mtime = now;
        }
        meta.atime = change.atime.map_or(meta.atime, at);
        meta.mtime = change.mtime.map_or(meta.mtime, at);
        meta.ctime = now;
        if change.uid.is_some() || change.gid.is_some() || change.size.is_some() {
            meta.xattrs.remove(b"security.capability".as_slice());
        }
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.dir()?.get(name).ok_or(Errno::ENOENT)?;
        Ok(found)
    }

    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.dir()?;
        let inode = TmpInode::new(&self.store, node)?;
        self.add_new(name, inode.clone())?;
        Ok(inode)
    }

    fn symlink(&self, name: &[u8], target: &[u8], uid: u32, gid: u32) -> Result<Arc<dyn Inode>> {
        self.dir()?;
        let inode = TmpInode::new_link(&self.store, target, uid, gid)?;
        self.add_new(name, inode.clone())?;
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.add_link(name, TmpInode::of(target)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_file(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_dir(name)
    }

    fn rename(&self, name: &[u8], new_dir: &Arc<dyn Inode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        self.move_name(name, TmpInode::of(new_dir)?, new_name, mode)
    }

    fn create_unnamed(&self, node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.dir()?;
        let inode = TmpInode::new(&self.store, node)?;
        inode.meta.lock().linkable = true;
        Ok(inode)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Link(target) => {
                self.touch_atime();
                Ok(target.to_vec())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        match self.body {
            Body::File(_) => Ok(Arc::new(TmpFile::new(self)?)),
            Body::Dir(_) => Ok(Arc::new(TmpDirectory::new(self))),
            Body::Link(_) => Err(Errno::ELOOP),
            Body::Special => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.xattr_get(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
        self.xattr_set(name, value, create, replace)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.xattr_remove(name)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.meta.lock().xattrs.keys().map(|k| k.to_vec()).collect())
    }
}
