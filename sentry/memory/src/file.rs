//! A resizable piece of memory with a host file behind it: contents of tmpfs files, of the overlay's upper layer, shared anonymous memory.
//!
//! Small contents live on the heap and move to a host file when they grow or are mapped; one host file for one [`MemFile`], never a reused range (LAWS 4.2).
//! Reads and writes go by pread/pwrite, so a truncation by others is never a SIGBUS here.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, RwLock};

/// A fresh, empty host file: one description for reading and writing, one for reading only (LAWS 1.11).
pub struct Pair {
    pub write: OwnedFd,
    pub read: OwnedFd,
}

/// Where host files come from. The gofer hands out pairs ahead of need; without it, memfds serve (and then one description plays both parts).
pub trait FileSource: Send + Sync {
    fn new_pair(&self) -> Result<Pair>;
}

/// memfd_create(2) in the sentry itself.
pub struct MemfdSource;

impl FileSource for MemfdSource {
    fn new_pair(&self) -> Result<Pair> {
        let name = CString::default();
        // SAFETY: memfd_create reads a NUL-terminated name.
        let raw = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(last_errno());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let write = unsafe { OwnedFd::from_raw_fd(raw) };
        let read = write.try_clone().map_err(|e| Errno::from_host(e.raw_os_error().unwrap_or(0)))?;
        Ok(Pair { write, read })
    }
}

