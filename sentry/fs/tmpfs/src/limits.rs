//! How much a file system may hold: pages and inodes, counted without locks so that a drop may give back under any lock.

use std::sync::atomic::{AtomicU64, Ordering};

use sentry_abi::{Errno, Result};

/// A count with a most; `u64::MAX` is no limit.
struct Budget {
    most: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    fn new(most: u64) -> Budget {
        Budget { most: AtomicU64::new(most), used: AtomicU64::new(0) }
    }

    /// Takes up to `wanted`, returns how many were to be had.
    fn take_some(&self, wanted: u64) -> u64 {
        let most = self.most.load(Ordering::Relaxed);
        let mut got = 0;
        let took = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            got = wanted.min(most.saturating_sub(used));
            used.checked_add(got)
        });
        if took.is_ok() { got } else { 0 }
    }

    fn give_back(&self, count: u64) {
        // Never below zero: counts are only given back by who took them.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_sub(count)));
    }

    fn force(&self, count: u64) {
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used.saturating_add(count)));
    }

    fn get(&self) -> (u64, u64) {
        (self.most.load(Ordering::Relaxed), self.used.load(Ordering::Relaxed))
    }
}

pub(crate) struct Limits {
    pages: Budget,
    inodes: Budget,
}

impl Limits {
    pub fn new(pages: Option<u64>, inodes: Option<u64>) -> Limits {
        Limits { pages: Budget::new(pages.unwrap_or(u64::MAX)), inodes: Budget::new(inodes.unwrap_or(u64::MAX)) }
    }

    /// Takes up to `wanted` pages.
    pub fn take_pages(&self, wanted: u64) -> u64 {
        self.pages.take_some(wanted)
    }

    /// Counts pages that exist already.
    pub fn force_pages(&self, count: u64) {
        self.pages.force(count);
    }

    pub fn give_back_pages(&self, count: u64) {
        self.pages.give_back(count);
    }

    pub fn take_inode(&self) -> Result<()> {
        if self.inodes.take_some(1) == 1 { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    pub fn give_back_inode(&self) {
        self.inodes.give_back(1);
    }

    /// (most, used); `u64::MAX` is no limit.
    pub fn pages(&self) -> (u64, u64) {
        self.pages.get()
    }

    pub fn inodes(&self) -> (u64, u64) {
        self.inodes.get()
    }

    /// A remount's new limits. `EINVAL` when more is in use than is to be allowed.
    pub fn change(&self, pages: Option<Option<u64>>, inodes: Option<Option<u64>>) -> Result<()> {
        for (budget, new) in [(&self.pages, pages), (&self.inodes, inodes)] {
            if let Some(Some(most)) = new
                && budget.get().1 > most
            {
                return Err(Errno::EINVAL);
            }
        }
        for (budget, new) in [(&self.pages, pages), (&self.inodes, inodes)] {
            if let Some(most) = new {
                budget.most.store(most.unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_is_left() {
        let limits = Limits::new(Some(10), Some(1));
        assert_eq!(limits.take_pages(7), 7);
        assert_eq!(limits.take_pages(7), 3);
        assert_eq!(limits.take_pages(1), 0);
        limits.give_back_pages(10);
        assert_eq!(limits.pages(), (10, 0));
        limits.take_inode().unwrap();
        assert_eq!(limits.take_inode(), Err(Errno::ENOSPC));
        assert_eq!(limits.change(None, Some(Some(0))), Err(Errno::EINVAL));
        limits.change(None, Some(None)).unwrap();
        limits.take_inode().unwrap();
    }
}
