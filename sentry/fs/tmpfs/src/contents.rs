//! The bytes of a regular file: a memory file, its count against the file system's size, and its seals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sentry_abi::{Errno, Mode, Result};
use sentry_memory::{MapLabel, Mapping, MemFile};
use sentry_platform::Prot;
use sentry_sync::{Level, Mutex};

use crate::store::Store;

const PAGE: u64 = 4096;
/// fallocate(2) takes memory at once up to this many bytes; beyond it only the size changes, and memory comes with the first write.
const ALLOCATE_AT_ONCE: u64 = 64 << 20;
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;

/// `F_SEAL_*` of fcntl(2).
pub(crate) mod seal {
    pub const SEAL: u32 = 1;
    pub const SHRINK: u32 = 2;
    pub const GROW: u32 = 4;
    pub const WRITE: u32 = 8;
    pub const FUTURE_WRITE: u32 = 16;
    pub const EXEC: u32 = 32;
    pub const ALL: u32 = 63;
}

struct State {
    seals: u32,
}

pub struct Contents {
    store: Arc<Store>,
    memory: MemFile,
    /// Held over each change, so that counting, seals and appends of several writers agree.
    state: Mutex<State>,
    /// Pages counted. Changed with the state locked.
    pages: AtomicU64,
    /// There may be holes: pages have to be asked of the host. Changed with the state locked.
    sparse: AtomicBool,
    /// As many references as there are shared mappings that may write, and this one.
    writers: Arc<()>,
}

/// What a mapping of a tmpfs file is called. The path is the affair of whoever opened the file.
struct Label {
    id: (u64, u64),
    _writer: Option<Arc<()>>,
}

impl MapLabel for Label {
    fn path(&self) -> Option<Vec<u8>> {
        None
    }

    fn id(&self) -> (u64, u64) {
        self.id
    }
}

impl Contents {
    pub fn new(store: Arc<Store>) -> Contents {
        Contents::with_seals(store, seal::SEAL)
    }

    pub(crate) fn with_seals(store: Arc<Store>, seals: u32) -> Contents {
        let memory = MemFile::new(store.source.clone());
        let state = Mutex::new(Level::Inode, State { seals });
        Contents { store, memory, state, pages: AtomicU64::new(0), sparse: AtomicBool::new(false), writers: Arc::new(()) }
    }

    pub fn size(&self) -> u64 {
        self.memory.size()
    }

    /// 512-byte units in use.
    pub fn blocks(&self) -> u64 {
        if self.is_sparse() { self.memory.blocks() } else { self.pages.load(Ordering::Relaxed) * 8 }
    }

    fn is_sparse(&self) -> bool {
        self.sparse.load(Ordering::Relaxed)
    }

    fn set_sparse(&self, sparse: bool) {
        self.sparse.store(sparse, Ordering::Relaxed);
    }

    pub fn read(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        self.memory.read_at(offset, dst)
    }

    /// Writes what fits under the limits; `ENOSPC` when nothing does.
    pub fn write(&self, offset: u64, src: &[u8]) -> Result<usize> {
        let state = self.state.lock();
        self.write_locked(&state, offset, src)
    }

    /// Bytes written and the offset behind them.
    pub fn append(&self, src: &[u8]) -> Result<(usize, u64)> {
        let state = self.state.lock();
        let offset = self.memory.size();
        let n = self.write_locked(&state, offset, src)?;
        Ok((n, offset + n as u64))
    }

    fn write_locked(&self, state: &State, offset: u64, src: &[u8]) -> Result<usize> {
        if src.is_empty() {
            return Ok(0);
        }
        let size = self.memory.size();
        let mut end = offset.checked_add(src.len() as u64).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if state.seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        let mut src = src;
        if end > size && state.seals & seal::GROW != 0 {
            // Linux writes page by page and stops at the first whose part would be beyond the end.
            let whole = (size / PAGE * PAGE).saturating_sub(offset);
            src = usize::try_from(whole).ok().and_then(|n| src.get(..n)).filter(|part| !part.is_empty()).ok_or(Errno::EPERM)?;
            end = offset + whole;
        }
        if offset.div_ceil(PAGE) > size.div_ceil(PAGE) {
            self.set_sparse(true);
        }
        // Pages that this write may add: in a file without holes only those behind the end.
        let first = if self.is_sparse() { offset / PAGE } else { (offset / PAGE).max(size.div_ceil(PAGE)) };
        let wanted = end.div_ceil(PAGE).saturating_sub(first);
        let got = self.store.limits.take_pages(wanted);
        let fits = if got == wanted { src.len() } else { ((first + got) * PAGE).saturating_sub(offset).min(src.len() as u64) as usize };
        let result = if fits == 0 { Err(Errno::ENOSPC) } else { self.memory.write_at(offset, &src[..fits]) };
        self.settle(got);
        result
    }

