//! mremap(2): every request becomes a move to an address of our choice, an unmap of a tail, or a fresh mapping behind the old one.

use sentry_abi::uapi::general as uapi;
use sentry_abi::user::{page_down, page_up};
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_platform::{GuestThread, PlatformError, Share};

use crate::map::{Fresh, Search};
use crate::mm::{Mm, Tree};
use crate::vma::{Vma, VmaFlags};

const MAYMOVE: u64 = uapi::MREMAP_MAYMOVE as u64;
const FIXED: u64 = uapi::MREMAP_FIXED as u64;
const DONTUNMAP: u64 = uapi::MREMAP_DONTUNMAP as u64;

/// Arguments of mremap(2), raw.
#[derive(Clone, Copy, Debug)]
pub struct RemapRequest {
    pub old: UserAddr,
    pub old_len: u64,
    pub new_len: u64,
    pub flags: u64,
    pub new: UserAddr,
}

/// Whether a move leaves the old range mapped and empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Old {
    Goes,
    Stays,
}

/// Where a move goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Exact(UserRange),
    /// There if it is free.
    Hint(UserRange),
    Any,
}

impl Target {
    fn exact(self) -> Option<UserRange> {
        match self {
            Target::Exact(to) => Some(to),
            Target::Hint(_) | Target::Any => None,
        }
    }
}

/// A move that was checked: `from` (empty for a second mapping of shared memory) becomes `to`, or goes where there is room.
struct Move {
    vma: Vma,
    from: UserRange,
    to: Target,
    old: Old,
}

impl Mm {
    pub fn mremap(&self, thread: &mut dyn GuestThread, request: RemapRequest) -> Result<UserAddr> {
        let RemapRequest { old, flags, new, .. } = request;
        let fixed = flags & FIXED != 0;
        if flags & !(MAYMOVE | FIXED | DONTUNMAP) != 0 || (flags & (FIXED | DONTUNMAP) != 0 && flags & MAYMOVE == 0) {
            return Err(Errno::EINVAL);
        }
        if !old.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let old_len = page_up(request.old_len).ok_or(Errno::EINVAL)?;
        let new_len = page_up(request.new_len).filter(|l| *l > 0).ok_or(Errno::EINVAL)?;
        // Beyond the end of all addresses nothing can be meant; below it sums cannot overflow.
        if old.0.checked_add(old_len.max(new_len)).is_none() || (flags & DONTUNMAP != 0 && old_len != new_len) {
            return Err(Errno::EINVAL);
        }
        // Without MREMAP_FIXED the address is a hint, but checked all the same.
        let target = if fixed || flags & DONTUNMAP != 0 { Some(self.named_target(old, old_len, new, new_len)?) } else { None };
        let target = target.map(|to| if fixed { Target::Exact(to) } else { Target::Hint(to) });
        if target.and_then(Target::exact).is_some_and(|to| to.start() < self.tree.read().limits.min_addr) {
            return Err(Errno::EPERM);
        }

        let operation = self.begin_operation();
        let vma = self.tree.read().vmas.find(old.0).cloned().ok_or(Errno::EFAULT)?;
        if vma.flags.contains(VmaFlags::SPECIAL) {
            return Err(Errno::EFAULT);
        }
        let (at, populate) = if fixed || flags & DONTUNMAP != 0 {
            let keep = if flags & DONTUNMAP != 0 { Old::Stays } else { Old::Goes };
            (self.remap_to(thread, vma.clone(), old, old_len, new_len, target.unwrap_or(Target::Any), keep)?, old_len)
        } else if old_len >= new_len {
            if old_len > new_len {
                let tail = self.page_range(UserAddr(old.0 + new_len), old_len - new_len).ok_or(Errno::EINVAL)?;
                self.unmap_range(thread, tail)?;
            }
            (old, new_len)
        } else {
            (self.remap_grow(thread, vma.clone(), old, old_len, new_len, flags)?, old_len)
        };
        drop(operation);
        let locked = vma.flags & (VmaFlags::LOCKED | VmaFlags::LOCKONFAULT) == VmaFlags::LOCKED;
        if let Some(grown) = UserRange::from_bounds(at.0 + populate, at.0 + new_len).filter(|r| locked && !r.is_empty()) {
            self.populate(thread, grown, vma.prot, vma.share);
        }
        Ok(at)
    }

    /// The range that the caller names.
    fn named_target(&self, old: UserAddr, old_len: u64, new: UserAddr, new_len: u64) -> Result<UserRange> {
        let to = self.page_range(new, new_len).ok_or(Errno::EINVAL)?;
        let from = UserRange::new(old, old_len).ok_or(Errno::EINVAL)?;
        if from.overlaps(to) {
            return Err(Errno::EINVAL);
        }
        Ok(to)
    }

    /// MREMAP_FIXED and MREMAP_DONTUNMAP: all checks, then the destination and the tail go, then the move.
    #[expect(clippy::too_many_arguments, reason = "the arguments of mremap(2)")]
    fn remap_to(
        &self,
        thread: &mut dyn GuestThread,
        vma: Vma,
        old: UserAddr,
        old_len: u64,
        new_len: u64,
        target: Target,
        keep: Old,
    ) -> Result<UserAddr> {
        {
            let tree = self.tree.read();
            tree.check_count(4)?;
            if target.exact().is_some_and(|to| tree.vmas.overlapping(to.start(), to.end()).any(|v| v.flags.contains(VmaFlags::SPECIAL))) {
                return Err(Errno::EINVAL);
            }
            tree.may_resize(&vma, old, old_len, new_len)?;
            if keep == Old::Stays {
                if !vma.is_private_anonymous() {
                    return Err(Errno::EINVAL);
                }
                if !tree.may_expand(old_len, &vma) {
                    return Err(Errno::ENOMEM);
                }
            }
        }
        if let Some(to) = target.exact() {
            self.unmap_range(thread, to)?;
        }
        if old_len > new_len {
            let tail = self.page_range(UserAddr(old.0 + new_len), old_len - new_len).ok_or(Errno::EINVAL)?;
            self.unmap_range(thread, tail)?;
        }
        let from = UserRange::new(old, old_len.min(new_len)).ok_or(Errno::EFAULT)?;
        self.relocate(thread, Move { vma, from, to: target, old: keep }, new_len)
    }

