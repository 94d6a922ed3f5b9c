//! mlock(2) and family: book-keeping against RLIMIT_MEMLOCK and population; nothing is locked on the host (LAWS 13.7).

use sentry_abi::uapi::general as uapi;
use sentry_abi::user::{page_down, page_up};
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_platform::{GuestThread, Prot, Share};

use crate::mm::Mm;
use crate::vma::VmaFlags;

const CURRENT: u64 = uapi::MCL_CURRENT as u64;
const FUTURE: u64 = uapi::MCL_FUTURE as u64;
const ONFAULT: u64 = uapi::MCL_ONFAULT as u64;
const MLOCK_ONFAULT: u64 = uapi::MLOCK_ONFAULT as u64;

const LOCKS: VmaFlags = VmaFlags::LOCKED.union(VmaFlags::LOCKONFAULT);

impl Mm {
    /// mlock(2) is `flags` 0; mlock2(2) knows MLOCK_ONFAULT (1).
    pub fn mlock(&self, thread: &mut dyn GuestThread, at: UserAddr, len: u64, flags: u64) -> Result<()> {
        if flags & !MLOCK_ONFAULT != 0 {
            return Err(Errno::EINVAL);
        }
        let limits = self.limits();
        if !limits.may_lock_any && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let locks = if flags & MLOCK_ONFAULT != 0 { LOCKS } else { VmaFlags::LOCKED };
        let parts = self.change_locks(at, len, locks)?;
        if locks == VmaFlags::LOCKED {
            for (range, prot, share) in parts {
                // What cannot be touched cannot be brought in.
                if prot.is_empty() || !self.populate(thread, range, prot, share) {
                    return Err(Errno::ENOMEM);
                }
            }
        }
        Ok(())
    }

    pub fn munlock(&self, at: UserAddr, len: u64) -> Result<()> {
        self.change_locks(at, len, VmaFlags::empty()).map(drop)
    }

    /// Sets the lock flags of a range that need not be aligned. What precedes a hole is changed all the same.
    fn change_locks(&self, at: UserAddr, len: u64, locks: VmaFlags) -> Result<Vec<(UserRange, Prot, Share)>> {
        let start = page_down(at.0);
        let len = len.checked_add(at.0 % PAGE_SIZE).and_then(page_up).ok_or(Errno::EINVAL)?;
        let end = start.checked_add(len).ok_or(Errno::EINVAL)?;
        if end == start {
            return Ok(Vec::new());
        }
        let _operation = self.begin_operation();
        let mut tree = self.tree.write();
        let clipped = UserRange::from_bounds(start, end.min(self.guest.end())).ok_or(Errno::ENOMEM)?;
        if !locks.is_empty() && !tree.limits.may_lock_any {
            let already: u64 = tree
                .vmas
                .overlapping(start, clipped.end())
                .filter(|v| v.flags.contains(VmaFlags::LOCKED))
                .map(|v| v.end.min(clipped.end()) - v.start.max(start))
                .sum();
            if (tree.vmas.totals().locked - already).saturating_add(len) > tree.limits.memlock {
                return Err(Errno::ENOMEM);
            }
        }
        tree.check_splits(clipped)?;
        let covered = tree.vmas.covered_until(start, clipped.end());
        let parts = tree
            .vmas
            .overlapping(start, covered)
            .filter_map(|v| Some((UserRange::from_bounds(v.start.max(start), v.end.min(covered))?, v.prot, v.share)))
            .collect();
        if covered > start {
            tree.vmas.update(start, covered, |v| v.flags = lock_flags(v.flags, locks));
        }
        if covered < end { Err(Errno::ENOMEM) } else { Ok(parts) }
    }

    pub fn mlockall(&self, thread: &mut dyn GuestThread, flags: u64) -> Result<()> {
        if flags == 0 || flags == ONFAULT || flags & !(CURRENT | FUTURE | ONFAULT) != 0 {
            return Err(Errno::EINVAL);
        }
        let locks = if flags & ONFAULT != 0 { LOCKS } else { VmaFlags::LOCKED };
        let parts = {
            let _operation = self.begin_operation();
            let mut tree = self.tree.write();
            if !tree.limits.may_lock_any {
                if tree.limits.memlock == 0 {
                    return Err(Errno::EPERM);
                }
                if flags & CURRENT != 0 && tree.vmas.totals().all > tree.limits.memlock {
                    return Err(Errno::ENOMEM);
                }
            }
            tree.future_lock = if flags & FUTURE != 0 { locks } else { VmaFlags::empty() };
            if flags & CURRENT == 0 {
                return Ok(());
            }
            let guest = self.guest;
            tree.vmas.update(guest.start(), guest.end(), |v| v.flags = lock_flags(v.flags, locks));
            let range = |start, end| UserRange::from_bounds(start, end);
            let parts: Vec<_> = tree.vmas.iter().filter_map(|v| Some((range(v.start, v.end)?, v.prot, v.share))).collect();
            parts
        };
        if locks == VmaFlags::LOCKED {
            for (range, prot, share) in parts {
                self.populate(thread, range, prot, share);
            }
        }
        Ok(())
    }

    pub fn munlockall(&self) -> Result<()> {
        let _operation = self.begin_operation();
        let mut tree = self.tree.write();
        tree.future_lock = VmaFlags::empty();
        let guest = self.guest;
        tree.vmas.update(guest.start(), guest.end(), |v| v.flags -= LOCKS);
        Ok(())
    }
}

fn lock_flags(flags: VmaFlags, locks: VmaFlags) -> VmaFlags {
    if flags.contains(VmaFlags::SPECIAL) { flags } else { (flags - LOCKS) | locks }
}
