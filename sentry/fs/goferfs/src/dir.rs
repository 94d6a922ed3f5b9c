//! The names of a directory that are known, and what makes them known.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use gofer_client::{Node, Walked};
use gofer_proto::{self as proto, MAX_WALK, Name, Stop, Target};
use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Inode, RenameMode};

use crate::inode::GoferInode;
use crate::listing::Listing;
use crate::origin::{Origin, Place};
use crate::{FRESH, Shared, convert};

/// Inodes of a file system that are kept alive although nobody uses them.
const BUDGET: usize = 32 << 10;
const SWEEP: usize = 256;
/// After this many misses the whole directory is listed, so that the next miss costs nothing.
const MISSES: u32 = 4;

struct Entry {
    /// `None`: there is no such name.
    inode: Option<Weak<GoferInode>>,
    at: Instant,
}

/// What is known of a directory.
pub(crate) struct DirState {
    known: HashMap<Box<[u8]>, Entry>,
    /// Names of inodes that are gone are swept out when this many names are known.
    sweep_at: usize,
    /// All of it, while nothing has changed. Exclusive trees only.
    pub listing: Option<Arc<Listing>>,
    /// Counts changes, so that an answer from before one is not kept.
    pub generation: u64,
    misses: u32,
    /// Directories in it that were listed.
    pub listed_below: u32,
}

/// What is known of a name.
enum Recalled {
    Is(Arc<GoferInode>),
    IsNot,
    Unknown,
}

impl DirState {
    pub fn new() -> DirState {
        DirState { known: HashMap::new(), sweep_at: SWEEP, listing: None, generation: 0, misses: 0, listed_below: 0 }
    }

    /// The inode of a name, if it is alive.
    pub fn known(&self, name: &[u8]) -> Option<Arc<GoferInode>> {
        self.known.get(name)?.inode.as_ref()?.upgrade()
    }

    /// Notes a name.
    fn note(&mut self, name: &[u8], inode: Option<&Arc<GoferInode>>, at: Instant) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, entry| entry.inode.as_ref().is_some_and(|inode| inode.strong_count() != 0));
            self.sweep_at = (self.known.len() * 2).max(SWEEP);
        }
        self.known.insert(name.into(), Entry { inode: inode.map(Arc::downgrade), at });
    }
}

/// Keeps inodes that were found lately alive: directories know their children only as long as somebody else does.
pub(crate) struct FoundLately(Mutex<VecDeque<Arc<GoferInode>>>);

impl FoundLately {
    pub fn new() -> FoundLately {
        FoundLately(Mutex::new(Level::InodeState, VecDeque::new()))
    }

    fn add(&self, inode: Arc<GoferInode>) {
        let oldest = {
            let mut queue = self.0.lock();
            queue.push_back(inode);
            if queue.len() > BUDGET { queue.pop_front() } else { None }
        };
        if let Some(oldest) = oldest.filter(|inode| Arc::strong_count(inode) == 1) {
            oldest.forget_name();
        }
    }

    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        drop(all);
    }
}

