//! Directory listings, and open directories.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use gofer_client::Found;
use gofer_proto::{self as proto, MAX_LISTED, Name, ReadDirDetail, Target};
use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Caller, DirEntry, FileOps, Seek};

use crate::inode::GoferInode;
use crate::origin::Place;
use crate::recent::Recent;
use crate::table::HostId;

/// Most entries of a listing that is kept with attributes.
const MAX_KEPT: usize = 16 << 10;
/// Most entries of a directory that can be read at all.
const MAX_ENTRIES: usize = 4 << 20;
/// Entries kept in all listings of a file system together.
const BUDGET: usize = 96 << 10;

/// Once so many directories in one have been listed, others are listed ahead.
const AHEAD_AFTER: u32 = 2;
/// How many entries are looked at for some to list ahead.
const AHEAD_SCAN: usize = 256;

pub(crate) struct ListedEntry {
    name: Box<[u8]>,
    ino: u64,
    kind: FileKind,
    pub attr: Option<proto::Attr>,
    pub target: Option<Target>,
}

/// All entries of a directory at one time.
pub(crate) struct Listing {
    entries: Vec<ListedEntry>,
    /// Indices in the order of names.
    by_name: Vec<u32>,
}

/// Entries, and where the next page begins.
type FirstPage = (Vec<ListedEntry>, Option<u64>);

impl Listing {
    fn new(entries: Vec<ListedEntry>) -> Result<Listing> {
        let count = u32::try_from(entries.len()).map_err(|_| Errno::EIO)?;
        let mut by_name: Vec<u32> = (0..count).collect();
        by_name.sort_unstable_by(|&a, &b| entries[a as usize].name.cmp(&entries[b as usize].name));
        Ok(Listing { entries, by_name })
    }

    pub fn find(&self, name: &[u8]) -> Option<&ListedEntry> {
        self.entries.get(*self.by_name.get(self.position(name)?)? as usize)
    }

    /// Where the name is in the order of names.
    fn position(&self, name: &[u8]) -> Option<usize> {
        let entry = |index: u32| self.entries.get(index as usize);
        self.by_name.binary_search_by(|&index| entry(index).map_or(&[][..], |e| &e.name).cmp(name)).ok()
    }
}

/// The listings that are kept.
pub(crate) type ListingCache = Recent<GoferInode>;

pub(crate) fn listing_cache() -> ListingCache {
    Recent::new(BUDGET)
}

impl GoferInode {
    /// What the directory holds now, from memory if that is sure to be true.
    pub(crate) fn list(&self) -> Result<Arc<Listing>> {
        let dir = self.dir.as_ref().ok_or(Errno::ENOTDIR)?;
        let generation = {
            let dir = dir.lock();
            if let Some(listing) = &dir.listing {
                return Ok(Arc::clone(listing));
            }
            dir.generation
        };
        let listing = Arc::new(self.fetch_listing()?);
        if !self.is_exclusive() || listing.entries.len() > MAX_KEPT {
            return Ok(listing);
        }
        {
            let mut dir = dir.lock();
            if dir.generation != generation {
                return Ok(listing);
            }
            dir.listing = Some(Arc::clone(&listing));
        }
        self.remember_listing(&listing);
        Ok(listing)
    }

    fn fetch_listing(&self) -> Result<Listing> {
        let (mut entries, mut cookie) = match self.list_by_name()? {
            Some((entries, None)) => return Listing::new(entries),
            Some((entries, Some(next))) => (entries, next),
            None => (Vec::new(), 0),
        };
        let node = self.node()?;
        loop {
            let keep = self.is_exclusive() && entries.len() < MAX_KEPT;
            let detail = if keep { ReadDirDetail::Attributes } else { ReadDirDetail::Plain };
            let page = self.shared.client.read_dir(&node, cookie, detail)?;
            entries.extend(page.entries.into_iter().filter_map(|entry| self.listed(entry)));
            match page.next {
                None => break,
                Some(next) if next != cookie && entries.len() < MAX_ENTRIES => cookie = next,
                Some(_) => return Err(Errno::EIO),
            }
        }
        Listing::new(entries)
    }

    /// Where only the name of the directory is known, one message finds and lists it. While a tree is walked, it brings the next ones along.
    fn list_by_name(&self) -> Result<Option<FirstPage>> {
        let place = {
            let origin = self.origin.lock();
            if origin.node.is_some() || !self.is_exclusive() { None } else { origin.place.clone() }
        };
        let Some(Place { parent, name }) = place else { return Ok(None) };
        let changes = self.shared.changes.load(Ordering::Acquire);
        let generation = parent.generation()?;
        let mut names = vec![name];
        names.extend(parent.next_to_list(&names[0]));
        // What an error is called is for the longer way to find out.
        let Ok(listed) = self.shared.client.list_dirs(&*parent.node()?, names.clone()) else { return Ok(None) };
        let mut listed = names.into_iter().zip(listed);
        let Some((_, (found, page))) = listed.next() else { return Ok(None) };
        if HostId::from(&found.attr) != self.id {
            return Ok(None);
        }
        self.origin.lock().node = Some(Arc::new(found.node));
        for (name, (found, page)) in listed {
            parent.keep_listed(name, found, page, generation, changes)?;
        }
        Ok(Some((page.entries.into_iter().filter_map(|entry| self.listed(entry)).collect(), page.next)))
    }

