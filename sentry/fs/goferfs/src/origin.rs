//! Where a file is found: the gofer's node, and the names that are known.

use std::sync::Arc;

use gofer_client::Node;
use gofer_proto::Name;

use crate::inode::GoferInode;

/// A name that the file has.
#[derive(Clone)]
pub(crate) struct Place {
    pub parent: Arc<GoferInode>,
    pub name: Name,
}

impl Place {
    pub fn is(&self, parent: &GoferInode, name: &[u8]) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.parent), parent) && self.name.as_bytes() == name
    }
}

/// Most names of one file that are remembered.
const MAX_PLACES: usize = 1024;

/// How the gofer knows the file. Without a node, the place says how to get one; without both, the file waits for somebody to find it by another
/// of its names.
pub(crate) struct Origin {
    pub node: Option<Arc<Node>>,
    pub place: Option<Place>,
    /// Its other names, for when this one is lost: whoever has found the file by one of them does not look it up again.
    others: Vec<Place>,
}

impl Origin {
    pub fn new(node: Option<Arc<Node>>, place: Option<Place>) -> Origin {
        Origin { node, place, others: Vec::new() }
    }

    /// A newer way to the file; the older name is kept in reserve. Returns what is no longer needed, to be dropped without the lock.
    #[must_use]
    pub fn renew(&mut self, new: Origin) -> (Option<Arc<Node>>, Option<Place>) {
        let node = std::mem::replace(&mut self.node, new.node);
        let Some(place) = new.place else { return (node, None) };
        let mut unneeded = self.take_other(&place);
        if let Some(before) = self.place.replace(place.clone()) {
            if before.is(&place.parent, place.name.as_bytes()) || self.others.len() >= MAX_PLACES {
                unneeded = Some(before);
            } else {
                self.others.push(before);
            }
        }
        (node, unneeded)
    }

    fn take_other(&mut self, place: &Place) -> Option<Place> {
        let index = self.others.iter().position(|other| other.is(&place.parent, place.name.as_bytes()))?;
        Some(self.others.swap_remove(index))
    }

    /// This name is gone; another takes its place, if one is known.
    #[must_use]
    pub fn lose(&mut self, parent: &GoferInode, name: &[u8]) -> (Option<Arc<Node>>, Option<Place>) {
        if self.place.as_ref().is_some_and(|place| place.is(parent, name)) {
            let next = self.others.pop();
            return (self.node.take(), std::mem::replace(&mut self.place, next));
        }
        let index = self.others.iter().position(|other| other.is(parent, name));
        (None, index.map(|index| self.others.swap_remove(index)))
    }

    /// The file has another name now.
    #[must_use]
    pub fn rename(&mut self, from: (&GoferInode, &[u8]), to: Place) -> Option<Place> {
        let all = self.place.iter_mut().chain(&mut self.others);
        let place = all.into_iter().find(|place| place.is(from.0, from.1))?;
        Some(std::mem::replace(place, to))
    }
}
