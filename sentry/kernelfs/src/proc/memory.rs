//! /proc/pid/mem: a process's memory as a file.
//!
//! `Differs:` it does not write where the process itself may not.

use std::any::Any;
use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result, UserAddr};
use sentry_mm::Mm;
use sentry_vfs::{Attr, AttrChange, Caller, FileOps, Inode, InodeState, OpenHow, Seek};

use super::process::Subject;
use crate::pseudo::{Common, refuse_change};

pub fn file(subject: &Subject, index: u64) -> Arc<dyn Inode> {
    Arc::new(Memory { common: subject.common(index, 0o600), subject: subject.clone() })
}

struct Memory {
    common: Common,
    subject: Subject,
}

impl Inode for Memory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.common.state
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn attr(&self) -> Result<Attr> {
        Ok(self.common.attr(FileKind::Regular, 1))
    }

    fn set_attr(&self, change: &AttrChange) -> Result<()> {
        refuse_change(change)
    }

    fn open(self: Arc<Self>, _: &OpenHow, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        // Taken first, judged then (ThreadGroup::may_access).
        let mm = self.subject.task()?.mm();
        self.subject.check_access(caller)?;
        Ok(Arc::new(OpenMemory(mm)))
    }
}

/// The memory that the process had when the file was opened.
struct OpenMemory(Arc<Mm>);

impl FileOps for OpenMemory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Offset
    }

    fn pollable(&self) -> bool {
        true
    }

    fn read(&self, _: &dyn Caller, offset: u64, dst: &mut [u8]) -> Result<usize> {
        self.0.read_partial(UserAddr(offset), dst).map_err(|_| Errno::EIO)
    }

    fn write(&self, _: &dyn Caller, offset: u64, src: &[u8]) -> Result<usize> {
        self.0.write_partial(UserAddr(offset), src).map_err(|_| Errno::EIO)
    }

    fn truncate(&self, _: u64) -> Result<()> {
        Ok(())
    }
}
