//! One file of the tree: what is known of it, and how to ask for more.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use gofer_client::Node;
use gofer_proto::{self as proto, Access, Rights, SpecialKind, Target, XattrMode, XattrName, XattrValue};
use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Attr, AttrChange, Caller, FileOps, Inode, InodeState, NewNode, OpenHow, RenameMode};

use crate::dir::DirState;
use crate::file::GoferFile;
use crate::files::Files;
use crate::listing::GoferDir;
use crate::origin::{Origin, Place};
use crate::table::{Entry, HostId};
use crate::{FRESH, Shared, Sharing, convert};

struct Known {
    attr: proto::Attr,
    at: Instant,
    stale: bool,
}

pub(crate) struct GoferInode {
    pub shared: Arc<Shared>,
    pub this: Weak<GoferInode>,
    pub id: HostId,
    kind: FileKind,
    target: Option<Target>,
    pub origin: Mutex<Origin>,
    known: Mutex<Known>,
    pub files: Mutex<Files>,
    /// Of directories.
    pub dir: Option<Box<Mutex<DirState>>>,
    /// Held over finding the end and writing there.
    pub append: Mutex<()>,
    /// In an exclusive tree: the file is known to have no extended attributes.
    no_xattrs: AtomicBool,
    state: InodeState,
}

impl Shared {
    /// The inode of a file that the gofer found, with the node that it made.
    pub(crate) fn intern(
        self: &Arc<Self>,
        node: Node,
        attr: proto::Attr,
        found: Option<(Place, Option<Target>)>,
    ) -> Result<Arc<GoferInode>> {
        let (place, target) = found.unzip();
        self.intern_origin(Origin::new(Some(Arc::new(node)), place), attr, target.flatten())
    }

    /// The same for one of which only the name is known.
    pub(crate) fn intern_origin(self: &Arc<Self>, origin: Origin, attr: proto::Attr, target: Option<Target>) -> Result<Arc<GoferInode>> {
        let kind = FileKind::from_mode(attr.mode).ok_or(Errno::EIO)?;
        let id = HostId::from(&attr);
        let at = Instant::now();
        let make = || {
            let first = Origin::new(origin.node.clone(), origin.place.clone());
            GoferInode::new(self, id, kind, target.clone(), first, Known { attr, at, stale: false })
        };
        let (inode, entry) = self.table.get_or_insert(id, make);
        if entry == Entry::Old {
            if inode.kind != kind {
                return Err(Errno::ESTALE);
            }
            inode.found_again(origin, attr, at);
        }
        Ok(inode)
    }
}

impl GoferInode {
    fn new(shared: &Arc<Shared>, id: HostId, kind: FileKind, target: Option<Target>, origin: Origin, known: Known) -> Arc<GoferInode> {
        Arc::new_cyclic(|this| GoferInode {
            shared: Arc::clone(shared),
            this: Weak::clone(this),
            id,
            kind,
            target,
            origin: Mutex::new(Level::Leaf, origin),
            known: Mutex::new(Level::Leaf, known),
            files: Mutex::new(Level::Leaf, Files::default()),
            dir: (kind == FileKind::Directory).then(|| Box::new(Mutex::new(Level::Dentry, DirState::new()))),
            append: Mutex::new(Level::Inode, ()),
            no_xattrs: AtomicBool::new(false),
            state: InodeState::default(),
        })
    }

    /// A newer node or place replaces the older: its name was there a moment ago.
    fn found_again(&self, new: Origin, attr: proto::Attr, at: Instant) {
        let old = {
            let mut origin = self.origin.lock();
            if new.node.is_some() || origin.node.is_none() { Some(origin.renew(new)) } else { None }
        };
        drop(old);
        self.learn(attr, at);
    }

    fn learn(&self, attr: proto::Attr, at: Instant) {
        *self.known.lock() = Known { attr, at, stale: false };
    }

