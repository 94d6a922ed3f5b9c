//! Which overlay inode belongs to a lower file: one per file while in use, and for ever once it differs from the lower.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use sentry_abi::{FileKind, Timespec};
use sentry_sync::{Level, Mutex};
use sentry_vfs::Attr;

use crate::inode::OverlayInode;

/// What identifies a lower file. With the time of its birth, since a host that does change may use a number again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    dev: u64,
    ino: u64,
    kind: FileKind,
    btime: Option<Timespec>,
}

impl Key {
    pub fn of(attr: &Attr) -> Key {
        Key { dev: attr.dev, ino: attr.ino, kind: attr.kind, btime: attr.btime }
    }
}

enum Slot {
    /// Like the lower: forgotten when nobody uses it.
    Seen(Weak<OverlayInode>),
    /// Differs from the lower.
    Kept(Arc<OverlayInode>),
}

impl Slot {
    fn get(&self) -> Option<Arc<OverlayInode>> {
        match self {
            Slot::Seen(weak) => weak.upgrade(),
            Slot::Kept(inode) => Some(inode.clone()),
        }
    }
}

struct Table {
    slots: HashMap<Key, Slot>,
    /// At this many the dead ones are thrown out.
    purge_at: usize,
}

pub(crate) struct Index {
    table: Mutex<Table>,
}

const PURGE_FIRST: usize = 1024;

impl Index {
    pub fn new() -> Index {
        // A leaf: an inode may be let go under any other lock, and nothing is called from here.
        Index { table: Mutex::new(Level::Leaf, Table { slots: HashMap::new(), purge_at: PURGE_FIRST }) }
    }

    pub fn get(&self, key: &Key) -> Option<Arc<OverlayInode>> {
        self.table.lock().slots.get(key).and_then(Slot::get)
    }

    /// `new`, unless another is known for the key.
    pub fn insert(&self, key: Key, new: Arc<OverlayInode>) -> Arc<OverlayInode> {
        let mut table = self.table.lock();
        if let Some(there) = table.slots.get(&key).and_then(Slot::get) {
            drop(table);
            return there;
        }
        if table.slots.len() >= table.purge_at {
            table.slots.retain(|_, slot| match slot {
                Slot::Seen(weak) => weak.strong_count() != 0,
                Slot::Kept(_) => true,
            });
            table.purge_at = (table.slots.len() * 2).max(PURGE_FIRST);
        }
        table.slots.insert(key, Slot::Seen(Arc::downgrade(&new)));
        new
    }

    /// From now on the inode is remembered whether used or not.
    pub fn keep(&self, key: Key, inode: Arc<OverlayInode>) {
        let old = self.table.lock().slots.insert(key, Slot::Kept(inode));
        drop(old);
    }

    /// The file is gone: remembered only while used.
    pub fn let_go(&self, key: Key, inode: &Arc<OverlayInode>) {
        let old = self.table.lock().slots.insert(key, Slot::Seen(Arc::downgrade(inode)));
        drop(old);
    }

    /// At the end of the file system.
    pub fn clear(&self) {
        let slots = std::mem::take(&mut self.table.lock().slots);
        drop(slots);
    }
}
