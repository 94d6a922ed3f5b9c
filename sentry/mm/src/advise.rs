//! madvise(2), by the table of LAWS 1.10, and names of anonymous memory.

use std::sync::Arc;

use rustix::fs::FallocateFlags;
use sentry_abi::uapi::general as uapi;
use sentry_abi::user::page_up;
use sentry_abi::{Errno, Result, UserAddr, UserRange};
use sentry_platform::{GuestThread, Prot, Share};

use crate::mm::Mm;
use crate::vma::{Vma, VmaFlags, VmaName};

const NORMAL: u32 = uapi::MADV_NORMAL;
const RANDOM: u32 = uapi::MADV_RANDOM;
const SEQUENTIAL: u32 = uapi::MADV_SEQUENTIAL;
const WILLNEED: u32 = uapi::MADV_WILLNEED;
const DONTNEED: u32 = uapi::MADV_DONTNEED;
const FREE: u32 = uapi::MADV_FREE;
const REMOVE: u32 = uapi::MADV_REMOVE;
const DONTFORK: u32 = uapi::MADV_DONTFORK;
const DOFORK: u32 = uapi::MADV_DOFORK;
const MERGEABLE: u32 = uapi::MADV_MERGEABLE;
const UNMERGEABLE: u32 = uapi::MADV_UNMERGEABLE;
const HUGEPAGE: u32 = uapi::MADV_HUGEPAGE;
const NOHUGEPAGE: u32 = uapi::MADV_NOHUGEPAGE;
const DONTDUMP: u32 = uapi::MADV_DONTDUMP;
const DODUMP: u32 = uapi::MADV_DODUMP;
const WIPEONFORK: u32 = uapi::MADV_WIPEONFORK;
const KEEPONFORK: u32 = uapi::MADV_KEEPONFORK;
const COLD: u32 = uapi::MADV_COLD;
const PAGEOUT: u32 = uapi::MADV_PAGEOUT;
const POPULATE_READ: u32 = uapi::MADV_POPULATE_READ;
const POPULATE_WRITE: u32 = uapi::MADV_POPULATE_WRITE;
const DONTNEED_LOCKED: u32 = uapi::MADV_DONTNEED_LOCKED;
const COLLAPSE: u32 = uapi::MADV_COLLAPSE;
const HWPOISON: u32 = uapi::MADV_HWPOISON;
const SOFT_OFFLINE: u32 = uapi::MADV_SOFT_OFFLINE;
const GUARD_INSTALL: u32 = uapi::MADV_GUARD_INSTALL;
const GUARD_REMOVE: u32 = uapi::MADV_GUARD_REMOVE;

/// Longest name of anonymous memory, its NUL included (ANON_VMA_NAME_MAX_LEN).
const MAX_NAME: usize = 80;

/// What becomes of an advice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Treatment {
    /// The host executes it.
    Native,
    /// Checked, then nothing is done: deduplication and page-out would reach across sandboxes.
    Ignored,
    /// A hole in the file, made here.
    Punch,
    Never(Errno),
}

pub(crate) fn treatment(advice: u32) -> Treatment {
    match advice {
        NORMAL | RANDOM | SEQUENTIAL | WILLNEED | DONTNEED | FREE | DONTFORK | DOFORK | HUGEPAGE | NOHUGEPAGE | DONTDUMP | DODUMP
        | WIPEONFORK | KEEPONFORK | COLD | POPULATE_READ | POPULATE_WRITE | DONTNEED_LOCKED | GUARD_INSTALL | GUARD_REMOVE => {
            Treatment::Native
        }
        MERGEABLE | UNMERGEABLE | PAGEOUT => Treatment::Ignored,
        REMOVE => Treatment::Punch,
        HWPOISON | SOFT_OFFLINE => Treatment::Never(Errno::EPERM),
        // COLLAPSE may always say that it could not.
        COLLAPSE => Treatment::Never(Errno::EINVAL),
        _ => Treatment::Never(Errno::EINVAL),
    }
}

/// The flags that an advice leaves behind.
pub(crate) fn advised_flags(flags: VmaFlags, advice: u32) -> VmaFlags {
    let readahead = VmaFlags::RAND_READ | VmaFlags::SEQ_READ;
    match advice {
        NORMAL => flags - readahead,
        RANDOM => (flags - readahead) | VmaFlags::RAND_READ,
        SEQUENTIAL => (flags - readahead) | VmaFlags::SEQ_READ,
        DONTFORK => flags | VmaFlags::DONTFORK,
        DOFORK => flags - VmaFlags::DONTFORK,
        WIPEONFORK => flags | VmaFlags::WIPEONFORK,
        KEEPONFORK => flags - VmaFlags::WIPEONFORK,
        DONTDUMP => flags | VmaFlags::DONTDUMP,
        DODUMP => flags - VmaFlags::DONTDUMP,
        HUGEPAGE => (flags - VmaFlags::NOHUGEPAGE) | VmaFlags::HUGEPAGE,
        NOHUGEPAGE => (flags - VmaFlags::HUGEPAGE) | VmaFlags::NOHUGEPAGE,
        _ => flags,
    }
}

