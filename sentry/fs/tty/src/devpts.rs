//! devpts: the directory of slaves, and `ptmx`, whose every open makes a new pair. fs/devpts/inode.c.
//!
//! Every mount is an instance of its own (newinstance is the only mode since Linux 4.7).

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

use sentry_abi::stat::{StatFs, make_dev};
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{
    Attr, AttrChange, Caller, Dentry, DirEntry, FileDescription, FileOps, FileSystem, Inode, InodeState, Mount, OpenHow, Path, Seek,
    StatusFlags, TimeChange,
};

use crate::master::MasterFile;
use crate::terminal::Terminal;
use crate::terminals::Terminals;

/// Major number of slaves; the minor is the terminal's number.
pub const PTS_MAJOR: u32 = 136;
/// /dev/ptmx.
pub const PTMX_DEVICE: u64 = make_dev(5, 2);
/// /dev/tty.
pub const TTY_DEVICE: u64 = make_dev(5, 0);

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
/// Inode number of terminal 0.
const FIRST_PTS_INO: u64 = 3;
const DEFAULT_MAX: u32 = 4096;

/// Mount options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DevPtsOptions {
    /// Owner of new slaves, where it is not the opener's.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: u16,
    pub ptmx_mode: u16,
    pub max: u32,
}

impl Default for DevPtsOptions {
    fn default() -> DevPtsOptions {
        DevPtsOptions { uid: None, gid: None, mode: 0o600, ptmx_mode: 0, max: DEFAULT_MAX }
    }
}

impl DevPtsOptions {
    /// From "newinstance,ptmxmode=0666,mode=0620,gid=5". `EINVAL`.
    pub fn parse(text: &str) -> Result<DevPtsOptions> {
        let mut options = DevPtsOptions::default();
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let octal = || u16::from_str_radix(value, 8).ok().filter(|m| *m <= 0o7777).ok_or(Errno::EINVAL);
            let number = || value.parse::<u32>().map_err(|_| Errno::EINVAL);
            match name {
                "newinstance" if value.is_empty() => {}
                "uid" => options.uid = Some(number()?),
                "gid" => options.gid = Some(number()?),
                "mode" => options.mode = octal()? & 0o777,
                "ptmxmode" => options.ptmx_mode = octal()? & 0o777,
                "max" => options.max = number()?.min(1 << 20),
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }

    pub(crate) fn show(&self) -> String {
        let mut out = String::new();
        if let Some(uid) = self.uid {
            out.push_str(&format!("uid={uid},"));
        }
        if let Some(gid) = self.gid {
            out.push_str(&format!("gid={gid},"));
        }
        out.push_str(&format!("mode={:03o},ptmxmode={:03o}", self.mode, self.ptmx_mode));
        if self.max != DEFAULT_MAX {
            out.push_str(&format!(",max={}", self.max));
        }
        out
    }
}

/// What a node of devpts is.
enum Node {
    Root,
    Ptmx,
    Slave(Arc<Terminal>),
}

struct PtsInode {
    state: InodeState,
    devpts: Weak<DevPts>,
    node: Node,
    attr: Mutex<Attr>,
}

pub struct DevPts {
    device: u64,
    options: DevPtsOptions,
    terminals: Arc<Terminals>,
    root: Arc<PtsInode>,
    ptmx: Arc<PtsInode>,
    slaves: Mutex<BTreeMap<u32, Arc<PtsInode>>>,
    me: Weak<DevPts>,
}

impl DevPts {
    /// `device` is the `st_dev` of its files; `now` their first time stamp.
    pub fn new(device: u64, options: DevPtsOptions, terminals: Arc<Terminals>, now: sentry_abi::Timespec) -> Arc<DevPts> {
        Arc::new_cyclic(|me: &Weak<DevPts>| {
            let stamp = |mut attr: Attr| {
                (attr.atime, attr.mtime, attr.ctime) = (now, now, now);
                attr
            };
            let mut root = stamp(Attr::new(device, ROOT_INO, FileKind::Directory, Mode(0o755)));
            root.nlink = 2;
            let mut ptmx = stamp(Attr::new(device, PTMX_INO, FileKind::CharDevice, Mode(options.ptmx_mode)));
            ptmx.rdev = PTMX_DEVICE;
            DevPts {
                device,
                options,
                terminals,
                root: make_inode(me, Node::Root, root),
                ptmx: make_inode(me, Node::Ptmx, ptmx),
                slaves: Mutex::new(Level::Inode, BTreeMap::new()),
                me: me.clone(),
            }
        })
    }

    /// Opens `ptmx`: a new terminal, its slave locked. `ENOSPC` when there are too many.
    pub fn open_master(&self, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        let who = caller.credentials();
        Ok(Arc::new(self.make_terminal(who.fsuid, who.fsgid, caller.now())?))
    }

    /// A terminal made from outside, for the container's first process: the end that types, and an open file of the slave.
    pub fn open_console(&self, uid: u32, gid: u32, now: sentry_abi::Timespec) -> Result<(MasterFile, Arc<FileDescription>)> {
        let master = self.make_terminal(uid, gid, now)?;
        master.terminal().state.lock().locked = false;
        let slave = master.terminal().new_slave(false);
        let file = self.open_file(master.terminal(), slave, true, true, StatusFlags::empty())?;
        Ok((master, file))
    }

