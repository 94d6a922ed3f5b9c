//! One mapped range of a guest address space.

use std::sync::Arc;

use bitflags::bitflags;
use sentry_abi::UserRange;
use sentry_memory::Mapping;
use sentry_platform::{Prot, Share};

bitflags! {
    /// What a range remembers beside its rights. Ranges of different flags never merge.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct VmaFlags: u32 {
        /// MAP_GROWSDOWN, and the main stack.
        const GROWSDOWN = 1 << 0;
        const LOCKED = 1 << 1;
        /// mlock2(MLOCK_ONFAULT).
        const LOCKONFAULT = 1 << 2;
        const DONTFORK = 1 << 3;
        const WIPEONFORK = 1 << 4;
        const DONTDUMP = 1 << 5;
        const NORESERVE = 1 << 6;
        const HUGEPAGE = 1 << 7;
        const NOHUGEPAGE = 1 << 8;
        const RAND_READ = 1 << 9;
        const SEQ_READ = 1 << 10;
        /// vvar and vdso: one unit that the guest cannot change.
        const SPECIAL = 1 << 11;
        /// The main stack's mapping, made in full size at exec (LAWS 13.8).
        const STACK = 1 << 12;
    }
}

/// A name that does not come from a file. `[heap]` and `[stack]` are derived from addresses, as Linux does.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum VmaName {
    #[default]
    None,
    Vvar,
    Vdso,
    /// prctl(PR_SET_VMA_ANON_NAME).
    Anon(Arc<[u8]>),
}

/// A page-aligned, non-empty range with one set of rights and one backing.
#[derive(Clone)]
pub struct Vma {
    pub start: u64,
    pub end: u64,
    pub prot: Prot,
    /// VM_MAY*: the most that mprotect may give.
    pub max_prot: Prot,
    pub share: Share,
    /// `None` for private anonymous memory.
    pub mapping: Option<Mapping>,
    /// Offset in the mapped file of `start`; 0 for private anonymous memory.
    pub offset: u64,
    pub flags: VmaFlags,
    pub name: VmaName,
}

impl Vma {
    /// Private anonymous memory.
    pub fn anonymous(range: UserRange, prot: Prot, flags: VmaFlags) -> Vma {
        Vma {
            start: range.start(),
            end: range.end(),
            prot,
            max_prot: Prot::all(),
            share: Share::Private,
            mapping: None,
            offset: 0,
            flags,
            name: VmaName::None,
        }
    }

    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    pub fn is_private_anonymous(&self) -> bool {
        self.mapping.is_none() && self.share == Share::Private && !self.flags.contains(VmaFlags::SPECIAL)
    }

    /// Counts against RLIMIT_DATA: private and writable, not a stack.
    pub fn is_data(&self) -> bool {
        self.share == Share::Private && self.prot.contains(Prot::WRITE) && !self.flags.contains(VmaFlags::GROWSDOWN)
    }

    /// The part of it inside `start..end`, which must overlap it.
    pub(crate) fn clip(&self, start: u64, end: u64) -> Vma {
        let mut part = self.clone();
        part.start = self.start.max(start);
        part.end = self.end.min(end);
        if part.mapping.is_some() {
            part.offset = self.offset + (part.start - self.start);
        }
        part
    }

    /// Whether `next`, which starts where this ends, can be the same range.
    pub(crate) fn merges_with(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.max_prot == next.max_prot
            && self.share == next.share
            && self.flags == next.flags
            && !self.flags.contains(VmaFlags::SPECIAL)
            && self.name == next.name
            && match (&self.mapping, &next.mapping) {
                (None, None) => true,
                (Some(a), Some(b)) => same_file(a, b) && self.offset.checked_add(self.len()) == Some(next.offset),
                _ => false,
            }
    }
}

fn same_file(a: &Mapping, b: &Mapping) -> bool {
    Arc::ptr_eq(&a.fd, &b.fd) && Arc::ptr_eq(&a.label, &b.label)
}
