//! The code that lives in every guest process, and the memory it shares with the sentry.
//!
//! [`BLOB`] is built by `build.rs` from `blob.rs` and the modules it names: position independent, no libc, no relocations, no writable
//! data, general registers only. It is never linked into one of our own processes; the sentry and runsc see its bytes and [`layout`].
//! Neighbours: `sentry-platform-systrap` (the other side), `runsc-launch` (starts it).
#![no_std]

pub mod layout;

/// The stub's bytes; start with [`layout::BlobHeader`].
pub static BLOB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub.blob"));
