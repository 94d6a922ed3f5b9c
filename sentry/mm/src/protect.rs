//! mprotect(2).

use sentry_abi::uapi::general as uapi;
use sentry_abi::user::page_up;
use sentry_abi::{Errno, Result, UserAddr, UserRange};
use sentry_platform::{GuestThread, Prot};

use crate::mm::{Mm, Tree};
use crate::vma::VmaFlags;

const PROT_SEM: u64 = uapi::PROT_SEM as u64;
const PROT_GROWSDOWN: u64 = uapi::PROT_GROWSDOWN as u64;
const PROT_GROWSUP: u64 = uapi::PROT_GROWSUP as u64;

/// How much of a change may be made, and what is said afterwards.
struct Allowed {
    until: u64,
    then: Result<()>,
    changes: bool,
}

impl Mm {
    /// `prot` is raw PROT_* with PROT_GROWSDOWN. As on Linux, what precedes a hole or a forbidden range is changed all the same.
    pub fn mprotect(&self, thread: &mut dyn GuestThread, at: UserAddr, len: u64, prot: u64) -> Result<()> {
        let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
        if grows == PROT_GROWSDOWN | PROT_GROWSUP || !at.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let end = page_up(len).and_then(|len| at.0.checked_add(len)).filter(|end| *end > at.0).ok_or(Errno::ENOMEM)?;
        let rest = prot & !(PROT_GROWSDOWN | PROT_GROWSUP);
        if rest & !(u64::from(Prot::all().bits()) | PROT_SEM) != 0 {
            return Err(Errno::EINVAL);
        }
        let prot = Prot::from_bits_truncate((rest & 7) as u8);
        let _operation = self.begin_operation();
        let (range, allowed) = {
            let tree = self.tree.read();
            let start = tree.protect_start(at.0, end, grows)?;
            // Behind the guest's range there is nothing mapped; the set says so.
            let range = UserRange::from_bounds(start, end.min(self.guest.end())).ok_or(Errno::ENOMEM)?;
            let mut allowed = tree.allowed(range, prot);
            if end > self.guest.end() {
                allowed.then = allowed.then.and(Err(Errno::ENOMEM));
            }
            (range, allowed)
        };
        let Some(part) = UserRange::from_bounds(range.start(), allowed.until).filter(|p| !p.is_empty()) else { return allowed.then };
        if allowed.changes {
            thread.protect(part, prot).map_err(|e| e.errno())?;
            self.tree.write().vmas.update(part.start(), part.end(), |vma| vma.prot = prot);
        }
        allowed.then
    }
}

impl Tree {
    /// Resolves PROT_GROWSDOWN and PROT_GROWSUP.
    fn protect_start(&self, start: u64, end: u64, grows: u64) -> Result<u64> {
        let first = self.vmas.overlapping(start, end).next().ok_or(Errno::ENOMEM)?;
        match grows {
            PROT_GROWSDOWN if first.flags.contains(VmaFlags::GROWSDOWN) => Ok(first.start),
            PROT_GROWSDOWN => Err(Errno::EINVAL),
            // No mapping of x86 grows up.
            PROT_GROWSUP => Err(if first.start > start { Errno::ENOMEM } else { Errno::EINVAL }),
            _ => Ok(start),
        }
    }

    fn allowed(&self, range: UserRange, prot: Prot) -> Allowed {
        let mut allowed = Allowed { until: range.start(), then: Ok(()), changes: false };
        if let Err(errno) = self.check_splits(range) {
            allowed.then = Err(errno);
            return allowed;
        }
        for vma in self.vmas.overlapping(range.start(), range.end()) {
            if vma.start > allowed.until {
                allowed.then = Err(Errno::ENOMEM);
                return allowed;
            }
            if !vma.max_prot.contains(prot) || (vma.flags.contains(VmaFlags::SPECIAL) && vma.prot != prot) {
                allowed.then = Err(Errno::EACCES);
                return allowed;
            }
            let end = vma.end.min(range.end());
            let mut changed = vma.clip(range.start(), range.end());
            changed.prot = prot;
            if changed.is_data() && !vma.is_data() && !self.may_expand_data(changed.len()) {
                allowed.then = Err(Errno::ENOMEM);
                return allowed;
            }
            allowed.changes |= vma.prot != prot;
            allowed.until = end;
        }
        if allowed.until < range.end() {
            allowed.then = Err(Errno::ENOMEM);
        }
        allowed
    }

    fn may_expand_data(&self, more: u64) -> bool {
        self.vmas.totals().data.saturating_add(more) <= self.limits.data
    }
}
