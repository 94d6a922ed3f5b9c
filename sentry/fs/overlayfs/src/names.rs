//! Where a directory differs from its lower one: entries of its own and whiteouts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::Inode;

use crate::inode::OverlayInode;

enum Slot {
    /// `covers`: the lower has this name too, so that a whiteout must stay when the entry goes.
    Own {
        cookie: u64,
        inode: Arc<OverlayInode>,
        covers: bool,
    },
    Whiteout,
}

struct Slots {
    by_name: HashMap<Arc<[u8]>, Slot>,
    /// Own entries in the order of their making; a number is never used twice, so that a listing survives changes.
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
    /// Removed: nothing may be added any more.
    dead: bool,
    parent: Weak<OverlayInode>,
}

pub(crate) struct Names {
    slots: Mutex<Slots>,
}

/// What a directory itself knows of a name.
pub(crate) enum Known {
    Own(Arc<OverlayInode>),
    Whiteout,
    /// Ask the lower.
    Nothing,
}

pub(crate) struct Listed {
    pub name: Arc<[u8]>,
    pub ino: u64,
    pub kind: FileKind,
    pub next: u64,
}

impl Names {
    pub fn new() -> Names {
        let slots = Slots { by_name: HashMap::new(), order: BTreeMap::new(), next: 0, dead: false, parent: Weak::new() };
        Names { slots: Mutex::new(Level::Overlay, slots) }
    }

    pub fn get(&self, name: &[u8]) -> Known {
        match self.slots.lock().by_name.get(name) {
            Some(Slot::Own { inode, .. }) => Known::Own(inode.clone()),
            Some(Slot::Whiteout) => Known::Whiteout,
            None => Known::Nothing,
        }
    }

    pub fn knows_nothing_of(&self, name: &[u8]) -> bool {
        !self.slots.lock().by_name.contains_key(name)
    }

    pub fn parent(&self) -> Option<Arc<OverlayInode>> {
        self.slots.lock().parent.upgrade()
    }

    pub fn set_parent(&self, parent: Weak<OverlayInode>) {
        let old = std::mem::replace(&mut self.slots.lock().parent, parent);
        drop(old);
    }

    pub fn count(&self) -> usize {
        self.slots.lock().by_name.len()
    }

    pub fn is_dead(&self) -> bool {
        self.slots.lock().dead
    }

    /// Own entries, up to `most`, from `cookie` on.
    pub fn list(&self, cookie: u64, most: usize) -> Vec<Listed> {
        let slots = self.slots.lock();
        let listed = |(cookie, name): (&u64, &Arc<[u8]>)| match slots.by_name.get(name)? {
            Slot::Own { inode, .. } => Some(Listed { name: name.clone(), ino: inode.ino, kind: inode.kind(), next: cookie + 1 }),
            Slot::Whiteout => None,
        };
        slots.order.range(cookie..).take(most).filter_map(listed).collect()
    }

    /// Puts `inode` under `name`. `in_lower` says whether the lower has the name, where there is no slot yet. Under the surgery lock.
    pub fn put(&self, name: &[u8], inode: Arc<OverlayInode>, in_lower: bool) {
        let mut slots = self.slots.lock();
        if let Some(Slot::Own { inode: there, .. }) = slots.by_name.get_mut(name) {
            let old = std::mem::replace(there, inode);
            drop(slots);
            drop(old);
            return;
        }
        let cookie = slots.next;
        slots.next += 1;
        let name: Arc<[u8]> = name.into();
        let covers = in_lower || matches!(slots.by_name.get(&name), Some(Slot::Whiteout));
        slots.order.insert(cookie, name.clone());
        slots.by_name.insert(name, Slot::Own { cookie, inode, covers });
    }

    /// Takes `name` away, leaving a whiteout where the lower has it. Under the surgery lock.
    pub fn erase(&self, name: &[u8]) {
        let mut slots = self.slots.lock();
        let old = match slots.by_name.remove(name) {
            Some(Slot::Own { cookie, inode, covers }) => {
                slots.order.remove(&cookie);
                if covers {
                    slots.by_name.insert(name.into(), Slot::Whiteout);
                }
                Some(inode)
            }
            // Of the lower.
            Some(Slot::Whiteout) | None => {
                slots.by_name.insert(name.into(), Slot::Whiteout);
                None
            }
        };
        drop(slots);
        drop(old);
    }

    /// Marks a directory as removed if it shows nothing; `lower_names` are all that the lower shows. `ENOTEMPTY`.
    pub fn kill(&self, lower_names: &[Box<[u8]>]) -> Result<()> {
        let mut slots = self.slots.lock();
        let hidden = |name: &[u8]| matches!(slots.by_name.get(name), Some(Slot::Whiteout));
        if !slots.order.is_empty() || !lower_names.iter().all(|n| hidden(n)) {
            return Err(Errno::ENOTEMPTY);
        }
        slots.dead = true;
        Ok(())
    }

    /// Drops the tree below without recursion.
    pub fn dismantle(&mut self) {
        let mut doomed = self.take_all();
        while let Some(inode) = doomed.pop() {
            if let Some(mut inode) = Arc::into_inner(inode)
                && let Some(names) = &mut inode.names
            {
                doomed.append(&mut names.take_all());
            }
        }
    }

    fn take_all(&mut self) -> Vec<Arc<OverlayInode>> {
        let own = |(_, slot)| match slot {
            Slot::Own { inode, .. } => Some(inode),
            Slot::Whiteout => None,
        };
        self.slots.get_mut().by_name.drain().filter_map(own).collect()
    }
}
