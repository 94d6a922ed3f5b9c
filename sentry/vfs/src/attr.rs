//! Attributes of a file as stat(2) and statx(2) show them, and changes to them.

use sentry_abi::stat::Stat;
use sentry_abi::{FileKind, Mode, Timespec};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub dev: u64,
    pub ino: u64,
    pub kind: FileKind,
    /// Of no kind at all to those who ask: an anonymous file.
    pub anonymous: bool,
    pub mode: Mode,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
    pub blksize: u32,
    pub atime: Timespec,
    pub mtime: Timespec,
    pub ctime: Timespec,
    pub btime: Option<Timespec>,
}

impl Attr {
    /// A file of no size, owned by root, with all times 0.
    pub fn new(dev: u64, ino: u64, kind: FileKind, mode: Mode) -> Attr {
        Attr {
            dev,
            ino,
            kind,
            anonymous: false,
            mode,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            blocks: 0,
            blksize: 4096,
            atime: Timespec::default(),
            mtime: Timespec::default(),
            ctime: Timespec::default(),
            btime: None,
        }
    }

    /// `st_mode`.
    pub fn full_mode(&self) -> u32 {
        let kind = if self.anonymous { 0 } else { self.kind.mode_bits() };
        kind | self.mode.0 as u32
    }

    pub fn to_stat(&self) -> Stat {
        Stat {
            dev: self.dev,
            ino: self.ino,
            nlink: self.nlink as u64,
            mode: self.full_mode(),
            uid: self.uid,
            gid: self.gid,
            pad0: 0,
            rdev: self.rdev,
            size: self.size as i64,
            blksize: self.blksize as i64,
            blocks: self.blocks as i64,
            atime: self.atime.sec,
            atime_nsec: self.atime.nsec,
            mtime: self.mtime.sec,
            mtime_nsec: self.mtime.nsec,
            ctime: self.ctime.sec,
            ctime_nsec: self.ctime.nsec,
            unused: [0; 3],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    Now,
    At(Timespec),
}

/// What setattr is to change. Permission has been checked, and set-id bits have been cleared where Linux does so, by [`crate::ops`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    pub mode: Option<Mode>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<TimeChange>,
    pub mtime: Option<TimeChange>,
}
