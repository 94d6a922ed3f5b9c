//! Guest addresses. Arithmetic is checked; a range is known to lie in the guest's half of the address space.

use crate::errno::{Errno, Result};

pub const PAGE_SIZE: u64 = 4096;
pub const PAGE_MASK: u64 = PAGE_SIZE - 1;

/// First address that a guest can never use (x86-64, 47 bits). A platform may end the guest's space earlier.
pub const ADDRESS_LIMIT: u64 = 0x7fff_ffff_f000;

/// An address as the guest gave it: any 64-bit number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserAddr(pub u64);

impl UserAddr {
    pub const NULL: UserAddr = UserAddr(0);

    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    pub const fn is_page_aligned(self) -> bool {
        self.0 & PAGE_MASK == 0
    }

    pub fn checked_add(self, bytes: u64) -> Option<UserAddr> {
        self.0.checked_add(bytes).map(UserAddr)
    }

    /// `self + bytes`, `EFAULT` on overflow.
    pub fn offset(self, bytes: u64) -> Result<UserAddr> {
        self.checked_add(bytes).ok_or(Errno::EFAULT)
    }
}

/// `len` bytes from `start`, not wrapping, below [`ADDRESS_LIMIT`]. May be empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct UserRange {
    start: u64,
    len: u64,
}

impl UserRange {
    /// `None` when the range wraps or reaches above [`ADDRESS_LIMIT`].
    pub fn new(start: UserAddr, len: u64) -> Option<UserRange> {
        let end = start.0.checked_add(len)?;
        (end <= ADDRESS_LIMIT).then_some(UserRange { start: start.0, len })
    }

    /// From page-aligned bounds that are already known to be good (`start <= end <= ADDRESS_LIMIT`); `None` otherwise.
    pub fn from_bounds(start: u64, end: u64) -> Option<UserRange> {
        UserRange::new(UserAddr(start), end.checked_sub(start)?)
    }

    pub const fn start(self) -> u64 {
        self.start
    }

    pub const fn end(self) -> u64 {
        self.start + self.len
    }

    pub const fn len(self) -> u64 {
        self.len
    }

    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    pub const fn contains(self, addr: u64) -> bool {
        addr >= self.start && addr - self.start < self.len
    }

    pub const fn contains_range(self, other: UserRange) -> bool {
        other.start >= self.start && other.end() <= self.end()
    }

    pub const fn overlaps(self, other: UserRange) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    pub const fn is_page_aligned(self) -> bool {
        self.start & PAGE_MASK == 0 && self.len & PAGE_MASK == 0
    }
}

/// Rounds up to a page; `None` on overflow.
pub fn page_up(value: u64) -> Option<u64> {
    value.checked_add(PAGE_MASK).map(|v| v & !PAGE_MASK)
}

pub const fn page_down(value: u64) -> u64 {
    value & !PAGE_MASK
}
