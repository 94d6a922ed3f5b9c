//! An overlay as a whole.

use std::sync::Arc;

use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Result};
use sentry_fs_tmpfs::{Clock, Store};
use sentry_memory::FileSource;
use sentry_sync::{Level, Mutex};
use sentry_vfs::{FileSystem, Inode};

use crate::index::{Index, Key};
use crate::inode::OverlayInode;

const OVERLAYFS_MAGIC: i64 = 0x794c_7630;
/// Inode numbers of files that only the overlay has begin here: above what a disk file system uses, and exact in a double.
const FIRST_OWN_INO: u64 = 1 << 50;

/// Limits of the upper; `None` is no limit.
#[derive(Clone, Debug, Default)]
pub struct OverlayOptions {
    /// Bytes.
    pub size: Option<u64>,
    pub nr_inodes: Option<u64>,
}

pub(crate) struct Shared {
    pub store: Arc<Store>,
    pub index: Index,
    /// Held over every change of the tree.
    pub surgery: Mutex<()>,
}

impl Shared {
    /// The overlay's inode for a file that `dir`'s lower has.
    pub fn adopt(self: &Arc<Shared>, lower: Arc<dyn Inode>, dir: &OverlayInode) -> Result<Arc<OverlayInode>> {
        let attr = lower.attr()?;
        let key = Key::of(&attr);
        let inode = match self.index.get(&key) {
            Some(known) => known,
            None => self.index.insert(key, OverlayInode::from_lower(self, lower, &attr)),
        };
        if let Some(names) = &inode.names
            && names.parent().is_none()
        {
            names.set_parent(dir.weak());
        }
        Ok(inode)
    }
}

pub struct OverlayFs {
    shared: Arc<Shared>,
    root: Arc<OverlayInode>,
    lower: Arc<dyn FileSystem>,
}

impl OverlayFs {
    /// `lower` is only read and must not change. `device` is the overlay's `st_dev`, `source` gives host files for the upper's bytes, `clock` is
    /// CLOCK_REALTIME. `ENOTDIR` when the lower's root is no directory.
    pub fn new(
        lower: Arc<dyn FileSystem>,
        options: OverlayOptions,
        device: u64,
        source: Arc<dyn FileSource>,
        clock: Clock,
    ) -> Result<Arc<OverlayFs>> {
        let store = Store::new(device, FIRST_OWN_INO, options.size.map(|s| s.div_ceil(4096)), options.nr_inodes, source, clock);
        let shared = Arc::new(Shared { store, index: Index::new(), surgery: Mutex::new(Level::Rename, ()) });
        let below = lower.root();
        let attr = below.attr()?;
        if attr.kind != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let root = shared.index.insert(Key::of(&attr), OverlayInode::from_lower(&shared, below, &attr));
        Ok(Arc::new(OverlayFs { shared, root, lower }))
    }
}

impl Drop for OverlayFs {
    fn drop(&mut self) {
        // The index and the inodes in it hold each other.
        self.shared.index.clear();
    }
}

impl FileSystem for OverlayFs {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn device(&self) -> u64 {
        self.shared.store.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    /// The upper's where it has a limit, else the lower's, under the overlay's name.
    fn stat_fs(&self) -> Result<StatFs> {
        let mut stat = self.lower.stat_fs()?;
        let device = self.shared.store.device;
        (stat.kind, stat.fsid, stat.namelen) = (OVERLAYFS_MAGIC, [i32::try_from(device).unwrap_or(0), 0], 255);
        let (pages, used) = self.shared.store.pages();
        if pages != u64::MAX {
            (stat.bsize, stat.frsize, stat.blocks) = (4096, 4096, pages);
            (stat.bfree, stat.bavail) = (pages.saturating_sub(used), pages.saturating_sub(used));
        }
        let (inodes, used) = self.shared.store.inodes();
        if inodes != u64::MAX {
            (stat.files, stat.ffree) = (inodes, inodes.saturating_sub(used));
        }
        Ok(stat)
    }

    fn show_options(&self) -> String {
        "lowerdir=/,upperdir=/,workdir=/".to_owned()
    }
}
