//! Open: descriptions of regular files.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use gofer_proto::{Access, Attr, Open};
use sentry_abi::{Errno, FileKind, Result};

use crate::Gofer;
use crate::host::{self, FileId};
use crate::node::{Node, gone};

impl Gofer {
    pub(crate) fn open(&self, call: &Open) -> Result<OwnedFd> {
        let node = self.node(call.node)?;
        Ok(self.open_node(&node, call.access)?.0)
    }

    /// A description of the node's file with exactly `access`, to be donated.
    pub(crate) fn open_node(&self, node: &Arc<Node>, access: Access) -> Result<(OwnedFd, Attr)> {
        let tree = self.tree(node)?;
        if access == Access::ReadWrite {
            tree.must_be_writable()?;
        }
        match node.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            FileKind::Symlink => return Err(Errno::ELOOP),
            // Sockets, FIFOs and devices of the host are none of the sandbox's business.
            _ => return Err(Errno::ENXIO),
        }
        if Arc::ptr_eq(&tree.root, node) {
            let fd = tree.open_root(access)?;
            let attr = host::stat(fd.as_fd())?;
            return Ok((fd, attr));
        }
        let (dir, name) = self.by_name(node)?;
        let (fd, attr) = host::open_regular(dir.as_fd(), name.as_bytes(), access, tree.submounts).map_err(gone)?;
        if FileId::from(&attr) != node.id {
            return Err(Errno::ESTALE);
        }
        Ok((fd, attr))
    }

    /// A description of a regular file or directory for use inside the gofer.
    pub(crate) fn open_inside(&self, node: &Arc<Node>) -> Result<OwnedFd> {
        match node.kind {
            FileKind::Directory => host::open_self(self.fd(node)?.as_fd()),
            FileKind::Regular => Ok(self.open_node(node, Access::Read)?.0),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }
}
