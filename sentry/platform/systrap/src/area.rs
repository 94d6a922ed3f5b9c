//! The sentry's view of the memory it shares with a guest process. All of it may change at any time: every accessor reads once.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use sentry_stub::layout::{self, AREA_LEN, BootParams, SLOT_COUNT, SLOT_SIZE, ThreadArea};

use crate::sys;

/// A memfd for an area at file offset `token` (page aligned); its size is fixed.
pub fn new_memfd(token: u64) -> io::Result<OwnedFd> {
    let fd = sys::memfd(c"area", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | sys::MFD_NOEXEC_SEAL)?;
    sys::set_len(fd.as_fd(), token + AREA_LEN)?;
    sys::add_seals(fd.as_fd(), sys::SEALS_SIZE)?;
    Ok(fd)
}

pub fn bytes_of(params: &BootParams) -> &[u8] {
    // SAFETY: BootParams is plain data without padding (checked by a test).
    unsafe { std::slice::from_raw_parts(ptr::from_ref(params).cast(), size_of::<BootParams>()) }
}

pub fn read_params(memfd: BorrowedFd<'_>) -> io::Result<BootParams> {
    let mut bytes = [0u8; size_of::<BootParams>()];
    sys::read_exact_at(memfd, &mut bytes, layout::BOOT_PARAMS as u64)?;
    // SAFETY: any bytes are a valid BootParams.
    Ok(unsafe { ptr::read_unaligned(bytes.as_ptr().cast()) })
}

/// One process's area, mapped into the sentry.
pub struct Area {
    at: NonNull<u8>,
    memfd: OwnedFd,
    token: u64,
}

// SAFETY: plain shared memory, reached by atomic and volatile accesses only.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    /// A new one, at a random file offset that proves who maps it.
    pub fn new() -> io::Result<Area> {
        let token = (sys::random_u64()? & 0x3ff_ffff_ffff) & !(sentry_abi::user::PAGE_MASK);
        Area::map(new_memfd(token)?, token)
    }

    pub fn map(memfd: OwnedFd, token: u64) -> io::Result<Area> {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                AREA_LEN as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                memfd.as_raw_fd(),
                token as i64,
            )
        };
        let at = if at == libc::MAP_FAILED { None } else { NonNull::new(at.cast::<u8>()) };
        let at = at.ok_or_else(io::Error::last_os_error)?;
        Ok(Area { at, memfd, token })
    }

    pub fn memfd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }

    pub fn token(&self) -> u64 {
        self.token
    }

    /// Must not be used longer than the area lives; the owner of the view keeps the area's `Arc`.
    pub fn slot(&self, slot: u32) -> SlotView {
        assert!((slot as usize) < SLOT_COUNT, "slots are allocated below the limit");
        // SAFETY: inside the mapping, as just checked.
        SlotView { at: unsafe { self.at.add(slot as usize * SLOT_SIZE) } }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody uses any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), AREA_LEN as usize) };
    }
}

/// One slot.
#[derive(Clone, Copy)]
pub struct SlotView {
    at: NonNull<u8>,
}

// SAFETY: as for Area.
unsafe impl Send for SlotView {}
// SAFETY: as for Area.
unsafe impl Sync for SlotView {}

macro_rules! words {
    ($($name:ident)*) => {$(
        #[allow(clippy::wrong_self_convention, reason = "named as the fields are")]
        pub fn $name(&self) -> &AtomicU32 {
            self.word(offset_of!(ThreadArea, $name))
        }
    )*};
}

impl SlotView {
    fn word(&self, offset: usize) -> &AtomicU32 {
        debug_assert!(offset.is_multiple_of(4) && offset + 4 <= SLOT_SIZE);
        // SAFETY: aligned and inside the slot; the other side uses atomics or is hostile, which makes the value arbitrary, not the access invalid.
        unsafe { AtomicU32::from_ptr(self.at.as_ptr().add(offset).cast()) }
    }

    words! { to_sentry event frame info timed cpu to_stub stub_sleeping sentry_sleeping host_tid direct_begun direct_done }

    /// A 64-bit value at an aligned offset; reads 0 outside the slot.
    pub fn get(&self, offset: usize) -> u64 {
        if !offset.is_multiple_of(8) || offset > SLOT_SIZE - 8 {
            return 0;
        }
        // SAFETY: aligned and inside the slot.
        unsafe { self.at.as_ptr().add(offset).cast::<u64>().read_volatile() }
    }

    /// Writes outside the slot are dropped.
    pub fn put(&self, offset: usize, value: u64) {
        if !offset.is_multiple_of(8) || offset > SLOT_SIZE - 8 {
            return;
        }
        // SAFETY: aligned and inside the slot.
        unsafe { self.at.as_ptr().add(offset).cast::<u64>().write_volatile(value) };
    }

    pub fn put32(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    /// 16 bits at any even offset.
    pub fn get16(&self, offset: usize) -> u16 {
        (self.get(offset & !7) >> ((offset & 6) * 8)) as u16
    }

    pub fn put16(&self, offset: usize, value: u16) {
        let shift = (offset & 6) * 8;
        let old = self.get(offset & !7);
        self.put(offset & !7, (old & !(0xffff << shift)) | (u64::from(value) << shift));
    }

    /// Copies out; `None` unless the range lies in the slot.
    pub fn read(&self, offset: usize, data: &mut [u8]) -> Option<()> {
        if offset > SLOT_SIZE || data.len() > SLOT_SIZE - offset {
            return None;
        }
        // SAFETY: inside the slot; the bytes may change meanwhile, and any bytes are valid.
        unsafe { ptr::copy_nonoverlapping(self.at.as_ptr().add(offset), data.as_mut_ptr(), data.len()) };
        Some(())
    }

    pub fn write(&self, offset: usize, data: &[u8]) -> Option<()> {
        if offset > SLOT_SIZE || data.len() > SLOT_SIZE - offset {
            return None;
        }
        // SAFETY: inside the slot.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.at.as_ptr().add(offset), data.len()) };
        Some(())
    }

    /// As a fresh slot, for the next thread.
    pub fn clear(&self) {
        let zeros = [0u8; size_of::<ThreadArea>()];
        let _ = self.write(0, &zeros);
    }
}
