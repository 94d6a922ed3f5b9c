//! Numbers that no sane program gives: every call with every combination of the edges of its arguments must answer, never panic.

use sentry_abi::{PAGE_SIZE, UserAddr};
use sentry_platform::MemoryRequests;

use crate::fake::{FakeThread, mm};
use crate::map::MapRequest;
use crate::mm::Mm;
use crate::remap::RemapRequest;

/// Where the last page of all begins.
const LAST_PAGE: u64 = !0xfff;

fn edges(mm: &Mm) -> Vec<u64> {
    let guest = mm.guest_range();
    let mapped = mm.snapshot().first().map_or(0, |v| v.start);
    let bases = [0, 1, PAGE_SIZE, mapped, guest.start(), guest.end(), 1 << 47, 1 << 63, i64::MAX as u64, u64::MAX];
    let mut edges: Vec<u64> = bases.iter().flat_map(|b| [b.wrapping_sub(PAGE_SIZE), b.wrapping_sub(1), *b, b.wrapping_add(1)]).collect();
    edges.extend([LAST_PAGE, LAST_PAGE - PAGE_SIZE, LAST_PAGE - 2 * PAGE_SIZE, mapped + PAGE_SIZE]);
    edges.sort_unstable();
    edges.dedup();
    edges
}

fn one_mapping(mm: &Mm, t: &mut FakeThread) {
    if mm.snapshot().is_empty() {
        let request = MapRequest { hint: UserAddr(0x10_0000), len: 4 * PAGE_SIZE, prot: 3, flags: 0x22, mapping: None, offset: 0 };
        mm.mmap(t, request).unwrap();
    }
}

#[test]
fn two_edges_each() {
    let (mm, mut t) = mm();
    one_mapping(&mm, &mut t);
    let edges = edges(&mm);
    for at in edges.iter().copied().map(UserAddr) {
        for len in edges.iter().copied() {
            // What succeeds may take the one mapping away; small ones come back.
            let _ = mm.mprotect(&mut t, at, len, 1);
            let _ = mm.mprotect(&mut t, at, len, 3 | 1 << 24);
            for advice in [0, 4, 8, 9, 14, 18, 21, 102, -1] {
                let _ = mm.madvise(&mut t, at, len, advice);
            }
            let _ = mm.mlock(&mut t, at, len, 0);
            let _ = mm.munlock(at, len);
            let _ = mm.msync(at, len, 4);
            let _ = mm.mincore(at, len, at);
            let _ = mm.set_anon_name(at, len, Some(b"x"));
            if len < 1 << 40 {
                let _ = mm.munmap(&mut t, at, len);
            }
            one_mapping(&mm, &mut t);
        }
        let _ = mm.brk(&mut t, at);
    }
}

#[test]
fn mmap_and_its_offsets() {
    let (mm, mut t) = mm();
    one_mapping(&mm, &mut t);
    let edges = edges(&mm);
    for hint in edges.iter().copied().map(UserAddr) {
        for len in edges.iter().copied().filter(|l| *l == 0 || *l > 1 << 46 || *l <= PAGE_SIZE) {
            for flags in [0x22, 0x32, 0x10_0022, 0x62, 0x122, 0x2022] {
                let request = MapRequest { hint, len, prot: 3, flags, mapping: None, offset: len };
                if let Ok(at) = mm.mmap(&mut t, request) {
                    mm.munmap(&mut t, at, len).unwrap();
                }
            }
            let _ = crate::direct::DirectRequests::new(&mm).place(mm.space().id(), len);
        }
    }
}

#[test]
fn mremap_with_every_edge() {
    let (mm, mut t) = mm();
    one_mapping(&mm, &mut t);
    let edges = edges(&mm);
    let mapped = mm.snapshot()[0].start;
    for old in [mapped, mapped + PAGE_SIZE, 0, LAST_PAGE].map(UserAddr) {
        for old_len in edges.iter().copied() {
            for new_len in edges.iter().copied().filter(|l| *l > 1 << 46 || *l <= PAGE_SIZE) {
                for flags in [0, 1, 3, 5, 7] {
                    let _ = mm.mremap(&mut t, RemapRequest { old, old_len, new_len, flags, new: UserAddr(old_len & !0xfff) });
                    let left: Vec<(u64, u64)> = mm.snapshot().iter().map(|v| (v.start, v.len())).collect();
                    for (start, len) in left.into_iter().filter(|(start, _)| *start != mapped) {
                        mm.munmap(&mut t, UserAddr(start), len).unwrap();
                    }
                    one_mapping(&mm, &mut t);
                }
            }
        }
    }
}
