//! /proc/pid/fd and /proc/pid/fdinfo.

use std::sync::Arc;

use sentry_abi::{Errno, FileKind, Result};
use sentry_vfs::{Caller, Inode};

use super::process::{Subject, ino};
use crate::pseudo::{Children, Directory, Link, Text};

const FD_DIR: u64 = 210;
const FDINFO_DIR: u64 = 211;
const FD_FIRST: u64 = 0x1000;
const FDINFO_FIRST: u64 = 0x8000;

pub fn descriptors(subject: &Subject) -> Arc<dyn Inode> {
    Directory::new(subject.common(FD_DIR, 0o500), Arc::new(Descriptors(subject.clone())))
}

pub fn information(subject: &Subject) -> Arc<dyn Inode> {
    Directory::new(subject.common(FDINFO_DIR, 0o555), Arc::new(Information(subject.clone())))
}

/// Descriptor 0 is the one number that may begin with a zero.
fn number(name: &[u8]) -> Option<i32> {
    if name == b"0" { Some(0) } else { super::root::number(name) }
}

fn numbers(subject: &Subject, kind: FileKind, first: u64) -> Vec<(Vec<u8>, FileKind, u64)> {
    let Ok(task) = subject.task() else { return Vec::new() };
    let files = task.files();
    files.numbers().iter().map(|fd| (fd.to_string().into_bytes(), kind, ino(task.pid(), first + *fd as u64))).collect()
}

struct Descriptors(Subject);

impl Children for Descriptors {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let fd = number(name).ok_or(Errno::ENOENT)?;
        let file = self.0.task().and_then(|t| t.files().get(fd)).map_err(|_| Errno::ENOENT)?;
        // The mode shows what the descriptor may do.
        let mode = 0o100 | if file.readable { 0o400 } else { 0 } | if file.writable { 0o200 } else { 0 };
        let target = move |s: &Subject| s.task().and_then(|t| t.files().get(fd)).map(|f| f.path.clone()).map_err(|_| Errno::ENOENT);
        Ok(Link::new(self.0.common(FD_FIRST + fd as u64, mode), self.0.link_target(target)))
    }

    fn list(&self, _: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)> {
        numbers(&self.0, FileKind::Symlink, FD_FIRST)
    }
}

struct Information(Subject);

impl Children for Information {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let fd = number(name).ok_or(Errno::ENOENT)?;
        self.0.task().and_then(|t| t.files().get(fd)).map_err(|_| Errno::ENOENT)?;
        let subject = self.0.clone();
        let read = move |_: &dyn Caller| {
            let files = subject.task()?.files();
            let file = files.get(fd)?;
            let cloexec = if files.close_on_exec(fd)? { 0o2000000 } else { 0 };
            let position = *file.offset.lock();
            let inode = file.attr().map_or(0, |a| a.ino);
            let mut text =
                format!("pos:\t{position}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{inode}\n", file.flags() | cloexec, file.path.mount.id);
            text.push_str(&file.ops.fdinfo());
            Ok(text.into_bytes())
        };
        Ok(Text::new(self.0.common(FDINFO_FIRST + fd as u64, 0o400), Arc::new(read), None))
    }

    fn list(&self, _: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)> {
        numbers(&self.0, FileKind::Regular, FDINFO_FIRST)
    }
}
