//! /proc/pid/ns: the one namespace of each kind that there is, as files that can be opened, compared and held. namespaces(7).

use std::any::Any;
use std::sync::Arc;

use sentry_abi::stat::{StatFs, make_dev};
use sentry_abi::{Errno, FileKind, Mode, Result};
use sentry_vfs::{Attr, AttrChange, Caller, Dentry, FileOps, FileSystem, Inode, InodeState, Mount, OpenHow, Path};

use super::process::Subject;
use crate::pseudo::{Children, Directory, Link};

const NSFS_MAGIC: i64 = 0x6e73_6673;
/// Minor device number of the file system that has all namespaces.
const NSFS_MINOR: u32 = 4;

const NAMESPACES: [(&str, &str, u64); 10] = [
    ("cgroup", "cgroup", 4026531835),
    ("ipc", "ipc", 4026531839),
    ("mnt", "mnt", 4026531841),
    ("net", "net", 4026531840),
    ("pid", "pid", 4026531836),
    ("pid_for_children", "pid", 4026531836),
    ("time", "time", 4026531834),
    ("time_for_children", "time", 4026531834),
    ("user", "user", 4026531837),
    ("uts", "uts", 4026531838),
];

struct Namespaces(Subject);

pub fn directory(s: &Subject) -> Arc<dyn Inode> {
    Directory::new(s.common(230, 0o511), Arc::new(Namespaces(s.clone())))
}

impl Children for Namespaces {
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let (index, (_, kind, number)) = NAMESPACES.iter().enumerate().find(|(_, (n, ..))| n.as_bytes() == name).ok_or(Errno::ENOENT)?;
        let target = self.0.link_target(|_| Ok(path(kind, *number)));
        Ok(Link::new(self.0.common(231 + index as u64, 0o777), target))
    }

    fn list(&self, _: &dyn Caller) -> Vec<(Vec<u8>, FileKind, u64)> {
        NAMESPACES.iter().map(|(n, _, number)| (n.as_bytes().to_vec(), FileKind::Symlink, *number)).collect()
    }
}

fn path(kind: &str, number: u64) -> Path {
    let fs = Arc::new(NsFs);
    let inode = Arc::new(Namespace { number, state: InodeState::default() });
    let dentry = Dentry::pseudo(fs.clone(), inode, format!("{kind}:[{number}]").into_bytes());
    Path::new(Mount::internal(Dentry::root(fs)), dentry)
}

struct NsFs;

impl FileSystem for NsFs {
    fn name(&self) -> &'static str {
        "nsfs"
    }

    fn device(&self) -> u64 {
        make_dev(0, NSFS_MINOR)
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(Namespace { number: 1, state: InodeState::default() })
    }

    fn stat_fs(&self) -> Result<StatFs> {
        Ok(StatFs { kind: NSFS_MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() })
    }
}

/// A file that stands for a namespace. Two of one number are the same file.
struct Namespace {
    number: u64,
    state: InodeState,
}

impl Inode for Namespace {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn kind(&self) -> FileKind {
        FileKind::Regular
    }

    fn attr(&self) -> Result<Attr> {
        Ok(Attr::new(make_dev(0, NSFS_MINOR), self.number, FileKind::Regular, Mode(0o444)))
    }

    fn set_attr(&self, _: &AttrChange) -> Result<()> {
        Err(Errno::EPERM)
    }

    fn open(self: Arc<Self>, how: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        if how.write { Err(Errno::EPERM) } else { Ok(Arc::new(OpenNamespace)) }
    }
}

struct OpenNamespace;

impl FileOps for OpenNamespace {
    fn as_any(&self) -> &dyn Any {
        self
    }
}