    pub(crate) fn learn_now(&self, attr: proto::Attr) {
        self.learn(attr, Instant::now());
    }

    pub(crate) fn attr_is_stale(&self) {
        self.known.lock().stale = true;
    }

    pub(crate) fn is_exclusive(&self) -> bool {
        self.shared.sharing == Sharing::Exclusive
    }

    pub(crate) fn has_node(&self) -> bool {
        self.origin.lock().node.is_some()
    }

    /// The gofer's node; by message if only a name is known.
    pub(crate) fn node(&self) -> Result<Arc<Node>> {
        Ok(self.node_and_file(None)?.0)
    }

    fn node_and_file(&self, open: Option<Access>) -> Result<(Arc<Node>, Option<OwnedFd>)> {
        loop {
            let (node, place) = {
                let origin = self.origin.lock();
                (origin.node.clone(), origin.place.clone())
            };
            if let Some(node) = node {
                return Ok((node, None));
            }
            let place = place.ok_or(Errno::ESTALE)?;
            let mut walked = self.shared.client.walk(&*place.parent.node()?, vec![place.name.clone()], open)?;
            if let Some(found) = walked.found.pop().filter(|found| HostId::from(&found.attr) == self.id) {
                let node = Arc::new(found.node);
                self.origin.lock().node = Some(Arc::clone(&node));
                return Ok((node, walked.file));
            }
            // Somebody else has taken the name; one less to try.
            let lost = self.origin.lock().lose(&place.parent, place.name.as_bytes());
            drop(lost);
        }
    }

    /// A new description, in one message also where only a name was known.
    pub(crate) fn open_by_message(&self, access: Access) -> Result<OwnedFd> {
        let (node, file) = self.node_and_file(Some(access))?;
        match file {
            Some(file) => Ok(file),
            None => self.shared.client.open(&node, access),
        }
    }

    /// Something of this file is about to change: what listings say of it is no longer true.
    pub(crate) fn changing(&self) {
        let place = self.origin.lock().place.clone();
        if let Some(place) = place {
            place.parent.listing_is_stale();
        }
    }

    /// A name of the file is gone.
    pub(crate) fn lost_name(&self, parent: &GoferInode, name: &[u8]) {
        let last = {
            let mut known = self.known.lock();
            known.attr.nlink = if self.kind == FileKind::Directory { 0 } else { known.attr.nlink.saturating_sub(1) };
            known.attr.nlink == 0
        };
        if last {
            self.shared.table.forget(self.id);
        }
        let lost = self.origin.lock().lose(parent, name);
        drop(lost);
    }

    /// The file has been found under this name, in case it has lost the one that was known.
    pub(crate) fn is_at(&self, parent: &GoferInode, name: &[u8]) {
        let Some(parent) = parent.this.upgrade() else { return };
        let mut origin = self.origin.lock();
        if origin.node.is_none()
            && origin.place.is_none()
            && let Ok(name) = convert::name(name)
        {
            origin.place = Some(Place { parent, name });
        }
    }

    fn host_attr(&self) -> Result<proto::Attr> {
        let fd = {
            let files = self.files.lock();
            // Where only we write, a file that nobody has open for writing stays as it is known.
            files.enough(if self.is_exclusive() { Access::ReadWrite } else { Access::Read })
        };
        if let Some(fd) = fd {
            return self.attr_of(&fd);
        }
        {
            let known = self.known.lock();
            if !known.stale && (self.is_exclusive() || known.at.elapsed() < FRESH) {
                return Ok(known.attr);
            }
        }
        let asked = self.node().and_then(|node| self.shared.client.stat(&node));
        match asked {
            Ok(attr) => {
                self.learn_now(attr);
                Ok(attr)
            }
            // It has no name any more, so what was known last is the best there is.
            Err(Errno::ESTALE) if self.is_exclusive() || self.known.lock().attr.nlink == 0 => Ok(self.known.lock().attr),
            Err(errno) => Err(errno),
        }
    }

