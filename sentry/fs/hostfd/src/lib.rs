//! Host descriptors that a sandbox is started with, as guest files: pipes, terminals, regular files, sockets, /dev/null.
//!
//! Key types: [`HostFs`] makes open files of descriptors, [`Poller`] hears of their readiness (one thread for all).
//! Neighbours: the wiring hands in the descriptors, `vfs` above.
//!
//! Invariants: the host's O_NONBLOCK is never touched, since others share the description; nothing here blocks as long as nobody outside takes
//! what was just seen to be there. The host's file offset follows the guest's, so that what runs before and after the sandbox on the same
//! description goes on where it stopped. Only the ioctls listed in `terminal` reach the host. The process has to ignore SIGPIPE.
//! Deliberately absent: sockets as sockets (only read and write), changing the host file's owner or mode (kept for the guest's eyes only).
#![forbid(unsafe_code)]

mod file;
mod inode;
mod poller;
mod terminal;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use rustix::fs::{OFlags, SeekFrom};
use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Attr, Dentry, FileDescription, FileOps, FileSystem, Inode, Mount, Path, StatusFlags};

use file::HostFile;
use inode::{HostInode, RootInode};
pub use poller::Poller;
pub use terminal::Terminal;

/// `ANON_INODE_FS_MAGIC`: what statfs(2) says of files without a file system of their own.
const ANON_MAGIC: i64 = 0x0904_1934;

/// The internal file system that host descriptors live in.
pub struct HostFs {
    device: u64,
    next_key: AtomicU64,
    root: Arc<RootInode>,
    poller: Arc<Poller>,
    /// Host terminals, by key, for /dev/tty.
    terminals: Mutex<Vec<(u64, Weak<HostInode>)>>,
    this: Weak<HostFs>,
}

impl HostFs {
    /// `device` is the `st_dev` of its files.
    pub fn new(device: u64, poller: Arc<Poller>) -> Arc<HostFs> {
        Arc::new_cyclic(|this| HostFs {
            device,
            next_key: AtomicU64::new(1),
            root: Arc::new(RootInode::new(Attr::new(device, 1, FileKind::Directory, Mode(0o500)))),
            poller,
            terminals: Mutex::new(Level::Leaf, Vec::new()),
            this: Weak::clone(this),
        })
    }

    /// An open file of one descriptor, with the rights and offset that the descriptor has. `name` is what /proc/pid/fd shows, such as "pipe:[1]";
    /// `None` makes one up.
    pub fn import(&self, fd: OwnedFd, name: Option<Vec<u8>>) -> Result<Arc<FileDescription>> {
        let fs = self.this.upgrade().ok_or(Errno::ENODEV)?;
        let host_flags = rustix::fs::fcntl_getfl(&fd).map_err(host)?;
        if host_flags.contains(OFlags::PATH) {
            return Err(Errno::EBADF);
        }
        let access = host_flags & OFlags::RWMODE;
        let (readable, writable) = (access != OFlags::WRONLY, access != OFlags::RDONLY);
        let inode = HostInode::new(&self.poller, self.device, self.next_key.fetch_add(1, Ordering::Relaxed), fd, (readable, writable))?;
        if inode.kind() == FileKind::Directory {
            // LAWS 12: a host directory is a way out.
            return Err(Errno::EISDIR);
        }
        if let Some(terminal) = inode.terminal() {
            self.terminals.lock().push((terminal.key(), Arc::downgrade(&inode)));
        }
        let ops = Arc::new(HostFile::new(Arc::clone(&inode)));
        let offset = *inode.position.lock();
        let name = name.unwrap_or_else(|| inode.display_name());
        let dentry = Dentry::pseudo(Arc::clone(&fs) as Arc<dyn FileSystem>, inode, name);
        let mount = Mount::internal(Dentry::root(fs));
        let status = if host_flags.contains(OFlags::APPEND) { StatusFlags::APPEND } else { StatusFlags::empty() };
        let file = FileDescription::new(ops, Path::new(mount, dentry), readable, writable, status, 0);
        *file.offset.lock() = offset;
        Ok(file)
    }

    /// The terminal with this key: for `Terminals` of the kernel, when a session ends.
    pub fn terminal(&self, key: u64) -> Option<Arc<Terminal>> {
        self.terminals.lock().iter().find(|(k, _)| *k == key)?.1.upgrade()?.terminal()
    }

    /// What /dev/tty opens for a session whose controlling terminal has this key.
    pub fn open_terminal(&self, key: u64) -> Option<Arc<dyn FileOps>> {
        let inode = self.terminals.lock().iter().find(|(k, _)| *k == key)?.1.upgrade()?;
        Some(Arc::new(HostFile::new(inode)))
    }

    /// Standard input, output and error. Descriptors that share one host description of a regular file share one open file here too, so that they
    /// do not write over each other. `names` are the host's paths of those that have one, else empty; `owners` users and groups.
    pub fn import_stdio(&self, fds: Vec<OwnedFd>, names: &[Vec<u8>], owners: &[(u32, u32)]) -> Result<Vec<Arc<FileDescription>>> {
        let mut files: Vec<Arc<FileDescription>> = Vec::with_capacity(fds.len());
        for (index, fd) in fds.into_iter().enumerate() {
            let twin = files
                .iter()
                .find(|file| as_host_file(file).is_some_and(|host| same_description(host.inode().fd().as_fd(), fd.as_fd())))
                .cloned();
            files.push(match twin {
                Some(file) => file,
                None => {
                    let file = self.import(fd, names.get(index).filter(|name| !name.is_empty()).cloned())?;
                    if let (Some((uid, gid)), Some(host)) = (owners.get(index), as_host_file(&file)) {
                        host.inode().set_owner(*uid, *gid);
                    }
                    file
                }
            });
        }
        Ok(files)
    }
}

fn as_host_file(file: &FileDescription) -> Option<&HostFile> {
    file.ops.as_any().downcast_ref()
}

/// The terminal behind an open file, if it is a host terminal.
pub fn terminal_of(file: &FileDescription) -> Option<Arc<Terminal>> {
    as_host_file(file)?.inode().terminal()
}

/// Do both share one offset? Tried by moving it, since nothing else tells without /proc or kcmp(2).
fn same_description(a: std::os::fd::BorrowedFd<'_>, b: std::os::fd::BorrowedFd<'_>) -> bool {
    let (Ok(stat_a), Ok(stat_b)) = (rustix::fs::fstat(a), rustix::fs::fstat(b)) else { return false };
    if (stat_a.st_dev, stat_a.st_ino) != (stat_b.st_dev, stat_b.st_ino) || FileKind::from_mode(stat_a.st_mode) != Some(FileKind::Regular) {
        return false;
    }
    let at = |fd| rustix::fs::seek(fd, SeekFrom::Current(0)).ok();
    let (Some(before), Some(other)) = (at(a), at(b)) else { return false };
    if before != other || rustix::fs::seek(a, SeekFrom::Start(before.wrapping_add(1))).is_err() {
        return false;
    }
    let same = at(b) == Some(before.wrapping_add(1));
    // It was there before, so it can be set again.
    let _ = rustix::fs::seek(a, SeekFrom::Start(before));
    same
}

pub(crate) fn host(errno: rustix::io::Errno) -> Errno {
    Errno::from_host(errno.raw_os_error())
}

impl FileSystem for HostFs {
    fn name(&self) -> &'static str {
        "hostfd"
    }

    fn device(&self) -> u64 {
        self.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: ANON_MAGIC, bsize: 4096, namelen: 255, frsize: 4096, ..StatFs::default() })
    }
}
