//! Who writes a file and who executes it: one keeps the other out with `ETXTBSY`. Linux's `i_writecount`.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use sentry_abi::{Errno, Result};

use crate::inode::Inode;

/// Above 0: descriptions that were opened for writing. Below: programs that run from the file.
#[derive(Default)]
pub struct Writers(AtomicI32);

impl Writers {
    fn step(&self, by: i32) -> Result<()> {
        let allowed = |now: i32| if now.signum() == -by { None } else { now.checked_add(by) };
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, allowed).map(drop).map_err(|_| Errno::ETXTBSY)
    }
}

/// The right to write a file: as long as it lives, nothing is executed from it.
pub struct WriteAccess(Arc<dyn Inode>);

impl WriteAccess {
    /// `ETXTBSY` while a program runs from the file.
    pub fn take(inode: &Arc<dyn Inode>) -> Result<WriteAccess> {
        inode.state().writers.step(1)?;
        Ok(WriteAccess(inode.clone()))
    }
}

impl Drop for WriteAccess {
    fn drop(&mut self) {
        self.0.state().writers.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// As long as it lives, nobody opens the file for writing.
pub struct DenyWrite(Arc<dyn Inode>);

impl DenyWrite {
    /// `ETXTBSY` while somebody has the file open for writing.
    pub fn take(inode: &Arc<dyn Inode>) -> Result<DenyWrite> {
        inode.state().writers.step(-1)?;
        Ok(DenyWrite(inode.clone()))
    }
}

impl Drop for DenyWrite {
    fn drop(&mut self) {
        self.0.state().writers.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_and_programs_exclude_each_other() {
        let w = Writers::default();
        assert_eq!(w.step(1), Ok(()));
        assert_eq!(w.step(1), Ok(()));
        assert_eq!(w.step(-1), Err(Errno::ETXTBSY));
        w.0.store(0, Ordering::SeqCst);
        assert_eq!(w.step(-1), Ok(()));
        assert_eq!(w.step(-1), Ok(()));
        assert_eq!(w.step(1), Err(Errno::ETXTBSY));
    }
}