/// Whether an advice may be given for one range.
pub(crate) fn check_range(vma: &Vma, advice: u32) -> Result<()> {
    let special = vma.flags.contains(VmaFlags::SPECIAL);
    let locked = vma.flags.contains(VmaFlags::LOCKED);
    let anonymous = vma.is_private_anonymous();
    let allowed = match advice {
        DONTNEED | COLD | PAGEOUT => !special && !locked,
        FREE | GUARD_INSTALL if locked => false,
        FREE | WIPEONFORK | GUARD_INSTALL | GUARD_REMOVE => anonymous,
        DOFORK | HUGEPAGE | NOHUGEPAGE | DODUMP | DONTNEED_LOCKED => !special,
        REMOVE if locked || vma.mapping.is_none() => false,
        REMOVE if vma.share != Share::Shared || !vma.max_prot.contains(Prot::WRITE) => return Err(Errno::EACCES),
        _ => true,
    };
    if allowed { Ok(()) } else { Err(Errno::EINVAL) }
}

impl Mm {
    /// Holes are ENOMEM after the mapped parts were advised, as on Linux.
    pub fn madvise(&self, thread: &mut dyn GuestThread, at: UserAddr, len: u64, advice: i32) -> Result<()> {
        let advice = u32::try_from(advice).map_err(|_| Errno::EINVAL)?;
        let treatment = treatment(advice);
        if let Treatment::Never(errno) = treatment {
            return Err(errno);
        }
        if !at.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let end = page_up(len).and_then(|len| at.0.checked_add(len)).ok_or(Errno::EINVAL)?;
        if end == at.0 {
            return Ok(());
        }
        let _operation = self.begin_operation();
        let range = UserRange::from_bounds(at.0, end.min(self.guest.end())).ok_or(Errno::ENOMEM)?;
        let (parts, hole) = {
            let tree = self.tree.read();
            let parts: Vec<Vma> = tree.vmas.overlapping(at.0, range.end()).map(|v| v.clip(range.start(), range.end())).collect();
            let hole = end > self.guest.end() || tree.vmas.covered_until(at.0, range.end()) < range.end();
            if advised_flags(VmaFlags::empty(), advice) != advised_flags(VmaFlags::all(), advice) || !parts.is_empty() {
                tree.check_splits(range)?;
            }
            (parts, hole)
        };
        let stops_at_hole = matches!(advice, POPULATE_READ | POPULATE_WRITE);
        let mut reached = range.start();
        for part in &parts {
            if stops_at_hole && part.start > reached {
                return Err(Errno::ENOMEM);
            }
            reached = part.end;
            check_range(part, advice)?;
            self.advise_part(thread, part, advice, treatment)?;
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn advise_part(&self, thread: &mut dyn GuestThread, part: &Vma, advice: u32, treatment: Treatment) -> Result<()> {
        let range = UserRange::from_bounds(part.start, part.end).ok_or(Errno::EINVAL)?;
        match treatment {
            Treatment::Native => {
                let native = if advice == DONTNEED_LOCKED { DONTNEED } else { advice };
                thread.advise(range, native as i32).map_err(|e| e.errno())?;
                if advised_flags(part.flags, advice) != part.flags {
                    self.tree.write().vmas.update(part.start, part.end, |v| v.flags = advised_flags(v.flags, advice));
                }
                Ok(())
            }
            Treatment::Punch => {
                let Some(mapping) = &part.mapping else { return Err(Errno::EINVAL) };
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(mapping.fd(), flags, part.offset, part.len()).map_err(host_errno)
            }
            Treatment::Ignored => Ok(()),
            Treatment::Never(errno) => Err(errno),
        }
    }

    /// prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME); `None` removes the name. EBADF when a range is a file's.
    pub fn set_anon_name(&self, at: UserAddr, len: u64, name: Option<&[u8]>) -> Result<()> {
        let bad = |b: &u8| !(0x20..0x7f).contains(b) || b"\\`$[]".contains(b);
        if name.is_some_and(|n| n.len() >= MAX_NAME || n.iter().any(bad)) || !at.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let end = page_up(len).and_then(|len| at.0.checked_add(len)).ok_or(Errno::EINVAL)?;
        if end == at.0 {
            return Ok(());
        }
        let range = UserRange::from_bounds(at.0, end).filter(|r| r.end() <= self.guest.end()).ok_or(Errno::ENOMEM)?;
        let name = name.map_or(VmaName::None, |n| VmaName::Anon(Arc::from(n)));
        let _operation = self.begin_operation();
        let mut tree = self.tree.write();
        if tree.vmas.overlapping(range.start(), range.end()).any(|v| !v.is_private_anonymous()) {
            return Err(Errno::EBADF);
        }
        tree.check_splits(range)?;
        let covered = tree.vmas.covered_until(range.start(), range.end());
        tree.vmas.update(range.start(), range.end(), |v| v.name = name.clone());
        if covered < range.end() { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}

pub(crate) fn host_errno(error: rustix::io::Errno) -> Errno {
    Errno::from_host(error.raw_os_error())
}
