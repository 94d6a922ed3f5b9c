//! mmap(2) and munmap(2): the guest's request is understood, checked and rebuilt; none of its flags reaches the host (LAWS 1.8).

use sentry_abi::uapi::general as uapi;
use sentry_abi::user::{page_down, page_up};
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_memory::Mapping;
use sentry_platform::{GuestThread, MapSource, PlatformError, Prot, Share};

use crate::layout::STACK_GUARD;
use crate::mm::{Mm, Tree};
use crate::shared::shared_anonymous;
use crate::vma::{Vma, VmaFlags, VmaName};

const MAP_TYPE: u64 = uapi::MAP_TYPE as u64;
/// What a fault maps at once on the host.
const FAULT_AROUND: u64 = 64 << 10;
const MAP_SHARED: u64 = uapi::MAP_SHARED as u64;
const MAP_PRIVATE: u64 = uapi::MAP_PRIVATE as u64;
const MAP_SHARED_VALIDATE: u64 = uapi::MAP_SHARED_VALIDATE as u64;
const MAP_FIXED: u64 = uapi::MAP_FIXED as u64;
const MAP_FIXED_NOREPLACE: u64 = uapi::MAP_FIXED_NOREPLACE as u64;
const MAP_ANONYMOUS: u64 = uapi::MAP_ANONYMOUS as u64;
const MAP_32BIT: u64 = uapi::MAP_32BIT as u64;
const MAP_GROWSDOWN: u64 = uapi::MAP_GROWSDOWN as u64;
const MAP_DENYWRITE: u64 = uapi::MAP_DENYWRITE as u64;
const MAP_EXECUTABLE: u64 = uapi::MAP_EXECUTABLE as u64;
const MAP_LOCKED: u64 = uapi::MAP_LOCKED as u64;
const MAP_NORESERVE: u64 = uapi::MAP_NORESERVE as u64;
const MAP_POPULATE: u64 = uapi::MAP_POPULATE as u64;
const MAP_NONBLOCK: u64 = uapi::MAP_NONBLOCK as u64;
const MAP_STACK: u64 = uapi::MAP_STACK as u64;
const MAP_HUGETLB: u64 = uapi::MAP_HUGETLB as u64;
const MAP_UNINITIALIZED: u64 = uapi::MAP_UNINITIALIZED as u64;
const MAP_ABOVE4G: u64 = uapi::MAP_ABOVE4G as u64;

/// What MAP_SHARED_VALIDATE accepts (LEGACY_MAP_MASK); MAP_SYNC is for persistent memory alone.
const VALIDATED: u64 = MAP_SHARED
    | MAP_PRIVATE
    | MAP_FIXED
    | MAP_ANONYMOUS
    | MAP_DENYWRITE
    | MAP_EXECUTABLE
    | MAP_UNINITIALIZED
    | MAP_GROWSDOWN
    | MAP_LOCKED
    | MAP_NORESERVE
    | MAP_POPULATE
    | MAP_NONBLOCK
    | MAP_STACK
    | MAP_HUGETLB
    | MAP_32BIT
    | MAP_ABOVE4G;

/// Window of MAP_32BIT.
const LOW_WINDOW: (u64, u64) = (0x4000_0000, 0x8000_0000);
/// Anonymous memory in multiples of this is aligned to it, so that the host can use huge pages.
pub(crate) const HUGE: u64 = 2 << 20;
/// How often another address is tried when the host says that one is still taken.
const PLACE_ATTEMPTS: u32 = 32;
/// A guest's MAP_GROWSDOWN mapping is extended downwards at once by at most this much, since it cannot grow by faults (LAWS 13.8).
const GROWSDOWN_ROOM: u64 = 8 << 20;

/// Arguments of mmap(2) as the guest gave them; the kernel has turned the descriptor into `mapping` (EBADF is its own).
#[derive(Clone)]
pub struct MapRequest {
    pub hint: UserAddr,
    pub len: u64,
    /// PROT_*, raw.
    pub prot: u64,
    /// MAP_*, raw.
    pub flags: u64,
    /// What the file gives; ignored with MAP_ANONYMOUS, `None` for a file that cannot be mapped (ENODEV).
    pub mapping: Option<Mapping>,
    pub offset: u64,
}

