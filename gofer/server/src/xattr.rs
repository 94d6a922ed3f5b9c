//! Extended attributes: `user.*`, and `security.capability` to read.

use gofer_proto::{GetXattr, ListXattr, MAX_XATTR, RemoveXattr, SetXattr, XattrMode, XattrName, XattrValue};
use rustix::fs::XattrFlags;
use sentry_abi::{Errno, FileKind, Result};

use crate::Gofer;
use crate::host::errno;

fn is_user(name: &[u8]) -> bool {
    name.len() > 5 && name.starts_with(b"user.")
}

fn is_visible(name: &[u8]) -> bool {
    is_user(name) || name == b"security.capability"
}

fn has_attributes(kind: FileKind) -> bool {
    matches!(kind, FileKind::Regular | FileKind::Directory)
}

impl Gofer {
    pub(crate) fn get_xattr(&self, call: &GetXattr) -> Result<XattrValue> {
        let node = self.node(call.node)?;
        if !is_visible(call.name.as_bytes()) || !has_attributes(node.kind) {
            return Err(Errno::ENODATA);
        }
        let file = self.open_inside(&node)?;
        let mut buffer = vec![0; MAX_XATTR];
        let len = rustix::fs::fgetxattr(&file, call.name.as_bytes(), &mut buffer[..]).map_err(errno)?;
        XattrValue::new(buffer.get(..len).ok_or(Errno::EIO)?).map_err(|_| Errno::E2BIG)
    }

    pub(crate) fn list_xattr(&self, call: &ListXattr) -> Result<XattrValue> {
        let node = self.node(call.node)?;
        let mut names = Vec::new();
        if has_attributes(node.kind) {
            let file = self.open_inside(&node)?;
            let mut buffer = vec![0; MAX_XATTR];
            let len = rustix::fs::flistxattr(&file, &mut buffer[..]).map_err(errno)?;
            let all = buffer.get(..len).ok_or(Errno::EIO)?;
            for name in all.split(|&b| b == 0).filter(|name| is_visible(name)) {
                names.extend_from_slice(name);
                names.push(0);
            }
        }
        XattrValue::new(&names).map_err(|_| Errno::E2BIG)
    }

    pub(crate) fn set_xattr(&self, call: &SetXattr) -> Result<()> {
        let flags = match call.mode {
            XattrMode::Set => XattrFlags::empty(),
            XattrMode::Create => XattrFlags::CREATE,
            XattrMode::Replace => XattrFlags::REPLACE,
        };
        let file = self.for_xattr_change(call.node, &call.name)?;
        rustix::fs::fsetxattr(&file, call.name.as_bytes(), call.value.as_bytes(), flags).map_err(errno)
    }

    pub(crate) fn remove_xattr(&self, call: &RemoveXattr) -> Result<()> {
        let file = self.for_xattr_change(call.node, &call.name)?;
        rustix::fs::fremovexattr(&file, call.name.as_bytes()).map_err(errno)
    }

    fn for_xattr_change(&self, node: gofer_proto::NodeId, name: &XattrName) -> Result<std::os::fd::OwnedFd> {
        let node = self.node(node)?;
        self.tree(&node)?.must_be_writable()?;
        if !is_user(name.as_bytes()) {
            return Err(Errno::EOPNOTSUPP);
        }
        if !has_attributes(node.kind) {
            return Err(Errno::EPERM);
        }
        self.open_inside(&node)
    }
}