    /// Directories beside `name` that are likely to be listed next: the one after it in the order of names, when some have been before.
    fn next_to_list(&self, name: &Name) -> Vec<Name> {
        let listing = {
            let Some(mut dir) = self.dir.as_ref().map(|dir| dir.lock()) else { return Vec::new() };
            dir.listed_below = dir.listed_below.saturating_add(1);
            if dir.listed_below < AHEAD_AFTER { None } else { dir.listing.clone() }
        };
        let Some(listing) = listing else { return Vec::new() };
        let start = listing.position(name.as_bytes()).map_or(0, |at| at + 1);
        let later = listing.by_name.iter().skip(start).filter_map(|index| listing.entries.get(*index as usize));
        let unlisted = later
            .take(AHEAD_SCAN)
            .filter(|entry| entry.kind == FileKind::Directory && entry.attr.is_some() && !self.is_listed(&entry.name));
        unlisted.filter_map(|entry| Name::new(&entry.name).ok()).take(MAX_LISTED - 1).collect()
    }

    fn is_listed(&self, name: &[u8]) -> bool {
        let child = self.dir.as_ref().and_then(|dir| dir.lock().known(name));
        child.and_then(|child| child.dir.as_ref().map(|dir| dir.lock().listing.is_some())).unwrap_or(false)
    }

    /// A directory that came along with another's listing.
    fn keep_listed(self: &Arc<Self>, name: Name, found: Found, page: proto::Listing, generation: u64, changes: u64) -> Result<()> {
        let place = Place { parent: Arc::clone(self), name: name.clone() };
        let inode = self.shared.intern(found.node, found.attr, Some((place, None)))?;
        let Some(dir) = &inode.dir else { return Ok(()) };
        let entries: Vec<ListedEntry> = page.entries.into_iter().filter_map(|entry| inode.listed(entry)).collect();
        let listing = Arc::new(Listing::new(entries)?);
        {
            let mut dir = dir.lock();
            // Changes count before a listing is thrown away: whoever changes something now will find this one.
            if page.next.is_some() || dir.listing.is_some() || self.shared.changes.load(Ordering::Acquire) != changes {
                return Ok(());
            }
            dir.listing = Some(Arc::clone(&listing));
        }
        self.note(name.as_bytes(), Some(&inode), generation);
        inode.remember_listing(&listing);
        Ok(())
    }

    /// Enters a listing that was kept among those that may be thrown away.
    fn remember_listing(&self, listing: &Listing) {
        for loser in self.shared.listings.add(Weak::clone(&self.this), listing.entries.len() + 16) {
            if let Some(dir) = loser.upgrade().as_ref().and_then(|inode| inode.dir.as_ref()) {
                let old = dir.lock().listing.take();
                drop(old);
            }
        }
    }

    fn listed(&self, entry: proto::DirEntry) -> Option<ListedEntry> {
        let kind = FileKind::from_mode(u32::from(entry.kind) << 12)?;
        let dev = entry.attr.as_ref().map_or(self.id.dev, |attr| attr.dev);
        // A link whose target did not come has to be walked to.
        let attr = entry.attr.filter(|_| kind != FileKind::Symlink || entry.target.is_some());
        Some(ListedEntry {
            name: entry.name.as_bytes().into(),
            ino: self.shared.guest_ino(dev, entry.ino),
            kind,
            attr,
            target: entry.target,
        })
    }

    fn guest_id(&self) -> u64 {
        self.shared.guest_ino(self.id.dev, self.id.ino)
    }
}

/// An open directory: one listing, taken when reading starts, so that cookies mean something.
pub(crate) struct GoferDir {
    inode: Arc<GoferInode>,
    listing: Mutex<Option<Arc<Listing>>>,
}

impl GoferDir {
    pub fn new(inode: Arc<GoferInode>) -> GoferDir {
        GoferDir { inode, listing: Mutex::new(Level::Leaf, None) }
    }

    /// The listing that reading from `from` goes on with; a new one at the start.
    fn listing(&self, from: u64) -> Result<Arc<Listing>> {
        if from != 0
            && let Some(listing) = self.listing.lock().clone()
        {
            return Ok(listing);
        }
        let listing = self.inode.list()?;
        let old = self.listing.lock().replace(Arc::clone(&listing));
        drop(old);
        Ok(listing)
    }

    fn parent_id(&self) -> u64 {
        let place = self.inode.origin.lock().place.clone();
        place.map_or_else(|| self.inode.guest_id(), |place| place.parent.guest_id())
    }
}

impl FileOps for GoferDir {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Directory
    }

    fn read(&self, _: &dyn Caller, _: u64, _: &mut [u8]) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn iterate(&self, _: &dyn Caller, from: u64, emit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let listing = self.listing(from)?;
        let dots = [(&b"."[..], self.inode.guest_id()), (&b".."[..], self.parent_id())];
        let mut next = 0;
        for (name, ino) in dots {
            next += 1;
            if from < next && emit(&DirEntry { name, ino, kind: FileKind::Directory, next }).is_break() {
                return Ok(());
            }
        }
        let skip = usize::try_from(from.saturating_sub(2)).unwrap_or(usize::MAX);
        for (index, entry) in listing.entries.iter().enumerate().skip(skip) {
            let next = index as u64 + 3;
            if emit(&DirEntry { name: &entry.name, ino: entry.ino, kind: entry.kind, next }).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn sync(&self, _: bool) -> Result<()> {
        if self.inode.shared.rights == gofer_proto::Rights::ReadOnly {
            return Ok(());
        }
        self.inode.shared.client.sync_dir(&*self.inode.node()?).map_err(|errno| if errno == Errno::ESTALE { Errno::EIO } else { errno })
    }
}
