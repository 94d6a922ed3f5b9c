//! The guest's register file as it lies in the shared slot: the host kernel's signal frame, or a start frame that the sentry built.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::mem::offset_of;

use sentry_abi::Errno;
use sentry_platform::Registers;
use sentry_stub::layout::{self, BUFFER, SLOT_SIZE, START_FP, START_FRAME, ThreadArea, uc};

use crate::area::SlotView;

const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const LEGACY: usize = 512;
const XSTATE_BV: usize = 512;
const XCOMP_BV: usize = 520;
const HEADER_END: usize = 576;
const MXCSR: usize = 24;
const FCW: usize = 0;

/// Size and features of an XSAVE image in a signal frame on this machine.
#[derive(Clone, Copy, Debug)]
pub struct FpLayout {
    pub features: u64,
    /// Without the closing magic.
    pub size: usize,
    mxcsr_mask: u32,
}

#[repr(C, align(16))]
struct FxSave([u8; LEGACY]);

impl FpLayout {
    /// `None` when the image is larger than a start frame has room for.
    pub fn of_this_machine() -> Option<FpLayout> {
        /// AMX tiles: only with a permission that no stub gets.
        const DYNAMIC: u64 = 3 << 17;
        let (low, high): (u32, u32);
        // SAFETY: XGETBV exists where XSAVE is enabled, which is part of the platform's floor.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack)) };
        let features = (u64::from(high) << 32 | u64::from(low)) & !DYNAMIC;
        let mut size = HEADER_END;
        for feature in 2..63 {
            if features & (1 << feature) != 0 {
                let leaf = __cpuid_count(0xd, feature);
                size = size.max(leaf.eax as usize + leaf.ebx as usize);
            }
        }
        let mut image = FxSave([0; LEGACY]);
        // SAFETY: 512 aligned bytes.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut image, options(nostack)) };
        let mask = word(&image.0, 28);
        let mxcsr_mask = if mask == 0 { 0xffbf } else { mask };
        (size + 4 <= BUFFER - START_FP).then_some(FpLayout { features, size, mxcsr_mask })
    }

    /// Bytes that describe the image to `rt_sigreturn` and to the stub.
    fn seal(&self, image: &mut Vec<u8>) {
        image.resize(self.size + 4, 0);
        put_word(image, layout::FP_SW_BYTES, MAGIC1);
        put_word(image, layout::FP_SW_BYTES + 4, self.size as u32 + 4);
        put_word(image, layout::FP_XFEATURES, self.features as u32);
        put_word(image, layout::FP_XFEATURES + 4, (self.features >> 32) as u32);
        put_word(image, layout::FP_SW_BYTES + 16, self.size as u32);
        put_word(image, self.size, MAGIC2);
    }

    /// The state of a fresh program.
    pub fn fresh(&self) -> Vec<u8> {
        let mut image = vec![0; self.size];
        put_word(&mut image, FCW, 0x37f);
        put_word(&mut image, MXCSR, 0x1f80);
        self.seal(&mut image);
        image
    }

