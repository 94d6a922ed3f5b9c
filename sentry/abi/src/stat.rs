//! File types, modes and the stat structures that the guest sees (x86-64). stat(2), statx(2), statfs(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum FileKind {
    Fifo = 1,
    CharDevice = 2,
    Directory = 4,
    BlockDevice = 6,
    Regular = 8,
    Symlink = 10,
    Socket = 12,
}

impl FileKind {
    /// From the `S_IFMT` bits of a mode.
    pub const fn from_mode(mode: u32) -> Option<FileKind> {
        match mode >> 12 & 0xf {
            1 => Some(FileKind::Fifo),
            2 => Some(FileKind::CharDevice),
            4 => Some(FileKind::Directory),
            6 => Some(FileKind::BlockDevice),
            8 => Some(FileKind::Regular),
            10 => Some(FileKind::Symlink),
            12 => Some(FileKind::Socket),
            _ => None,
        }
    }

    /// `S_IFxxx`.
    pub const fn mode_bits(self) -> u32 {
        (self as u32) << 12
    }

    /// `d_type` of getdents64(2): `DT_xxx`.
    pub const fn dirent_type(self) -> u8 {
        self as u8
    }
}

/// Permission bits, `0o7777` at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mode(pub u16);

impl Mode {
    pub const SET_UID: u16 = 0o4000;
    pub const SET_GID: u16 = 0o2000;
    pub const STICKY: u16 = 0o1000;

    pub const fn new(bits: u32) -> Mode {
        Mode((bits & 0o7777) as u16)
    }

    pub const fn masked(self, umask: u16) -> Mode {
        Mode(self.0 & !(umask & 0o777))
    }
}

/// `struct stat` of x86-64, 144 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub pad0: u32,
    pub rdev: u64,
    pub size: i64,
    pub blksize: i64,
    pub blocks: i64,
    pub atime: i64,
    pub atime_nsec: i64,
    pub mtime: i64,
    pub mtime_nsec: i64,
    pub ctime: i64,
    pub ctime_nsec: i64,
    pub unused: [i64; 3],
}

/// `struct statfs` of x86-64, 120 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StatFs {
    pub kind: i64,
    pub bsize: i64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: [i32; 2],
    pub namelen: i64,
    pub frsize: i64,
    pub flags: i64,
    pub spare: [i64; 4],
}

/// Encodes a device number as stat(2) shows it (glibc's `makedev`, the kernel's `new_encode_dev` widened to 64 bits).
pub const fn make_dev(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

pub const fn dev_major(dev: u64) -> u32 {
    ((dev >> 8 & 0xfff) | (dev >> 32 & !0xfff)) as u32
}

pub const fn dev_minor(dev: u64) -> u32 {
    ((dev & 0xff) | (dev >> 12 & !0xff)) as u32
}
