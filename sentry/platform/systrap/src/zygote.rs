//! Making a container's zygote, and taking it over (`/work/shared/ZYGOTE.md` section 2 is the sequence; the step numbers here are its).
//!
//! Three parties use this file:
//! - **runsc** (crate `runsc-launch`) calls [`prepare`] and gets the image that process I executes and the memory it shares with the zygote Z;
//! - **I**, made by runsc's set-up child, executes the image with the descriptors, limits and credentials listed at [`prepare`];
//!   everything after `execveat` is done by the image itself: it maps the area, makes Z, Z installs the filter, I sends the
//!   descriptors to the sentry, empties the (shared) table and exits;
//! - **the sentry** calls [`receive`] on the other end of I's socket and gives the result to [`crate::SystrapPlatform::adopt`].

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sentry_stub::layout::{self, BootParams};

use crate::filter::Judge;
use crate::{area, filter, sys};

/// RLIMIT_NOFILE (soft and hard) that I must have before `execveat`: a file to map enters the stub as number 3 + thread slot.
pub const STUB_NOFILE: u64 = 3 + layout::SLOT_COUNT as u64;

/// Number under which I expects the socket whose other end the sentry holds (any connected AF_UNIX socket, SEQPACKET or STREAM, blocking).
pub const I_SOCKET_FD: i32 = 0;
/// Number under which I expects the area memfd ([`ZygoteParts::area`]).
pub const I_AREA_FD: i32 = 1;

/// What [`prepare`] makes. Both descriptors are close-on-exec.
#[derive(Debug)]
pub struct ZygoteParts {
    /// Sealed memfd with the ELF image (mode 0111, ET_EXEC at a random place of the stub region). Before I executes it, runsc does
    /// `fchown(image, <host uid of C>, <host gid of C>)`: then the kernel makes I non-dumpable from birth and its `mm` belongs to U2.
    pub image: OwnedFd,
    /// Memory shared with the zygote; holds the boot parameters with the filter.
    pub area: OwnedFd,
}

/// Step 1: image and area for one zygote. Needs no privilege; reads /proc/self/maps for the sizes of vvar and vdso.
///
/// Contract for I, at the moment of `execveat(image, "", argv, envp, AT_EMPTY_PATH)` (argv and envp are ignored, argv may be `{"stub"}`):
/// | what | value |
/// |---|---|
/// | fd 0 | the socket to the sentry ([`I_SOCKET_FD`]) |
/// | fd 1 | [`ZygoteParts::area`], not close-on-exec at that number |
/// | fd 2 | anything harmless or closed; every number from 3 up closed (or close-on-exec) |
/// | RLIMIT_CORE | soft = hard = 1 |
/// | RLIMIT_NOFILE | soft = hard = [`STUB_NOFILE`] |
/// | RLIMIT_MEMLOCK | 0 |
/// | RLIMIT_AS, DATA, STACK | unlimited resp. default |
/// | personality | `ADDR_NO_RANDOMIZE` (0x0040000) added, so that stack and vDSO of I do not meet the stub region |
/// | credentials | uid/gid C in U2, no groups, no capabilities, bounding set empty, no_new_privs |
/// | signals | nothing blocked is needed: Z sets its own mask and dispositions |
///
/// I exits with 0 when it has sent the descriptors, with 1 otherwise (then the sentry's [`receive`] reports the step that failed, or EOF).
pub fn prepare() -> io::Result<ZygoteParts> {
    prepare_for(Judge::Listener)
}

/// The same for the ptrace platform: no listener is made, and Z keeps I's socket (number 0), by which files come to its children.
pub fn prepare_traced() -> io::Result<ZygoteParts> {
    prepare_for(Judge::Tracer)
}

fn prepare_for(judge: Judge) -> io::Result<ZygoteParts> {
    let base = random_base()?;
    let image = sys::memfd(c"stub", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | sys::MFD_EXEC)?;
    sys::write_all_at(image.as_fd(), &build_image(base), 0)?;
    sys::fchmod(image.as_fd(), 0o111)?;
    sys::add_seals(image.as_fd(), sys::SEALS_FIXED)?;
    let area = area::new_memfd(0)?;
    let params = boot_params(base, judge)?;
    sys::write_all_at(area.as_fd(), area::bytes_of(&params), layout::BOOT_PARAMS as u64)?;
    Ok(ZygoteParts { image, area })
}

/// What the sentry gets from I.
#[derive(Debug)]
pub struct ZygoteHandles {
    /// Z in the sentry's pid namespace.
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub area: OwnedFd,
    /// The seccomp listener of Z and all its descendants; `None` for the ptrace platform.
    pub listener: Option<OwnedFd>,
}

