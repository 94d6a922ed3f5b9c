//! The file system of nameless files: one inode for all of them, as in Linux (fs/anon_inodes.c).

use std::any::Any;
use std::sync::Arc;

use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_vfs::{
    Attr, AttrChange, Caller, Dentry, FileDescription, FileOps, FileSystem, Inode, InodeState, Mount, OpenHow, Path, StatusFlags,
};

const ANON_INODE_FS_MAGIC: i64 = 0x0904_1934;

struct AnonInode {
    state: InodeState,
    attr: Attr,
}

impl Inode for AnonInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        self.attr.kind
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.attr)
    }

    fn set_attr(&self, _: &AttrChange) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn open(self: Arc<Self>, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

struct AnonInodeFs {
    device: u64,
    inode: Arc<dyn Inode>,
}

impl FileSystem for AnonInodeFs {
    fn name(&self) -> &'static str {
        "anon_inodefs"
    }

    fn device(&self) -> u64 {
        self.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.inode.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: ANON_INODE_FS_MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() })
    }
}

/// Makes open files of nameless objects.
pub struct AnonFs {
    fs: Arc<AnonInodeFs>,
    mount: Arc<Mount>,
}

impl AnonFs {
    /// `device` is the `st_dev` of its files.
    pub fn new(device: u64) -> Arc<AnonFs> {
        let attr = Attr { anonymous: true, ..Attr::new(device, 1, FileKind::Regular, Mode(0o600)) };
        let fs = Arc::new(AnonInodeFs { device, inode: Arc::new(AnonInode { state: InodeState::default(), attr }) });
        let mount = Mount::internal(Dentry::root(fs.clone()));
        Arc::new(AnonFs { fs, mount })
    }

    /// An open file for reading and writing. `name` is what /proc/pid/fd shows: "anon_inode:[eventfd]".
    pub fn file(&self, ops: Arc<dyn FileOps>, name: &str, status: StatusFlags) -> Arc<FileDescription> {
        FileDescription::new(ops, self.path(name), true, true, status, 0)
    }

    /// The same for reading only (inotify).
    pub fn read_only_file(&self, ops: Arc<dyn FileOps>, name: &str, status: StatusFlags) -> Arc<FileDescription> {
        FileDescription::new(ops, self.path(name), true, false, status, 0)
    }

    /// A place for a nameless file.
    pub fn path(&self, name: &str) -> Path {
        let dentry = Dentry::pseudo(self.fs.clone(), self.fs.inode.clone(), name.as_bytes().to_vec());
        Path::new(self.mount.clone(), dentry)
    }
}