    /// Makes the count true, with the state locked, after up to `taken` more pages were taken.
    fn settle(&self, taken: u64) {
        let actual = if self.is_sparse() { self.memory.blocks().div_ceil(8) } else { self.memory.size().div_ceil(PAGE) };
        let counted = self.pages.load(Ordering::Relaxed) + taken;
        if actual < counted {
            self.store.limits.give_back_pages(counted - actual);
        } else {
            self.store.limits.force_pages(actual - counted);
        }
        self.pages.store(actual, Ordering::Relaxed);
    }

    pub fn truncate(&self, len: u64) -> Result<()> {
        let state = self.state.lock();
        let size = self.memory.size();
        if (len < size && state.seals & seal::SHRINK != 0) || (len > size && state.seals & seal::GROW != 0) {
            return Err(Errno::EPERM);
        }
        if len == size {
            return Ok(());
        }
        self.memory.truncate(len)?;
        // Growing makes a hole; of nothing there are no parts.
        if len > size || len == 0 {
            self.set_sparse(len > size);
        }
        self.settle(0);
        Ok(())
    }

    /// fallocate(2).
    pub fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        if mode & !(KEEP_SIZE | PUNCH_HOLE) != 0 || mode == PUNCH_HOLE {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = offset.checked_add(len).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        let state = self.state.lock();
        if mode & PUNCH_HOLE != 0 {
            if state.seals & (seal::WRITE | seal::FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            self.memory.allocate(mode, offset, len)?;
            self.set_sparse(true);
            self.settle(0);
            return Ok(());
        }
        if end > self.memory.size() && state.seals & seal::GROW != 0 {
            return Err(Errno::EPERM);
        }
        let wanted = end.div_ceil(PAGE) - offset / PAGE;
        let got = self.store.limits.take_pages(wanted);
        let result = if got < wanted {
            Err(Errno::ENOSPC)
        } else if len <= ALLOCATE_AT_ONCE {
            self.memory.allocate(mode, offset, len)
        } else if mode & KEEP_SIZE == 0 && end > self.memory.size() {
            self.memory.truncate(end)
        } else {
            Ok(())
        };
        if result.is_ok() {
            self.set_sparse(true);
        }
        self.settle(got);
        result
    }

    pub fn seek_data_or_hole(&self, offset: u64, hole: bool) -> Result<u64> {
        self.memory.seek_data_or_hole(offset, hole)
    }

    /// What to map; with `write` a description that may be written through.
    pub fn mapping(&self, write: bool, id: (u64, u64)) -> Result<Mapping> {
        let state = self.state.lock();
        let (read_write, read_only) = self.memory.host_files()?;
        if write && state.seals & (seal::WRITE | seal::FUTURE_WRITE) == 0 {
            let label = Arc::new(Label { id, _writer: Some(self.writers.clone()) });
            return Ok(Mapping { fd: read_write, max_prot: Prot::all(), label, resident: true });
        }
        let label = Arc::new(Label { id, _writer: None });
        Ok(Mapping { fd: read_only, max_prot: Prot::READ | Prot::EXEC, label, resident: true })
    }

    pub(crate) fn seals(&self) -> u32 {
        self.state.lock().seals
    }

    /// fcntl(2) F_ADD_SEALS, on a file of this mode.
    pub(crate) fn add_seals(&self, seals: u32, mode: Mode) -> Result<()> {
        if seals & !seal::ALL != 0 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        if state.seals & seal::SEAL != 0 {
            return Err(Errno::EPERM);
        }
        // No new writable mapping can come meanwhile: `mapping` takes the same lock.
        if seals & seal::WRITE != 0 && state.seals & seal::WRITE == 0 && Arc::strong_count(&self.writers) > 1 {
            return Err(Errno::EBUSY);
        }
        let mut seals = seals;
        if seals & seal::EXEC != 0 && mode.0 & 0o111 != 0 {
            // What stays executable for ever must not change either.
            seals |= seal::SHRINK | seal::GROW | seal::WRITE | seal::FUTURE_WRITE;
        }
        state.seals |= seals;
        Ok(())
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.store.limits.give_back_pages(*self.pages.get_mut());
    }
}
