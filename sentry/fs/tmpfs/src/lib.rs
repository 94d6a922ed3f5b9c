//! tmpfs(5): a file system whose files live in the sentry's memory. Also what memfd_create(2) makes, and the upper layer of overlayfs.
//!
//! [`TmpFs`] is the file system, [`TmpInode`] any file of it, [`Contents`] the bytes of a regular file (on a [`sentry_memory::MemFile`]), [`Store`]
//! what all files of one file system share: clock, memory source, limits. Overlayfs uses [`TmpInode`]s without the tree, memfds use both without names.
//!
//! Locks: `Store::surgery` (Level::Rename) over every change of the tree; a directory's entries (Level::Inode); a file's bytes against each other's
//! writers (Level::Inode); attributes (Level::InodeChild). Nothing is called out of here with one of them held, but the host's memory files.
//!
//! Deliberately absent: POSIX ACLs, huge pages, quotas. `Differs:` pages that a guest writes through a mapping into a hole are counted against `size=`
//! only at the next call that changes the file.
#![forbid(unsafe_code)]

mod contents;
mod dir;
mod fs;
mod inode;
mod limits;
pub mod memfd;
mod open;
mod options;
mod store;
mod xattr;

pub use contents::Contents;
pub use fs::TmpFs;
pub use inode::TmpInode;
pub use options::TmpFsOptions;
pub use store::{Clock, Store};
