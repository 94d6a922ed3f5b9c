//! Descriptors at fixed numbers: what a started role finds, and how it takes them over.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;

use crate::sys;

#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    #[error("descriptor {0} was not passed")]
    Missing(RawFd),
    #[error("descriptor {0} is already taken")]
    Taken(RawFd),
    #[error("descriptor {fd}")]
    Host { fd: RawFd, source: io::Error },
}

/// Numbers given out so far: two owners of one number would close each other's descriptor.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes over a descriptor that this process was started with, once; it becomes close-on-exec. Only for a role's start, before it opens anything.
pub fn take(fd: RawFd) -> Result<OwnedFd, DescriptorError> {
    if fd < 0 || !sys::is_open(fd) {
        return Err(DescriptorError::Missing(fd));
    }
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if taken.contains(&fd) {
        return Err(DescriptorError::Taken(fd));
    }
    taken.push(fd);
    sys::own(fd).map_err(|source| DescriptorError::Host { fd, source })
}

/// Puts `fds` at 0, 1, 2, … and closes all others but `keep`, which are moved out of the way, stay close-on-exec and are returned in order.
/// For a forked child on its way to exec.
pub(crate) fn arrange(fds: &[BorrowedFd<'_>], keep: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
    let count = RawFd::try_from(fds.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // First all to numbers above the final ones, so that none is overwritten before it is copied; the kept ones are highest.
    let moved: Vec<OwnedFd> = fds.iter().map(|fd| sys::duplicate_above(*fd, count)).collect::<io::Result<_>>()?;
    let top = moved.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(count).saturating_add(1);
    let kept: Vec<OwnedFd> = keep.iter().map(|fd| sys::duplicate_above(*fd, top)).collect::<io::Result<_>>()?;
    for (number, fd) in (0..).zip(&moved) {
        sys::place(fd.as_raw_fd(), number)?;
    }
    let mut numbers: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    numbers.sort_unstable();
    // What is closed here has owners in this process image, which is replaced by exec; they must not close numbers again.
    std::mem::forget(moved);
    let mut first = count.unsigned_abs();
    for number in numbers {
        if number > first {
            sys::close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    sys::close_range(first, u32::MAX)?;
    Ok(kept)
}
