//! Pseudo-terminals: the line discipline, master and slave, the devpts file system, job control, /dev/tty.
//!
//! [`DevPts`] makes a [`Terminal`] when its `ptmx` is opened ([`DevPts::open_master`]); [`Terminals`] finds it again by key, for /dev/tty and for
//! sessions that end. Signals go through [`Groups`], which the kernel implements.
//!
//! A background process that reads or writes gets `ERESTART`: its group has been signalled, and the call is to be restarted after signals.
//! Reads with VTIME wait like any other: `EAGAIN`, and the waiters are woken when the time is over. `ready` is what poll(2) tells, which with
//! VTIME set is "readable" from the first byte on, earlier than a read returns: whoever waits for a read tries again only when woken.
//!
//! Terminals of the host (a container's console) are `hostfd`'s.
#![forbid(unsafe_code)]

mod devpts;
mod discipline;
mod ioctl;
mod job;
mod master;
mod slave;
mod terminal;
mod terminals;
mod termios;
#[cfg(test)]
mod tests;

pub use devpts::{DevPts, DevPtsOptions, PTMX_DEVICE, PTS_MAJOR, TTY_DEVICE};
pub use master::MasterFile;
pub use slave::SlaveFile;
pub use terminal::{Terminal, WindowSize};
pub use terminals::{Groups, Terminals};
pub use termios::{Layout, Termios};
