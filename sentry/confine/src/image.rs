//! The sealed copy of our own binary that roles are executed from.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use crate::sys;

const MFD_EXEC: u32 = 0x10;
const F_SEAL_EXEC: i32 = 0x20;

/// A memfd that can be executed but not read (by others), written, resized or made writable: what a role executes is what runsc was, whatever
/// happens to the file on disk, and a process started from it is undumpable from birth where it may not read it.
pub struct Image(OwnedFd);

impl Image {
    /// Copies the running binary, as far as exec looks at it: symbols and debug information follow what is loaded, and each sandbox would
    /// pay for them in memory and time.
    pub fn of_self() -> io::Result<Self> {
        let mut source = File::open("/proc/self/exe")?;
        let memfd = match sys::memfd(c"runsc", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | MFD_EXEC) {
            // Kernels before 6.3 know no MFD_EXEC and make every memfd executable.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sys::memfd(c"runsc", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)?,
            other => other?,
        };
        let mut file = File::from(memfd);
        let loaded = loaded_size(&source)?;
        io::copy(&mut io::Read::by_ref(&mut source).take(loaded), &mut file)?;
        // Before sealing: F_SEAL_EXEC freezes the mode.
        file.set_permissions(Permissions::from_mode(0o111))?;
        let memfd = OwnedFd::from(file);
        let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE;
        match sys::add_seals(&memfd, seals | F_SEAL_EXEC) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sys::add_seals(&memfd, seals)?,
            other => other?,
        }
        Ok(Self(memfd))
    }

    pub(crate) fn exec(image: BorrowedFd<'_>, arguments: &[CString]) -> io::Error {
        // glibc reads these before main. Without rseq, threads need no call for it; two arenas bound the memory of many threads.
        sys::exec(image, arguments, &[c"GLIBC_TUNABLES=glibc.pthread.rseq=0:glibc.malloc.arena_max=2".to_owned()])
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Roles are executed where no dynamic loader exists; without this check the exec would fail with a bare ENOENT.
pub fn require_static() -> io::Result<()> {
    let file = File::open("/proc/self/exe")?;
    if segments(&file)?.iter().any(|segment| segment.kind == libc::PT_INTERP) {
        return Err(io::Error::other("this binary is linked dynamically; build it with `cargo xtask build`"));
    }
    Ok(())
}

/// The file's length up to the end of its last loaded segment.
fn loaded_size(file: &File) -> io::Result<u64> {
    let loaded = segments(file)?.into_iter().filter(|segment| segment.kind == libc::PT_LOAD);
    let end = loaded.map(|segment| segment.offset.saturating_add(segment.size)).max();
    end.ok_or_else(|| io::Error::other("this binary has no loaded segment"))
}

/// What a program header says of the file.
struct Segment {
    kind: u32,
    offset: u64,
    size: u64,
}

fn segments(file: &File) -> io::Result<Vec<Segment>> {
    let mut header = [0u8; 64];
    file.read_exact_at(&mut header, 0)?;
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let (offset, size, count) = (long(&header, 32), usize::from(half(54)), usize::from(half(56)));
    if size < 56 {
        return Err(io::Error::other("this binary's program headers are too short"));
    }
    let mut table = vec![0u8; size * count];
    file.read_exact_at(&mut table, offset)?;
    let kind = |entry: &[u8]| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
    Ok(table.chunks_exact(size).map(|entry| Segment { kind: kind(entry), offset: long(entry, 8), size: long(entry, 32) }).collect())
}

/// Eight bytes of an ELF structure that is long enough.
fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[at + i]))
}
