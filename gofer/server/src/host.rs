//! The only place that opens anything on the host, and the rules for it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gofer_proto::{Access, Attr, Target, Time};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, StatxTimestamp};
use rustix::io::Errno as HostErrno;
use sentry_abi::stat::make_dev;
use sentry_abi::{Errno, FileKind, Result};

/// What to do with file systems that are mounted inside a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submounts {
    Enter,
    /// `EXDEV` at every mount point.
    Refuse,
}

/// Which file, as the host counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub dev: u64,
    pub ino: u64,
}

impl From<&Attr> for FileId {
    fn from(attr: &Attr) -> FileId {
        FileId { dev: attr.dev, ino: attr.ino }
    }
}

/// How often a resolution that was disturbed by a rename or mount is tried.
const TRIES: u32 = 64;

pub(crate) fn errno(host: HostErrno) -> Errno {
    Errno::from_host(host.raw_os_error())
}

/// Opens one component below `dir`. `name` is a checked name or `.`.
fn open_beneath(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags, mode: Mode, submounts: Submounts) -> Result<OwnedFd> {
    let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if submounts == Submounts::Refuse {
        resolve |= ResolveFlags::NO_XDEV;
    }
    for _ in 0..TRIES {
        match rustix::fs::openat2(dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode, resolve) {
            Err(HostErrno::AGAIN | HostErrno::INTR) => {}
            Err(host) => return Err(errno(host)),
            Ok(fd) => return Ok(fd),
        }
    }
    Err(Errno::EIO)
}

/// A handle that can be looked at and walked from, but not read.
pub(crate) fn open_path(dir: BorrowedFd<'_>, name: &[u8], submounts: Submounts) -> Result<OwnedFd> {
    open_beneath(dir, name, OFlags::PATH, Mode::empty(), submounts)
}

/// A directory's own description, for reading.
pub(crate) fn open_self(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    open_beneath(dir, b".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty(), Submounts::Enter)
}

/// Opens a regular file; anything else that sits there by now is closed again. The caller compares the attributes with what it expects.
pub(crate) fn open_regular(dir: BorrowedFd<'_>, name: &[u8], access: Access, submounts: Submounts) -> Result<(OwnedFd, Attr)> {
    let flags = access_flags(access) | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = open_beneath(dir, name, flags, Mode::empty(), submounts)?;
    let attr = stat(fd.as_fd())?;
    if FileKind::from_mode(attr.mode) != Some(FileKind::Regular) {
        return Err(Errno::ESTALE);
    }
    // The opening was not to block; the description is the sentry's now and must look ordinary.
    rustix::fs::fcntl_setfl(&fd, access_flags(access)).map_err(errno)?;
    Ok((fd, attr))
}

/// Makes a regular file that did not exist, with mode 0 and the gofer's own owner.
pub(crate) fn create_regular(dir: BorrowedFd<'_>, name: &[u8], access: Access) -> Result<OwnedFd> {
    let flags = access_flags(access) | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
    open_beneath(dir, name, flags, Mode::empty(), Submounts::Refuse)
}

fn access_flags(access: Access) -> OFlags {
    match access {
        Access::Read => OFlags::RDONLY,
        Access::ReadWrite => OFlags::RDWR,
    }
}

const STAT_MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

pub(crate) fn stat(fd: BorrowedFd<'_>) -> Result<Attr> {
    let stat = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, STAT_MASK).map_err(errno)?;
    Ok(attr(&stat))
}

/// Attributes of one entry of `dir`, not following it.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &[u8], submounts: Submounts) -> Result<Attr> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    checked(rustix::fs::statx(dir, name, flags, STAT_MASK), submounts)
}

/// The same for a name that came from the host.
pub(crate) fn stat_entry(dir: BorrowedFd<'_>, name: &CStr, submounts: Submounts) -> Result<Attr> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    checked(rustix::fs::statx(dir, name, flags, STAT_MASK), submounts)
}

fn checked(stat: rustix::io::Result<Statx>, submounts: Submounts) -> Result<Attr> {
    let stat = stat.map_err(errno)?;
    if submounts == Submounts::Refuse && stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Errno::EXDEV);
    }
    Ok(attr(&stat))
}

fn attr(stat: &Statx) -> Attr {
    let time = |t: StatxTimestamp| Time { sec: t.tv_sec, nsec: t.tv_nsec };
    Attr {
        dev: make_dev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        mode: u32::from(stat.stx_mode),
        nlink: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        rdev: make_dev(stat.stx_rdev_major, stat.stx_rdev_minor),
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        blksize: stat.stx_blksize,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        btime: StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME).then(|| time(stat.stx_btime)),
    }
}

/// What a symbolic link in `dir` holds.
pub(crate) fn read_link(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Target> {
    let mut buffer = [0_u8; Target::MAX + 1];
    // EINVAL: it was a link a moment ago.
    let len = rustix::fs::readlinkat_raw(dir, name, &mut buffer[..]).map_err(|host| match host {
        rustix::io::Errno::INVAL => Errno::ESTALE,
        host => errno(host),
    })?;
    let bytes = buffer.get(..len).ok_or(Errno::EIO)?;
    Target::new(bytes).map_err(|_| Errno::ENAMETOOLONG)
}
