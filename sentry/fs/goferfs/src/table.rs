//! All live inodes of a file system, by what the host says they are.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use gofer_proto::Time;
use sentry_sync::{Level, Mutex};

use crate::inode::GoferInode;

/// Which host file. The birth time tells a new file from an old one whose inode number it got.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct HostId {
    pub dev: u64,
    pub ino: u64,
    pub btime: Option<Time>,
}

impl From<&gofer_proto::Attr> for HostId {
    fn from(attr: &gofer_proto::Attr) -> HostId {
        HostId { dev: attr.dev, ino: attr.ino, btime: attr.btime }
    }
}

struct Inodes {
    map: HashMap<HostId, Weak<GoferInode>>,
    /// Dead entries are swept when the map has grown to this.
    sweep_at: usize,
}

pub(crate) struct InodeTable(Mutex<Inodes>);

impl InodeTable {
    pub fn new() -> InodeTable {
        InodeTable(Mutex::new(Level::InodeState, Inodes { map: HashMap::new(), sweep_at: 1024 }))
    }

    /// The inode of that file, or the one that `make` makes.
    pub fn get_or_insert(&self, id: HostId, make: impl FnOnce() -> Arc<GoferInode>) -> (Arc<GoferInode>, Entry) {
        let mut inodes = self.0.lock();
        if let Some(inode) = inodes.map.get(&id).and_then(Weak::upgrade) {
            return (inode, Entry::Old);
        }
        if inodes.map.len() >= inodes.sweep_at {
            inodes.map.retain(|_, inode| inode.strong_count() != 0);
            inodes.sweep_at = (inodes.map.len() * 2).max(1024);
        }
        let inode = make();
        inodes.map.insert(id, Arc::downgrade(&inode));
        (inode, Entry::New)
    }

    /// The file has lost its last name: its number may come again.
    pub fn forget(&self, id: HostId) {
        self.0.lock().map.remove(&id);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    New,
    Old,
}
