//! Directories: entries in the order of their making, and the operations on them.
//!
//! An entry's number is its cookie for readdir and is never used twice in a directory, so that names that come and go during a listing
//! neither hide nor repeat others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Inode, RenameMode};

use crate::inode::{Body, TmpInode};

/// What an entry adds to a directory's size, as Linux's tmpfs counts.
pub(crate) const DIRENT_SIZE: u64 = 20;
/// Cookies 0 and 1 are before "." and "..".
pub(crate) const FIRST_COOKIE: u64 = 2;

struct Entry {
    cookie: u64,
    inode: Arc<TmpInode>,
}

struct Entries {
    by_name: HashMap<Arc<[u8]>, Entry>,
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
    /// Removed: nothing may be added any more.
    dead: bool,
    parent: Weak<TmpInode>,
}

pub(crate) struct Dir {
    entries: Mutex<Entries>,
}

/// An entry as a listing shows it.
pub(crate) struct Listed {
    pub name: Arc<[u8]>,
    pub ino: u64,
    pub kind: FileKind,
    pub next: u64,
}

impl Dir {
    pub fn new() -> Dir {
        let entries = Entries { by_name: HashMap::new(), order: BTreeMap::new(), next: FIRST_COOKIE, dead: false, parent: Weak::new() };
        Dir { entries: Mutex::new(Level::Inode, entries) }
    }

    pub fn get(&self, name: &[u8]) -> Option<Arc<TmpInode>> {
        self.entries.lock().by_name.get(name).map(|e| e.inode.clone())
    }

    pub fn len(&self) -> u64 {
        self.entries.lock().by_name.len() as u64
    }

    pub fn parent(&self) -> Option<Arc<TmpInode>> {
        self.entries.lock().parent.upgrade()
    }

    fn set_parent(&self, parent: Weak<TmpInode>) {
        let old = std::mem::replace(&mut self.entries.lock().parent, parent);
        drop(old);
    }

    /// Up to `most` entries from `cookie` on.
    pub fn list(&self, cookie: u64, most: usize) -> Vec<Listed> {
        let entries = self.entries.lock();
        let listed = |(cookie, name): (&u64, &Arc<[u8]>)| {
            let entry = entries.by_name.get(name)?;
            Some(Listed { name: name.clone(), ino: entry.inode.ino(), kind: entry.inode.kind(), next: cookie + 1 })
        };
        entries.order.range(cookie..).take(most).filter_map(listed).collect()
    }

    /// `ENOENT` in a removed directory.
    pub fn alive(&self) -> Result<()> {
        if self.entries.lock().dead { Err(Errno::ENOENT) } else { Ok(()) }
    }

    /// Puts `inode` under `name`; who had the name before is returned. The caller holds the surgery lock.
    fn put(&self, name: &[u8], inode: Arc<TmpInode>) -> Option<Arc<TmpInode>> {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.by_name.get_mut(name) {
            return Some(std::mem::replace(&mut entry.inode, inode));
        }
        let cookie = entries.next;
        entries.next += 1;
        let name: Arc<[u8]> = name.into();
        entries.order.insert(cookie, name.clone());
        entries.by_name.insert(name, Entry { cookie, inode });
        None
    }

    fn take(&self, name: &[u8]) -> Option<Arc<TmpInode>> {
        let mut entries = self.entries.lock();
        let entry = entries.by_name.remove(name)?;
        entries.order.remove(&entry.cookie);
        Some(entry.inode)
    }

    /// Marks an empty directory as removed.
    fn kill(&self) -> Result<()> {
        let mut entries = self.entries.lock();
        if !entries.by_name.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        entries.dead = true;
        Ok(())
    }

    /// Drops the tree below without recursion: a guest can nest directories deeper than any stack.
    pub fn dismantle(&mut self) {
        let mut doomed: Vec<Entry> = self.entries.get_mut().by_name.drain().map(|(_, e)| e).collect();
        while let Some(entry) = doomed.pop() {
            if let Some(mut inode) = Arc::into_inner(entry.inode)
                && let Body::Dir(dir) = &mut inode.body
            {
                doomed.extend(dir.entries.get_mut().by_name.drain().map(|(_, e)| e));
            }
        }
    }
}

impl TmpInode {
    /// Names a fresh inode.
    pub(crate) fn add_new(&self, name: &[u8], inode: Arc<TmpInode>) -> Result<()> {
        let dir = self.dir()?;
        let _surgery = self.store.surgery.lock();
        dir.alive()?;
        if dir.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let is_dir = inode.kind() == FileKind::Directory;
        inode.relink(if is_dir { 2 } else { 1 });
        if is_dir {
            inode.dir()?.set_parent(Arc::downgrade(&self.strong()?));
            self.relink(1);
        }
        dir.put(name, inode);
        self.touch_mtime();
        Ok(())
    }