    /// What a donated descriptor says, but for the owner: the host tells that in numbers of the sentry's user namespace, which has hardly any. The
    /// owner that the gofer told last still holds if nothing has changed since (ctime), or nobody else can change it.
    pub(crate) fn attr_of(&self, fd: &OwnedFd) -> Result<proto::Attr> {
        let stat = rustix::fs::fstat(fd).map_err(host)?;
        let mut attr = convert::host_stat(&stat, self.id.btime);
        let known = self.known.lock().attr;
        if !self.is_exclusive()
            && known.ctime != attr.ctime
            && let Ok(told) = self.node().and_then(|node| self.shared.client.stat(&node))
        {
            self.learn_now(told);
            return Ok(told);
        }
        (attr.uid, attr.gid) = (known.uid, known.gid);
        Ok(attr)
    }

    fn must_be_writable(&self) -> Result<()> {
        if self.shared.rights == Rights::ReadWrite { Ok(()) } else { Err(Errno::EROFS) }
    }

    /// Whether a message about extended attributes can be saved.
    fn has_no_xattrs(&self) -> Result<bool> {
        if !matches!(self.kind, FileKind::Regular | FileKind::Directory) {
            return Ok(true);
        }
        if !self.is_exclusive() {
            return Ok(false);
        }
        if !self.no_xattrs.load(Ordering::Relaxed) && !self.shared.client.list_xattr(&*self.node()?)?.as_bytes().is_empty() {
            return Ok(false);
        }
        self.no_xattrs.store(true, Ordering::Relaxed);
        Ok(true)
    }
}

impl Drop for GoferInode {
    /// A chain of parents of any length goes without recursion.
    fn drop(&mut self) {
        let mut place = self.origin.get_mut().place.take();
        while let Some(Place { parent, .. }) = place {
            place = Arc::into_inner(parent).and_then(|mut inode| inode.origin.get_mut().place.take());
        }
    }
}

pub(crate) fn host(errno: rustix::io::Errno) -> Errno {
    Errno::from_host(errno.raw_os_error())
}

/// Names that the gofer serves; `EOPNOTSUPP` for access control lists, which the tree does not have.
fn xattr_name(name: &[u8]) -> Result<Option<XattrName>> {
    if name.starts_with(b"system.") {
        return Err(Errno::EOPNOTSUPP);
    }
    if name.starts_with(b"user.") || name == b"security.capability" {
        return XattrName::new(name).map(Some).map_err(|_| Errno::ERANGE);
    }
    Ok(None)
}

