//! A place in the tree of mounts: which mount, which dentry.

use std::sync::Arc;

use crate::dentry::Dentry;
use crate::inode::Inode;
use crate::mount::Mount;

#[derive(Clone)]
pub struct Path {
    pub mount: Arc<Mount>,
    pub dentry: Arc<Dentry>,
}

impl Path {
    pub fn new(mount: Arc<Mount>, dentry: Arc<Dentry>) -> Path {
        Path { mount, dentry }
    }

    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }

    /// One step up, across mount points, not above `root`.
    pub fn parent(&self, root: &Path) -> Path {
        let mut at = self.clone();
        loop {
            if at.same(root) {
                return at;
            }
            if !Arc::ptr_eq(&at.dentry, at.mount.root()) {
                return match at.dentry.parent() {
                    Some(parent) => Path { mount: at.mount, dentry: parent },
                    None => at,
                };
            }
            match at.mount.mount_point() {
                Some(point) => at = point,
                None => return at,
            }
        }
    }

    /// The absolute name seen from `root` (d_path). Unlinked names get " (deleted)"; a place outside `root` begins with "(unreachable)".
    pub fn display(&self, root: &Path) -> Vec<u8> {
        if self.dentry.is_pseudo() {
            return self.dentry.name();
        }
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = self.clone();
        let deleted = at.dentry.is_deleted();
        let mut reachable = true;
        while !at.same(root) {
            if Arc::ptr_eq(&at.dentry, at.mount.root()) {
                match at.mount.mount_point() {
                    Some(point) => at = point,
                    None => {
                        reachable = false;
                        break;
                    }
                }
                continue;
            }
            parts.push(at.dentry.name());
            match at.dentry.parent() {
                Some(parent) => at.dentry = parent,
                None => break,
            }
        }
        let mut out = Vec::new();
        if !reachable && !root.mount.is_internal() {
            out.extend_from_slice(b"(unreachable)");
        }
        for part in parts.iter().rev() {
            out.push(b'/');
            out.extend_from_slice(part);
        }
        if parts.is_empty() {
            out.push(b'/');
        }
        if deleted {
            out.extend_from_slice(b" (deleted)");
        }
        out
    }
}
