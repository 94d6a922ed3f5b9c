//! What the client holds ids of.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use gofer_proto::{Access, Attr, Name, NodeId, Rights};
use sentry_abi::{Errno, FileKind, Result};
use sentry_sync::{Level, Mutex};

use crate::host::{self, FileId, Submounts};
use crate::{Gofer, TreeConfig};

/// Most nodes alive at a time: what a hostile client can make us hold is this times some 200 bytes.
pub(crate) const MAX_NODES: usize = 1 << 18;
/// Most steps from a node up to an ancestor that has a descriptor.
const MAX_CLIMB: usize = 4096;
/// Most descriptors kept for nodes, whatever the process may open.
const MAX_KEPT: u64 = 1 << 16;

/// A tree as it was configured.
pub(crate) struct Tree {
    pub root: Arc<Node>,
    pub rights: Rights,
    pub submounts: Submounts,
    /// When the root is a regular file: its descriptions.
    file: Option<RootFile>,
}

struct RootFile {
    read: OwnedFd,
    write: Option<OwnedFd>,
}

impl Tree {
    pub fn new(config: TreeConfig, index: usize, nodes: &NodeTable) -> rustix::io::Result<Tree> {
        let bad = |errno: Errno| rustix::io::Errno::from_raw_os_error(errno.raw());
        let attr = host::stat(config.root.as_fd()).map_err(bad)?;
        let root = nodes.make(index, &attr, None).map_err(bad)?;
        let file = match root.kind {
            FileKind::Directory => {
                *root.fd.lock() = Some(Arc::new(config.root));
                None
            }
            FileKind::Regular => {
                *root.fd.lock() = Some(Arc::new(rustix::io::fcntl_dupfd_cloexec(&config.root, 3)?));
                Some(RootFile { read: config.root, write: config.writable_file })
            }
            _ => return Err(rustix::io::Errno::INVAL),
        };
        Ok(Tree { root, rights: config.rights, submounts: config.submounts, file })
    }

    /// A description of the root, which is a regular file. All of them share one offset, which nobody uses.
    pub fn open_root(&self, access: Access) -> Result<OwnedFd> {
        let file = self.file.as_ref().ok_or(Errno::ESTALE)?;
        let fd = match access {
            Access::Read => &file.read,
            Access::ReadWrite => file.write.as_ref().ok_or(Errno::EROFS)?,
        };
        rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(host::errno)
    }

    pub fn must_be_writable(&self) -> Result<()> {
        match self.rights {
            Rights::ReadWrite => Ok(()),
            Rights::ReadOnly => Err(Errno::EROFS),
        }
    }
}

/// Where a node was found: what to open to find it again.
#[derive(Clone)]
pub(crate) struct Place {
    pub parent: Arc<Node>,
    pub name: Name,
}

/// One file of a tree. Never changes which file it is.
pub(crate) struct Node {
    pub tree: usize,
    pub id: FileId,
    pub kind: FileKind,
    /// `None` for a root, and for a node that was lost in a rename.
    place: Mutex<Option<Place>>,
    /// An `O_PATH` descriptor, while it is kept.
    fd: Mutex<Option<Arc<OwnedFd>>>,
    alive: Arc<AtomicUsize>,
}

impl Node {
    pub fn place(&self) -> Option<Place> {
        self.place.lock().clone()
    }

    pub fn set_place(&self, place: Option<Place>) {
        let old = std::mem::replace(&mut *self.place.lock(), place);
        // Dropped here, with the lock released: it may be the last owner of a whole chain.
        drop(old);
    }

    pub fn must_be_directory(&self) -> Result<()> {
        if self.kind == FileKind::Directory { Ok(()) } else { Err(Errno::ENOTDIR) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
        // A chain of parents of any length goes without recursion.
        let mut place = self.place.lock().take();
        while let Some(Place { parent, .. }) = place {
            place = Arc::into_inner(parent).and_then(|node| node.place.lock().take());
        }
    }
}

/// All nodes, by id, and the descriptors kept for them.
pub(crate) struct NodeTable {
    nodes: Mutex<HashMap<NodeId, Arc<Node>>>,
    next: AtomicU64,
    alive: Arc<AtomicUsize>,
    /// Nodes in the order in which they got their descriptor; the first loses it.
    kept: Mutex<VecDeque<Weak<Node>>>,
    keep: usize,
}

impl NodeTable {
    pub fn new(open_files: u64) -> NodeTable {
        // Half for nodes, the rest for what is under way.
        let keep = usize::try_from((open_files / 2).min(MAX_KEPT)).unwrap_or(0).max(16);
        NodeTable {
            nodes: Mutex::new(Level::Dentry, HashMap::new()),
            next: AtomicU64::new(1),
            alive: Arc::new(AtomicUsize::new(0)),
            kept: Mutex::new(Level::InodeState, VecDeque::new()),
            keep,
        }
    }

