//! A mount: a file system (or a part of one) put at a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bitflags::bitflags;
use sentry_sync::{Level, RwLock};

use crate::dentry::Dentry;
use crate::path::Path;

bitflags! {
    /// Per-mount flags, `MS_*` numbers of mount(2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MountFlags: u32 {
        const READ_ONLY = 1;
        const NO_SUID = 2;
        const NO_DEV = 4;
        const NO_EXEC = 8;
        const NO_ATIME = 1024;
        const NO_DIR_ATIME = 2048;
        const REL_ATIME = 1 << 21;
    }
}

pub struct Mount {
    pub id: u32,
    root: Arc<Dentry>,
    flags: AtomicU32,
    /// Where it stands; `None` for the root of a namespace, internal mounts and those taken away.
    point: RwLock<Option<Path>>,
    /// The source as /proc/mounts shows it.
    pub source: Vec<u8>,
    internal: bool,
}

static NEXT_ID: AtomicU32 = AtomicU32::new(20);

impl Mount {
    pub fn new(root: Arc<Dentry>, flags: MountFlags, source: Vec<u8>) -> Arc<Mount> {
        Mount::make(root, flags, source, false)
    }

    /// A mount that stands nowhere, for anonymous files.
    pub fn internal(root: Arc<Dentry>) -> Arc<Mount> {
        Mount::make(root, MountFlags::empty(), Vec::new(), true)
    }

    fn make(root: Arc<Dentry>, flags: MountFlags, source: Vec<u8>, internal: bool) -> Arc<Mount> {
        Arc::new(Mount {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            root,
            flags: AtomicU32::new(flags.bits()),
            point: RwLock::new(Level::Leaf, None),
            source,
            internal,
        })
    }

    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::READ_ONLY)
    }

    pub fn is_internal(&self) -> bool {
        self.internal
    }

    pub fn mount_point(&self) -> Option<Path> {
        self.point.read().clone()
    }

    pub(crate) fn set_mount_point(&self, point: Option<Path>) {
        let old = std::mem::replace(&mut *self.point.write(), point);
        drop(old);
    }
}
