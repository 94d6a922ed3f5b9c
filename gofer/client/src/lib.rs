//! The sentry's side of the gofer: typed calls from any thread, and nodes that release themselves.
//!
//! Key types: [`GoferClient`] (calls over a pool of channels), [`Node`] (a node id that is given back when dropped).
//!
//! Invariants: a broken channel answers `EIO`, for good; ids are given back in batches, by a later call and never by the drop itself, which may
//! happen under a lock. A donated descriptor is taken only where the reply announces one.
//! Deliberately absent: caching (goferfs), retries.
#![forbid(unsafe_code)]

mod memory;
mod node;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use gofer_proto as proto;
use gofer_proto::{
    Access, Attr, AttrChange, Creation, FsStat, Listing, MAX_CLOSE, MAX_WALK, Name, NodeId, Outcome, Owner, PROTOCOL, ReadDirDetail,
    RenameMode, Rights, SpecialKind, Stop, Target, XattrMode, XattrName, XattrValue,
};
use sentry_abi::{Errno, Result};
use sentry_ipc::{Call, ChannelPool, IpcError};
use sentry_sync::{Level, Mutex};

pub use memory::MemoryFiles;
pub use node::Node;

/// Ids waiting to be given back that make the next call take the time for it.
const BATCH: usize = 128;

/// The root of a tree.
pub struct Root {
    pub node: Node,
    pub attr: Attr,
    pub rights: Rights,
}

/// A file that a walk found.
pub struct Found {
    pub node: Node,
    pub attr: Attr,
    pub target: Option<Target>,
}

/// How far a walk came.
pub struct Walked {
    pub found: Vec<Found>,
    pub stop: Stop,
    /// A description of the last file, if that was asked and could be had.
    pub file: Option<OwnedFd>,
}

/// A connection to one gofer. Calls from several threads run side by side, as many as there are channels.
pub struct GoferClient {
    pool: ChannelPool,
    /// Ids of dropped nodes. A queue without a lock on the sending side, since a node may be dropped under any lock.
    release: Sender<NodeId>,
    released: Mutex<Receiver<NodeId>>,
    released_count: AtomicUsize,
    /// That the gofer is gone has been logged.
    lost: AtomicBool,
}

impl GoferClient {
    pub fn connect(sockets: Vec<OwnedFd>) -> Result<Arc<GoferClient>, IpcError> {
        GoferClient::over(ChannelPool::new(sockets))
    }

    /// Greets on every channel.
    pub fn over(pool: ChannelPool) -> Result<Arc<GoferClient>, IpcError> {
        pool.hello(PROTOCOL)?;
        let (release, released) = mpsc::channel();
        Ok(Arc::new(GoferClient {
            pool,
            release,
            released: Mutex::new(Level::Leaf, released),
            released_count: AtomicUsize::new(0),
            lost: AtomicBool::new(false),
        }))
    }

    pub fn attach(self: &Arc<Self>, tree: u32) -> Result<Root> {
        let proto::Root { root, rights } = self.call(&proto::Attach { tree })?;
        Ok(Root { node: self.node(root.node), attr: root.attr, rights })
    }

    /// Walks at most [`MAX_WALK`] names down from `from`; `open` asks for a description of the last if it is a regular file.
    pub fn walk(self: &Arc<Self>, from: &Node, names: Vec<Name>, open: Option<Access>) -> Result<Walked> {
        let asked = names.len();
        if asked == 0 || asked > MAX_WALK {
            return Err(Errno::EINVAL);
        }
        let (reply, file) = self.call_for_file(&proto::Walk { from: from.id(), names, open })?;
        let found: Vec<Found> = reply
            .nodes
            .into_iter()
            .map(|walked| Found { node: self.node(walked.node), attr: walked.attr, target: walked.target })
            .collect();
        let complete = reply.stop == Stop::Complete;
        if found.len() > asked || complete != (found.len() == asked) {
            return Err(Errno::EIO);
        }
        let file = if reply.opened { Some(file.ok_or(Errno::EIO)?) } else { None };
        Ok(Walked { found, stop: reply.stop, file })
    }

    pub fn open(&self, node: &Node, access: Access) -> Result<OwnedFd> {
        let ((), file) = self.call_for_file(&proto::Open { node: node.id(), access })?;
        file.ok_or(Errno::EIO)
    }

    pub fn stat(&self, node: &Node) -> Result<Attr> {
        self.call(&proto::Stat { node: node.id() })
    }

    pub fn read_dir(&self, node: &Node, cookie: u64, detail: ReadDirDetail) -> Result<Listing> {
        self.call(&proto::ReadDir { node: node.id(), cookie, detail })
    }

    /// Finds and lists directories in `dir` by message; the first, and as many of the others, in order, as came with it.
    pub fn list_dirs(self: &Arc<Self>, dir: &Node, names: Vec<Name>) -> Result<Vec<(Found, Listing)>> {
        let asked = names.len();
        let reply = self.call(&proto::ListDirs { dir: dir.id(), names })?;
        let listed: Vec<(Found, Listing)> = reply
            .dirs
            .into_iter()
            .map(|dir| (Found { node: self.node(dir.node.node), attr: dir.node.attr, target: None }, dir.listing))
            .collect();
        if listed.is_empty() || listed.len() > asked { Err(Errno::EIO) } else { Ok(listed) }
    }

