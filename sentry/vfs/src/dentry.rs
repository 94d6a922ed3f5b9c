//! Names that were found: a tree of [`Dentry`] per file system, from which paths, mount points and rename get their identity.
//!
//! Children are kept while somebody uses them and, for directories that allow it, for a while longer ([`KEPT_CHILDREN`] per directory, [`KEPT`] per
//! tree, from which those go that were not asked for again).
//! There are no negative dentries here; a file system to which a miss is dear remembers misses itself.
//!
//! No lock is held over a call to the file system, so a change of a directory and the change of its kept names are two steps. [`Dentry::changes`] keeps them
//! honest: whoever puts a name in read the count before asking the file system, and does not put it in if anything was taken out since.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, Mutex, RwLock};

use crate::filesystem::FileSystem;
use crate::inode::Inode;

/// Beyond this many kept children a directory lets go of those that nobody uses.
const KEPT_CHILDREN: usize = 4096;
/// Kept dentries of a whole tree.
const KEPT: usize = 16 * 1024;
/// How many are looked at for one that is added beyond [`KEPT`].
const SWEEP: usize = 4;
/// Lookups of a name before a directory that changes all the time gets no kept child for it.
const TRIES: usize = 4;

struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
}

pub struct Dentry {
    inode: Arc<dyn Inode>,
    fs: Arc<dyn FileSystem>,
    place: RwLock<Place>,
    children: Mutex<HashMap<Vec<u8>, Child>>,
    /// How often a kept name was taken out or moved.
    changes: AtomicU64,
    deleted: AtomicBool,
    pseudo: bool,
    /// Asked for since the sweep last came by.
    asked: AtomicBool,
    /// Of the tree; a dentry without a place has none.
    recent: Option<Arc<Recent>>,
    /// How many mounts, in any namespace, stand on this dentry.
    pub(crate) mounts: AtomicU32,
}

/// The kept dentries of a tree in the order in which they are looked at for letting go.
struct Recent {
    queue: Mutex<VecDeque<Weak<Dentry>>>,
}

impl Recent {
    fn new() -> Arc<Recent> {
        Arc::new(Recent { queue: Mutex::new(Level::Leaf, VecDeque::new()) })
    }

    /// Adds a dentry; returns those to look at for it.
    fn add(&self, new: &Arc<Dentry>) -> Vec<Weak<Dentry>> {
        let mut queue = self.queue.lock();
        queue.push_back(Arc::downgrade(new));
        let excess = queue.len().saturating_sub(KEPT).min(SWEEP);
        queue.drain(..excess).collect()
    }
}

enum Child {
    Kept(Arc<Dentry>),
    Used(Weak<Dentry>),
}

impl Dentry {
    /// The root of a file system.
    pub fn root(fs: Arc<dyn FileSystem>) -> Arc<Dentry> {
        let inode = fs.root();
        Dentry::make(inode, fs, Place { name: Vec::new(), parent: None }, false, Some(Recent::new()))
    }

    /// A file without a place in the tree: a pipe, a socket, a memfd. `name` is what /proc/pid/fd shows.
    pub fn pseudo(fs: Arc<dyn FileSystem>, inode: Arc<dyn Inode>, name: Vec<u8>) -> Arc<Dentry> {
        Dentry::make(inode, fs, Place { name, parent: None }, true, None)
    }