    /// A node that has no id yet. `ENFILE` when there are too many.
    pub fn make(&self, tree: usize, attr: &Attr, place: Option<Place>) -> Result<Arc<Node>> {
        let kind = FileKind::from_mode(attr.mode).ok_or(Errno::EIO)?;
        if self.alive.fetch_add(1, Ordering::Relaxed) >= MAX_NODES {
            self.alive.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENFILE);
        }
        Ok(Arc::new(Node {
            tree,
            id: FileId::from(attr),
            kind,
            place: Mutex::new(Level::Leaf, place),
            fd: Mutex::new(Level::Leaf, None),
            alive: Arc::clone(&self.alive),
        }))
    }

    pub fn insert(&self, node: Arc<Node>) -> NodeId {
        let id = NodeId(self.next.fetch_add(1, Ordering::Relaxed));
        self.nodes.lock().insert(id, node);
        id
    }

    /// `EBADF` for an id that is not the client's.
    pub fn get(&self, id: NodeId) -> Result<Arc<Node>> {
        self.nodes.lock().get(&id).cloned().ok_or(Errno::EBADF)
    }

    pub fn remove(&self, ids: &[NodeId]) {
        for id in ids {
            let node = self.nodes.lock().remove(id);
            drop(node);
        }
        let mut nodes = self.nodes.lock();
        if nodes.capacity() > 1024 && nodes.len() * 4 < nodes.capacity() {
            let room = nodes.len() * 2;
            nodes.shrink_to(room);
        }
    }

    /// Keeps `fd` for the node; may take another node's away.
    pub fn keep(&self, node: &Arc<Node>, fd: Arc<OwnedFd>) {
        *node.fd.lock() = Some(fd);
        let loser = {
            let mut kept = self.kept.lock();
            kept.push_back(Arc::downgrade(node));
            if kept.len() > self.keep { kept.pop_front() } else { None }
        };
        if let Some(loser) = loser.and_then(|weak| weak.upgrade()) {
            let fd = loser.fd.lock().take();
            drop(fd);
        }
    }

    #[cfg(test)]
    pub fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }
}

impl Gofer {
    pub(crate) fn tree(&self, node: &Node) -> Result<&Tree> {
        self.trees.get(node.tree).ok_or(Errno::EBADF)
    }

    /// The node of a directory in which something is to be changed.
    pub(crate) fn writable_dir(&self, id: NodeId) -> Result<Arc<Node>> {
        let dir = self.nodes.get(id)?;
        self.tree(&dir)?.must_be_writable()?;
        dir.must_be_directory()?;
        Ok(dir)
    }

    /// The node's descriptor, opened again along its ancestors if it has none. `ESTALE` when another file, or none, is there by now.
    pub(crate) fn fd(&self, node: &Arc<Node>) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = node.fd.lock().clone() {
            return Ok(fd);
        }
        let submounts = self.tree(node)?.submounts;
        let mut chain = vec![(Arc::clone(node), node.place().ok_or(Errno::ESTALE)?)];
        let mut fd = loop {
            let (_, place) = chain.last().ok_or(Errno::ESTALE)?;
            let parent = Arc::clone(&place.parent);
            if let Some(fd) = parent.fd.lock().clone() {
                break fd;
            }
            if chain.len() >= MAX_CLIMB {
                return Err(Errno::ESTALE);
            }
            let place = parent.place().ok_or(Errno::ESTALE)?;
            chain.push((parent, place));
        };
        for (node, place) in chain.into_iter().rev() {
            let opened = host::open_path(fd.as_fd(), place.name.as_bytes(), submounts).map_err(gone)?;
            if FileId::from(&host::stat(opened.as_fd())?) != node.id {
                return Err(Errno::ESTALE);
            }
            fd = Arc::new(opened);
            self.nodes.keep(&node, Arc::clone(&fd));
        }
        Ok(fd)
    }

    /// The parent's descriptor and the name, for what can only be done by name.
    pub(crate) fn by_name(&self, node: &Node) -> Result<(Arc<OwnedFd>, Name)> {
        let place = node.place().ok_or(Errno::ESTALE)?;
        Ok((self.fd(&place.parent)?, place.name))
    }

    /// Whether `ancestor` is on the way from `node` up, by the places that are known; `true` when the way is too long to tell.
    pub(crate) fn is_below(node: &Arc<Node>, ancestor: &Arc<Node>) -> bool {
        let mut at = Arc::clone(node);
        for _ in 0..MAX_CLIMB {
            if Arc::ptr_eq(&at, ancestor) {
                return true;
            }
            match at.place() {
                Some(place) => at = place.parent,
                None => return false,
            }
        }
        true
    }
}

/// A node whose name is no longer there is stale, not missing.
pub(crate) fn gone(errno: Errno) -> Errno {
    if errno == Errno::ENOENT || errno == Errno::ENOTDIR || errno == Errno::ELOOP { Errno::ESTALE } else { errno }
}
