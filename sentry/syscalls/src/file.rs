//! Files, directories, descriptors, polling: fs/*.c.
//!
//! [`at`] turns path arguments into places, [`transfer`] moves bytes between guest memory and open files (all blocking reads and writes go through it);
//! the other modules are the calls, one family each. What these calls need beyond the kernel is in [`FileServices`].

mod at;
pub(crate) mod attr;
pub(crate) mod buffer;
mod deadlock;
pub(crate) mod dir;
pub(crate) mod epoll;
pub(crate) mod event;
pub(crate) mod fcntl;
pub(crate) mod fd;
pub(crate) mod inotify;
pub(crate) mod ioctl;
pub(crate) mod link;
pub(crate) mod lock;
pub(crate) mod mount;
pub(crate) mod open;
pub(crate) mod poll;
pub(crate) mod refused;
pub(crate) mod rw;
pub(crate) mod select;
mod services;
pub(crate) mod splice;
pub(crate) mod stat;
pub(crate) mod sync;
#[cfg(test)]
mod tests;
pub(crate) mod timerfd;
mod transfer;
mod wait_time;
pub(crate) mod xattr;

pub use services::{FileServices, FileSystems, MountRequest};