/// Where a mapping is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Where {
    /// MAP_FIXED.
    Exact,
    /// MAP_FIXED_NOREPLACE.
    ExactFree,
    /// The hint if it is free, else of our choice.
    Hint,
    /// MAP_32BIT.
    Low,
}

/// How an address is found when the guest does not fix it.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    pub len: u64,
    pub align: u64,
    /// Only below this address.
    pub below: u64,
}

/// A request that was understood: everything but the address.
struct Plan {
    prot: Prot,
    max_prot: Prot,
    share: Share,
    mapping: Option<Mapping>,
    offset: u64,
    flags: VmaFlags,
    populate: bool,
}

impl Mm {
    pub fn mmap(&self, thread: &mut dyn GuestThread, request: MapRequest) -> Result<UserAddr> {
        if !request.offset.is_multiple_of(PAGE_SIZE) || request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let (flags, anonymous) = (request.flags, request.flags & MAP_ANONYMOUS != 0);
        if flags & MAP_HUGETLB != 0 {
            // The host's pool of huge pages belongs to no container: as on a host that has none.
            return Err(if anonymous { Errno::ENOMEM } else { Errno::EINVAL });
        }
        let len = page_up(request.len).ok_or(Errno::ENOMEM)?;
        request.offset.checked_add(len).ok_or(Errno::EOVERFLOW)?;
        let place = place_of(flags);
        let (hint, big) = (request.hint, anonymous && len.is_multiple_of(HUGE));
        let search = Search { len, align: if big { HUGE } else { PAGE_SIZE }, below: u64::MAX };

        let operation = self.begin_operation();
        let range = self.tree.read().first_place(self, place, hint, search)?;
        let plan = self.plan(request, len)?;
        let range = self.with_room_to_grow(range, &plan);
        self.tree.read().admit(range, &plan.vma(range), place == Where::Exact)?;
        let range = self.install_searching(thread, &plan, range, place, search)?;
        drop(operation);
        if plan.populate {
            self.populate(thread, range, plan.prot, plan.share);
        }
        Ok(UserAddr(range.end() - len))
    }

    pub fn munmap(&self, thread: &mut dyn GuestThread, at: UserAddr, len: u64) -> Result<()> {
        let range = self.page_range(at, len).ok_or(Errno::EINVAL)?;
        if range.is_empty() {
            return Err(Errno::EINVAL);
        }
        let _operation = self.begin_operation();
        self.unmap_range(thread, range)
    }

    /// `at..at+len` in whole pages: `None` when `at` is not aligned or the end is past the guest's range.
    pub(crate) fn page_range(&self, at: UserAddr, len: u64) -> Option<UserRange> {
        if !at.is_page_aligned() {
            return None;
        }
        UserRange::new(at, page_up(len)?).filter(|r| r.end() <= self.guest.end())
    }

    /// munmap with the ticket held.
    pub(crate) fn unmap_range(&self, thread: &mut dyn GuestThread, range: UserRange) -> Result<()> {
        let runs = {
            let tree = self.tree.read();
            if tree.vmas.overlapping(range.start(), range.end()).any(|v| v.flags.contains(VmaFlags::SPECIAL)) {
                return Err(Errno::EINVAL);
            }
            tree.check_splits(range)?;
            tree.vmas.runs(range)
        };
        // Only what is mapped: a hole may hide something of the platform's.
        for run in runs {
            thread.unmap(run).map_err(|e| e.errno())?;
            let removed = self.tree.write().vmas.remove(run.start(), run.end());
            drop(removed);
        }
        Ok(())
    }

