//! SetAttr.

use std::os::fd::AsFd;

use gofer_proto::{Access, Attr, SetAttr, TimeChange};
use rustix::fs::{AtFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use sentry_abi::{Errno, FileKind, Result};

use crate::Gofer;
use crate::create::{ids, mode_bits};
use crate::host::{self, errno};

impl Gofer {
    pub(crate) fn set_attr(&self, call: &SetAttr) -> Result<Attr> {
        let node = self.node(call.node)?;
        self.tree(&node)?.must_be_writable()?;
        let change = &call.change;
        if let Some(size) = change.size {
            let (file, _) = self.open_node(&node, Access::ReadWrite)?;
            rustix::fs::ftruncate(&file, size).map_err(errno)?;
        }
        if change.uid.is_some() || change.gid.is_some() {
            let (uid, gid) = ids(change.uid, change.gid)?;
            rustix::fs::chownat(&self.fd(&node)?, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)?;
        }
        if let Some(mode) = change.mode {
            // Only a description can be given a mode safely, and only these two kinds are opened.
            if !matches!(node.kind, FileKind::Regular | FileKind::Directory) {
                return Err(Errno::EOPNOTSUPP);
            }
            rustix::fs::fchmod(self.open_inside(&node)?, mode_bits(mode)).map_err(errno)?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            let times = Timestamps { last_access: timespec(change.atime)?, last_modification: timespec(change.mtime)? };
            rustix::fs::utimensat(&self.fd(&node)?, c"", &times, AtFlags::EMPTY_PATH).map_err(errno)?;
        }
        let fd = self.fd(&node)?;
        host::stat(fd.as_fd())
    }
}

fn timespec(change: Option<TimeChange>) -> Result<Timespec> {
    let (sec, nsec) = match change {
        None => (0, UTIME_OMIT),
        Some(TimeChange::Now) => (0, UTIME_NOW),
        Some(TimeChange::At(time)) if time.nsec < 1_000_000_000 => (time.sec, i64::from(time.nsec)),
        Some(TimeChange::At(_)) => return Err(Errno::EINVAL),
    };
    Ok(Timespec { tv_sec: sec, tv_nsec: nsec })
}
