//! memfd_create(2): regular files without a name, with seals.

use std::sync::Arc;

use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_memory::FileSource;
use sentry_vfs::{Dentry, FileDescription, FileOps, FileSystem, Inode, Mount, NewNode, Path, StatusFlags};

use crate::contents::seal;
use crate::fs::stat_fs;
use crate::inode::TmpInode;
use crate::open::TmpFile;
use crate::store::{Clock, Store};

const TMPFS_MAGIC: i64 = 0x0102_1994;
const NAME_MAX: usize = 249;
const ALLOW_SEALING: u32 = 2;
const NOEXEC_SEAL: u32 = 8;
const EXEC: u32 = 0x10;
/// Descriptor flag of memfd_create(2) that the caller has to heed: close on exec.
pub const CLOEXEC: u32 = 1;
/// O_LARGEFILE as F_GETFL shows it.
const LARGE_FILE: u32 = 0o100000;

/// The kernel's own tmpfs, on which memfds and shared anonymous memory live.
pub struct Memfds {
    fs: Arc<MemfdFs>,
    mount: Arc<Mount>,
}

struct MemfdFs {
    store: Arc<Store>,
    root: Arc<TmpInode>,
}

impl FileSystem for MemfdFs {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn device(&self) -> u64 {
        self.store.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(stat_fs(&self.store, TMPFS_MAGIC))
    }
}

impl Memfds {
    /// `device` is the files' `st_dev`.
    pub fn new(device: u64, source: Arc<dyn FileSource>, clock: Clock) -> Result<Memfds> {
        let store = Store::new(device, 1, None, None, source, clock);
        let node = NewNode { kind: FileKind::Directory, mode: Mode(0o1777), uid: 0, gid: 0, rdev: 0 };
        let root = TmpInode::new(&store, &node)?;
        let fs = Arc::new(MemfdFs { store, root });
        let mount = Mount::internal(Dentry::root(fs.clone()));
        Ok(Memfds { fs, mount })
    }

    /// memfd_create(2). `EINVAL` for unknown flags, huge pages, long names. The caller heeds [`CLOEXEC`].
    pub fn create(&self, name: &[u8], flags: u32, uid: u32, gid: u32) -> Result<Arc<FileDescription>> {
        if flags & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0 || flags & (EXEC | NOEXEC_SEAL) == EXEC | NOEXEC_SEAL {
            return Err(Errno::EINVAL);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::EINVAL);
        }
        let no_exec = flags & NOEXEC_SEAL != 0;
        let mode = if no_exec { Mode(0o666) } else { Mode(0o777) };
        let seals = match (no_exec, flags & ALLOW_SEALING != 0) {
            (true, _) => seal::EXEC,
            (false, true) => 0,
            (false, false) => seal::SEAL,
        };
        let label = [b"/memfd:".as_slice(), name, b" (deleted)"].concat();
        self.file(mode, seals, uid, gid, label)
    }

    /// An unnamed file under the name that /proc/pid/maps is to show: "/dev/zero (deleted)" for shared anonymous memory, "/SYSV00000000 (deleted)".
    pub fn unnamed(&self, label: &[u8], mode: Mode, uid: u32, gid: u32) -> Result<Arc<FileDescription>> {
        self.file(mode, seal::SEAL, uid, gid, label.to_vec())
    }

    fn file(&self, mode: Mode, seals: u32, uid: u32, gid: u32, label: Vec<u8>) -> Result<Arc<FileDescription>> {
        let node = NewNode { kind: FileKind::Regular, mode, uid, gid, rdev: 0 };
        let inode = TmpInode::new_sealable(&self.fs.store, &node, seals)?;
        let ops = Arc::new(TmpFile::new(inode.clone())?);
        let path = Path::new(self.mount.clone(), Dentry::pseudo(self.fs.clone(), inode, label));
        Ok(FileDescription::new(ops, path, true, true, StatusFlags::empty(), LARGE_FILE))
    }
}

fn tmp_file(file: &FileDescription) -> Result<&TmpInode> {
    let file: &dyn FileOps = file.ops.as_ref();
    file.as_any().downcast_ref::<TmpFile>().map(|f| f.inode().as_ref()).ok_or(Errno::EINVAL)
}

/// fcntl(2) F_GET_SEALS. `EINVAL` for what is not in memory.
pub fn seals(file: &FileDescription) -> Result<u32> {
    tmp_file(file)?.contents().map(|c| c.seals()).ok_or(Errno::EINVAL)
}

/// fcntl(2) F_ADD_SEALS. `EPERM` when not open for writing or sealed against it, `EBUSY` for F_SEAL_WRITE while writable shared mappings exist.
pub fn add_seals(file: &FileDescription, seals: u32) -> Result<()> {
    let inode = tmp_file(file)?;
    if !file.writable {
        return Err(Errno::EPERM);
    }
    let mode = inode.attr()?.mode;
    inode.contents().ok_or(Errno::EINVAL)?.add_seals(seals, mode)
}