    /// Types, rights and flags, in the order of Linux's do_mmap.
    fn plan(&self, request: MapRequest, len: u64) -> Result<Plan> {
        let flags = request.flags;
        let mut plan = Plan {
            prot: Prot::from_bits_truncate((request.prot & 7) as u8),
            max_prot: Prot::all(),
            share: Share::Private,
            mapping: None,
            offset: 0,
            flags: self.tree.read().future_lock,
            populate: flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE,
        };
        if flags & MAP_LOCKED != 0 {
            plan.flags |= VmaFlags::LOCKED;
        }
        if flags & MAP_NORESERVE != 0 {
            plan.flags |= VmaFlags::NORESERVE;
        }
        if flags & MAP_GROWSDOWN != 0 {
            plan.flags |= VmaFlags::GROWSDOWN;
        }
        if plan.flags.contains(VmaFlags::LOCKED) {
            self.tree.read().admit_lock(len, flags & MAP_LOCKED != 0)?;
            plan.populate = !plan.flags.contains(VmaFlags::LOCKONFAULT);
        }
        if flags & MAP_ANONYMOUS == 0 {
            plan.back_by_file(request, flags)?;
            return Ok(plan);
        }
        match flags & MAP_TYPE {
            MAP_PRIVATE => {}
            MAP_SHARED if flags & MAP_GROWSDOWN != 0 => return Err(Errno::EINVAL),
            MAP_SHARED => {
                plan.share = Share::Shared;
                plan.mapping = Some(shared_anonymous(&self.file_source, len)?);
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(plan)
    }

    /// A MAP_GROWSDOWN mapping gets what it may grow to at once.
    fn with_room_to_grow(&self, range: UserRange, plan: &Plan) -> UserRange {
        if !plan.flags.contains(VmaFlags::GROWSDOWN) {
            return range;
        }
        let tree = self.tree.read();
        let floor = tree.vmas.before(range.start()).map_or(self.guest.start(), |v| v.end.saturating_add(STACK_GUARD));
        let floor = floor.max(tree.limits.min_addr);
        let wanted = tree.limits.stack.min(GROWSDOWN_ROOM).saturating_sub(range.len());
        let start = page_up(range.start().saturating_sub(wanted).max(floor)).unwrap_or(range.start());
        UserRange::from_bounds(start.min(range.start()), range.end()).unwrap_or(range)
    }

    /// Maps it, looking for another address while the host says that a chosen one is still taken.
    fn install_searching(
        &self,
        thread: &mut dyn GuestThread,
        plan: &Plan,
        mut range: UserRange,
        place: Where,
        mut search: Search,
    ) -> Result<UserRange> {
        for _ in 0..PLACE_ATTEMPTS {
            let vma = plan.vma(range);
            match place {
                Where::Exact | Where::ExactFree => return self.install(thread, vma, Fresh::No).map(|()| range),
                Where::Hint | Where::Low => match self.install(thread, vma, Fresh::Yes) {
                    Err(Errno::EEXIST) => {}
                    done => return done.map(|()| range),
                },
            }
            search.below = range.start();
            range = self.tree.read().first_place(self, place, UserAddr::NULL, search)?;
        }
        Err(Errno::ENOMEM)
    }

    /// Executes one mapping on the host and shows it in the tree. The ticket is held and everything was checked.
    pub(crate) fn install(&self, thread: &mut dyn GuestThread, vma: Vma, fresh: Fresh) -> Result<()> {
        let range = UserRange::from_bounds(vma.start, vma.end).ok_or(Errno::ENOMEM)?;
        let source = match &vma.mapping {
            Some(mapping) => MapSource::File { fd: mapping.fd(), offset: vma.offset, populate: at_once(&vma, mapping) },
            None => MapSource::Anonymous,
        };
        let done = match fresh {
            Fresh::Yes => thread.map_fresh(range, source, vma.share, vma.prot),
            Fresh::No => thread.map(range, source, vma.share, vma.prot),
        };
        done.map_err(|e| e.errno())?;
        let removed = {
            let mut tree = self.tree.write();
            let removed = tree.vmas.remove(range.start(), range.end());
            tree.vmas.insert_merging(vma);
            removed
        };
        drop(removed);
        Ok(())
    }

    /// Makes pages present, as MAP_POPULATE and mlock do. A failure is no error of the mapping; nor is the ticket needed.
    pub(crate) fn populate(&self, thread: &mut dyn GuestThread, range: UserRange, prot: Prot, share: Share) -> bool {
        let advice = if prot.contains(Prot::WRITE) && share == Share::Private {
            uapi::MADV_POPULATE_WRITE
        } else if prot.is_empty() {
            return true;
        } else {
            uapi::MADV_POPULATE_READ
        };
        match thread.advise(range, advice as i32) {
            // A host that does not know the advice (before 5.14) faults pages in when they are touched.
            Ok(()) | Err(PlatformError::Host(Errno::EINVAL)) => true,
            Err(_) => false,
        }
    }
}

/// Whether all pages are to be mapped with the mapping: where the first touch would map as many (Linux's fault_around_bytes) and costs no
/// less. Never where that would copy pages.
fn at_once(vma: &Vma, mapping: &Mapping) -> bool {
    let copies = vma.share == Share::Private && vma.prot.contains(Prot::WRITE);
    mapping.resident && !copies && !vma.prot.is_empty() && vma.end - vma.start <= FAULT_AROUND
}

/// Whether the host must find the addresses free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fresh {
    Yes,
    No,
}

impl Plan {
    fn vma(&self, range: UserRange) -> Vma {
        Vma {
            start: range.start(),
            end: range.end(),
            prot: self.prot,
            max_prot: self.max_prot,
            share: self.share,
            mapping: self.mapping.clone(),
            offset: self.offset,
            flags: self.flags,
            name: VmaName::None,
        }
    }