    fn make(inode: Arc<dyn Inode>, fs: Arc<dyn FileSystem>, place: Place, pseudo: bool, recent: Option<Arc<Recent>>) -> Arc<Dentry> {
        Arc::new(Dentry {
            inode,
            fs,
            place: RwLock::new(Level::Leaf, place),
            children: Mutex::new(Level::Dentry, HashMap::new()),
            changes: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            pseudo,
            asked: AtomicBool::new(false),
            recent,
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
        self.child_after(name, &mut || ())
    }

    /// The same; `before_asking` is called before the file system is asked anything.
    pub(crate) fn child_after(self: &Arc<Dentry>, name: &[u8], before_asking: &mut dyn FnMut()) -> Result<Arc<Dentry>> {
        let mut last = None;
        for _ in 0..TRIES {
            if let Some(found) = self.kept(name) {
                if self.fs.is_shared() {
                    before_asking();
                }
                if self.inode.still_valid(name, found.inode()) {
                    return Ok(found);
                }
                self.forget(name);
            }
            if self.is_deleted() {
                return Err(Errno::ENOENT);
            }
            let seen = self.changes();
            before_asking();
            let inode = self.inode.lookup(name)?;
            if let Some(dentry) = self.keep(name, &inode, seen) {
                return Ok(dentry);
            }
            last = Some(inode);
        }
        last.map(|inode| self.unkept(name, inode)).ok_or(Errno::ENOENT)
    }

    /// Counts what was taken out of the kept children; to be read before the file system is asked or told.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// A dentry for a file that was just made under `name`; `seen` is [`Dentry::changes`] from before.
    pub fn adopt_new(self: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>, seen: u64) -> Arc<Dentry> {
        if let Some(dentry) = self.keep(name, &inode, seen) {
            return dentry;
        }
        match self.child(name) {
            Ok(dentry) if Arc::ptr_eq(&dentry.inode, &inode) => dentry,
            // Gone already.
            _ => self.unkept(name, inode),
        }
    }

    fn unkept(self: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let place = Place { name: name.to_vec(), parent: Some(self.clone()) };
        Dentry::make(inode, self.fs.clone(), place, false, self.recent.clone())
    }

    /// The kept child of that name.
    pub fn kept(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        match self.children.lock().get(name)? {
            Child::Kept(dentry) => {
                if !dentry.asked.load(Ordering::Relaxed) {
                    dentry.asked.store(true, Ordering::Relaxed);
                }
                Some(dentry.clone())
            }
            Child::Used(weak) => weak.upgrade(),
        }
    }

    /// Counts a kept dentry and lets go of some that nobody has asked for.
    fn sweep(new: &Arc<Dentry>) {
        let Some(recent) = &new.recent else { return };
        let mut again = Vec::new();
        for weak in recent.add(new) {
            let Some(old) = weak.upgrade() else { continue };
            if old.asked.swap(false, Ordering::Relaxed) || !old.let_go() {
                again.push(weak);
            }
        }
        if !again.is_empty() {
            recent.queue.lock().extend(again);
        }
    }

    /// Takes a dentry that nobody uses out of its parent; true when it is no longer kept.
    fn let_go(self: &Arc<Dentry>) -> bool {
        let Some(parent) = self.parent() else { return true };
        let name = self.name();
        let mut children = parent.children.lock();
        let gone = match children.get(&name) {
            // Its parent's reference and ours.
            Some(Child::Kept(kept)) if Arc::ptr_eq(kept, self) => {
                if Arc::strong_count(self) > 2 || self.is_mount_point() {
                    return false;
                }
                children.remove(&name)
            }
            _ => None,
        };
        drop(children);
        drop(gone);
        true
    }

    /// A dentry for `inode` under `name`; one that was made by somebody else meanwhile is used instead.
    pub fn adopt(self: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        match self.keep(name, &inode, self.changes()) {
            Some(dentry) => dentry,
            None => self.unkept(name, inode),
        }
    }

    /// Puts a child in, unless names were taken out since `seen`.
    fn keep(self: &Arc<Dentry>, name: &[u8], inode: &Arc<dyn Inode>, seen: u64) -> Option<Arc<Dentry>> {
        let keep = self.inode.keeps_children();
        // Whatever is let go is let go after the lock: it may be the last of its file.
        let mut dropped = Vec::new();
        let mut children = self.children.lock();
        let existing = match children.get(name) {
            Some(Child::Kept(d)) => Some(d.clone()),
            Some(Child::Used(w)) => w.upgrade(),
            None => None,
        };
        if let Some(dentry) = existing {
            if Arc::ptr_eq(&dentry.inode, inode) {
                return Some(dentry);
            }
            dropped.push(dentry);
        }
        if self.changes() != seen {
            return None;
        }
        if children.len() >= KEPT_CHILDREN {
            shrink(&mut children, &mut dropped);
        }
        let dentry = self.unkept(name, inode.clone());
        let child = if keep { Child::Kept(dentry.clone()) } else { Child::Used(Arc::downgrade(&dentry)) };
        let old = children.insert(name.to_vec(), child);
        drop(children);
        drop(old);
        if keep {
            Dentry::sweep(&dentry);
        }
        Some(dentry)
    }

    /// Forgets a name without calling the file deleted.
    pub fn forget(&self, name: &[u8]) {
        let old = self.children.lock().remove(name);
        drop(old);
    }

    /// After the file system removed `name`.
    pub fn removed(&self, name: &[u8]) {
        if let Some(dentry) = self.take(name) {
            dentry.deleted.store(true, Ordering::Release);
        }
    }

    /// After the file system removed `name`, which was thought to be `victim`. Another that took its place meanwhile is only forgotten.
    pub fn removed_as(&self, name: &[u8], victim: &Arc<Dentry>) {
        victim.deleted.store(true, Ordering::Release);
        if let Some(dentry) = self.take(name)
            && Arc::ptr_eq(&dentry.inode, &victim.inode)
        {
            dentry.deleted.store(true, Ordering::Release);
        }
    }

    fn take(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        let mut children = self.children.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        let old = children.remove(name);
        drop(children);
        old.and_then(Child::get)
    }

    /// Puts a dentry that is already made under a name, unless names were taken out since `seen`.
    fn put(&self, name: &[u8], dentry: Arc<Dentry>, seen: u64) {
        let child = if self.inode.keeps_children() { Child::Kept(dentry) } else { Child::Used(Arc::downgrade(&dentry)) };
        let mut children = self.children.lock();
        let other = if self.changes() == seen { children.insert(name.to_vec(), child) } else { Some(child) };
        drop(children);
        drop(other);
    }

    fn set_place(&self, name: &[u8], parent: &Arc<Dentry>) {
        let place = Place { name: name.to_vec(), parent: Some(parent.clone()) };
        let old = std::mem::replace(&mut *self.place.write(), place);
        drop(old);
    }

    /// After the file system moved `name` of `self`, which was `moved`, to `new_name` of `new_parent`, whose [`Dentry::changes`] before was `seen`.
    pub fn moved(&self, name: &[u8], moved: &Arc<Dentry>, new_parent: &Arc<Dentry>, new_name: &[u8], seen: (u64, u64)) {
        let same_dir = std::ptr::eq(self, new_parent.as_ref());
        let untouched = self.changes() == seen.0;
        drop(self.take(name));
        new_parent.removed(new_name);
        moved.set_place(new_name, new_parent);
        // Our own taking out counts: once in each directory, twice in one.
        let seen = seen.1 + if same_dir { 2 } else { 1 };
        if untouched {
            new_parent.put(new_name, moved.clone(), seen);
        }
    }

    /// After the file system exchanged two names; `seen` are [`Dentry::changes`] of both directories from before.
    pub fn exchanged(
        self: &Arc<Dentry>,
        name: &[u8],
        first: &Arc<Dentry>,
        other: &Arc<Dentry>,
        other_name: &[u8],
        second: &Arc<Dentry>,
        seen: (u64, u64),
    ) {
        let own = if Arc::ptr_eq(self, other) { 2 } else { 1 };
        drop(self.take(name));
        drop(other.take(other_name));
        first.set_place(other_name, other);
        second.set_place(name, self);
        other.put(other_name, first.clone(), seen.1 + own);
        self.put(name, second.clone(), seen.0 + own);
    }

    /// Lets go of all children, however deep, that nobody uses: at the end of a mount, since kept children and their parents hold each other.
    pub fn release_idle(self: &Arc<Dentry>) {
        let mut all = vec![self.clone()];
        let mut at = 0;
        while let Some(dentry) = all.get(at).cloned() {
            let children = dentry.children.lock();
            let kept = children.values().filter_map(|child| match child {
                Child::Kept(dentry) => Some(dentry.clone()),
                Child::Used(_) => None,
            });
            all.extend(kept);
            at += 1;
        }
        // From the deepest up; what is popped is held by its parent alone, or used.
        while let Some(dentry) = all.pop() {
            let mut dropped = Vec::new();
            dentry.children.lock().retain(|_, child| match child {
                Child::Kept(child) if Arc::strong_count(child) == 1 => {
                    dropped.push(child.clone());
                    false
                }
                _ => true,
            });
        }
    }
}

impl Drop for Dentry {
    /// Lets the chain of parents go without recursion: directories can be nested deeper than any stack.
    fn drop(&mut self) {
        let mut next = self.place.get_mut().parent.take();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut dentry| dentry.place.get_mut().parent.take());
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
