//! Guest address spaces: the VMA tree, the memory system calls' semantics, and access to guest memory.
//!
//! [`Mm`] is one guest address space, shared by tasks made with CLONE_VM. Host memory does the work (the host serves faults and copy-on-write); this crate
//! decides what may be mapped where, keeps the tree that /proc/pid/maps shows, and orders host operations one by one through the caller's [`GuestThread`].
//!
//! Invariants: the tree is changed only while holding the *operation ticket* ([`Mm::begin_operation`]) or, for operations that guest code makes on its own,
//! under the tree's lock while nobody holds the ticket. The tree's lock is never held over a host operation, a copy, or the drop of a [`Mapping`].
//! Deliberately absent: page faults, residency, overcommit accounting.
//!
//! [`GuestThread`]: sentry_platform::GuestThread
//! [`Mapping`]: sentry_memory::Mapping
#![forbid(unsafe_code)]

mod advise;
mod brk;
mod direct;
mod exec;
mod gaps;
mod iovec;
mod layout;
mod limits;
mod lock;
mod map;
mod mm;
mod procfs;
mod protect;
mod remap;
mod shared;
mod stack;
mod sync;
mod ticket;
mod user_memory;
mod vma;
mod vma_set;

#[cfg(test)]
mod absurd_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use exec::ExecLayout;
pub use iovec::{IoVec, MAX_IOVECS, MAX_RW_COUNT};
pub use layout::Randomize;
pub use limits::{Limits, UNLIMITED};
pub use map::MapRequest;
pub use mm::{Mm, MmConfig};
pub use procfs::Usage;
pub use remap::RemapRequest;
pub use stack::StackArea;
pub use ticket::Operation;
pub use vma::{Vma, VmaFlags, VmaName};
pub use vma_set::VmaSet;