/// In the sentry: waits for I's message on `socket` (blocks until I sends or dies; EOF is `UnexpectedEof`).
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<ZygoteHandles> {
    let mut data = [0u8; layout::HELLO_LEN];
    let (len, mut fds) = sys::recv_with_fds(socket, &mut data, 3)?;
    if len == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "zygote maker died before it had a zygote"));
    }
    let word = |i: usize| i32::from_le_bytes([data[i], data[i + 1], data[i + 2], data[i + 3]]);
    if len != layout::HELLO_LEN || word(0) as u32 != layout::HELLO_MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a zygote's hello"));
    }
    let (pid, step, errno) = (word(4), word(8), word(12));
    if step != 0 {
        let cause = io::Error::from_raw_os_error(errno);
        return Err(io::Error::new(cause.kind(), format!("zygote set-up failed at step {step}: {cause}")));
    }
    let listener = if fds.len() == 3 { fds.pop() } else { None };
    match (fds.pop(), fds.pop(), fds.is_empty() && pid > 0) {
        (Some(area), Some(pidfd), true) => Ok(ZygoteHandles { pid, pidfd, area, listener }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "zygote's hello lacks descriptors")),
    }
}

/// A random place for the blob: 2 MiB aligned, with the area behind it clear of the stack and vDSO that `execve` makes at the very top.
fn random_base() -> io::Result<u64> {
    const LOWEST: u64 = layout::REGION_START + 0x1000_0000;
    const HIGHEST: u64 = 0x7fff_0000_0000 - layout::AREA_OFFSET - layout::AREA_LEN;
    let places = (HIGHEST - LOWEST) / layout::BASE_ALIGN;
    Ok(LOWEST + sys::random_u64()? % places * layout::BASE_ALIGN)
}

/// An ELF file of one executable segment: headers in the first page (not mapped), the blob in the following ones.
fn build_image(base: u64) -> Vec<u8> {
    const PAGE: u64 = 4096;
    let blob = sentry_stub::BLOB;
    let entry = base + header_word(blob, 8);
    let mut image = vec![0u8; PAGE as usize];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(to) = image.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    };
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2u16.to_le_bytes()); // ET_EXEC
    put(18, &62u16.to_le_bytes()); // EM_X86_64
    put(20, &1u32.to_le_bytes());
    put(24, &entry.to_le_bytes());
    put(32, &64u64.to_le_bytes()); // e_phoff
    put(52, &64u16.to_le_bytes()); // e_ehsize
    put(54, &56u16.to_le_bytes()); // e_phentsize
    put(56, &2u16.to_le_bytes()); // e_phnum
    let mut header = |at: usize, kind: u32, flags: u32, offset: u64, address: u64, len: u64| {
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        for (i, value) in [offset, address, address, len, len, PAGE].into_iter().enumerate() {
            put(at + 8 + 8 * i, &value.to_le_bytes());
        }
    };
    header(64, 1, 5, PAGE, base, blob.len() as u64); // PT_LOAD r-x
    header(120, 0x6474_e551, 6, 0, 0, 0); // PT_GNU_STACK rw-
    image.extend_from_slice(blob);
    image
}

fn header_word(blob: &[u8], at: usize) -> u64 {
    let mut word = [0u8; 8];
    if let Some(bytes) = blob.get(at..at + 8) {
        word.copy_from_slice(bytes);
    }
    u64::from_le_bytes(word)
}

fn boot_params(base: u64, judge: Judge) -> io::Result<BootParams> {
    let program = filter::build(base, sentry_stub::BLOB.len() as u64, judge);
    let mut words = [0u64; layout::FILTER_MAX];
    words.get_mut(..program.len()).ok_or(io::ErrorKind::InvalidData)?.copy_from_slice(&program);
    let maps = fs::read_to_string("/proc/self/maps")?;
    Ok(BootParams {
        state: 0,
        step: 0,
        errno: 0,
        listener: -1,
        base,
        vvar_len: mapping_len(&maps, "[vvar]"),
        vclock_len: mapping_len(&maps, "[vvar_vclock]"),
        vdso_len: mapping_len(&maps, "[vdso]"),
        vdso_at: 0,
        filter_len: program.len() as u32,
        traced: u32::from(judge == Judge::Tracer),
        filter: words,
    })
}

/// Length of a special mapping: all 64-bit processes of a kernel have the same.
fn mapping_len(maps: &str, name: &str) -> u64 {
    let range = maps.lines().find(|l| l.ends_with(name)).and_then(|l| l.split(' ').next()).and_then(|r| r.split_once('-'));
    let hex = |s: &str| u64::from_str_radix(s, 16).unwrap_or(0);
    range.map_or(0, |(start, end)| hex(end).saturating_sub(hex(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_mappings() {
        let maps = "7f97e2125000-7f97e2129000 r--p 00000000 00:00 0                          [vvar]\n\
                    7f97e212b000-7f97e212d000 r-xp 00000000 00:00 0                          [vdso]\n";
        assert_eq!(mapping_len(maps, "[vvar]"), 0x4000);
        assert_eq!(mapping_len(maps, "[vdso]"), 0x2000);
        assert_eq!(mapping_len(maps, "[vvar_vclock]"), 0);
    }

    #[test]
    fn image_fits() {
        let base = random_base().unwrap();
        assert_eq!(base % layout::BASE_ALIGN, 0);
        let image = build_image(base);
        assert!(image.len() as u64 - 4096 <= layout::BLOB_MAX);
        assert_eq!(header_word(sentry_stub::BLOB, 0), layout::BLOB_MAGIC);
        assert_eq!(header_word(sentry_stub::BLOB, 16), sentry_stub::BLOB.len() as u64);
    }
}
