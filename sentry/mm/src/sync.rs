//! msync(2) and mincore(2).

use sentry_abi::uapi::general as uapi;
use sentry_abi::user::page_up;
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_memory::Mapping;
use sentry_platform::Share;

use crate::mm::Mm;
use crate::vma::VmaFlags;

const ASYNC: u64 = uapi::MS_ASYNC as u64;
const INVALIDATE: u64 = uapi::MS_INVALIDATE as u64;
const SYNC: u64 = uapi::MS_SYNC as u64;
/// Pages answered by one copy to the guest.
const PIECE: usize = 4096;

impl Mm {
    /// MS_SYNC is fsync of each shared file in the range. Holes are ENOMEM after the rest was synced.
    pub fn msync(&self, at: UserAddr, len: u64, flags: u64) -> Result<()> {
        if flags & !(ASYNC | INVALIDATE | SYNC) != 0 || flags & ASYNC != 0 && flags & SYNC != 0 || !at.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let end = page_up(len).and_then(|len| at.0.checked_add(len)).ok_or(Errno::ENOMEM)?;
        if end == at.0 {
            return Ok(());
        }
        let range = UserRange::from_bounds(at.0, end.min(self.guest.end())).ok_or(Errno::ENOMEM)?;
        let (mut files, hole) = {
            let tree = self.tree.read();
            let mut files: Vec<Mapping> = Vec::new();
            for vma in tree.vmas.overlapping(range.start(), range.end()) {
                if flags & INVALIDATE != 0 && vma.flags.contains(VmaFlags::LOCKED) {
                    return Err(Errno::EBUSY);
                }
                if let (Some(mapping), Share::Shared) = (&vma.mapping, vma.share) {
                    files.push(mapping.clone());
                }
            }
            (files, tree.vmas.covered_until(range.start(), range.end()) < end)
        };
        if flags & SYNC != 0 {
            files.dedup_by(|a, b| std::sync::Arc::ptr_eq(&a.fd, &b.fd));
            for file in &files {
                match rustix::fs::fsync(file.fd()) {
                    // Memory has nothing to sync.
                    Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::ROFS) => {}
                    Err(_) => return Err(Errno::EIO),
                }
            }
        }
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Every mapped page counts as resident (LAWS 9); holes are ENOMEM. Writes one byte per page to `vec`.
    pub fn mincore(&self, at: UserAddr, len: u64, vec: UserAddr) -> Result<()> {
        static RESIDENT: [u8; PIECE] = [1; PIECE];
        if !at.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        if !self.access_ok(at, len) {
            return Err(Errno::ENOMEM);
        }
        let end = page_up(len).and_then(|len| at.0.checked_add(len)).ok_or(Errno::ENOMEM)?;
        let pages = (end - at.0) / PAGE_SIZE;
        if !self.access_ok(vec, pages) {
            return Err(Errno::EFAULT);
        }
        if pages == 0 {
            return Ok(());
        }
        let covered = self.tree.read().vmas.covered_until(at.0, end);
        let known = (covered - at.0) / PAGE_SIZE;
        let mut done = 0;
        while done < known {
            let piece = (known - done).min(PIECE as u64);
            self.write(vec.offset(done)?, &RESIDENT[..piece as usize])?;
            done += piece;
        }
        if known < pages { Err(Errno::ENOMEM) } else { Ok(()) }
    }
}
