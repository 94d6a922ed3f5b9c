//! A host file as an inode.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use rustix::fs::SeekFrom;
use sentry_abi::{Errno, FileKind, Mode, Result, Timespec};
use sentry_sync::{Events, Level, Mutex, WaitQueue, Waiter};
use sentry_vfs::{Attr, AttrChange, Caller, FileOps, Inode, InodeState, OpenHow};

use crate::file::HostFile;
use crate::host;
use crate::poller::{Poller, with_bands};
use crate::terminal::Terminal;

/// What the guest changed and the host is not told of.
#[derive(Default)]
struct Overrides {
    mode: Option<Mode>,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// How a file is waited for and spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Channel {
    /// Always ready, has an offset.
    Regular,
    /// Always ready, has none: /dev/null and its like.
    Plain,
    Pipe,
    Terminal,
    Socket,
}

pub(crate) struct HostInode {
    fd: OwnedFd,
    kind: FileKind,
    pub channel: Channel,
    /// What the host description allows: reading, writing.
    rights: (bool, bool),
    device: u64,
    key: u64,
    poller: Arc<Poller>,
    queue: Arc<WaitQueue>,
    watched: AtomicBool,
    overrides: Mutex<Overrides>,
    /// Of a regular file: where the host's own offset is, as far as we moved it. Held over the call that moves it.
    pub position: Mutex<u64>,
    terminal: Option<Arc<Terminal>>,
    state: InodeState,
    this: Weak<HostInode>,
}

impl HostInode {
    pub fn new(poller: &Arc<Poller>, device: u64, key: u64, fd: OwnedFd, rights: (bool, bool)) -> Result<Arc<HostInode>> {
        let stat = rustix::fs::fstat(&fd).map_err(host)?;
        // Anonymous files (eventfd, epoll …) have no kind: they are spoken to as pipes.
        let kind = FileKind::from_mode(stat.st_mode).unwrap_or(FileKind::Fifo);
        let channel = match kind {
            FileKind::Regular => Channel::Regular,
            FileKind::CharDevice if rustix::termios::isatty(&fd) => Channel::Terminal,
            FileKind::CharDevice | FileKind::BlockDevice | FileKind::Directory | FileKind::Symlink => Channel::Plain,
            FileKind::Fifo => Channel::Pipe,
            FileKind::Socket => Channel::Socket,
        };
        let position = if channel == Channel::Regular { rustix::fs::seek(&fd, SeekFrom::Current(0)).map_err(host)? } else { 0 };
        let terminal = (channel == Channel::Terminal).then(|| Arc::new(Terminal::new(key)));
        Ok(Arc::new_cyclic(|this| HostInode {
            fd,
            kind,
            channel,
            rights,
            device,
            key,
            poller: Arc::clone(poller),
            queue: Arc::new(WaitQueue::new()),
            watched: AtomicBool::new(false),
            overrides: Mutex::new(Level::Leaf, Overrides::default()),
            position: Mutex::new(Level::Inode, position),
            terminal,
            state: InodeState::default(),
            this: Weak::clone(this),
        }))
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Kept alive by a mapping, too.
    pub fn share(&self) -> Result<Arc<HostInode>> {
        self.this.upgrade().ok_or(Errno::ESTALE)
    }

    pub fn rights(&self) -> (bool, bool) {
        self.rights
    }

    /// Whom the guest sees as the owner.
    pub fn set_owner(&self, uid: u32, gid: u32) {
        let mut overrides = self.overrides.lock();
        (overrides.uid, overrides.gid) = (Some(uid), Some(gid));
    }

    pub fn terminal(&self) -> Option<Arc<Terminal>> {
        self.terminal.clone()
    }

    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.key + 1)
    }

    pub fn display_name(&self) -> Vec<u8> {
        match self.channel {
            Channel::Pipe => format!("pipe:[{}]", self.key + 1).into_bytes(),
            Channel::Socket => format!("socket:[{}]", self.key + 1).into_bytes(),
            Channel::Terminal => b"/dev/console".to_vec(),
            // Also for a regular file whose path is not known: the one path that is there for everybody.
            Channel::Plain | Channel::Regular => b"/dev/null".to_vec(),
        }
    }

    /// Registers `waiter` for edges.
    pub fn wait(&self, waiter: &Waiter) {
        self.queue.add(waiter);
        if !self.watched.swap(true, Ordering::AcqRel) {
            self.poller.watch(self.fd.as_fd(), self.key, &self.queue);
        }
    }

    /// Asks the host which of `want` hold now.
    pub fn poll(&self, want: Events) -> Events {
        if matches!(self.channel, Channel::Regular | Channel::Plain) {
            return want & (Events::READ | Events::WRITE);
        }
        let mut ask = rustix::event::PollFlags::empty();
        let pairs = [
            (Events::READ, rustix::event::PollFlags::IN),
            (Events::WRITE, rustix::event::PollFlags::OUT),
            (Events::PRI, rustix::event::PollFlags::PRI),
            (Events::RDHUP, rustix::event::PollFlags::RDHUP),
        ];
        for (events, flag) in pairs {
            if want.intersects(events) {
                ask |= flag;
            }
        }
        let mut fds = [rustix::event::PollFd::new(&self.fd, ask)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&now))).is_err() {
            return Events::ERR;
        }
        let got = Events::from_bits_truncate(u32::from(fds[0].revents().bits()));
        with_bands(got) & (want | Events::ERR | Events::HUP)
    }
}

