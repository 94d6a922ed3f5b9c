//! The ptrace platform: small and slow, for hosts where a seccomp listener cannot be had, and as a reference for the other one in tests.
//!
//! A guest thread is a traced host thread, traced by the very sentry thread that runs it (the host allows no other); it runs under
//! PTRACE_SYSEMU, so no call of guest code is ever executed. What the sentry wants done in the guest's process it does by injecting calls at
//! the stub's `syscall` instruction. Processes come from a zygote as in systrap; its filter refuses everything that no tracer lets pass, so a
//! child is harmless from birth until it is seized: it sleeps in a futex. Files come through a socket that all processes hold as number 0.
//!
//! - `host`: ptrace, wait and the other host calls; `tracee`: a seized thread and injected calls; `guest`, `platform`: the traits.
//!
//! Deliberately absent: answers in the stub, direct memory requests, a pool.
//! Host calls that the sentry's filter must allow beyond systrap's: ptrace, wait4.

mod futex;
mod guest;
mod host;
mod platform;
mod space;
mod tracee;

pub use platform::PtracePlatform;
