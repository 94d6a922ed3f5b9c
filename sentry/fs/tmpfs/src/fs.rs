//! A tmpfs as a whole.

use std::fmt::Write;
use std::sync::Arc;

use sentry_abi::stat::StatFs;
use sentry_abi::{FileKind, Result};
use sentry_memory::FileSource;
use sentry_sync::{Level, Mutex};
use sentry_vfs::{FileSystem, Inode, NewNode};

use crate::inode::TmpInode;
use crate::options::TmpFsOptions;
use crate::store::{Clock, Store};

const TMPFS_MAGIC: i64 = 0x0102_1994;

pub struct TmpFs {
    store: Arc<Store>,
    root: Arc<TmpInode>,
    options: Mutex<TmpFsOptions>,
}

impl TmpFs {
    /// `device` is its `st_dev`; `source` gives host files for what does not fit the heap; `clock` is CLOCK_REALTIME. `ENOSPC` when not even the root fits.
    pub fn new(options: TmpFsOptions, device: u64, source: Arc<dyn FileSource>, clock: Clock) -> Result<Arc<TmpFs>> {
        let store = Store::new(device, 1, options.size.map(|s| s / 4096), options.nr_inodes, source, clock);
        let node = NewNode { kind: FileKind::Directory, mode: options.mode, uid: options.uid, gid: options.gid, rdev: 0 };
        let root = TmpInode::new(&store, &node)?;
        root.relink(2);
        Ok(Arc::new(TmpFs { store, root, options: Mutex::new(Level::Leaf, options) }))
    }

    /// A remount: new limits; mode and owner of the root stay. `EINVAL` when more is in use than would be allowed.
    pub fn reconfigure(&self, data: &[u8], memory: u64) -> Result<()> {
        let new = self.options.lock().clone().changed(data, memory)?;
        self.store.limits.change(Some(new.size.map(|s| s / 4096)), Some(new.nr_inodes))?;
        *self.options.lock() = new;
        Ok(())
    }
}

impl FileSystem for TmpFs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn device(&self) -> u64 {
        self.store.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(stat_fs(&self.store, TMPFS_MAGIC))
    }

    fn show_options(&self) -> String {
        let options = self.options.lock().clone();
        let mut text = String::new();
        if let Some(size) = options.size {
            let _ = write!(text, "size={}k,", size / 1024);
        }
        if let Some(inodes) = options.nr_inodes {
            let _ = write!(text, "nr_inodes={inodes},");
        }
        if options.mode.0 != 0o1777 {
            let _ = write!(text, "mode={:o},", options.mode.0);
        }
        if options.uid != 0 {
            let _ = write!(text, "uid={},", options.uid);
        }
        if options.gid != 0 {
            let _ = write!(text, "gid={},", options.gid);
        }
        text.push_str("inode64");
        text
    }
}

/// What statfs(2) shows where there is no limit, in pages: 1 TiB. `Differs:` Linux shows 0, which programs take for a full file system.
const UNLIMITED_PAGES: u64 = 1 << 28;

pub(crate) fn stat_fs(store: &Store, kind: i64) -> StatFs {
    let shown = |(most, used): (u64, u64)| {
        let most = if most == u64::MAX { UNLIMITED_PAGES.max(used) } else { most };
        (most, most.saturating_sub(used))
    };
    let (blocks, bfree) = shown(store.pages());
    let (files, ffree) = shown(store.inodes());
    let fsid = [i32::try_from(store.device).unwrap_or(0), 0];
    StatFs { kind, bsize: 4096, blocks, bfree, bavail: bfree, files, ffree, fsid, namelen: 255, frsize: 4096, ..StatFs::default() }
}