    pub(crate) fn add_link(&self, name: &[u8], target: &TmpInode) -> Result<()> {
        let dir = self.dir()?;
        if target.kind() == FileKind::Directory {
            return Err(Errno::EPERM);
        }
        if !Arc::ptr_eq(&self.store, &target.store) {
            return Err(Errno::EXDEV);
        }
        let _surgery = self.store.surgery.lock();
        dir.alive()?;
        if dir.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        {
            let meta = target.meta.lock();
            if meta.nlink == 0 && !meta.linkable {
                return Err(Errno::ENOENT);
            }
            if meta.nlink == u32::MAX {
                return Err(Errno::EMLINK);
            }
        }
        target.relink(1);
        dir.put(name, target.strong()?);
        self.touch_mtime();
        Ok(())
    }

    pub(crate) fn remove_file(&self, name: &[u8]) -> Result<()> {
        let dir = self.dir()?;
        let surgery = self.store.surgery.lock();
        let victim = dir.get(name).ok_or(Errno::ENOENT)?;
        if victim.kind() == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        dir.take(name);
        victim.unnamed();
        self.touch_mtime();
        drop(surgery);
        Ok(())
    }

    /// One name less; the last one's end is final.
    fn unnamed(&self) {
        self.relink(-1);
        self.meta.lock().linkable = false;
    }

    pub(crate) fn remove_dir(&self, name: &[u8]) -> Result<()> {
        let dir = self.dir()?;
        let surgery = self.store.surgery.lock();
        let victim = dir.get(name).ok_or(Errno::ENOENT)?;
        victim.dir()?.kill()?;
        dir.take(name);
        victim.relink(-2);
        self.relink(-1);
        self.touch_mtime();
        drop(surgery);
        Ok(())
    }

    pub(crate) fn move_name(&self, name: &[u8], new_dir: &TmpInode, new_name: &[u8], mode: RenameMode) -> Result<()> {
        let (from, to) = (self.dir()?, new_dir.dir()?);
        if !Arc::ptr_eq(&self.store, &new_dir.store) {
            return Err(Errno::EXDEV);
        }
        let surgery = self.store.surgery.lock();
        to.alive()?;
        let source = from.get(name).ok_or(Errno::ENOENT)?;
        let target = to.get(new_name);
        match (&target, mode) {
            (Some(_), RenameMode::NoReplace) => return Err(Errno::EEXIST),
            (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
            (Some(target), _) if Arc::ptr_eq(target, &source) => return Ok(()),
            _ => {}
        }
        source.must_not_hold(new_dir)?;
        if mode == RenameMode::Exchange {
            if let Some(target) = target {
                target.must_not_hold(self)?;
                self.exchange(name, &source, new_dir, new_name, &target)?;
            }
        } else {
            if let Some(target) = &target {
                new_dir.make_room(&source, target)?;
            }
            to.put(new_name, source.clone());
            from.take(name);
            self.adopt_moved(&source, new_dir)?;
        }
        self.touch_mtime();
        new_dir.touch_mtime();
        source.touch_ctime();
        drop(surgery);
        Ok(())
    }

    /// `EINVAL` when `other` is `self` or a directory below it. Called under the surgery lock, which keeps the tree still.
    fn must_not_hold(&self, other: &TmpInode) -> Result<()> {
        if self.kind() != FileKind::Directory {
            return Ok(());
        }
        let mut at = Some(other.strong()?);
        while let Some(dir) = at {
            if std::ptr::eq(dir.as_ref(), self) {
                return Err(Errno::EINVAL);
            }
            at = dir.dir()?.parent();
        }
        Ok(())
    }

    /// Checks that `source` may replace `target`, an entry of this directory, and takes the entry's link away.
    fn make_room(&self, source: &TmpInode, target: &TmpInode) -> Result<()> {
        match (source.kind() == FileKind::Directory, target.kind() == FileKind::Directory) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) => {
                target.dir()?.kill()?;
                target.relink(-2);
                self.relink(-1);
            }
            (false, false) => target.unnamed(),
        }
        Ok(())
    }

    fn exchange(&self, name: &[u8], source: &Arc<TmpInode>, new_dir: &TmpInode, new_name: &[u8], target: &Arc<TmpInode>) -> Result<()> {
        self.dir()?.put(name, target.clone());
        new_dir.dir()?.put(new_name, source.clone());
        self.adopt_moved(source, new_dir)?;
        new_dir.adopt_moved(target, self)?;
        target.touch_ctime();
        Ok(())
    }

    /// After `moved` went from `self` to `new_dir`: parent and link counts.
    fn adopt_moved(&self, moved: &TmpInode, new_dir: &TmpInode) -> Result<()> {
        if moved.kind() == FileKind::Directory && !std::ptr::eq(self, new_dir) {
            moved.dir()?.set_parent(Arc::downgrade(&new_dir.strong()?));
            self.relink(-1);
            new_dir.relink(1);
        }
        Ok(())
    }
}