    /// Growth without a wish for an address: in place when what follows is free, else by moving.
    fn remap_grow(
        &self,
        thread: &mut dyn GuestThread,
        vma: Vma,
        old: UserAddr,
        old_len: u64,
        new_len: u64,
        flags: u64,
    ) -> Result<UserAddr> {
        let from = UserRange::new(old, old_len).ok_or(Errno::EFAULT)?;
        let more = new_len - old_len;
        let tail = {
            let tree = self.tree.read();
            tree.may_resize(&vma, old, old_len, new_len)?;
            let tail = UserRange::new(UserAddr(vma.end), more).filter(|t| self.guest.contains_range(*t));
            tail.filter(|t| old_len > 0 && from.end() == vma.end && tree.vmas.is_free(t.start(), t.end()))
        };
        if let Some(tail) = tail {
            let mut grown = vma.clone();
            grown.offset = if vma.mapping.is_some() { vma.offset + vma.len() } else { 0 };
            (grown.start, grown.end) = (tail.start(), tail.end());
            match self.install(thread, grown, Fresh::Yes) {
                // Something of the host's is still there: move instead.
                Err(Errno::EEXIST) => {}
                done => return done.map(|()| old),
            }
        }
        if flags & MAYMOVE == 0 {
            return Err(Errno::ENOMEM);
        }
        self.tree.read().check_count(4)?;
        self.relocate(thread, Move { vma, from, to: Target::Any, old: Old::Goes }, new_len)
    }

    /// Executes a move and shows it in the tree.
    fn relocate(&self, thread: &mut dyn GuestThread, step: Move, new_len: u64) -> Result<UserAddr> {
        let Move { vma, from, old, .. } = step;
        let to = match step.to {
            Target::Exact(to) => to,
            Target::Hint(_) | Target::Any => {
                let hint = if let Target::Hint(to) = step.to { UserAddr(to.start()) } else { UserAddr::NULL };
                let search = Search { len: new_len, align: PAGE_SIZE, below: u64::MAX };
                let tree = self.tree.read();
                tree.hinted(self, hint, new_len).or_else(|| tree.search(self, search)).ok_or(Errno::ENOMEM)?
            }
        };
        let mut moved = vma.clip(from.start(), vma.end);
        (moved.start, moved.end) = (to.start(), to.end());
        if from.is_empty() {
            // A second mapping of shared memory.
            self.install(thread, moved, Fresh::No)?;
            return Ok(UserAddr(to.start()));
        }
        move_pages(thread, from, to, old == Old::Stays).map_err(|e| e.errno())?;
        let removed = {
            let mut tree = self.tree.write();
            let mut removed = tree.vmas.remove(to.start(), to.end());
            if old == Old::Goes {
                removed.extend(tree.vmas.remove(from.start(), from.end()));
            } else {
                tree.vmas.update(from.start(), from.end(), |v| v.flags -= VmaFlags::LOCKED | VmaFlags::LOCKONFAULT);
            }
            tree.vmas.insert_merging(moved);
            removed
        };
        drop(removed);
        Ok(UserAddr(to.start()))
    }
}

/// One range of the tree may be several on the host, which moves only within one: then it is moved in halves.
fn move_pages(thread: &mut dyn GuestThread, from: UserRange, to: UserRange, keep_old: bool) -> std::result::Result<(), PlatformError> {
    match thread.remap(from, to, keep_old) {
        Err(PlatformError::Host(Errno::EFAULT)) if from.len() > PAGE_SIZE => {
            let half = page_down(from.len() / 2).max(PAGE_SIZE);
            let part = |whole: UserRange, skip: u64, end: u64| {
                UserRange::from_bounds(whole.start() + skip, end).ok_or(PlatformError::Host(Errno::EFAULT))
            };
            move_pages(thread, part(from, 0, from.start() + half)?, part(to, 0, to.start() + half)?, keep_old)?;
            move_pages(thread, part(from, half, from.end())?, part(to, half, to.end())?, keep_old)
        }
        done => done,
    }
}

impl Tree {
    /// Linux's vma_to_resize.
    fn may_resize(&self, vma: &Vma, old: UserAddr, old_len: u64, new_len: u64) -> Result<()> {
        if old_len == 0 && vma.share == Share::Private {
            return Err(Errno::EINVAL);
        }
        if old_len > vma.end - old.0 {
            return Err(Errno::EFAULT);
        }
        if new_len <= old_len {
            return Ok(());
        }
        if vma.mapping.is_some() {
            (vma.offset + (old.0 - vma.start)).checked_add(new_len).ok_or(Errno::EINVAL)?;
        }
        let more = new_len - old_len;
        if vma.flags.contains(VmaFlags::LOCKED) {
            self.admit_lock(more, false)?;
        }
        if self.may_expand(more, vma) { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}
