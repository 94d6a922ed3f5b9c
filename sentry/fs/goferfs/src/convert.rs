//! Between the gofer's words and the virtual file system's.

use gofer_proto::{self as proto, FsStat, Name, Target, Time};
use sentry_abi::stat::StatFs;
use sentry_abi::{Errno, FileKind, Mode, Result, Timespec};
use sentry_vfs::{Attr, AttrChange, TimeChange};

use crate::Shared;

pub(crate) fn time(time: Time) -> Timespec {
    Timespec::new(time.sec, i64::from(time.nsec))
}

fn from_timespec(time: Timespec) -> Result<Time> {
    Ok(Time { sec: time.sec, nsec: u32::try_from(time.nsec).map_err(|_| Errno::EINVAL)? })
}

fn time_change(change: TimeChange) -> Result<proto::TimeChange> {
    Ok(match change {
        TimeChange::Now => proto::TimeChange::Now,
        TimeChange::At(time) => proto::TimeChange::At(from_timespec(time)?),
    })
}

pub(crate) fn change(change: &AttrChange) -> Result<proto::AttrChange> {
    Ok(proto::AttrChange {
        size: change.size,
        uid: change.uid,
        gid: change.gid,
        mode: change.mode.map(|mode| u32::from(mode.0)),
        atime: change.atime.map(time_change).transpose()?,
        mtime: change.mtime.map(time_change).transpose()?,
    })
}

pub(crate) fn name(bytes: &[u8]) -> Result<Name> {
    Name::new(bytes).map_err(|_| if bytes.len() > Name::MAX { Errno::ENAMETOOLONG } else { Errno::EINVAL })
}

pub(crate) fn target(bytes: &[u8]) -> Result<Target> {
    Target::new(bytes).map_err(|_| match bytes.len() {
        0 => Errno::ENOENT,
        len if len > Target::MAX => Errno::ENAMETOOLONG,
        _ => Errno::EINVAL,
    })
}

pub(crate) fn stat_fs(stat: &FsStat) -> StatFs {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    StatFs {
        kind: signed(stat.kind),
        bsize: signed(stat.block_size),
        blocks: stat.blocks,
        bfree: stat.blocks_free,
        bavail: stat.blocks_available,
        files: stat.files,
        ffree: stat.files_free,
        namelen: signed(stat.name_length),
        frsize: signed(stat.block_size),
        ..StatFs::default()
    }
}

/// What fstat(2) on a donated descriptor says, in the gofer's words.
pub(crate) fn host_stat(stat: &rustix::fs::Stat, btime: Option<Time>) -> proto::Attr {
    let time = |sec: i64, nsec: u64| Time { sec, nsec: u32::try_from(nsec).unwrap_or(0) };
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    proto::Attr {
        dev: stat.st_dev,
        ino: stat.st_ino,
        mode: stat.st_mode,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        size: count(stat.st_size),
        blocks: count(stat.st_blocks),
        blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        btime,
    }
}

impl Shared {
    /// The inode number that the guest sees: the host's, moved aside for files of other host devices below the root.
    pub(crate) fn guest_ino(&self, dev: u64, ino: u64) -> u64 {
        if dev == self.root_device { ino } else { ino ^ dev.rotate_left(40) | 1 << 62 }
    }

    pub(crate) fn guest_attr(&self, attr: &proto::Attr, kind: FileKind) -> Attr {
        Attr {
            dev: self.device,
            ino: self.guest_ino(attr.dev, attr.ino),
            kind,
            anonymous: false,
            mode: Mode::new(attr.mode),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            size: attr.size,
            blocks: attr.blocks,
            blksize: attr.blksize,
            atime: time(attr.atime),
            mtime: time(attr.mtime),
            ctime: time(attr.ctime),
            btime: attr.btime.map(time),
        }
    }
}