    fn back_by_file(&mut self, request: MapRequest, flags: u64) -> Result<()> {
        let share = match flags & MAP_TYPE {
            MAP_SHARED => Share::Shared,
            MAP_SHARED_VALIDATE if flags & !VALIDATED != 0 => return Err(Errno::EOPNOTSUPP),
            MAP_SHARED_VALIDATE => Share::Shared,
            MAP_PRIVATE => Share::Private,
            _ => return Err(Errno::EINVAL),
        };
        let mapping = request.mapping.ok_or(Errno::ENODEV)?;
        let may = mapping.max_prot;
        if share == Share::Shared && self.prot.contains(Prot::WRITE) && !may.contains(Prot::WRITE) {
            return Err(Errno::EACCES);
        }
        if !may.contains(Prot::READ) {
            return Err(Errno::EACCES);
        }
        if self.prot.contains(Prot::EXEC) && !may.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        if flags & MAP_GROWSDOWN != 0 {
            return Err(Errno::EINVAL);
        }
        // Writes to a private mapping never reach the file.
        self.max_prot = if share == Share::Private { may | Prot::WRITE } else { may };
        self.share = share;
        self.offset = request.offset;
        self.mapping = Some(mapping);
        Ok(())
    }
}

fn place_of(flags: u64) -> Where {
    if flags & MAP_FIXED_NOREPLACE != 0 {
        Where::ExactFree
    } else if flags & MAP_FIXED != 0 {
        Where::Exact
    } else if flags & MAP_32BIT != 0 {
        Where::Low
    } else {
        Where::Hint
    }
}

impl Tree {
    /// Whether one more range may exist.
    pub(crate) fn check_count(&self, more: u64) -> Result<()> {
        if self.vmas.len() as u64 + more > self.limits.map_count() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Whether cutting `range` out keeps within the number of ranges.
    pub(crate) fn check_splits(&self, range: UserRange) -> Result<()> {
        match self.vmas.splits(range.start(), range.end()) {
            0 => Ok(()),
            more => self.check_count(more),
        }
    }

    /// The address for a new mapping and the checks on it, in the order of Linux's get_unmapped_area.
    fn first_place(&self, mm: &Mm, place: Where, hint: UserAddr, search: Search) -> Result<UserRange> {
        self.check_count(1)?;
        let Search { len, .. } = search;
        let end = mm.guest.end();
        if matches!(place, Where::Exact | Where::ExactFree) {
            if len > end || hint.0 > end - len {
                return Err(Errno::ENOMEM);
            }
            if !hint.is_page_aligned() {
                return Err(Errno::EINVAL);
            }
            if hint.0 < self.limits.min_addr {
                return Err(Errno::EPERM);
            }
            let range = UserRange::new(hint, len).filter(|r| mm.guest.contains_range(*r)).ok_or(Errno::ENOMEM)?;
            if place == Where::ExactFree && !self.vmas.is_free(range.start(), range.end()) {
                return Err(Errno::EEXIST);
            }
            if place == Where::Exact && self.special_in(range) {
                return Err(Errno::EINVAL);
            }
            return Ok(range);
        }
        if let Some(range) = self.hinted(mm, hint, len) {
            return Ok(range);
        }
        let found = if place == Where::Low { self.search_low(mm, search) } else { self.search(mm, search) };
        found.ok_or(Errno::ENOMEM)
    }

    fn special_in(&self, range: UserRange) -> bool {
        self.vmas.overlapping(range.start(), range.end()).any(|v| v.flags.contains(VmaFlags::SPECIAL))
    }

    /// The hint, when it is free and leaves the gap below what grows down.
    pub(crate) fn hinted(&self, mm: &Mm, hint: UserAddr, len: u64) -> Option<UserRange> {
        let at = page_down(hint.0);
        if at == 0 {
            return None;
        }
        let range = UserRange::new(UserAddr(at.max(self.limits.min_addr)), len)?;
        let free = mm.guest.contains_range(range) && self.vmas.is_free(range.start(), range.end());
        (free && self.guarded_end(range.end()).is_none()).then_some(range)
    }

    /// When the range that follows `end` grows down and is nearer than its guard gap: where the gap begins.
    fn guarded_end(&self, end: u64) -> Option<u64> {
        let next = self.vmas.after(end)?;
        let guard = next.start.saturating_sub(STACK_GUARD);
        (next.flags.contains(VmaFlags::GROWSDOWN) && end > guard).then_some(guard)
    }

    /// Top down from mmap_base as Linux, then bottom up in what is left.
    pub(crate) fn search(&self, mm: &Mm, search: Search) -> Option<UserRange> {
        let low = mm.guest.start().max(self.limits.min_addr);
        let base = mm.layout.mmap_base.min(search.below);
        let found = self.search_down(search.len, low, base, search.align);
        let found = found.or_else(|| (search.align > PAGE_SIZE).then(|| self.search_down(search.len, low, base, PAGE_SIZE))?);
        let found =
            found.or_else(|| self.search_down(search.len, mm.layout.low_base.max(low), mm.guest.end().min(search.below), PAGE_SIZE));
        UserRange::new(UserAddr(found?), search.len)
    }

    fn search_down(&self, len: u64, low: u64, mut high: u64, align: u64) -> Option<u64> {
        loop {
            let at = self.vmas.highest_gap(len, low, high, align)?;
            match self.guarded_end(at + len) {
                None => return Some(at),
                Some(guard) => high = guard,
            }
        }
    }

    fn search_low(&self, mm: &Mm, search: Search) -> Option<UserRange> {
        let (low, high) = (LOW_WINDOW.0.max(mm.guest.start()), LOW_WINDOW.1.min(mm.guest.end()).min(search.below));
        let at = if search.below == u64::MAX {
            self.vmas.lowest_gap(search.len, low, high, PAGE_SIZE)
        } else {
            self.vmas.highest_gap(search.len, low, high, PAGE_SIZE)
        };
        UserRange::new(UserAddr(at?), search.len)
    }

    /// Limits of sizes for a new range; what it replaces does not count.
    pub(crate) fn admit(&self, range: UserRange, vma: &Vma, replaces: bool) -> Result<()> {
        if replaces {
            self.check_splits(range)?;
        }
        let replaced: u64 =
            self.vmas.overlapping(range.start(), range.end()).map(|v| v.end.min(range.end()) - v.start.max(range.start())).sum();
        if self.may_expand(range.len() - replaced, vma) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// RLIMIT_AS and RLIMIT_DATA for `more` bytes with the rights of `like`.
    pub(crate) fn may_expand(&self, more: u64, like: &Vma) -> bool {
        let totals = self.vmas.totals();
        // A stack is mapped in full at once, but Linux counts what it has grown to.
        let more = if like.flags.contains(VmaFlags::GROWSDOWN) { 0 } else { more };
        let counted = totals.all - totals.stack;
        counted.saturating_add(more) <= self.limits.address_space
            && (!like.is_data() || totals.data.saturating_add(more) <= self.limits.data)
    }

    /// RLIMIT_MEMLOCK for `more` bytes; `asked` when the call itself asks to lock.
    pub(crate) fn admit_lock(&self, more: u64, asked: bool) -> Result<()> {
        if self.limits.may_lock_any {
            return Ok(());
        }
        if asked && self.limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        if self.vmas.totals().locked.saturating_add(more) > self.limits.memlock { Err(Errno::EAGAIN) } else { Ok(()) }
    }
}
