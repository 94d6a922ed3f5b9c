//! The file system of sockets: an inode for each, named "socket:[ino]".

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{
    Attr, AttrChange, Caller, Dentry, FileDescription, FileOps, FileSystem, Inode, InodeState, Mount, OpenHow, Path, StatusFlags,
};

use crate::family::{Socket, SocketFile};

const SOCKFS_MAGIC: i64 = 0x534f_434b;

struct SocketInode {
    state: InodeState,
    attr: Mutex<Attr>,
}

impl SocketInode {
    fn new(attr: Attr) -> Arc<SocketInode> {
        Arc::new(SocketInode { state: InodeState::default(), attr: Mutex::new(Level::Inode, attr) })
    }
}

impl Inode for SocketInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        FileKind::Socket
    }

    fn attr(&self) -> Result<Attr> {
        Ok(*self.attr.lock())
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        let mut attr = self.attr.lock();
        attr.mode = change.mode.unwrap_or(attr.mode);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        Ok(())
    }

    fn open(self: Arc<Self>, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

struct Fs {
    device: u64,
    root: Arc<SocketInode>,
}

impl FileSystem for Fs {
    fn name(&self) -> &'static str {
        "sockfs"
    }

    fn device(&self) -> u64 {
        self.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: SOCKFS_MAGIC, bsize: 4096, namelen: 255, ..StatFs::default() })
    }
}

/// Makes open files of sockets.
pub struct SockFs {
    fs: Arc<Fs>,
    mount: Arc<Mount>,
    next_ino: AtomicU64,
}

impl SockFs {
    pub fn new(device: u64) -> SockFs {
        let root = SocketInode::new(Attr::new(device, 1, FileKind::Socket, Mode(0o777)));
        let fs = Arc::new(Fs { device, root });
        SockFs { mount: Mount::internal(Dentry::root(fs.clone())), fs, next_ino: AtomicU64::new(2) }
    }

    pub fn file(&self, socket: Arc<dyn Socket>, caller: &dyn Caller, status: StatusFlags) -> Arc<FileDescription> {
        let ino = self.next_ino.fetch_add(1, Ordering::Relaxed);
        let who = caller.credentials();
        let mut attr = Attr::new(self.fs.device, ino, FileKind::Socket, Mode(0o777));
        (attr.uid, attr.gid) = (who.fsuid, who.fsgid);
        let dentry = Dentry::pseudo(self.fs.clone(), SocketInode::new(attr), format!("socket:[{ino}]").into_bytes());
        FileDescription::new(SocketFile::new(socket), Path::new(self.mount.clone(), dentry), true, true, status, 0)
    }
}