fn last_errno() -> Errno {
    Errno::from_host(io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// Contents at most this long stay on the heap: a descriptor less and cheaper reads and writes. Beyond, memory that grows by copying would cost more.
const HEAP_LIMIT: u64 = 64 * 1024;

enum Store {
    Heap(Vec<u8>),
    Host { pair: HostPair, size: u64 },
}

#[derive(Clone)]
struct HostPair {
    write: Arc<OwnedFd>,
    read: Arc<OwnedFd>,
}

/// The contents of one file.
pub struct MemFile {
    source: Arc<dyn FileSource>,
    store: RwLock<Store>,
}

impl MemFile {
    pub fn new(source: Arc<dyn FileSource>) -> MemFile {
        MemFile { source, store: RwLock::new(Level::Memory, Store::Heap(Vec::new())) }
    }

    pub fn size(&self) -> u64 {
        match &*self.store.read() {
            Store::Heap(bytes) => bytes.len() as u64,
            Store::Host { size, .. } => *size,
        }
    }

    /// Bytes of memory in use, in 512-byte units as stat(2) counts.
    pub fn blocks(&self) -> u64 {
        match &*self.store.read() {
            Store::Heap(bytes) => (bytes.len() as u64).div_ceil(4096) * 8,
            Store::Host { pair, size } => host_blocks(&pair.write).unwrap_or(size.div_ceil(512)),
        }
    }

    /// Reads at `offset`; fewer bytes at the end of the file, 0 past it.
    pub fn read_at(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        match &*self.store.read() {
            Store::Heap(bytes) => {
                let Some(rest) = usize::try_from(offset).ok().and_then(|o| bytes.get(o..)) else { return Ok(0) };
                let n = rest.len().min(dst.len());
                dst[..n].copy_from_slice(&rest[..n]);
                Ok(n)
            }
            Store::Host { pair, size } => {
                let n = dst.len().min(usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX));
                pread(&pair.write, &mut dst[..n], offset)
            }
        }
    }

    /// Writes at `offset`, growing the file and filling a gap with zeros.
    pub fn write_at(&self, offset: u64, src: &[u8]) -> Result<usize> {
        if src.is_empty() {
            return Ok(0);
        }
        let end = offset.checked_add(src.len() as u64).ok_or(Errno::EFBIG)?;
        if let Store::Host { pair, size } = &*self.store.read()
            && end <= *size
        {
            // Nothing changes but bytes: readers need not wait.
            return pwrite(&pair.write, src, offset);
        }
        let mut store = self.store.write();
        self.write_locked(&mut store, offset, src)
    }

    /// Writes at the end; returns the bytes written and the new size. Appends of several writers do not overlap.
    pub fn append(&self, src: &[u8]) -> Result<(usize, u64)> {
        let mut store = self.store.write();
        let offset = match &*store {
            Store::Heap(bytes) => bytes.len() as u64,
            Store::Host { size, .. } => *size,
        };
        let n = self.write_locked(&mut store, offset, src)?;
        Ok((n, offset + n as u64))
    }

    fn write_locked(&self, store: &mut Store, offset: u64, src: &[u8]) -> Result<usize> {
        let end = offset.checked_add(src.len() as u64).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        if let Store::Heap(bytes) = store {
            if end <= HEAP_LIMIT {
                let (start, end) = (offset as usize, end as usize);
                if bytes.len() < end {
                    // A file written once keeps no spare room; one that grows in small steps grows by doubling.
                    if start == 0 && bytes.capacity() == 0 {
                        bytes.reserve_exact(end);
                    }
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(src);
                return Ok(src.len());
            }
            self.move_to_host(store)?;
        }
        let Store::Host { pair, size } = store else { return Err(Errno::EIO) };
        if offset > *size {
            // A mapping may have stored bytes behind the end in the last page; they must not come back (LAWS 4.3).
            zero_tail(&pair.write, *size)?;
        }
        let n = pwrite(&pair.write, src, offset)?;
        *size = (*size).max(offset + n as u64);
        Ok(n)
    }

    /// ftruncate(2).
    pub fn truncate(&self, len: u64) -> Result<()> {
        if len > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let mut store = self.store.write();
        if let Store::Heap(bytes) = &mut *store {
            if len <= HEAP_LIMIT {
                bytes.resize(len as usize, 0);
                if len == 0 {
                    *bytes = Vec::new();
                }
                return Ok(());
            }
            self.move_to_host(&mut store)?;
        }
        let Store::Host { pair, size } = &mut *store else { return Err(Errno::EIO) };
        if len > *size {
            zero_tail(&pair.write, *size)?;
        }
        ftruncate(&pair.write, len)?;
        *size = len;
        Ok(())
    }

    /// fallocate(2) with the mode bits that tmpfs knows (0, KEEP_SIZE, PUNCH_HOLE); others EOPNOTSUPP.
    pub fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        let known = libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE;
        if mode & !known != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = offset.checked_add(len).filter(|e| *e <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
        let mut store = self.store.write();
        self.move_to_host(&mut store)?;
        let Store::Host { pair, size } = &mut *store else { return Err(Errno::EIO) };
        if end > *size && mode & libc::FALLOC_FL_KEEP_SIZE == 0 {
            zero_tail(&pair.write, *size)?;
        }
        // SAFETY: plain numbers and a descriptor that lives.
        let rc = unsafe { libc::fallocate(pair.write.as_raw_fd(), mode, offset as i64, len as i64) };
        if rc < 0 {
            return Err(last_errno());
        }
        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 {
            *size = (*size).max(end);
        }
        Ok(())
    }

    /// lseek(2) SEEK_DATA / SEEK_HOLE.
    pub fn seek_data_or_hole(&self, offset: u64, hole: bool) -> Result<u64> {
        let store = self.store.read();
        let size = match &*store {
            Store::Heap(bytes) => bytes.len() as u64,
            Store::Host { size, .. } => *size,
        };
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        match &*store {
            Store::Heap(_) => Ok(if hole { size } else { offset }),
            Store::Host { pair, .. } => {
                let whence = if hole { libc::SEEK_HOLE } else { libc::SEEK_DATA };
                // SAFETY: plain numbers; the description's own offset is used for nothing else.
                let at = unsafe { libc::lseek(pair.write.as_raw_fd(), offset as i64, whence) };
                if at < 0 { Err(last_errno()) } else { Ok((at as u64).min(size)) }
            }
        }
    }

    /// The descriptions to map: (read-write, read-only). Moves the contents off the heap.
    pub fn host_files(&self) -> Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
        if let Store::Host { pair, .. } = &*self.store.read() {
            return Ok((pair.write.clone(), pair.read.clone()));
        }
        let mut store = self.store.write();
        self.move_to_host(&mut store)?;
        match &*store {
            Store::Host { pair, .. } => Ok((pair.write.clone(), pair.read.clone())),
            Store::Heap(_) => Err(Errno::EIO),
        }
    }

    fn move_to_host(&self, store: &mut Store) -> Result<()> {
        let Store::Heap(bytes) = store else { return Ok(()) };
        let pair = self.source.new_pair()?;
        let size = bytes.len() as u64;
        ftruncate(&pair.write, size)?;
        let mut done = 0;
        while done < bytes.len() {
            let n = pwrite(&pair.write, &bytes[done..], done as u64)?;
            if n == 0 {
                return Err(Errno::ENOSPC);
            }
            done += n;
        }
        *store = Store::Host { pair: HostPair { write: Arc::new(pair.write), read: Arc::new(pair.read) }, size };
        Ok(())
    }
}

fn host_blocks(fd: &OwnedFd) -> Option<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // The call itself: libc's fstat may be newfstatat, which looks at names and which the sentry therefore may not make.
    // SAFETY: the kernel fills the struct, whose layout is its own on x86-64, when it returns 0.
    let rc = unsafe { libc::syscall(libc::SYS_fstat, fd.as_raw_fd(), stat.as_mut_ptr()) };
    // SAFETY: filled, as rc is 0.
    (rc == 0).then(|| unsafe { stat.assume_init() }.st_blocks as u64)
}

fn zero_tail(fd: &OwnedFd, size: u64) -> Result<()> {
    let rest = size.next_multiple_of(4096) - size;
    if rest == 0 {
        return Ok(());
    }
    // Shrinking to the size itself makes the kernel zero the last page's tail.
    ftruncate(fd, size)
}