    /// An image that the processor takes, from what a guest gave; a short one or one without our magic is only the legacy part.
    pub fn checked(&self, given: &[u8]) -> Result<Vec<u8>, Errno> {
        let legacy = given.get(..LEGACY).ok_or(Errno::EINVAL)?;
        let extended = given.len() >= self.size && word(given, layout::FP_SW_BYTES) == MAGIC1;
        let mut image = if extended { given.get(..self.size).ok_or(Errno::EINVAL)?.to_vec() } else { legacy.to_vec() };
        if !extended {
            image.resize(self.size, 0);
            put_word(&mut image, XSTATE_BV, 3);
        }
        let present = u64::from(word(&image, XSTATE_BV)) | u64::from(word(&image, XSTATE_BV + 4)) << 32;
        let reserved = image.get(XCOMP_BV..HEADER_END).ok_or(Errno::EINVAL)?;
        if present & !self.features != 0 || reserved.iter().any(|b| *b != 0) || word(&image, MXCSR) & !self.mxcsr_mask != 0 {
            return Err(Errno::EINVAL);
        }
        self.seal(&mut image);
        Ok(image)
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    if let Some(found) = bytes.get(at..at + 4) {
        value.copy_from_slice(found);
    }
    u32::from_le_bytes(value)
}

fn put_word(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(to) = bytes.get_mut(at..at + 4) {
        to.copy_from_slice(&value.to_le_bytes());
    }
}

/// A frame's offset, as the stub reported it: `None` if the frame would not lie in the slot.
pub fn checked_offset(offset: u32) -> Option<usize> {
    let offset = offset as usize;
    let end = offset.checked_add(uc::SIZE + uc::SIGINFO_SIZE)?;
    (offset.is_multiple_of(8) && offset >= START_FRAME && end <= SLOT_SIZE).then_some(offset)
}

/// General registers from a frame.
pub fn load(view: &SlotView, frame: usize) -> Registers {
    let at = |offset: usize| view.get(frame + offset);
    let general = |n: usize| at(uc::R8 + 8 * n);
    Registers {
        r8: general(0),
        r9: general(1),
        r10: general(2),
        r11: general(3),
        r12: general(4),
        r13: general(5),
        r14: general(6),
        r15: general(7),
        rdi: at(uc::RDI),
        rsi: at(uc::RSI),
        rbp: at(uc::RBP),
        rbx: at(uc::RBX),
        rdx: at(uc::RDX),
        rax: at(uc::RAX),
        rcx: at(uc::RCX),
        rsp: at(uc::RSP),
        rip: at(uc::RIP),
        eflags: at(uc::EFLAGS),
        cs: u64::from(view.get16(frame + uc::CS)),
        ss: u64::from(view.get16(frame + uc::SS)),
        fs_base: view.get(offset_of!(ThreadArea, fs_base)),
        gs_base: view.get(offset_of!(ThreadArea, gs_base)),
        orig_rax: u64::MAX,
        ..Registers::default()
    }
}

/// General registers into a frame; the segment bases are set by [`set_bases`].
pub fn store(view: &SlotView, frame: usize, r: &Registers) {
    for (n, value) in [r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15].into_iter().enumerate() {
        view.put(frame + uc::R8 + 8 * n, value);
    }
    for (offset, value) in [
        (uc::RDI, r.rdi),
        (uc::RSI, r.rsi),
        (uc::RBP, r.rbp),
        (uc::RBX, r.rbx),
        (uc::RDX, r.rdx),
        (uc::RAX, r.rax),
        (uc::RCX, r.rcx),
        (uc::RSP, r.rsp),
        (uc::RIP, r.rip),
        (uc::EFLAGS, r.eflags),
    ] {
        view.put(frame + offset, value);
    }
    view.put16(frame + uc::CS, r.cs as u16);
    view.put16(frame + uc::SS, r.ss as u16);
}

/// Segment bases for the next resumption; addresses that the processor would refuse are ignored.
pub fn set_bases(view: &SlotView, fs_base: u64, gs_base: u64) {
    let canonical = |a: u64| ((a << 16) as i64 >> 16) as u64 == a;
    let bases = if canonical(fs_base) && canonical(gs_base) { (1, fs_base, gs_base) } else { (0, 0, 0) };
    view.put(offset_of!(ThreadArea, new_fs_base), bases.1);
    view.put(offset_of!(ThreadArea, new_gs_base), bases.2);
    view.put(offset_of!(ThreadArea, set_bases), bases.0);
}

/// Where a frame's vector state lies in the slot at guest address `slot_address`; `None` if it is not where it can be.
pub fn fp_offset(view: &SlotView, slot_address: u64, frame: usize, fp: &FpLayout) -> Option<usize> {
    let offset = view.get(frame + uc::FPSTATE).checked_sub(slot_address)?;
    let offset = usize::try_from(offset).ok()?;
    let end = offset.checked_add(fp.size + 4)?;
    (offset % 64 == 0 && offset >= START_FP && end <= SLOT_SIZE).then_some(offset)
}

/// Makes the start frame of a new thread; returns its offset. `image` is a complete one.
pub fn build_start(view: &SlotView, slot_address: u64, start: &Registers, image: &[u8]) -> usize {
    let zeros = [0u8; uc::SIZE + uc::SIGINFO_SIZE];
    let _ = view.write(START_FRAME, &zeros);
    store(view, START_FRAME, start);
    let _ = view.write(START_FP, image);
    view.put(START_FRAME + uc::FPSTATE, slot_address + START_FP as u64);
    view.frame().store(START_FRAME as u32, std::sync::atomic::Ordering::Relaxed);
    view.info().store(START_FRAME as u32, std::sync::atomic::Ordering::Relaxed);
    set_bases(view, start.fs_base, start.gs_base);
    START_FRAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let fp = FpLayout::of_this_machine().unwrap();
        let fresh = fp.fresh();
        assert_eq!(fresh.len(), fp.size + 4);
        assert_eq!(fp.checked(&fresh).unwrap(), fresh);
        assert!(fp.checked(&fresh[..100]).is_err());
        let mut bad = fresh.clone();
        bad[XCOMP_BV] = 1;
        assert_eq!(fp.checked(&bad), Err(Errno::EINVAL));
        let mut bad = fresh.clone();
        bad[XSTATE_BV + 7] = 0x80;
        assert_eq!(fp.checked(&bad), Err(Errno::EINVAL));
        let mut bad = fresh.clone();
        bad[MXCSR + 3] = 0xff;
        assert_eq!(fp.checked(&bad), Err(Errno::EINVAL));
        assert!(fp.checked(&fresh[..LEGACY]).is_ok());
    }

    #[test]
    fn offsets() {
        assert_eq!(checked_offset(START_FRAME as u32), Some(START_FRAME));
        assert_eq!(checked_offset(START_FRAME as u32 + 4), None);
        assert_eq!(checked_offset(0), None);
        assert_eq!(checked_offset(SLOT_SIZE as u32 - 64), None);
        assert_eq!(checked_offset(u32::MAX - 7), None);
    }
}
