//! The file system behind a gofer: names come by message, contents by the host descriptors that the gofer donates.
//!
//! Key types: [`GoferFs`] (one tree of one gofer), [`GoferFsConfig`], [`Sharing`]. `inode` holds what a file is, `dir` the names of a directory that
//! are known, `files` the donated descriptors, `file` and `listing` what is open.
//! Neighbours: `gofer-client` below, `vfs` above.
//!
//! Invariants: no lock is held over a message. Whoever has the same host file has the same inode (`table`), so locks and bound sockets meet. What is
//! kept (descriptors, listings) is bounded per file system. In an exclusive tree nothing that is known is asked for again; in a shared one nothing
//! is believed for longer than [`FRESH`], which is there so that the checks of one path walk share one message.
//! Deliberately absent: devices, FIFOs and sockets of the host (only their names are seen), O_TMPFILE.
#![forbid(unsafe_code)]

mod convert;
mod dir;
mod file;
mod files;
mod inode;
mod listing;
mod origin;
mod recent;
mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use gofer_client::{GoferClient, Root};
use gofer_proto::Rights;
use sentry_abi::Result;
use sentry_abi::stat::StatFs;
use sentry_vfs::{FileSystem, Inode};

use dir::FoundLately;
use files::FileCache;
use inode::GoferInode;
use listing::ListingCache;
use table::InodeTable;

/// How long an answer is believed where others may change the tree.
pub(crate) const FRESH: Duration = Duration::from_micros(200);

/// Who may change the tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Only this file system: everything known stays true.
    Exclusive,
    /// The host and other containers too.
    Shared,
}

pub struct GoferFsConfig {
    /// Index of the tree in the gofer.
    pub tree: u32,
    pub sharing: Sharing,
    /// `st_dev` of its files.
    pub device: u64,
    /// Most donated descriptors to hold at a time; beyond, files in use fail with `ENFILE`.
    pub max_files: usize,
}

/// What all inodes of one file system share.
pub(crate) struct Shared {
    pub client: Arc<GoferClient>,
    pub sharing: Sharing,
    pub rights: Rights,
    pub device: u64,
    /// The host's device number of the root: inode numbers of other host devices are made different.
    pub root_device: u64,
    pub table: InodeTable,
    pub files: FileCache,
    pub listings: ListingCache,
    pub lately: FoundLately,
    /// Counts changes of directories, all together: what was listed ahead of need is kept only if there was none meanwhile.
    pub changes: AtomicU64,
}

pub struct GoferFs {
    shared: Arc<Shared>,
    root: Arc<GoferInode>,
}

impl GoferFs {
    /// Attaches to a tree. One message.
    pub fn new(client: &Arc<GoferClient>, config: &GoferFsConfig) -> Result<Arc<GoferFs>> {
        let Root { node, attr, rights } = client.attach(config.tree)?;
        let shared = Arc::new(Shared {
            client: Arc::clone(client),
            sharing: config.sharing,
            rights,
            device: config.device,
            root_device: attr.dev,
            table: InodeTable::new(),
            files: FileCache::new(config.max_files),
            listings: listing::listing_cache(),
            lately: FoundLately::new(),
            changes: AtomicU64::new(0),
        });
        let root = shared.intern(node, attr, None)?;
        Ok(Arc::new(GoferFs { shared, root }))
    }

    /// May files be changed? What the mount flags add is the mount's affair.
    pub fn rights(&self) -> Rights {
        self.shared.rights
    }
}

impl Drop for GoferFs {
    fn drop(&mut self) {
        // They hold what holds them.
        self.shared.lately.clear();
    }
}

impl FileSystem for GoferFs {
    fn name(&self) -> &'static str {
        "9p"
    }

    fn device(&self) -> u64 {
        self.shared.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        let stat = self.shared.client.stat_fs(&*self.root.node()?)?;
        Ok(convert::stat_fs(&stat))
    }

    fn show_options(&self) -> String {
        match self.shared.sharing {
            Sharing::Exclusive => "cache=exclusive".to_owned(),
            Sharing::Shared => "cache=shared".to_owned(),
        }
    }

    fn is_shared(&self) -> bool {
        self.shared.sharing == Sharing::Shared
    }
}
