//! Answers to memory requests that guest code makes on its own (DESIGN 2.3, "direct").
//!
//! Asked on the platform's notification thread: nothing here waits, and nothing that a file owns is dropped here: files of what is unmapped wait
//! for the next operation. Whatever is not plain private memory, or meets a limit, goes by the ordinary way, which knows the right error.
//!
//! An approved request is executed a little after the tree shows it. Only unmap matters: its addresses must not be handed out again before the host
//! is done. That is why fresh mappings are made with [`GuestThread::map_fresh`](sentry_platform::GuestThread::map_fresh).

use std::sync::{Arc, Weak};

use sentry_abi::uapi::general as uapi;
use sentry_abi::user::page_up;
use sentry_abi::{PAGE_SIZE, UserAddr, UserRange};
use sentry_platform::{MemoryRequest, MemoryRequests, Prot, Share, SpaceId, Verdict};

use crate::advise::{advised_flags, check_range};
use crate::map::{HUGE, Search};
use crate::mm::{Mm, Tree};
use crate::vma::{Vma, VmaFlags};

/// With so many files left to be dropped, the ordinary way drops them.
const LEFT_MAX: usize = 64;

/// Holds no strong reference: the space that owns it is owned by the [`Mm`].
pub(crate) struct DirectRequests {
    mm: Weak<Mm>,
}

impl DirectRequests {
    pub fn new(mm: &Arc<Mm>) -> DirectRequests {
        DirectRequests { mm: Arc::downgrade(mm) }
    }
}

impl MemoryRequests for DirectRequests {
    fn decide(&self, space: SpaceId, request: &MemoryRequest) -> Verdict {
        let Some(mm) = self.mm.upgrade().filter(|mm| mm.space.id() == space) else { return Verdict::AskTheSentry };
        let done = {
            let mut tree = mm.tree.write();
            // An ordered operation plans with the tree as it is.
            if tree.busy { None } else { tree.decide(&mm, request) }
        };
        match done {
            Some(_removed) => Verdict::Continue,
            None => Verdict::AskTheSentry,
        }
    }

    fn place(&self, space: SpaceId, len: u64) -> Option<UserAddr> {
        let mm = self.mm.upgrade().filter(|mm| mm.space.id() == space)?;
        let len = page_up(len).filter(|l| *l > 0)?;
        let align = if len.is_multiple_of(HUGE) { HUGE } else { PAGE_SIZE };
        let found = mm.tree.read().search(&mm, Search { len, align, below: u64::MAX })?;
        Some(UserAddr(found.start()))
    }
}

impl Tree {
    /// Applies a request to the tree; `None` changes nothing. The removed ranges are to be dropped without the lock.
    fn decide(&mut self, mm: &Mm, request: &MemoryRequest) -> Option<Vec<Vma>> {
        let range = match request {
            MemoryRequest::Map { at, .. } => *at,
            MemoryRequest::Unmap { range } | MemoryRequest::Protect { range, .. } | MemoryRequest::Advise { range, .. } => *range,
        };
        let sane = !range.is_empty() && range.is_page_aligned() && mm.guest.contains_range(range);
        if !sane || range.start() < self.limits.min_addr {
            return None;
        }
        match request {
            MemoryRequest::Map { prot, .. } => self.direct_map(range, *prot),
            MemoryRequest::Unmap { .. } => self.direct_unmap(range),
            MemoryRequest::Protect { prot, .. } => self.direct_protect(range, *prot),
            MemoryRequest::Advise { advice, .. } => self.direct_advise(range, u32::try_from(*advice).ok()?),
        }
    }

    fn direct_map(&mut self, range: UserRange, prot: Prot) -> Option<Vec<Vma>> {
        let vma = Vma::anonymous(range, prot, VmaFlags::empty());
        let free = self.vmas.is_free(range.start(), range.end());
        if !free || !self.future_lock.is_empty() || self.check_count(1).is_err() || !self.may_expand(range.len(), &vma) {
            return None;
        }
        self.vmas.insert_merging(vma);
        Some(Vec::new())
    }

    fn direct_unmap(&mut self, range: UserRange) -> Option<Vec<Vma>> {
        // Text of files may be patched.
        let plain = |v: &Vma| {
            v.share == Share::Private && !v.flags.contains(VmaFlags::SPECIAL) && !(v.mapping.is_some() && v.prot.contains(Prot::EXEC))
        };
        if !self.vmas.overlapping(range.start(), range.end()).all(plain) || self.left.len() >= LEFT_MAX || self.check_splits(range).is_err()
        {
            return None;
        }
        let mut removed = self.vmas.remove(range.start(), range.end());
        self.left.extend(removed.iter_mut().filter_map(|v| v.mapping.take()));
        Some(removed)
    }

    fn direct_protect(&mut self, range: UserRange, prot: Prot) -> Option<Vec<Vma>> {
        let covered = self.vmas.covered_until(range.start(), range.end()) == range.end();
        // Text of files may be patched: making it or unmaking it executable is not for the fast way.
        let allowed = self.vmas.overlapping(range.start(), range.end()).all(|v| {
            let text = v.mapping.is_some() && (v.prot | prot).contains(Prot::EXEC);
            let special = v.flags.contains(VmaFlags::SPECIAL);
            v.share == Share::Private && !special && !text && v.max_prot.contains(prot)
        });
        let writable = prot.contains(Prot::WRITE);
        let more: u64 = if writable { self.vmas.overlapping(range.start(), range.end()).map(newly_data).sum() } else { 0 };
        let data = self.vmas.totals().data.saturating_add(more);
        if !covered || !allowed || data > self.limits.data || self.check_splits(range).is_err() {
            return None;
        }
        self.vmas.update(range.start(), range.end(), |v| v.prot = prot);
        Some(Vec::new())
    }

    fn direct_advise(&mut self, range: UserRange, advice: u32) -> Option<Vec<Vma>> {
        let quick = matches!(
            advice,
            uapi::MADV_NORMAL
                | uapi::MADV_RANDOM
                | uapi::MADV_SEQUENTIAL
                | uapi::MADV_WILLNEED
                | uapi::MADV_DONTNEED
                | uapi::MADV_FREE
                | uapi::MADV_COLD
                | uapi::MADV_HUGEPAGE
                | uapi::MADV_NOHUGEPAGE
        );
        let covered = self.vmas.covered_until(range.start(), range.end()) == range.end();
        let allowed = self.vmas.overlapping(range.start(), range.end()).all(|v| v.is_private_anonymous() && check_range(v, advice).is_ok());
        if !quick || !covered || !allowed || self.check_splits(range).is_err() {
            return None;
        }
        if self.vmas.overlapping(range.start(), range.end()).any(|v| advised_flags(v.flags, advice) != v.flags) {
            self.vmas.update(range.start(), range.end(), |v| v.flags = advised_flags(v.flags, advice));
        }
        Some(Vec::new())
    }
}

/// Bytes that would count as data once writable; edges are counted whole, which only errs towards the slow way.
fn newly_data(vma: &Vma) -> u64 {
    if vma.is_data() { 0 } else { vma.len() }
}
