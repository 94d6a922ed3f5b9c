//! The sealed copy of our own binary that roles are executed from.

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;

use crate::sys;

const MFD_EXEC: u32 = 0x10;
const F_SEAL_EXEC: i32 = 0x20;

/// A memfd that can be executed but not read (by others), written, resized or made writable: what a role executes is what runsc was, whatever
/// happens to the file on disk, and a process started from it is undumpable from birth where it may not read it.
pub struct Image(OwnedFd);

impl Image {
    /// Copies the running binary.
    pub fn of_self() -> io::Result<Self> {
        let mut source = File::open("/proc/self/exe")?;
        let memfd = match sys::memfd(c"runsc", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | MFD_EXEC) {
            // Kernels before 6.3 know no MFD_EXEC and make every memfd executable.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sys::memfd(c"runsc", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)?,
            other => other?,
        };
        let mut file = File::from(memfd);
        io::copy(&mut source, &mut file)?;
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
    let mut file = File::open("/proc/self/exe")?;
    let mut header = [0u8; 64];
    file.read_exact(&mut header)?;
    let field = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| header[at + i]));
    let (offset, size, count) = (field(32), u16::from_le_bytes([header[54], header[55]]), u16::from_le_bytes([header[56], header[57]]));
    for index in 0..u64::from(count) {
        file.seek(io::SeekFrom::Start(offset.saturating_add(index * u64::from(size))))?;
        let mut kind = [0u8; 4];
        file.read_exact(&mut kind)?;
        if u32::from_le_bytes(kind) == libc::PT_INTERP {
            return Err(io::Error::other("this binary is linked dynamically; build it with `cargo xtask build`"));
        }
    }
    Ok(())
}
