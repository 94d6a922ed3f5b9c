//! The virtual file system: what a file system implements ([`FileSystem`], [`Inode`], [`FileOps`]), and what is made of it: dentries, mounts,
//! path walk, open files.
//!
//! Nothing here knows a task: functions take an [`FsContext`] (root, cwd, umask, credentials), file operations a [`Caller`] (the little they may
//! ask of who calls). A [`FileOps`] never blocks: it answers `EAGAIN` and wakes its waiters; the kernel does the waiting, in one place.
#![forbid(unsafe_code)]

mod attr;
mod caller;
mod dentry;
mod file;
mod file_description;
mod filesystem;
mod inode;
mod lock;
mod mount;
mod namespace;
mod ops;
mod path;
mod text;
mod walk;
mod watch;

pub use attr::{Attr, AttrChange, TimeChange};
pub use caller::{Caller, FsContext, JobControl, SpecialFiles};
pub use dentry::Dentry;
pub use file::{DirEntry, FileOps, Seek};
pub use file_description::{FileDescription, StatusFlags};
pub use filesystem::FileSystem;
pub use inode::{Inode, InodeState, NewNode, OpenHow, RenameMode};
pub use lock::{FileLocks, LockKind, LockOwner, LockRange, PosixLock};
pub use mount::{Mount, MountFlags};
pub use namespace::MountNamespace;
pub use ops::{
    OpenFlags, access, chmod, chown, get_xattr, link, link_source, list_xattr, mkdir, mknod, open, open_path, read_link, remove_xattr,
    rename, rmdir, set_times, set_xattr, stat, symlink, truncate, unlink, without_set_ids,
};
pub use path::Path;
pub use text::{DenyWrite, WriteAccess};
pub use walk::{Follow, Walk, allows_exec, resolve, resolve_parent};
pub use watch::{WatchEvent, WatchSink, Watches, event as watch_event, notify};

pub use sentry_sync::Events;