impl GoferInode {
    fn state_of_dir(&self) -> Result<sentry_sync::MutexGuard<'_, DirState>> {
        self.dir.as_ref().map(|dir| dir.lock()).ok_or(Errno::ENOTDIR)
    }

    /// What is known of `name` without a message.
    fn recall(&self, name: &[u8]) -> Result<Recalled> {
        let listing = {
            let dir = self.state_of_dir()?;
            if let Some(entry) = dir.known.get(name)
                && (self.is_exclusive() || entry.at.elapsed() < FRESH)
            {
                match entry.inode.as_ref().map(Weak::upgrade) {
                    Some(Some(inode)) => return Ok(Recalled::Is(inode)),
                    Some(None) => {}
                    None => return Ok(Recalled::IsNot),
                }
            }
            let Some(listing) = &dir.listing else { return Ok(Recalled::Unknown) };
            (Arc::clone(listing), dir.generation)
        };
        let (listing, generation) = listing;
        let Some(entry) = listing.find(name) else { return Ok(Recalled::IsNot) };
        let Some(attr) = entry.attr else { return Ok(Recalled::Unknown) };
        let place = self.place(name)?;
        let inode = self.shared.intern_origin(Origin::new(None, Some(place)), attr, entry.target.clone())?;
        self.note(name, Some(&inode), generation);
        Ok(Recalled::Is(inode))
    }

    /// Notes an answer, unless the directory has changed since it was asked for.
    pub(crate) fn note(&self, name: &[u8], inode: Option<&Arc<GoferInode>>, generation: u64) {
        let Ok(mut dir) = self.state_of_dir() else { return };
        if dir.generation != generation {
            return;
        }
        dir.note(name, inode, Instant::now());
        drop(dir);
        if let Some(inode) = inode {
            self.shared.lately.add(Arc::clone(inode));
        }
    }

    /// Nobody uses this inode: its directory does not have to remember the name either.
    fn forget_name(&self) {
        let Some(place) = self.origin.lock().place.clone() else { return };
        let Ok(mut dir) = place.parent.state_of_dir() else { return };
        let name = place.name.as_bytes();
        if dir.known.get(name).and_then(|entry| entry.inode.as_ref()).is_some_and(|inode| std::ptr::eq(inode.as_ptr(), self)) {
            dir.known.remove(name);
        }
    }

    pub(crate) fn generation(&self) -> Result<u64> {
        Ok(self.state_of_dir()?.generation)
    }

    pub(crate) fn look_up(&self, name: &[u8]) -> Result<Arc<GoferInode>> {
        match self.recall(name)? {
            Recalled::Is(inode) => {
                inode.is_at(self, name);
                return Ok(inode);
            }
            Recalled::IsNot => return Err(Errno::ENOENT),
            Recalled::Unknown => {}
        }
        let this = self.this.upgrade().ok_or(Errno::ESTALE)?;
        let generation = self.generation()?;
        let word = convert::name(name)?;
        let walked = self.shared.client.walk(&*self.node()?, vec![word.clone()], None)?;
        match walked.stop {
            Stop::Complete => self.absorb(&this, &[word], walked, &[generation])?.pop().ok_or(Errno::EIO),
            Stop::Missing => {
                self.note(name, None, generation);
                self.missed();
                Err(Errno::ENOENT)
            }
            Stop::Failed(error) => Err(error.errno()),
            Stop::Symlink | Stop::NotDirectory => Err(Errno::ENOTDIR),
        }
    }

    /// A directory in which names are looked for in vain is listed.
    fn missed(&self) {
        let Ok(mut dir) = self.state_of_dir() else { return };
        dir.misses = dir.misses.saturating_add(1);
        let list = dir.misses == MISSES && dir.listing.is_none() && self.is_exclusive();
        drop(dir);
        if list {
            // Only a saving: if it fails, the next miss is asked for.
            let _ = self.list();
        }
    }

    /// Walks ahead in one message as far as the names are not known.
    pub(crate) fn fetch_ahead(&self, names: &[&[u8]]) {
        let Some(this) = self.this.upgrade() else { return };
        let words: Vec<Name> = names.iter().map_while(|name| convert::name(name).ok()).take(MAX_WALK).collect();
        // The last directory whose node is there, and how many names lead to it.
        let (mut base, mut at) = ((Arc::clone(&this), 0), this);
        let mut depth = 0;
        let mut generations = Vec::new();
        for word in &words {
            if at.kind() != FileKind::Directory {
                return;
            }
            let Ok(generation) = at.generation() else { return };
            generations.push(generation);
            match at.recall(word.as_bytes()) {
                Ok(Recalled::Is(child)) => {
                    depth += 1;
                    at = child;
                    if at.has_node() {
                        base = (Arc::clone(&at), depth);
                    }
                }
                Ok(Recalled::Unknown) => break,
                Ok(Recalled::IsNot) | Err(_) => return,
            }
        }
        if words.len() < depth + 2 {
            return;
        }
        let (base, skip) = base;
        let words = &words[skip..];
        let Ok(node) = base.node() else { return };
        // An error is not kept: the step that needs the name will meet it again.
        if let Ok(walked) = self.shared.client.walk(&node, words.to_vec(), None) {
            let _ = self.absorb(&base, words, walked, generations.get(skip..).unwrap_or(&[]));
        }
    }

    /// Makes inodes of what a walk down from `base` found and notes them. `generations` are those of the directories that were known before.
    fn absorb(&self, base: &Arc<GoferInode>, words: &[Name], walked: Walked, generations: &[u64]) -> Result<Vec<Arc<GoferInode>>> {
        let mut at = Arc::clone(base);
        let mut inodes = Vec::with_capacity(walked.found.len());
        let missing = walked.stop == Stop::Missing;
        for (index, found) in walked.found.into_iter().enumerate() {
            let word = words.get(index).ok_or(Errno::EIO)?;
            let generation = match generations.get(index) {
                Some(generation) => *generation,
                None => at.generation()?,
            };
            let place = Place { parent: Arc::clone(&at), name: word.clone() };
            let inode = self.shared.intern(found.node, found.attr, Some((place, found.target)))?;
            at.note(word.as_bytes(), Some(&inode), generation);
            inodes.push(Arc::clone(&inode));
            at = inode;
        }
        if missing
            && let Some(word) = words.get(inodes.len())
            && let Ok(now) = at.generation()
        {
            at.note(word.as_bytes(), None, generations.get(inodes.len()).copied().unwrap_or(now));
            at.missed();
        }
        Ok(inodes)
    }

    pub(crate) fn listing_is_stale(&self) {
        self.shared.changes.fetch_add(1, Ordering::AcqRel);
        let Ok(mut dir) = self.state_of_dir() else { return };
        dir.generation += 1;
        let old = dir.listing.take();
        drop(dir);
        drop(old);
    }

    /// This directory's contents have changed: `name` is now `inode`. Returns what it was.
    fn changed(&self, name: &[u8], inode: Option<&Arc<GoferInode>>) -> Option<Arc<GoferInode>> {
        self.listing_is_stale();
        self.attr_is_stale();
        self.changing();
        let before = {
            let mut dir = self.state_of_dir().ok()?;
            let before = dir.known.remove(name);
            dir.note(name, inode, Instant::now());
            before
        };
        if let Some(inode) = inode {
            self.shared.lately.add(Arc::clone(inode));
        }
        before.and_then(|entry| entry.inode).and_then(|inode| inode.upgrade())
    }

    pub(crate) fn made(&self, name: &[u8], node: Node, attr: proto::Attr, target: Option<Target>) -> Result<Arc<GoferInode>> {
        let place = self.place(name)?;
        let inode = self.shared.intern(node, attr, Some((place, target)))?;
        self.changed(name, Some(&inode));
        Ok(inode)
    }

    pub(crate) fn linked(&self, name: &[u8], target: &Arc<GoferInode>) {
        // The newest name is the likeliest to stay.
        if let Ok(place) = self.place(name) {
            let old = target.origin.lock().renew(Origin::new(None, Some(place)));
            drop(old);
        }
        self.changed(name, Some(target));
    }

    fn place(&self, name: &[u8]) -> Result<Place> {
        Ok(Place { parent: self.this.upgrade().ok_or(Errno::ESTALE)?, name: convert::name(name)? })
    }

    pub(crate) fn unlinked(&self, name: &[u8]) {
        if let Some(inode) = self.changed(name, None) {
            inode.changing();
            inode.lost_name(self, name);
        }
    }

    pub(crate) fn move_name(&self, name: &[u8], new_dir: &Arc<GoferInode>, new_name: &[u8], mode: RenameMode) -> Result<()> {
        let moved = self.look_up(name)?;
        let replaced = match new_dir.look_up(new_name) {
            Ok(inode) => Some(inode),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        let how = match mode {
            RenameMode::Replace => proto::RenameMode::Replace,
            RenameMode::NoReplace => proto::RenameMode::NoReplace,
            RenameMode::Exchange => proto::RenameMode::Exchange,
        };
        let moved_node = moved.node_at(self, name);
        let exchanged_node = replaced.as_ref().and_then(|inode| inode.node_at(new_dir, new_name));
        let (from, to) = (self.node()?, new_dir.node()?);
        self.shared.client.rename(
            (&*from, convert::name(name)?),
            (&*to, convert::name(new_name)?),
            how,
            moved_node.as_deref(),
            exchanged_node.as_deref(),
        )?;
        if let Some(replaced) = &replaced
            && Arc::ptr_eq(replaced, &moved)
        {
            // Two names of one file: nothing happens (rename(2)).
            return Ok(());
        }
        let exchanged = if mode == RenameMode::Exchange { replaced.clone() } else { None };
        self.changed(name, exchanged.as_ref());
        new_dir.changed(new_name, Some(&moved));
        moved.moved((self, name), (new_dir, new_name));
        match (exchanged, replaced) {
            (Some(inode), _) => inode.moved((new_dir, new_name), (self, name)),
            (None, Some(inode)) => inode.lost_name(new_dir, new_name),
            (None, None) => {}
        }
        Ok(())
    }

    /// The node that is known for this very name.
    fn node_at(&self, parent: &GoferInode, name: &[u8]) -> Option<Arc<Node>> {
        let origin = self.origin.lock();
        origin.place.as_ref().filter(|place| place.is(parent, name))?;
        origin.node.clone()
    }

    fn moved(&self, from: (&GoferInode, &[u8]), to: (&GoferInode, &[u8])) {
        self.attr_is_stale();
        let Ok(place) = to.0.place(to.1) else { return };
        let old = self.origin.lock().rename(from, place);
        drop(old);
    }

    /// `EXDEV` for an inode of another file system.
    pub(crate) fn same_fs(&self, inode: &Arc<dyn Inode>) -> Result<Arc<GoferInode>> {
        let inode = inode.as_any().downcast_ref::<GoferInode>().ok_or(Errno::EXDEV)?;
        if !std::ptr::eq::<Shared>(&*inode.shared, &*self.shared) {
            return Err(Errno::EXDEV);
        }
        inode.this.upgrade().ok_or(Errno::ESTALE)
    }
}
