//! Attach, Walk, Stat, Close.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use gofer_proto::{
    Access, Attach, Attr, Close, MAX_CLOSE, MAX_WALK, Name, NewNode, NodeId, Root, Stat, Stop, Target, Walk, Walked, WalkedNode,
};
use sentry_abi::{Errno, FileKind, Result};

use crate::Gofer;
use crate::host::{self, Submounts};
use crate::node::{Node, Place};

impl Gofer {
    pub(crate) fn attach(&self, call: &Attach) -> Result<Root> {
        let index = usize::try_from(call.tree).map_err(|_| Errno::ENOENT)?;
        let tree = self.trees.get(index).ok_or(Errno::ENOENT)?;
        let fd = self.fd(&tree.root)?;
        let attr = host::stat(fd.as_fd())?;
        let node = self.nodes.insert(Arc::clone(&tree.root));
        Ok(Root { root: NewNode { node, attr }, rights: tree.rights })
    }

    pub(crate) fn stat(&self, call: &Stat) -> Result<Attr> {
        let node = self.nodes.get(call.node)?;
        self.stat_node(&node)
    }

    /// Attributes without spending a descriptor on a node that has none.
    pub(crate) fn stat_node(&self, node: &Arc<Node>) -> Result<Attr> {
        if node.kind == FileKind::Directory || node.place().is_none() {
            return host::stat(self.fd(node)?.as_fd());
        }
        let submounts = self.tree(node)?.submounts;
        let (dir, name) = self.by_name(node)?;
        let attr = host::stat_at(dir.as_fd(), name.as_bytes(), submounts).map_err(crate::node::gone)?;
        if host::FileId::from(&attr) != node.id {
            return Err(Errno::ESTALE);
        }
        Ok(attr)
    }

    pub(crate) fn close(&self, call: &Close) -> Result<()> {
        if call.nodes.len() > MAX_CLOSE {
            return Err(Errno::E2BIG);
        }
        self.nodes.remove(&call.nodes);
        Ok(())
    }

    /// Walks as far as it can. Nodes get their ids only when the whole walk is done, so that a refused walk leaves nothing behind.
    pub(crate) fn walk(&self, call: &Walk) -> Result<(Walked, Option<OwnedFd>)> {
        if call.names.is_empty() || call.names.len() > MAX_WALK {
            return Err(Errno::EINVAL);
        }
        let mut at = self.nodes.get(call.from)?;
        let submounts = self.tree(&at)?.submounts;
        let mut found: Vec<(Arc<Node>, Attr, Option<Target>)> = Vec::with_capacity(call.names.len());
        let mut stop = Stop::Complete;
        for (index, name) in call.names.iter().enumerate() {
            stop = match at.kind {
                FileKind::Directory => match self.step(&at, name, submounts) {
                    Ok(step) => {
                        at = Arc::clone(&step.0);
                        found.push(step);
                        Stop::Complete
                    }
                    Err(Errno::ENOENT) => Stop::Missing,
                    Err(errno) => Stop::Failed(errno.into()),
                },
                FileKind::Symlink => Stop::Symlink,
                _ => Stop::NotDirectory,
            };
            if stop != Stop::Complete {
                if index == 0 && stop != Stop::Missing {
                    // Nothing was walked: the reason is the answer.
                    return Err(match stop {
                        Stop::Failed(error) => error.errno(),
                        _ => Errno::ENOTDIR,
                    });
                }
                break;
            }
        }
        let file = match call.open {
            Some(access) if stop == Stop::Complete && at.kind == FileKind::Regular => self.open_found(&at, access, &mut found),
            _ => None,
        };
        let opened = file.is_some();
        let nodes = found.into_iter().map(|(node, attr, target)| WalkedNode { node: self.nodes.insert(node), attr, target }).collect();
        Ok((Walked { nodes, stop, opened }, file))
    }

    /// A file that cannot be opened is still found; the client learns why when it asks again.
    fn open_found(&self, node: &Arc<Node>, access: Access, found: &mut [(Arc<Node>, Attr, Option<Target>)]) -> Option<OwnedFd> {
        let (fd, attr) = self.open_node(node, access).ok()?;
        if let Some(last) = found.last_mut() {
            last.1 = attr;
        }
        Some(fd)
    }

    fn step(&self, dir: &Arc<Node>, name: &Name, submounts: Submounts) -> Result<(Arc<Node>, Attr, Option<Target>)> {
        let fd = self.fd(dir)?;
        self.look_up(dir, fd.as_fd(), name, submounts)
    }

    /// A node (without an id) for an entry of `dir`.
    pub(crate) fn look_up(
        &self,
        dir: &Arc<Node>,
        fd: BorrowedFd<'_>,
        name: &Name,
        submounts: Submounts,
    ) -> Result<(Arc<Node>, Attr, Option<Target>)> {
        let attr = host::stat_at(fd, name.as_bytes(), submounts)?;
        let target = match FileKind::from_mode(attr.mode) {
            Some(FileKind::Symlink) => Some(host::read_link(fd, name.as_bytes())?),
            _ => None,
        };
        let place = Place { parent: Arc::clone(dir), name: name.clone() };
        Ok((self.nodes.make(dir.tree, &attr, Some(place))?, attr, target))
    }

    /// The same with an id.
    pub(crate) fn new_node(&self, dir: &Arc<Node>, fd: BorrowedFd<'_>, name: &Name) -> Result<NewNode> {
        let (node, attr, _) = self.look_up(dir, fd, name, self.tree(dir)?.submounts)?;
        Ok(NewNode { node: self.nodes.insert(node), attr })
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<Arc<Node>> {
        self.nodes.get(id)
    }
}