impl Drop for HostInode {
    fn drop(&mut self) {
        if self.watched.load(Ordering::Acquire) {
            self.poller.forget(self.fd.as_fd(), self.key);
        }
    }
}

impl AsFd for HostInode {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Inode for HostInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        self.kind
    }

    fn attr(&self) -> Result<Attr> {
        let stat = rustix::fs::fstat(&self.fd).map_err(host)?;
        let time = |sec: i64, nsec: u64| Timespec::new(sec, i64::try_from(nsec).unwrap_or(0));
        let count = |n: i64| u64::try_from(n).unwrap_or(0);
        let overrides = self.overrides.lock();
        let (dev, ino) = self.identity();
        Ok(Attr {
            dev,
            ino,
            kind: self.kind,
            anonymous: FileKind::from_mode(stat.st_mode).is_none(),
            mode: overrides.mode.unwrap_or(Mode::new(stat.st_mode)),
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: overrides.uid.unwrap_or(stat.st_uid),
            gid: overrides.gid.unwrap_or(stat.st_gid),
            rdev: stat.st_rdev,
            size: count(stat.st_size),
            blocks: count(stat.st_blocks),
            blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            btime: None,
        })
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        if let Some(size) = change.size {
            if self.channel == Channel::Regular {
                rustix::fs::ftruncate(&self.fd, size).map_err(host)?;
            } else if self.channel != Channel::Plain {
                return Err(Errno::EINVAL);
            }
        }
        let mut overrides = self.overrides.lock();
        overrides.mode = change.mode.or(overrides.mode);
        overrides.uid = change.uid.or(overrides.uid);
        overrides.gid = change.gid.or(overrides.gid);
        Ok(())
    }

    fn opens_itself(&self) -> bool {
        true
    }

    /// By way of /proc/self/fd or /dev/stdout: no more rights than the descriptor had.
    fn open(self: Arc<Self>, how: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        let (readable, writable) = self.rights;
        if self.kind == FileKind::Socket {
            return Err(Errno::ENXIO);
        }
        if (how.read && !readable) || (how.write && !writable) {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(HostFile::new(self)))
    }
}

/// The directory that nobody sees.
pub(crate) struct RootInode {
    attr: Attr,
    state: InodeState,
}

impl RootInode {
    pub fn new(attr: Attr) -> RootInode {
        RootInode { attr, state: InodeState::default() }
    }
}

impl Inode for RootInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        FileKind::Directory
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.attr)
    }

    fn set_attr(&self, _: &AttrChange) -> Result<()> {
        Err(Errno::EPERM)
    }

    fn lookup(&self, _: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn open(self: Arc<Self>, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::EACCES)
    }
}
