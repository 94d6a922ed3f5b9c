//! overlayfs: a read-only file system (the lower) with all changes kept in memory (the upper).
//!
//! Every file of the overlay is an [`OverlayInode`] that may have a lower inode and may have an upper one (a [`sentry_fs_tmpfs::TmpInode`] that hangs in no
//! tree). Names are the overlay's own: a directory keeps only where it differs from its lower one, as entries and whiteouts. Hence:
//! - A file of the lower is found again by its lower device and inode number. So hard links keep their identity through copy-up, and a directory that is
//!   renamed takes its lower one along, without a copy and without EXDEV.
//! - Copying up happens in two steps: attributes at the first change of them (chmod, chown, rename, a name made in a directory), bytes only when a file is
//!   opened for writing or truncated. `chown -R` over an image copies no bytes.
//! - Inode numbers are the lower's, before and after; new files count up from 2^50.
//!
//! Descriptors and mappings of a lower file that were there before its copy-up keep the lower file, as in Linux.
//!
//! The lower must not change behind our back, and its inode and device numbers must identify its files.
//!
//! Locks: `Shared::surgery` (Level::Rename) over changes of the tree, a directory's slots (Level::Overlay), the index (leaf). None is held over a call to the
//! lower, which may ask another process; what was looked up before is checked again under the lock.
#![forbid(unsafe_code)]

mod caller;
mod copy_up;
mod dir;
mod fs;
mod index;
mod inode;
mod names;
mod open;

pub use fs::{OverlayFs, OverlayOptions};
pub use inode::OverlayInode;
