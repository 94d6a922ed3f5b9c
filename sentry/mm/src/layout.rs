//! Where things go: Linux's address space layout for x86-64, below the platform's own region.

use sentry_abi::user::{PAGE_MASK, page_down};
use sentry_abi::{PAGE_SIZE, UserRange};

use crate::limits::Limits;

/// Whether addresses are random: off under personality(ADDR_NO_RANDOMIZE) or kernel.randomize_va_space = 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Randomize {
    On,
    Off,
}

/// Bits of mmap randomisation (CONFIG_ARCH_MMAP_RND_BITS on x86-64), in pages.
const MMAP_RANDOM_PAGES: u64 = 1 << 28;
/// The stack moves by up to 16 GiB.
const STACK_RANDOM_PAGES: u64 = 1 << 22;
const BRK_RANDOM_PAGES: u64 = 0x0200_0000 / PAGE_SIZE;
/// Pages kept free below anything that grows down.
pub(crate) const STACK_GUARD: u64 = 256 * PAGE_SIZE;
/// Gap between mmap base and top of the range, whatever the stack limit.
const MIN_GAP: u64 = 128 << 20;

/// Bases chosen once per exec and inherited by fork.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub randomize: Randomize,
    pub stack_top: u64,
    /// mmap chooses downwards from here.
    pub mmap_base: u64,
    /// Where bottom-up search starts when top-down found nothing.
    pub low_base: u64,
    pub pie_base: u64,
}

impl Layout {
    pub fn new(guest: UserRange, limits: &Limits, randomize: Randomize) -> Layout {
        let top = page_down(guest.end());
        let size = top.saturating_sub(guest.start());
        // A small range (tests, odd platforms) is shared out in proportion.
        let stack_slide = bounded(randomize, STACK_RANDOM_PAGES, size / 16);
        let stack_top = top - stack_slide;
        let max_slide = if randomize == Randomize::On { STACK_RANDOM_PAGES * PAGE_SIZE } else { 0 };
        let wanted = limits.stack.saturating_add(max_slide).saturating_add(STACK_GUARD);
        let gap = wanted.clamp(MIN_GAP, u64::MAX).min(size / 6 * 5).min(size);
        let mmap_slide = bounded(randomize, MMAP_RANDOM_PAGES, size / 16);
        let mmap_base = page_down(top - gap).saturating_sub(mmap_slide).max(guest.start());
        let pie_base = page_down(guest.end() / 3 * 2) + bounded(randomize, MMAP_RANDOM_PAGES, size / 16);
        Layout { randomize, stack_top, mmap_base, low_base: page_down(guest.end() / 3), pie_base }
    }

    /// Random distance of the heap from the end of bss.
    pub fn brk_slide(&self) -> u64 {
        bounded(self.randomize, BRK_RANDOM_PAGES, u64::MAX)
    }
}

/// A random number of bytes, whole pages, below `pages` pages and `max` bytes.
fn bounded(randomize: Randomize, pages: u64, max: u64) -> u64 {
    let pages = pages.min(max / PAGE_SIZE);
    if randomize == Randomize::Off || pages == 0 {
        return 0;
    }
    (random() % pages * PAGE_SIZE) & !PAGE_MASK
}

/// From the host's generator. A host that has no randomness to give makes a predictable layout, not a failure.
fn random() -> u64 {
    let mut bytes = [0u8; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}
