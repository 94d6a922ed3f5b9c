//! Inodes of pipes made by pipe(2), and the file system's root, which nobody sees.

use std::any::Any;
use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Mode, Result, Timespec};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Attr, AttrChange, Caller, FileOps, Inode, InodeState, OpenHow, TimeChange};

use crate::end::PipeEnd;
use crate::fs::{Clock, fifo_pipe};

pub(crate) struct PipeInode {
    attr: Mutex<Attr>,
    kind: FileKind,
    clock: Clock,
    state: InodeState,
}

impl PipeInode {
    pub fn new(device: u64, ino: u64, kind: FileKind, owner: (u32, u32), clock: Clock) -> PipeInode {
        let now: Timespec = clock();
        let attr = Attr { uid: owner.0, gid: owner.1, atime: now, mtime: now, ctime: now, ..Attr::new(device, ino, kind, Mode(0o600)) };
        PipeInode { attr: Mutex::new(Level::InodeChild, attr), kind, clock, state: InodeState::default() }
    }
}

impl Inode for PipeInode {
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
        Ok(*self.attr.lock())
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        let now = (self.clock)();
        let at = |t: TimeChange| match t {
            TimeChange::Now => now,
            TimeChange::At(time) => time,
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

    /// Again, through /proc/pid/fd.
    fn open(self: Arc<Self>, how: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        if self.kind != FileKind::Fifo {
            return Err(Errno::ENXIO);
        }
        let pipe = fifo_pipe(self.as_ref());
        Ok(Arc::new(PipeEnd::of_pipe(pipe, how.read, how.write)))
    }
}