fn ftruncate(fd: &OwnedFd, len: u64) -> Result<()> {
    // SAFETY: plain numbers.
    let rc = unsafe { libc::ftruncate(fd.as_raw_fd(), len as i64) };
    if rc < 0 { Err(last_errno()) } else { Ok(()) }
}

fn pread(fd: &OwnedFd, dst: &mut [u8], offset: u64) -> Result<usize> {
    // SAFETY: the buffer is ours and as long as said.
    let n = unsafe { libc::pread(fd.as_raw_fd(), dst.as_mut_ptr().cast(), dst.len(), offset as i64) };
    if n < 0 { Err(last_errno()) } else { Ok(n as usize) }
}

fn pwrite(fd: &OwnedFd, src: &[u8], offset: u64) -> Result<usize> {
    // SAFETY: the buffer is ours and as long as said.
    let n = unsafe { libc::pwrite(fd.as_raw_fd(), src.as_ptr().cast(), src.len(), offset as i64) };
    if n < 0 { Err(last_errno()) } else { Ok(n as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> MemFile {
        MemFile::new(Arc::new(MemfdSource))
    }

    #[test]
    fn contents_survive_the_move_to_the_host() {
        let f = file();
        f.write_at(10, b"abc").unwrap();
        assert_eq!(f.size(), 13);
        f.host_files().unwrap();
        let mut buf = [9u8; 16];
        assert_eq!(f.read_at(8, &mut buf).unwrap(), 5);
        assert_eq!(&buf[..5], b"\0\0abc");
        assert_eq!(f.append(b"xyz").unwrap(), (3, 16));
        f.truncate(100_000).unwrap();
        assert_eq!(f.read_at(99_999, &mut buf).unwrap(), 1);
        assert_eq!(f.read_at(100_000, &mut buf).unwrap(), 0);
    }

    #[test]
    fn what_a_mapping_left_behind_the_end_does_not_come_back() {
        let f = file();
        f.write_at(0, &[1; 5000]).unwrap();
        let (write, _) = f.host_files().unwrap();
        let behind = |at: usize| {
            // SAFETY: a fresh shared mapping of a file of at least one byte in its second page.
            let page = unsafe {
                libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, write.as_raw_fd(), 0)
            };
            assert_ne!(page, libc::MAP_FAILED);
            // SAFETY: `at` lies in the second page, which the file reaches into.
            unsafe { page.cast::<u8>().add(at).write_bytes(7, 4) };
            // SAFETY: the mapping made above, which nothing refers to any more.
            assert_eq!(unsafe { libc::munmap(page, 8192) }, 0);
        };
        let clean = |from: u64, to: u64| {
            let mut buf = vec![9; (to - from) as usize];
            assert_eq!(f.read_at(from, &mut buf).unwrap(), buf.len());
            assert!(buf.iter().all(|b| *b == 0));
        };
        behind(6000);
        f.truncate(7000).unwrap();
        clean(5000, 7000);
        behind(7500);
        f.allocate(0, 8000, 100).unwrap();
        assert_eq!(f.size(), 8100);
        clean(7000, 8100);
        f.write_at(8190, b"x").unwrap();
        clean(8100, 8190);
    }

    #[test]
    fn holes_and_their_making() {
        let f = file();
        f.write_at(0, &[1; 100_000]).unwrap();
        f.allocate(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 4096, 8192).unwrap();
        assert_eq!(f.size(), 100_000);
        assert_eq!(f.seek_data_or_hole(0, true), Ok(4096));
        assert_eq!(f.seek_data_or_hole(4096, false), Ok(12288));
        assert_eq!(f.seek_data_or_hole(99_999, true), Ok(100_000));
        assert_eq!(f.seek_data_or_hole(100_000, true), Err(Errno::ENXIO));
        f.allocate(libc::FALLOC_FL_KEEP_SIZE, 200_000, 4096).unwrap();
        assert_eq!(f.size(), 100_000);
        assert_eq!(f.allocate(libc::FALLOC_FL_ZERO_RANGE, 0, 1), Err(Errno::EOPNOTSUPP));
        let small = file();
        small.write_at(0, b"small").unwrap();
        assert_eq!((small.seek_data_or_hole(2, false), small.seek_data_or_hole(2, true)), (Ok(2), Ok(5)));
        assert_eq!(small.blocks(), 8);
    }

    #[test]
    fn absurd_offsets_are_errors() {
        let f = file();
        assert_eq!(f.write_at(u64::MAX, b"a"), Err(Errno::EFBIG));
        assert_eq!(f.read_at(u64::MAX, &mut [0]), Ok(0));
        assert_eq!(f.truncate(u64::MAX), Err(Errno::EFBIG));
    }
}
