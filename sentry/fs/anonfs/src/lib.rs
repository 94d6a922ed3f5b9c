//! Files without a name: eventfd, timerfd, signalfd, epoll, inotify, pidfd. Each is a [`sentry_vfs::FileOps`]; [`AnonFs::file`] makes an open
//! file of it, on a mount that stands nowhere.
//!
//! What these files need from above comes as traits: [`SignalSource`], [`PidTarget`].
//! Deliberately absent: TFD_TIMER_CANCEL_ON_SET never cancels (the sentry is not told when the host's clock is set).
#![forbid(unsafe_code)]

mod anon;
mod epoll;
mod eventfd;
mod inotify;
mod pidfd;
mod signalfd;
#[cfg(test)]
mod testing;
mod timerfd;

pub use anon::AnonFs;
pub use epoll::{Epoll, EpollEvents, EpollOp};
pub use eventfd::EventFd;
pub use inotify::{Inotify, WatchMask};
pub use pidfd::{PidFd, PidTarget};
pub use signalfd::{SIGNALFD_INFO_SIZE, SignalFd, SignalSource};
pub use timerfd::{TimerFd, TimerFdFlags};
