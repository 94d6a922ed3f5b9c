//! Directory listings, and open directories.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

use gofer_proto::{self as proto, ReadDirDetail, Target};
use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Caller, DirEntry, FileOps, Seek};

use crate::inode::GoferInode;
use crate::recent::Recent;

/// Most entries of a listing that is kept with attributes.
const MAX_KEPT: usize = 16 << 10;
/// Most entries of a directory that can be read at all.
const MAX_ENTRIES: usize = 4 << 20;
/// Entries kept in all listings of a file system together.
const BUDGET: usize = 96 << 10;

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

impl Listing {
    pub fn find(&self, name: &[u8]) -> Option<&ListedEntry> {
        let entry = |index: u32| self.entries.get(index as usize);
        let at = self.by_name.binary_search_by(|&index| entry(index).map_or(&[][..], |e| &e.name).cmp(name)).ok()?;
        entry(*self.by_name.get(at)?)
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
        for loser in self.shared.listings.add(Weak::clone(&self.this), listing.entries.len() + 16) {
            if let Some(dir) = loser.upgrade().as_ref().and_then(|inode| inode.dir.as_ref()) {
                let old = dir.lock().listing.take();
                drop(old);
            }
        }
        Ok(listing)
    }

    fn fetch_listing(&self) -> Result<Listing> {
        let node = self.node()?;
        let mut entries: Vec<ListedEntry> = Vec::new();
        let mut cookie = 0;
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
        let count = u32::try_from(entries.len()).map_err(|_| Errno::EIO)?;
        let mut by_name: Vec<u32> = (0..count).collect();
        by_name.sort_unstable_by(|&a, &b| entries[a as usize].name.cmp(&entries[b as usize].name));
        Ok(Listing { entries, by_name })
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
