//! What makes, links, moves and removes names.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use gofer_proto::Attr;
use gofer_proto::{
    Create, Creation, Link, Mkdir, Mknod, Name, NewNode, NodeId, Owner, Rename, RenameMode, Rmdir, SpecialKind, Symlink, Unlink,
};
use rustix::fs::{AtFlags, FileType, Gid, Mode, RenameFlags, Uid};
use sentry_abi::{Errno, Result};

use crate::Gofer;
use crate::host::{self, FileId, Submounts, errno};
use crate::node::{Node, Place};

impl Gofer {
    /// Mode 0 first, so that nobody opens it before it has its owner; then the owner, which clears set-id bits; then the mode.
    pub(crate) fn create(&self, call: &Create) -> Result<(NewNode, OwnedFd)> {
        let dir = self.writable_dir(call.dir)?;
        let dir_fd = self.fd(&dir)?;
        let name = call.name.as_bytes();
        let file = host::create_regular(dir_fd.as_fd(), name, call.access)?;
        let finish = || {
            own(file.as_fd(), call.with.owner)?;
            rustix::fs::fchmod(&file, mode_bits(call.with.mode)).map_err(errno)?;
            let attr = host::stat(file.as_fd())?;
            let node = self.nodes.make(dir.tree, &attr, Some(Place { parent: Arc::clone(&dir), name: call.name.clone() }))?;
            Ok(NewNode { node: self.nodes.insert(node), attr })
        };
        match finish() {
            Ok(node) => Ok((node, file)),
            Err(error) => {
                remove(dir_fd.as_fd(), &call.name, AtFlags::empty());
                Err(error)
            }
        }
    }

    pub(crate) fn mkdir(&self, call: &Mkdir) -> Result<NewNode> {
        let dir = self.writable_dir(call.dir)?;
        let dir_fd = self.fd(&dir)?;
        let name = call.name.as_bytes();
        rustix::fs::mkdirat(&dir_fd, name, Mode::RWXU).map_err(errno)?;
        let finish = || {
            let path = host::open_path(dir_fd.as_fd(), name, Submounts::Refuse)?;
            let made = host::open_self(path.as_fd())?;
            own(made.as_fd(), call.with.owner)?;
            rustix::fs::fchmod(&made, mode_bits(call.with.mode)).map_err(errno)?;
            self.new_node(&dir, dir_fd.as_fd(), &call.name)
        };
        finish().inspect_err(|_| remove(dir_fd.as_fd(), &call.name, AtFlags::REMOVEDIR))
    }

    pub(crate) fn symlink(&self, call: &Symlink) -> Result<NewNode> {
        let dir = self.writable_dir(call.dir)?;
        let dir_fd = self.fd(&dir)?;
        rustix::fs::symlinkat(call.target.as_bytes(), &dir_fd, call.name.as_bytes()).map_err(errno)?;
        let finish = || {
            own_entry(dir_fd.as_fd(), &call.name, call.owner)?;
            self.new_node(&dir, dir_fd.as_fd(), &call.name)
        };
        finish().inspect_err(|_| remove(dir_fd.as_fd(), &call.name, AtFlags::empty()))
    }

    /// The mode is given at once (the process has umask 0), since such a file's mode cannot be changed by descriptor.
    pub(crate) fn mknod(&self, call: &Mknod) -> Result<NewNode> {
        let dir = self.writable_dir(call.dir)?;
        let dir_fd = self.fd(&dir)?;
        let kind = match call.kind {
            SpecialKind::Fifo => FileType::Fifo,
            SpecialKind::Socket => FileType::Socket,
        };
        let Creation { mode, owner } = call.with;
        rustix::fs::mknodat(&dir_fd, call.name.as_bytes(), kind, mode_bits(mode & 0o777), 0).map_err(errno)?;
        let finish = || {
            own_entry(dir_fd.as_fd(), &call.name, owner)?;
            self.new_node(&dir, dir_fd.as_fd(), &call.name)
        };
        finish().inspect_err(|_| remove(dir_fd.as_fd(), &call.name, AtFlags::empty()))
    }

