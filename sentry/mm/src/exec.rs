//! What exec needs: fixed mappings for program images, choice of load addresses, and the addresses that /proc shows.

use std::sync::Arc;

use sentry_abi::user::{page_down, page_up};
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_memory::Mapping;
use sentry_platform::{GuestThread, Prot, Share};

use crate::map::{Fresh, Search};
use crate::mm::Mm;
use crate::vma::{Vma, VmaFlags, VmaName};

/// Fields of Linux's `mm_struct` that /proc and prctl show. All 0 until exec sets them.
#[derive(Clone, Default, Debug)]
pub struct ExecLayout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    /// The auxiliary vector as it lies on the stack, AT_NULL included.
    pub auxv: Arc<[u8]>,
}

impl Mm {
    /// Private mapping of `mapping` from `offset` at exactly `range`, replacing what is there. For program segments.
    /// ENOMEM when the range is outside the guest's or a limit forbids it, EPERM for an address below mmap_min_addr, EACCES/EPERM by the file's rights.
    pub fn map_fixed_file(&self, thread: &mut dyn GuestThread, range: UserRange, prot: Prot, mapping: &Mapping, offset: u64) -> Result<()> {
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(Errno::EINVAL);
        }
        offset.checked_add(range.len()).ok_or(Errno::EOVERFLOW)?;
        if !mapping.max_prot.contains(Prot::READ) {
            return Err(Errno::EACCES);
        }
        if prot.contains(Prot::EXEC) && !mapping.max_prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        let vma = Vma {
            start: range.start(),
            end: range.end(),
            prot,
            max_prot: mapping.max_prot | Prot::WRITE,
            share: Share::Private,
            mapping: Some(mapping.clone()),
            offset,
            flags: VmaFlags::empty(),
            name: VmaName::None,
        };
        self.map_image(thread, range, vma)
    }

    /// Private anonymous memory at exactly `range`, replacing what is there. For bss.
    pub fn map_anonymous_fixed(&self, thread: &mut dyn GuestThread, range: UserRange, prot: Prot) -> Result<()> {
        self.map_image(thread, range, Vma::anonymous(range, prot, VmaFlags::empty()))
    }

    fn map_image(&self, thread: &mut dyn GuestThread, range: UserRange, vma: Vma) -> Result<()> {
        if range.is_empty() || !range.is_page_aligned() {
            return Err(Errno::EINVAL);
        }
        let _operation = self.begin_operation();
        {
            let tree = self.tree.read();
            if !self.guest.contains_range(range) {
                return Err(Errno::ENOMEM);
            }
            if range.start() < tree.limits.min_addr {
                return Err(Errno::EPERM);
            }
            tree.check_count(1)?;
            tree.admit(range, &vma, true)?;
        }
        self.install(thread, vma, Fresh::No)
    }

    /// A load address for a position-independent program of `len` bytes: Linux's ELF_ET_DYN_BASE plus randomisation. `align` is a power of two.
    pub fn choose_pie_base(&self, len: u64, align: u64) -> Result<UserAddr> {
        let align = checked_align(align)?;
        let at = self.layout.pie_base & !(align - 1);
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        let fits = UserRange::new(UserAddr(at), len).is_some_and(|r| self.guest.contains_range(r));
        if fits && self.tree.read().vmas.is_free(at, at + len) {
            return Ok(UserAddr(at));
        }
        self.choose_mmap_base(len, align)
    }

    /// An address for `len` bytes as mmap(NULL) would choose (program interpreter). Not reserved. `align` is a power of two.
    pub fn choose_mmap_base(&self, len: u64, align: u64) -> Result<UserAddr> {
        let len = page_up(len).filter(|l| *l > 0).ok_or(Errno::ENOMEM)?;
        let search = Search { len, align: checked_align(align)?, below: u64::MAX };
        let found = self.tree.read().search(self, search).ok_or(Errno::ENOMEM)?;
        let at = found.start();
        // With no aligned hole the search takes any.
        if at.is_multiple_of(search.align) { Ok(UserAddr(at)) } else { Err(Errno::ENOMEM) }
    }

    /// Sets where the heap starts: `end_of_bss` plus Linux's random offset; for a program in the mmap area (static-pie, or an interpreter run by
    /// itself), where it would not have room to grow, where programs usually lie. Nothing is mapped yet.
    pub fn set_brk_base(&self, end_of_bss: u64) {
        let limit = page_down(self.guest.end());
        let layout = &self.layout;
        let in_mmap_area = end_of_bss > layout.pie_base + layout.mmap_base.saturating_sub(layout.pie_base) / 2;
        let lowest = if in_mmap_area { layout.pie_base } else { page_up(end_of_bss).unwrap_or(limit) };
        let base = lowest.saturating_add(layout.brk_slide()).min(limit);
        let mut tree = self.tree.write();
        // A break inside something mapped could not grow: rather no slide.
        let base = if tree.vmas.is_free(base, base + PAGE_SIZE) { base } else { lowest.min(limit) };
        tree.exec.start_brk = base;
        tree.exec.brk = base;
    }
}

fn checked_align(align: u64) -> Result<u64> {
    let align = align.max(PAGE_SIZE);
    if align.is_power_of_two() { Ok(align) } else { Err(Errno::EINVAL) }
}
