//! A mount namespace: which mount stands on which place. mount(2), mount_namespaces(7).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, RwLock};

use crate::dentry::Dentry;
use crate::mount::Mount;
use crate::path::Path;

/// (mount id, dentry address): a place where something may be mounted.
type Point = (u32, usize);

struct Table {
    root: Arc<Mount>,
    /// The topmost mount at a place is the last.
    at: HashMap<Point, Vec<Arc<Mount>>>,
    /// In the order of mounting, for /proc/mounts.
    order: Vec<Arc<Mount>>,
}

pub struct MountNamespace {
    table: RwLock<Table>,
}

fn point(mount: &Arc<Mount>, dentry: &Arc<Dentry>) -> Point {
    (mount.id, Arc::as_ptr(dentry) as *const () as usize)
}

impl MountNamespace {
    pub fn new(root: Arc<Mount>) -> Arc<MountNamespace> {
        let table = Table { root: root.clone(), at: HashMap::new(), order: vec![root] };
        Arc::new(MountNamespace { table: RwLock::new(Level::Mounts, table) })
    }

    /// The namespace's root directory.
    pub fn root(&self) -> Path {
        let mount = self.table.read().root.clone();
        let dentry = mount.root().clone();
        self.cross(Path::new(mount, dentry))
    }

    /// From a mount point to the root of what is mounted there, as often as needed.
    pub fn cross(&self, mut path: Path) -> Path {
        while path.dentry.is_mount_point() {
            let top = self.table.read().at.get(&point(&path.mount, &path.dentry)).and_then(|stack| stack.last().cloned());
            match top {
                Some(mount) => {
                    let dentry = mount.root().clone();
                    path = Path::new(mount, dentry);
                }
                None => return path,
            }
        }
        path
    }

    /// Puts `mount` onto `at`.
    pub fn mount(&self, mount: Arc<Mount>, at: &Path) {
        mount.set_mount_point(Some(at.clone()));
        at.dentry.mounts.fetch_add(1, Ordering::AcqRel);
        let mut table = self.table.write();
        table.at.entry(point(&at.mount, &at.dentry)).or_default().push(mount.clone());
        table.order.push(mount);
    }

    /// umount2(2): `path` is the root of the mount. `EINVAL` when it is not, `EBUSY` when something is mounted below it and `detach` is false.
    pub fn unmount(&self, path: &Path, detach: bool) -> Result<()> {
        if !Arc::ptr_eq(path.mount.root(), &path.dentry) {
            return Err(Errno::EINVAL);
        }
        let Some(at) = path.mount.mount_point() else { return Err(Errno::EINVAL) };
        let mut gone = Vec::new();
        {
            let mut table = self.table.write();
            let has_children = table.order.iter().any(|m| m.mount_point().is_some_and(|p| Arc::ptr_eq(&p.mount, &path.mount)));
            if has_children && !detach {
                return Err(Errno::EBUSY);
            }
            table.remove(&path.mount, &at, &mut gone);
            if detach {
                let mut doomed = vec![path.mount.clone()];
                while let Some(parent) = doomed.pop() {
                    let below: Vec<Arc<Mount>> =
                        table.order.iter().filter(|m| m.mount_point().is_some_and(|p| Arc::ptr_eq(&p.mount, &parent))).cloned().collect();
                    for mount in below {
                        if let Some(at) = mount.mount_point() {
                            table.remove(&mount, &at, &mut gone);
                        }
                        doomed.push(mount);
                    }
                }
            }
        }
        for mount in &gone {
            if let Some(at) = mount.mount_point() {
                at.dentry.mounts.fetch_sub(1, Ordering::AcqRel);
            }
        }
        // Only now, so that a walk that still holds the mount finds its way up for as long as it stood.
        for mount in gone {
            mount.set_mount_point(None);
            mount.root().release_idle();
        }
        Ok(())
    }

    /// All mounts, oldest first.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        self.table.read().order.clone()
    }

    /// pivot_root(2) and the switch to a container's root: `mount` becomes the root of the namespace.
    pub fn set_root(&self, mount: Arc<Mount>) {
        let mut table = self.table.write();
        table.root = mount;
    }
}

impl Drop for MountNamespace {
    /// Lets go of what the mounts keep of names. Not in `Mount`'s own drop, which may come under any lock.
    fn drop(&mut self) {
        for mount in std::mem::take(&mut self.table.get_mut().order) {
            mount.root().release_idle();
        }
    }
}

impl Table {
    fn remove(&mut self, mount: &Arc<Mount>, at: &Path, gone: &mut Vec<Arc<Mount>>) {
        let key = point(&at.mount, &at.dentry);
        if let Some(stack) = self.at.get_mut(&key) {
            stack.retain(|m| !Arc::ptr_eq(m, mount));
            if stack.is_empty() {
                self.at.remove(&key);
            }
        }
        self.order.retain(|m| !Arc::ptr_eq(m, mount));
        gone.push(mount.clone());
    }
}