    pub(crate) fn link(&self, call: &Link) -> Result<Attr> {
        let dir = self.writable_dir(call.dir)?;
        let node = self.node(call.node)?;
        if node.tree != dir.tree {
            return Err(Errno::EXDEV);
        }
        // That the name still is this file.
        self.stat_node(&node)?;
        let (from, name) = self.by_name(&node)?;
        let to = self.fd(&dir)?;
        rustix::fs::linkat(&from, name.as_bytes(), &to, call.name.as_bytes(), AtFlags::empty()).map_err(errno)?;
        self.stat_node(&node)
    }

    pub(crate) fn unlink(&self, call: &Unlink) -> Result<()> {
        self.remove_name(call.dir, &call.name, AtFlags::empty())
    }

    pub(crate) fn rmdir(&self, call: &Rmdir) -> Result<()> {
        self.remove_name(call.dir, &call.name, AtFlags::REMOVEDIR)
    }

    fn remove_name(&self, dir: NodeId, name: &Name, flags: AtFlags) -> Result<()> {
        let dir = self.writable_dir(dir)?;
        let fd = self.fd(&dir)?;
        rustix::fs::unlinkat(&fd, name.as_bytes(), flags).map_err(errno)
    }

    pub(crate) fn rename(&self, call: &Rename) -> Result<()> {
        let from = self.writable_dir(call.from)?;
        let to = self.writable_dir(call.to)?;
        if from.tree != to.tree {
            return Err(Errno::EXDEV);
        }
        let moved = call.moved.map(|id| self.node(id)).transpose()?;
        let exchanged = call.exchanged.map(|id| self.node(id)).transpose()?;
        let flags = match call.mode {
            RenameMode::Replace => RenameFlags::empty(),
            RenameMode::NoReplace => RenameFlags::NOREPLACE,
            RenameMode::Exchange => RenameFlags::EXCHANGE,
        };
        let (from_fd, to_fd) = (self.fd(&from)?, self.fd(&to)?);
        let _guard = self.renames.lock();
        rustix::fs::renameat_with(&from_fd, call.name.as_bytes(), &to_fd, call.new_name.as_bytes(), flags).map_err(errno)?;
        if let Some(node) = moved {
            place(&node, &to, to_fd.as_fd(), &call.new_name);
        }
        if let Some(node) = exchanged.filter(|_| call.mode == RenameMode::Exchange) {
            place(&node, &from, from_fd.as_fd(), &call.name);
        }
        Ok(())
    }
}

/// Notes where `node` is now, if it is there. A node that would come to lie below itself is lost: the client lies, or the host moved directories.
fn place(node: &Arc<Node>, parent: &Arc<Node>, parent_fd: BorrowedFd<'_>, name: &Name) {
    let there = host::stat_at(parent_fd, name.as_bytes(), Submounts::Enter).is_ok_and(|attr| FileId::from(&attr) == node.id);
    if !there || node.tree != parent.tree {
        return;
    }
    let place = (!Gofer::is_below(parent, node)).then(|| Place { parent: Arc::clone(parent), name: name.clone() });
    node.set_place(place);
}

/// Undoes a creation that could not be finished. Best effort: the error that led here is the one to report.
fn remove(dir: BorrowedFd<'_>, name: &Name, flags: AtFlags) {
    if let Err(error) = rustix::fs::unlinkat(dir, name.as_bytes(), flags) {
        tracing::warn!(?name, %error, "cannot remove a file that could not be finished");
    }
}

/// `EINVAL` for the ids that mean "leave it".
pub(crate) fn ids(uid: Option<u32>, gid: Option<u32>) -> Result<(Option<Uid>, Option<Gid>)> {
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::EINVAL);
    }
    Ok((uid.map(Uid::from_raw), gid.map(Gid::from_raw)))
}

fn own(fd: BorrowedFd<'_>, owner: Owner) -> Result<()> {
    let (uid, gid) = ids(Some(owner.uid), Some(owner.gid))?;
    rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)
}

fn own_entry(dir: BorrowedFd<'_>, name: &Name, owner: Owner) -> Result<()> {
    let (uid, gid) = ids(Some(owner.uid), Some(owner.gid))?;
    rustix::fs::chownat(dir, name.as_bytes(), uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)
}

pub(crate) fn mode_bits(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}
