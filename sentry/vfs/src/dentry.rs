//! Names that were found: a tree of [`Dentry`] per file system, from which paths, mount points and rename get their identity.
//!
//! Children are kept while somebody uses them and, for directories that allow it, for a while longer ([`KEPT_CHILDREN`] per directory).
//! There are no negative dentries here; a file system to which a miss is dear remembers misses itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, Mutex, RwLock};

use crate::filesystem::FileSystem;
use crate::inode::Inode;

/// Beyond this many kept children a directory lets go of those that nobody uses.
const KEPT_CHILDREN: usize = 4096;

struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
}

pub struct Dentry {
    inode: Arc<dyn Inode>,
    fs: Arc<dyn FileSystem>,
    place: RwLock<Place>,
    children: Mutex<HashMap<Vec<u8>, Child>>,
    deleted: AtomicBool,
    pseudo: bool,
    /// How many mounts, in any namespace, stand on this dentry.
    pub(crate) mounts: AtomicU32,
}

enum Child {
    Kept(Arc<Dentry>),
    Used(Weak<Dentry>),
}

impl Dentry {
    /// The root of a file system.
    pub fn root(fs: Arc<dyn FileSystem>) -> Arc<Dentry> {
        let inode = fs.root();
        Dentry::make(inode, fs, Place { name: Vec::new(), parent: None }, false)
    }

    /// A file without a place in the tree: a pipe, a socket, a memfd. `name` is what /proc/pid/fd shows.
    pub fn pseudo(fs: Arc<dyn FileSystem>, inode: Arc<dyn Inode>, name: Vec<u8>) -> Arc<Dentry> {
        Dentry::make(inode, fs, Place { name, parent: None }, true)
    }

    fn make(inode: Arc<dyn Inode>, fs: Arc<dyn FileSystem>, place: Place, pseudo: bool) -> Arc<Dentry> {
        Arc::new(Dentry {
            inode,
            fs,
            place: RwLock::new(Level::Leaf, place),
            children: Mutex::new(Level::Dentry, HashMap::new()),
            deleted: AtomicBool::new(false),
            pseudo,
            mounts: AtomicU32::new(0),
        })
    }

    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    pub fn name(&self) -> Vec<u8> {
        self.place.read().name.clone()
    }

    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.read().parent.clone()
    }

    pub fn is_pseudo(&self) -> bool {
        self.pseudo
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Acquire) != 0
    }

    /// Is `self` `other` or below it?
    pub fn is_below(self: &Arc<Dentry>, other: &Arc<Dentry>) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at, other) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// The child `name`, from what is kept or from the file system.
    pub fn child(self: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>> {
        if let Some(found) = self.kept(name) {
            if self.inode.still_valid(name, found.inode()) {
                return Ok(found);
            }
            self.forget(name);
        }
        if self.is_deleted() {
            return Err(Errno::ENOENT);
        }
        let inode = self.inode.lookup(name)?;
        Ok(self.adopt(name, inode))
    }

    /// The kept child of that name.
    pub fn kept(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        match self.children.lock().get(name)? {
            Child::Kept(dentry) => Some(dentry.clone()),
            Child::Used(weak) => weak.upgrade(),
        }
    }

    /// A dentry for `inode` under `name`; one that was made by somebody else meanwhile is used instead.
    pub fn adopt(self: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let keep = self.inode.keeps_children();
        let mut dropped = Vec::new();
        let mut children = self.children.lock();
        let existing = match children.get(name) {
            Some(Child::Kept(d)) => Some(d.clone()),
            Some(Child::Used(w)) => w.upgrade(),
            None => None,
        };
        if let Some(dentry) = existing
            && Arc::ptr_eq(&dentry.inode, &inode)
        {
            return dentry;
        }
        if children.len() >= KEPT_CHILDREN {
            shrink(&mut children, &mut dropped);
        }
        let place = Place { name: name.to_vec(), parent: Some(self.clone()) };
        let dentry = Dentry::make(inode, self.fs.clone(), place, false);
        let child = if keep { Child::Kept(dentry.clone()) } else { Child::Used(Arc::downgrade(&dentry)) };
        let old = children.insert(name.to_vec(), child);
        drop(children);
        drop(old);
        dentry
    }

    /// Forgets a name without calling the file deleted.
    pub fn forget(&self, name: &[u8]) {
        let old = self.children.lock().remove(name);
        drop(old);
    }

    /// After the file system removed `name`.
    pub fn removed(&self, name: &[u8]) {
        let old = self.children.lock().remove(name);
        if let Some(dentry) = old.and_then(Child::get) {
            dentry.deleted.store(true, Ordering::Release);
        }
    }

    /// After the file system moved `name` of `self` to `new_name` of `new_parent`.
    pub fn moved(self: &Arc<Dentry>, name: &[u8], new_parent: &Arc<Dentry>, new_name: &[u8]) {
        let moved = self.children.lock().remove(name).and_then(Child::get);
        new_parent.removed(new_name);
        let Some(dentry) = moved else { return };
        *dentry.place.write() = Place { name: new_name.to_vec(), parent: Some(new_parent.clone()) };
        let child = if new_parent.inode.keeps_children() { Child::Kept(dentry) } else { Child::Used(Arc::downgrade(&dentry)) };
        let old = new_parent.children.lock().insert(new_name.to_vec(), child);
        drop(old);
    }

    /// After the file system exchanged two names.
    pub fn exchanged(self: &Arc<Dentry>, name: &[u8], other: &Arc<Dentry>, other_name: &[u8]) {
        let first = self.children.lock().remove(name).and_then(Child::get);
        let second = other.children.lock().remove(other_name).and_then(Child::get);
        for (dentry, parent, new_name) in [(first, other, other_name), (second, self, name)] {
            let Some(dentry) = dentry else { continue };
            *dentry.place.write() = Place { name: new_name.to_vec(), parent: Some(parent.clone()) };
            parent.children.lock().insert(new_name.to_vec(), Child::Kept(dentry));
        }
    }
}

impl Child {
    fn get(self) -> Option<Arc<Dentry>> {
        match self {
            Child::Kept(dentry) => Some(dentry),
            Child::Used(weak) => weak.upgrade(),
        }
    }
}

/// Lets go of half of the children that nobody else uses.
fn shrink(children: &mut HashMap<Vec<u8>, Child>, dropped: &mut Vec<Arc<Dentry>>) {
    children.retain(|_, child| match child {
        Child::Used(weak) => weak.strong_count() != 0,
        Child::Kept(_) => true,
    });
    let mut idle: Vec<Vec<u8>> = Vec::new();
    for (name, child) in children.iter() {
        if let Child::Kept(dentry) = child
            && Arc::strong_count(dentry) == 1
            && !dentry.is_mount_point()
        {
            idle.push(name.clone());
        }
    }
    for name in idle.iter().take(idle.len().div_ceil(2)) {
        if let Some(Child::Kept(dentry)) = children.remove(name) {
            dropped.push(dentry);
        }
    }
}
