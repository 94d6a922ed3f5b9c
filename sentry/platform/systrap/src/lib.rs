//! The systrap platform: a guest address space is a host process (a *stub*), a guest thread is a host thread in it (DESIGN section 2).
//!
//! - [`zygote`]: what runsc makes, and how the sentry takes it over; [`SystrapPlatform::adopt`] is its end.
//! - `container`: one zygote, its listener, and who is who by host thread id; `notify` answers the listener.
//! - `process`: host processes and their memory; `stub` orders one stub thread about; `guest` and `spawn` are the platform's traits on it.
//! - [`Reaper`]: collects all children of the sentry; one a sentry process.
//!
//! Invariants: what a stub writes is read once and believed only about itself; no lock is held while waiting for a stub (but the lock of
//! the zygote's order channel); every such wait ends when the process is reaped.

//! Host calls that the sentry's filter must allow for this platform: futex, futex_waitv, ioctl (0xc0502100, 0xc0182101, 0x40182103,
//! 0x40082104 only), process_vm_readv, process_vm_writev, tgkill, kill, waitid, memfd_create, ftruncate, fcntl (F_ADD_SEALS), mmap, munmap,
//! getrandom, clock_gettime, getcpu, poll, close, clone3/clone (threads), clock_nanosleep, setpriority; at adoption also recvmsg and pread64.

mod area;
mod container;
mod copy;
mod direct;
mod filter;
mod frame;
mod guest;
mod inflight;
mod notify;
mod pace;
mod platform;
mod process;
mod reaper;
mod spawn;
mod stub;
mod sys;
pub mod zygote;

pub use platform::SystrapPlatform;
pub use reaper::Reaper;