    /// Makes and opens a regular file.
    pub fn create(self: &Arc<Self>, dir: &Node, name: Name, with: Creation, access: Access) -> Result<(Node, Attr, OwnedFd)> {
        let (new, file) = self.call_for_file(&proto::Create { dir: dir.id(), name, with, access })?;
        let node = self.node(new.node);
        Ok((node, new.attr, file.ok_or(Errno::EIO)?))
    }

    pub fn mkdir(self: &Arc<Self>, dir: &Node, name: Name, with: Creation) -> Result<(Node, Attr)> {
        let new = self.call(&proto::Mkdir { dir: dir.id(), name, with })?;
        Ok((self.node(new.node), new.attr))
    }

    pub fn symlink(self: &Arc<Self>, dir: &Node, name: Name, target: Target, owner: Owner) -> Result<(Node, Attr)> {
        let new = self.call(&proto::Symlink { dir: dir.id(), name, target, owner })?;
        Ok((self.node(new.node), new.attr))
    }

    pub fn mknod(self: &Arc<Self>, dir: &Node, name: Name, kind: SpecialKind, with: Creation) -> Result<(Node, Attr)> {
        let new = self.call(&proto::Mknod { dir: dir.id(), name, kind, with })?;
        Ok((self.node(new.node), new.attr))
    }

    pub fn link(&self, node: &Node, dir: &Node, name: Name) -> Result<Attr> {
        self.call(&proto::Link { node: node.id(), dir: dir.id(), name })
    }

    pub fn unlink(&self, dir: &Node, name: Name) -> Result<()> {
        self.call(&proto::Unlink { dir: dir.id(), name })
    }

    pub fn rmdir(&self, dir: &Node, name: Name) -> Result<()> {
        self.call(&proto::Rmdir { dir: dir.id(), name })
    }

    /// `moved` and, in an exchange, `exchanged` are the nodes that are known for the two names.
    pub fn rename(
        &self,
        from: (&Node, Name),
        to: (&Node, Name),
        mode: RenameMode,
        moved: Option<&Node>,
        exchanged: Option<&Node>,
    ) -> Result<()> {
        let ((from, name), (to, new_name)) = (from, to);
        let (moved, exchanged) = (moved.map(Node::id), exchanged.map(Node::id));
        self.call(&proto::Rename { from: from.id(), name, to: to.id(), new_name, mode, moved, exchanged })
    }

    pub fn set_attr(&self, node: &Node, change: AttrChange) -> Result<Attr> {
        self.call(&proto::SetAttr { node: node.id(), change })
    }

    pub fn stat_fs(&self, node: &Node) -> Result<FsStat> {
        self.call(&proto::StatFs { node: node.id() })
    }

    pub fn get_xattr(&self, node: &Node, name: XattrName) -> Result<XattrValue> {
        self.call(&proto::GetXattr { node: node.id(), name })
    }

    /// Names, each ended by a NUL.
    pub fn list_xattr(&self, node: &Node) -> Result<XattrValue> {
        self.call(&proto::ListXattr { node: node.id() })
    }

    pub fn set_xattr(&self, node: &Node, name: XattrName, value: XattrValue, mode: XattrMode) -> Result<()> {
        self.call(&proto::SetXattr { node: node.id(), name, value, mode })
    }

    pub fn remove_xattr(&self, node: &Node, name: XattrName) -> Result<()> {
        self.call(&proto::RemoveXattr { node: node.id(), name })
    }

    pub fn sync_dir(&self, node: &Node) -> Result<()> {
        self.call(&proto::SyncDir { node: node.id() })
    }

    fn node(self: &Arc<Self>, id: NodeId) -> Node {
        Node::new(Arc::clone(self), id)
    }

    /// Takes an id back; sent with others by some later call.
    fn release(&self, id: NodeId) {
        self.released_count.fetch_add(1, Ordering::Relaxed);
        // The receiver lives as long as `self`.
        let _ = self.release.send(id);
    }

    /// Gives back the ids of dropped nodes now.
    pub fn flush_released(&self) {
        let nodes: Vec<NodeId> = self.released.lock().try_iter().take(MAX_CLOSE).collect();
        self.released_count.fetch_sub(nodes.len(), Ordering::Relaxed);
        if !nodes.is_empty() {
            // The gofer forgets them all or is gone.
            let _: Result<()> = self.exchange(&proto::Close { nodes }).map(|(reply, _)| reply);
        }
    }

    fn call<C: Call<Reply = Outcome<T>>, T>(&self, call: &C) -> Result<T> {
        if self.released_count.load(Ordering::Relaxed) >= BATCH {
            self.flush_released();
        }
        Ok(self.exchange(call)?.0)
    }

    fn call_for_file<C: Call<Reply = Outcome<T>>, T>(&self, call: &C) -> Result<(T, Option<OwnedFd>)> {
        if self.released_count.load(Ordering::Relaxed) >= BATCH {
            self.flush_released();
        }
        let (reply, files) = self.exchange(call)?;
        Ok((reply, files.into_iter().next()))
    }

    fn exchange<C: Call<Reply = Outcome<T>>, T>(&self, call: &C) -> Result<(T, Vec<OwnedFd>)> {
        match self.pool.call_with_fds(call, &[]) {
            Ok((Ok(reply), files)) => Ok((reply, files)),
            Ok((Err(error), _)) => Err(error.errno()),
            Err(IpcError::TooLarge(_) | IpcError::Encode(_)) => Err(Errno::E2BIG),
            Err(error) => {
                if !self.lost.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, "the gofer does not answer");
                }
                Err(Errno::EIO)
            }
        }
    }
}