impl Inode for GoferInode {
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
        Ok(self.shared.guest_attr(&self.host_attr()?, self.kind))
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        self.must_be_writable()?;
        self.changing();
        let mut change = *change;
        let writable = self.files.lock().exact(Access::ReadWrite);
        if let (Some(size), Some(fd)) = (change.size, writable) {
            rustix::fs::ftruncate(&fd, size).map_err(host)?;
            change.size = None;
        }
        if change != AttrChange::default() {
            let attr = self.shared.client.set_attr(&*self.node()?, convert::change(&change)?)?;
            self.learn_now(attr);
        }
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.look_up(name)?)
    }

    fn still_valid(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        self.is_exclusive() || self.look_up(name).is_ok_and(|now| std::ptr::addr_eq(Arc::as_ptr(&now), Arc::as_ptr(child)))
    }

    fn prefetch(&self, names: &[&[u8]]) {
        self.fetch_ahead(names);
    }

    fn create(&self, name: &[u8], node: &NewNode) -> Result<Arc<dyn Inode>> {
        self.must_be_writable()?;
        let with = proto::Creation { mode: u32::from(node.mode.0), owner: proto::Owner { uid: node.uid, gid: node.gid } };
        let dir = self.node()?;
        let word = convert::name(name)?;
        let client = &self.shared.client;
        let (made, attr, file) = match node.kind {
            FileKind::Regular => {
                self.shared.files.make_room()?;
                let (made, attr, file) = client.create(&dir, word, with, Access::ReadWrite)?;
                (made, attr, Some(file))
            }
            FileKind::Directory => {
                let (made, attr) = client.mkdir(&dir, word, with)?;
                (made, attr, None)
            }
            FileKind::Fifo | FileKind::Socket => {
                let kind = if node.kind == FileKind::Fifo { SpecialKind::Fifo } else { SpecialKind::Socket };
                let (made, attr) = client.mknod(&dir, word, kind, with)?;
                (made, attr, None)
            }
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Symlink => return Err(Errno::EPERM),
        };
        let inode = self.made(name, made, attr, None)?;
        if let Some(file) = file {
            inode.keep_file(Access::ReadWrite, file);
        }
        Ok(inode)
    }

    fn symlink(&self, name: &[u8], target: &[u8], uid: u32, gid: u32) -> Result<Arc<dyn Inode>> {
        self.must_be_writable()?;
        let target = convert::target(target)?;
        let owner = proto::Owner { uid, gid };
        let (made, attr) = self.shared.client.symlink(&*self.node()?, convert::name(name)?, target.clone(), owner)?;
        Ok(self.made(name, made, attr, Some(target))?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.must_be_writable()?;
        let target = self.same_fs(target)?;
        let attr = self.shared.client.link(&*target.node()?, &*self.node()?, convert::name(name)?)?;
        target.learn_now(attr);
        self.linked(name, &target);
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.must_be_writable()?;
        self.shared.client.unlink(&*self.node()?, convert::name(name)?)?;
        self.unlinked(name);
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.must_be_writable()?;
        self.shared.client.rmdir(&*self.node()?, convert::name(name)?)?;
        self.unlinked(name);
        Ok(())
    }

    fn rename(&self, name: &[u8], new_dir: &Arc<dyn Inode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        self.must_be_writable()?;
        let new_dir = self.same_fs(new_dir)?;
        self.move_name(name, &new_dir, new_name, mode)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        self.target.as_ref().map(|target| target.as_bytes().to_vec()).ok_or(Errno::EINVAL)
    }

    fn open(self: Arc<Self>, how: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            FileKind::Regular => {
                if how.write {
                    self.must_be_writable()?;
                }
                let access = if how.write { Access::ReadWrite } else { Access::Read };
                let fd = self.file(access)?;
                Ok(Arc::new(GoferFile::new(self, fd, access)))
            }
            FileKind::Directory => Ok(Arc::new(GoferDir::new(self))),
            FileKind::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        let name = xattr_name(name)?.ok_or(Errno::ENODATA)?;
        if self.has_no_xattrs()? {
            return Err(Errno::ENODATA);
        }
        Ok(self.shared.client.get_xattr(&*self.node()?, name)?.as_bytes().to_vec())
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], create: bool, replace: bool) -> Result<()> {
        self.must_be_writable()?;
        let name = xattr_name(name)?.ok_or(Errno::EOPNOTSUPP)?;
        let value = XattrValue::new(value).map_err(|_| Errno::E2BIG)?;
        let mode = match (create, replace) {
            (true, true) => return Err(Errno::EINVAL),
            (true, false) => XattrMode::Create,
            (false, true) => XattrMode::Replace,
            (false, false) => XattrMode::Set,
        };
        self.shared.client.set_xattr(&*self.node()?, name, value, mode)?;
        self.no_xattrs.store(false, Ordering::Relaxed);
        self.attr_is_stale();
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.must_be_writable()?;
        let name = xattr_name(name)?.ok_or(Errno::ENODATA)?;
        self.shared.client.remove_xattr(&*self.node()?, name)?;
        self.attr_is_stale();
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        if self.has_no_xattrs()? {
            return Ok(Vec::new());
        }
        let names = self.shared.client.list_xattr(&*self.node()?)?;
        Ok(names.as_bytes().split(|&b| b == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }
}