    fn make_terminal(&self, uid: u32, gid: u32, now: sentry_abi::Timespec) -> Result<MasterFile> {
        let mut slaves = self.slaves.lock();
        let number = (0..self.options.max).find(|n| !slaves.contains_key(n)).ok_or(Errno::ENOSPC)?;
        let terminal = Terminal::new(number, &self.terminals, self.me.clone());
        let mut attr = Attr::new(self.device, FIRST_PTS_INO + number as u64, FileKind::CharDevice, Mode(self.options.mode));
        attr.uid = self.options.uid.unwrap_or(uid);
        attr.gid = self.options.gid.unwrap_or(gid);
        attr.rdev = make_dev(PTS_MAJOR, number);
        (attr.atime, attr.mtime, attr.ctime) = (now, now, now);
        slaves.insert(number, make_inode(&self.me, Node::Slave(terminal.clone()), attr));
        Ok(MasterFile::new(terminal))
    }

    /// An open file of a slave, named as where devpts usually stands.
    pub(crate) fn open_file(
        &self,
        terminal: &Terminal,
        ops: Arc<dyn FileOps>,
        read: bool,
        write: bool,
        status: StatusFlags,
    ) -> Result<Arc<FileDescription>> {
        let fs = self.me.upgrade().ok_or(Errno::EIO)?;
        let inode = self.slaves.lock().get(&terminal.number()).cloned().ok_or(Errno::EIO)?;
        let mount = Mount::internal(Dentry::root(fs.clone()));
        let dentry = Dentry::pseudo(fs, inode, format!("/dev/pts/{}", terminal.number()).into_bytes());
        Ok(FileDescription::new(ops, Path::new(mount, dentry), read, write, status, 0))
    }

    pub(crate) fn remove(&self, number: u32) {
        let removed = self.slaves.lock().remove(&number);
        drop(removed);
    }
}

fn make_inode(devpts: &Weak<DevPts>, node: Node, attr: Attr) -> Arc<PtsInode> {
    Arc::new(PtsInode { state: InodeState::default(), devpts: devpts.clone(), node, attr: Mutex::new(Level::InodeChild, attr) })
}

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn device(&self) -> u64 {
        self.device
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: DEVPTS_SUPER_MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() })
    }

    fn show_options(&self) -> String {
        self.options.show()
    }
}

impl PtsInode {
    fn devpts(&self) -> Result<Arc<DevPts>> {
        self.devpts.upgrade().ok_or(Errno::EIO)
    }
}

impl Inode for PtsInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        if matches!(self.node, Node::Root) { FileKind::Directory } else { FileKind::CharDevice }
    }

    fn attr(&self) -> Result<Attr> {
        Ok(*self.attr.lock())
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        let now = sentry_time::now(sentry_time::ClockId::Realtime);
        let at = |t: TimeChange| match t {
            TimeChange::Now => now,
            TimeChange::At(t) => t,
        };
        let mut attr = self.attr.lock();
        attr.mode = change.mode.unwrap_or(attr.mode);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime = change.atime.map_or(attr.atime, at);
        attr.mtime = change.mtime.map_or(attr.mtime, at);
        attr.ctime = now;
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if !matches!(self.node, Node::Root) {
            return Err(Errno::ENOTDIR);
        }
        let devpts = self.devpts()?;
        if name == b"ptmx" {
            return Ok(devpts.ptmx.clone());
        }
        let number: u32 = std::str::from_utf8(name).ok().and_then(|n| n.parse().ok()).ok_or(Errno::ENOENT)?;
        if number.to_string().as_bytes() != name {
            return Err(Errno::ENOENT);
        }
        let found = devpts.slaves.lock().get(&number).cloned();
        Ok(found.ok_or(Errno::ENOENT)?)
    }

    fn keeps_children(&self) -> bool {
        false
    }

    fn still_valid(&self, name: &[u8], child: &Arc<dyn Inode>) -> bool {
        self.lookup(name).is_ok_and(|found| Arc::ptr_eq(&found, child))
    }

    fn open(self: Arc<Self>, how: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        match &self.node {
            Node::Root => Ok(Arc::new(Directory { devpts: self.devpts()? })),
            Node::Ptmx => self.devpts()?.open_master(caller),
            Node::Slave(terminal) => terminal.open_slave(how.nonblocking, caller),
        }
    }
}

struct Directory {
    devpts: Arc<DevPts>,
}

impl FileOps for Directory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Directory
    }

    fn iterate(&self, _: &dyn Caller, from: u64, emit: &mut dyn FnMut(&DirEntry<'_>) -> ControlFlow<()>) -> Result<()> {
        let numbers: Vec<u32> = self.devpts.slaves.lock().keys().copied().collect();
        let fixed = [
            (".".to_string(), ROOT_INO, FileKind::Directory),
            ("..".into(), ROOT_INO, FileKind::Directory),
            ("ptmx".into(), PTMX_INO, FileKind::CharDevice),
        ];
        let slaves = numbers.into_iter().map(|n| (n.to_string(), FIRST_PTS_INO + n as u64, FileKind::CharDevice));
        // The cookie after a slave is made of its number, so that entries that come and go disturb no other.
        for (index, (name, ino, kind)) in fixed.into_iter().chain(slaves).enumerate() {
            let cookie = if index < 3 { index as u64 } else { ino };
            if cookie < from {
                continue;
            }
            if emit(&DirEntry { name: name.as_bytes(), ino, kind, next: cookie + 1 }).is_break() {
                break;
            }
        }
        Ok(())
    }
}
