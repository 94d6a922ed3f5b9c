//! Semantics and error numbers against the fake platform; property tests against naive models.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use sentry_abi::{Errno, PAGE_SIZE, UserAddr, UserRange};
use sentry_memory::{MapLabel, Mapping, MemFile, MemfdSource};
use sentry_platform::{MemoryRequest, Prot, Share, Vdso, Verdict};

use crate::fake::{FakeSpace, FakeThread, config, mm, mm_with};
use crate::iovec::{IoVec, MAX_RW_COUNT};
use crate::map::MapRequest;
use crate::mm::Mm;
use crate::remap::RemapRequest;
use crate::vma::{Vma, VmaFlags};
use crate::vma_set::VmaSet;

const P: u64 = PAGE_SIZE;
const RW: u64 = 3;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANON: u64 = 0x20;
const BIT32: u64 = 0x40;
const GROWSDOWN: u64 = 0x100;
const LOCKED: u64 = 0x2000;
const POPULATE: u64 = 0x8000;
const HUGETLB: u64 = 0x40000;
const SYNC: u64 = 0x80000;
const NOREPLACE: u64 = 0x100000;

struct Label;

impl MapLabel for Label {
    fn path(&self) -> Option<Vec<u8>> {
        Some(b"/lib/x\ny.so".to_vec())
    }
    fn id(&self) -> (u64, u64) {
        (0xfd01, 1234)
    }
}

fn file(max_prot: Prot) -> Mapping {
    let file = MemFile::new(Arc::new(MemfdSource));
    file.truncate(64 * P).unwrap();
    Mapping { fd: file.host_files().unwrap().0, max_prot, label: Arc::new(Label), resident: false }
}

fn anon(hint: u64, len: u64, prot: u64, flags: u64) -> MapRequest {
    MapRequest { hint: UserAddr(hint), len, prot, flags: flags | ANON, mapping: None, offset: 0 }
}

fn of(mapping: Mapping, hint: u64, len: u64, prot: u64, flags: u64) -> MapRequest {
    MapRequest { hint: UserAddr(hint), len, prot, flags, mapping: Some(mapping), offset: 0 }
}

fn ranges(mm: &Mm) -> Vec<(u64, u64, Prot)> {
    mm.snapshot().iter().map(|v| (v.start, v.end, v.prot)).collect()
}

/// The tree says what the host has.
fn check_host(mm: &Mm, thread: &FakeThread) {
    let mut tree = BTreeMap::new();
    for vma in mm.snapshot() {
        for page in (vma.start..vma.end).step_by(P as usize) {
            tree.insert(page, (vma.prot, vma.share, vma.mapping.is_some()));
        }
    }
    let host = thread.fake.host.lock();
    let host: BTreeMap<_, _> = host.pages.iter().map(|(at, p)| (*at, (p.prot, p.share, p.file))).collect();
    assert_eq!(tree, host);
}

#[test]
fn mmap_errors() {
    let (mm, mut t) = mm();
    let top = mm.guest_range().end();
    let ro = file(Prot::READ);
    let wo = file(Prot::WRITE);
    let cases: &[(MapRequest, Errno)] = &[
        (anon(0, 0, RW, PRIVATE), Errno::EINVAL),
        (anon(0, u64::MAX, RW, PRIVATE), Errno::ENOMEM),
        (anon(0, top, RW, PRIVATE), Errno::ENOMEM),
        (anon(0, P, RW, 0), Errno::EINVAL),
        (anon(0, P, RW, 8), Errno::EINVAL),
        (anon(0, P, RW, SHARED | PRIVATE), Errno::EINVAL),
        (anon(0x10001, P, RW, PRIVATE | FIXED), Errno::EINVAL),
        (anon(top, P, RW, PRIVATE | FIXED), Errno::ENOMEM),
        (anon(top - P, 2 * P, RW, PRIVATE | FIXED), Errno::ENOMEM),
        (anon(0x7fff_ffff_0000, P, RW, PRIVATE | FIXED), Errno::ENOMEM),
        (anon(0x8000, P, RW, PRIVATE | FIXED), Errno::EPERM),
        (anon(0, 2 << 20, RW, PRIVATE | HUGETLB), Errno::ENOMEM),
        (anon(0, P, RW, SHARED | GROWSDOWN), Errno::EINVAL),
        (MapRequest { offset: 5, ..anon(0, P, RW, PRIVATE) }, Errno::EINVAL),
        (MapRequest { offset: !(P - 1), ..of(ro.clone(), 0, P, 1, PRIVATE) }, Errno::EOVERFLOW),
        (MapRequest { mapping: None, flags: PRIVATE, ..anon(0, P, RW, 0) }, Errno::ENODEV),
        (of(ro.clone(), 0, P, RW, SHARED), Errno::EACCES),
        (of(ro.clone(), 0, P, 5, PRIVATE), Errno::EPERM),
        (of(ro.clone(), 0, P, 1, SHARED | PRIVATE | SYNC), Errno::EOPNOTSUPP),
        (of(ro.clone(), 0, P, 1, PRIVATE | HUGETLB), Errno::EINVAL),
        (of(ro, 0, P, 1, PRIVATE | GROWSDOWN), Errno::EINVAL),
        (of(wo, 0, P, 2, SHARED), Errno::EACCES),
    ];
    for (index, (request, errno)) in cases.iter().enumerate() {
        assert_eq!(mm.mmap(&mut t, request.clone()), Err(*errno), "case {index}");
    }
    assert!(mm.snapshot().is_empty());
    assert!(t.fake.log().is_empty());
}

#[test]
fn mmap_places_top_down_and_merges() {
    let (mm, mut t) = mm();
    let a = mm.mmap(&mut t, anon(0, 1, RW, PRIVATE)).unwrap().0;
    let b = mm.mmap(&mut t, anon(0, P, RW, PRIVATE)).unwrap().0;
    assert_eq!(a, mm.layout.mmap_base - P);
    assert_eq!(b, a - P);
    assert_eq!(ranges(&mm), [(b, a + P, Prot::READ | Prot::WRITE)]);
    // A free hint is taken, a taken or impossible one is ignored.
    assert_eq!(mm.mmap(&mut t, anon(0x20_0123, P, RW, PRIVATE)).unwrap().0, 0x20_0000);
    assert_eq!(mm.mmap(&mut t, anon(0x20_0000, P, RW, PRIVATE)).unwrap().0, b - P);
    assert_eq!(mm.mmap(&mut t, anon(0xffff_8000_0000_0000, P, RW, PRIVATE)).unwrap().0, b - 2 * P);
    assert_eq!(mm.mmap(&mut t, anon(1, P, RW, PRIVATE)).unwrap().0, b - 3 * P);
    assert_eq!(mm.mmap(&mut t, anon(0x1000, P, RW, PRIVATE)).unwrap().0, 65536);
    let low = mm.mmap(&mut t, anon(0, P, RW, PRIVATE | BIT32)).unwrap().0;
    assert_eq!(low, 0x4000_0000);
    let huge = mm.mmap(&mut t, anon(0, 4 << 20, RW, PRIVATE)).unwrap().0;
    assert_eq!(huge % (2 << 20), 0);
    check_host(&mm, &t);
}

#[test]
fn fixed_replaces_and_noreplace_does_not() {
    let (mm, mut t) = mm();
    let at = 0x10_0000;
    mm.mmap(&mut t, anon(at, 4 * P, RW, PRIVATE | FIXED)).unwrap();
    assert_eq!(mm.mmap(&mut t, anon(at + 3 * P, 2 * P, RW, PRIVATE | NOREPLACE)), Err(Errno::EEXIST));
    mm.mmap(&mut t, anon(at + P, P, 1, PRIVATE | FIXED)).unwrap();
    assert_eq!(ranges(&mm).len(), 3);
    mm.mmap(&mut t, anon(at + P, P, RW, PRIVATE | FIXED)).unwrap();
    assert_eq!(ranges(&mm), [(at, at + 4 * P, Prot::READ | Prot::WRITE)]);
    check_host(&mm, &t);
}

#[test]
fn an_address_that_the_host_still_uses_is_passed_over() {
    let (mm, mut t) = mm();
    let taken = mm.layout.mmap_base - P;
    let range = UserRange::new(UserAddr(taken), P).unwrap();
    sentry_platform::GuestThread::map(&mut t, range, sentry_platform::MapSource::Anonymous, Share::Private, Prot::READ).unwrap();
    let at = mm.mmap(&mut t, anon(0, P, RW, PRIVATE)).unwrap().0;
    assert_eq!(at, taken - P);
}

#[test]
fn populate_and_locked_are_split_off() {
    let (mm, mut t) = mm();
    let at = mm.mmap(&mut t, anon(0, P, RW, PRIVATE | POPULATE)).unwrap().0;
    assert_eq!(t.fake.log()[1], format!("advise {at:x}+1000 23"));
    mm.mmap(&mut t, anon(0, P, RW, PRIVATE | LOCKED)).unwrap();
    assert_eq!(mm.usage().locked, P);
    let mut limits = mm.limits();
    limits.memlock = P;
    mm.set_limits(limits);
    assert_eq!(mm.mmap(&mut t, anon(0, P, RW, PRIVATE | LOCKED)), Err(Errno::EAGAIN));
    limits.memlock = 0;
    mm.set_limits(limits);
    assert_eq!(mm.mmap(&mut t, anon(0, P, RW, PRIVATE | LOCKED)), Err(Errno::EPERM));
}

#[test]
fn limits_of_size_and_number() {
    let (mm, mut t) = mm();
    let mut limits = mm.limits();
    limits.address_space = 4 * P;
    limits.data = 2 * P;
    mm.set_limits(limits);
    assert_eq!(mm.mmap(&mut t, anon(0, 5 * P, 1, PRIVATE)), Err(Errno::ENOMEM));
    assert_eq!(mm.mmap(&mut t, anon(0, 3 * P, RW, PRIVATE)), Err(Errno::ENOMEM));
    let at = mm.mmap(&mut t, anon(0, 4 * P, 1, PRIVATE)).unwrap();
    // Replacing costs nothing.
    mm.mmap(&mut t, anon(at.0, 4 * P, 1, PRIVATE | FIXED)).unwrap();
    assert_eq!(mm.mprotect(&mut t, at, 3 * P, RW), Err(Errno::ENOMEM));
    mm.mprotect(&mut t, at, 2 * P, RW).unwrap();
    limits = crate::Limits { max_map_count: 256 + 2, ..crate::Limits::default() };
    mm.set_limits(limits);
    assert_eq!(mm.mmap(&mut t, anon(0, P, 0, PRIVATE)), Err(Errno::ENOMEM));
    assert_eq!(mm.munmap(&mut t, UserAddr(at.0 + P), P / 2), Err(Errno::ENOMEM));
    mm.munmap(&mut t, at, 2 * P).unwrap();
    check_host(&mm, &t);
}

#[test]
fn munmap_rules() {
    let (mm, mut t) = mm();
    assert_eq!(mm.munmap(&mut t, UserAddr(P + 1), P), Err(Errno::EINVAL));
    assert_eq!(mm.munmap(&mut t, UserAddr(P), 0), Err(Errno::EINVAL));
    assert_eq!(mm.munmap(&mut t, UserAddr(P), u64::MAX), Err(Errno::EINVAL));
    assert_eq!(mm.munmap(&mut t, UserAddr(mm.guest_range().end()), P), Err(Errno::EINVAL));
    mm.munmap(&mut t, UserAddr(0), P).unwrap();
    assert!(t.fake.log().is_empty(), "a hole is no work for the host");
    mm.mmap(&mut t, anon(0x10_0000, P, RW, PRIVATE | FIXED)).unwrap();
    mm.mmap(&mut t, anon(0x10_2000, P, RW, PRIVATE | FIXED)).unwrap();
    t.fake.log();
    mm.munmap(&mut t, UserAddr(0x10_0000), 4 * P).unwrap();
    assert_eq!(t.fake.log(), ["unmap 100000+1000", "unmap 102000+1000"]);
}

#[test]
fn mprotect_rules() {
    let (mm, mut t) = mm();
    let at = UserAddr(0x10_0000);
    mm.mmap(&mut t, anon(at.0, 2 * P, RW, PRIVATE | FIXED)).unwrap();
    assert_eq!(mm.mprotect(&mut t, UserAddr(1), P, 1), Err(Errno::EINVAL));
    assert_eq!(mm.mprotect(&mut t, at, P, 0x40), Err(Errno::EINVAL));
    assert_eq!(mm.mprotect(&mut t, at, P, 0x0300_0000), Err(Errno::EINVAL));
    assert_eq!(mm.mprotect(&mut t, at, P, 0x0100_0001), Err(Errno::EINVAL));
    assert_eq!(mm.mprotect(&mut t, at, u64::MAX - P, 1), Err(Errno::ENOMEM));
    assert_eq!(mm.mprotect(&mut t, UserAddr(0x30_0000), P, 1), Err(Errno::ENOMEM));
    mm.mprotect(&mut t, at, 0, 1).unwrap();
    // What comes before the hole is changed.
    assert_eq!(mm.mprotect(&mut t, at, 3 * P, 1), Err(Errno::ENOMEM));
    assert_eq!(ranges(&mm), [(at.0, at.0 + 2 * P, Prot::READ)]);
    let shared = mm.mmap(&mut t, of(file(Prot::READ), 0, P, 1, SHARED)).unwrap();
    assert_eq!(mm.mprotect(&mut t, shared, P, RW), Err(Errno::EACCES));
    let private = mm.mmap(&mut t, of(file(Prot::READ), 0, P, 1, PRIVATE)).unwrap();
    mm.mprotect(&mut t, private, P, RW).unwrap();
    assert_eq!(mm.mprotect(&mut t, private, P, 5), Err(Errno::EACCES));
    check_host(&mm, &t);
}

#[test]
fn mremap_grows_moves_and_shrinks() {
    let (mm, mut t) = mm();
    let at = UserAddr(0x10_0000);
    mm.mmap(&mut t, anon(at.0, 2 * P, RW, PRIVATE | FIXED)).unwrap();
    mm.write(at, b"hello").unwrap();
    let remap = |old_len, new_len, flags, new| RemapRequest { old: at, old_len, new_len, flags, new: UserAddr(new) };
    assert_eq!(mm.mremap(&mut t, remap(2 * P, 4 * P, 0, 0)), Ok(at));
    assert_eq!(ranges(&mm), [(at.0, at.0 + 4 * P, Prot::READ | Prot::WRITE)]);
    mm.mmap(&mut t, anon(at.0 + 4 * P, P, 1, PRIVATE | FIXED)).unwrap();
    assert_eq!(mm.mremap(&mut t, remap(4 * P, 5 * P, 0, 0)), Err(Errno::ENOMEM));
    for (request, errno) in [
        (remap(4 * P, 0, 0, 0), Errno::EINVAL),
        (remap(4 * P, P, 8, 0), Errno::EINVAL),
        (remap(4 * P, P, 2, 0), Errno::EINVAL),
        (remap(4 * P, P, 5, 0), Errno::EINVAL),
        (remap(4 * P, 4 * P, 3, at.0 + P), Errno::EINVAL),
        (remap(4 * P, 4 * P, 3, 0x20_0001), Errno::EINVAL),
        (remap(4 * P, 4 * P, 3, 0x7fff_ffff_f000), Errno::EINVAL),
        (remap(5 * P, 6 * P, 1, 0), Errno::EFAULT),
        (remap(0, P, 1, 0), Errno::EINVAL),
        (RemapRequest { old: UserAddr(0x40_0000), ..remap(P, 2 * P, 1, 0) }, Errno::EFAULT),
    ] {
        assert_eq!(mm.mremap(&mut t, request), Err(errno), "{request:?}");
    }
    // The host has two areas here, since growth was a mapping of its own.
    let moved = mm.mremap(&mut t, remap(4 * P, 8 * P, 1, 0)).unwrap();
    let mut text = [0; 5];
    mm.read(moved, &mut text).unwrap();
    assert_eq!(&text, b"hello");
    assert_eq!(mm.read(at, &mut text), Err(Errno::EFAULT));
    check_host(&mm, &t);
    let back = RemapRequest { old: moved, old_len: 8 * P, new_len: P, flags: 3, new: at };
    assert_eq!(mm.mremap(&mut t, back), Ok(at));
    check_host(&mm, &t);
    let kept = mm.mremap(&mut t, remap(P, P, 5, 0)).unwrap();
    assert_ne!(kept, at);
    assert_eq!(mm.snapshot().len(), 3);
    check_host(&mm, &t);
}

#[test]
fn mremap_of_shared_memory_may_double_it() {
    let (mm, mut t) = mm();
    let at = mm.mmap(&mut t, anon(0, 2 * P, RW, SHARED)).unwrap();
    let twice = mm.mremap(&mut t, RemapRequest { old: at, old_len: 0, new_len: 2 * P, flags: 1, new: UserAddr(0) }).unwrap();
    assert_ne!(at, twice);
    check_host(&mm, &t);
}

#[test]
fn madvise_rules() {
    let (mm, mut t) = mm();
    let at = UserAddr(0x10_0000);
    mm.mmap(&mut t, anon(at.0, 2 * P, RW, PRIVATE | FIXED)).unwrap();
    t.fake.log();
    for (advice, errno) in [(100, Errno::EPERM), (101, Errno::EPERM), (77, Errno::EINVAL), (-1, Errno::EINVAL), (9, Errno::EINVAL)] {
        assert_eq!(mm.madvise(&mut t, at, P, advice), Err(errno), "{advice}");
    }
    assert_eq!(mm.madvise(&mut t, UserAddr(1), P, 4), Err(Errno::EINVAL));
    for quiet in [12, 13, 21] {
        mm.madvise(&mut t, at, P, quiet).unwrap();
    }
    assert!(t.fake.log().is_empty());
    assert_eq!(mm.madvise(&mut t, at, 4 * P, 4), Err(Errno::ENOMEM));
    assert_eq!(t.fake.log(), ["advise 100000+2000 4"]);
    mm.madvise(&mut t, at, P, 10).unwrap();
    assert_eq!(mm.snapshot().len(), 2);
    let shared = mm.mmap(&mut t, anon(0, P, RW, SHARED)).unwrap();
    assert_eq!(mm.madvise(&mut t, shared, P, 18), Err(Errno::EINVAL));
    assert_eq!(mm.madvise(&mut t, shared, P, 8), Err(Errno::EINVAL));
    mm.madvise(&mut t, shared, P, 9).unwrap();
    // Only the page without MADV_DONTFORK goes to the child.
    let operation = mm.begin_operation();
    let child = mm.fork(&operation, FakeSpace::new());
    drop(operation);
    assert_eq!(child.snapshot().len(), 2);
}

#[test]
fn brk_moves_within_its_limits() {
    let (mm, mut t) = mm();
    mm.set_brk_base(0x50_0010);
    let base = mm.exec_layout().start_brk;
    assert_eq!(base, 0x50_1000);
    assert_eq!(mm.brk(&mut t, UserAddr(0)).0, base);
    assert_eq!(mm.brk(&mut t, UserAddr(base + 10)).0, base + 10);
    assert_eq!(mm.brk(&mut t, UserAddr(base + 3 * P)).0, base + 3 * P);
    assert_eq!(ranges(&mm), [(base, base + 3 * P, Prot::READ | Prot::WRITE)]);
    assert!(String::from_utf8(mm.maps()).unwrap().contains("[heap]\n"));
    assert_eq!(mm.brk(&mut t, UserAddr(base + P)).0, base + P);
    mm.mmap(&mut t, anon(base + 4 * P, P, RW, PRIVATE | FIXED)).unwrap();
    assert_eq!(mm.brk(&mut t, UserAddr(base + 4 * P)).0, base + P);
    assert_eq!(mm.brk(&mut t, UserAddr(base + 2 * P)).0, base + 2 * P);
    let mut limits = mm.limits();
    limits.data = P;
    mm.set_limits(limits);
    assert_eq!(mm.brk(&mut t, UserAddr(base + 2 * P + 1)).0, base + 2 * P);
    assert_eq!(mm.brk(&mut t, UserAddr(u64::MAX)).0, base + 2 * P);
    check_host(&mm, &t);
}

#[test]
fn stack_is_full_size_and_grows_with_the_limit() {
    let (mm, mut t) = mm();
    let area = mm.map_stack(&mut t, Prot::READ | Prot::WRITE).unwrap();
    assert_eq!(area.top.0 - area.bottom.0, 8 << 20);
    assert!(mm.usage().total < 1 << 20);
    let mut limits = mm.limits();
    limits.stack = 16 << 20;
    mm.set_limits(limits);
    mm.grow_stack(&mut t).unwrap();
    assert_eq!(ranges(&mm), [(area.top.0 - (16 << 20), area.top.0, Prot::READ | Prot::WRITE)]);
    assert!(String::from_utf8(mm.maps()).unwrap().contains("[stack]\n"));
    // A neighbour keeps its guard gap.
    let near = area.top.0 - (20 << 20);
    mm.mmap(&mut t, anon(near, P, RW, PRIVATE | FIXED)).unwrap();
    limits.stack = 64 << 20;
    mm.set_limits(limits);
    mm.grow_stack(&mut t).unwrap();
    assert_eq!(ranges(&mm)[1].0, near + P + 256 * P);
    check_host(&mm, &t);
}

#[test]
fn growsdown_gets_its_room_at_once() {
    let (mm, mut t) = mm();
    let at = mm.mmap(&mut t, anon(0x4000_0000, 2 * P, RW, PRIVATE | FIXED | GROWSDOWN)).unwrap();
    assert_eq!(at.0, 0x4000_0000);
    assert_eq!(ranges(&mm)[0].0, 0x4000_0000 + 2 * P - (8 << 20));
    mm.mprotect(&mut t, at, P, 0x0100_0001).unwrap();
    assert_eq!(ranges(&mm).len(), 2);
    // A hint within the guard gap below is not taken.
    let low = ranges(&mm)[0].0;
    assert_ne!(mm.mmap(&mut t, anon(low - 2 * P, P, RW, PRIVATE)).unwrap().0, low - 2 * P);
}

#[test]
fn mincore_msync_mlock() {
    let (mm, mut t) = mm();
    let at = UserAddr(0x10_0000);
    mm.mmap(&mut t, anon(at.0, 2 * P, RW, PRIVATE | FIXED)).unwrap();
    mm.mincore(at, P + 1, at).unwrap();
    let mut seen = [0; 3];
    mm.read(at, &mut seen).unwrap();
    assert_eq!(seen, [1, 1, 0]);
    assert_eq!(mm.mincore(at, 3 * P, at), Err(Errno::ENOMEM));
    assert_eq!(mm.mincore(UserAddr(1), P, at), Err(Errno::EINVAL));
    assert_eq!(mm.mincore(at, P, UserAddr(0x90_0000)), Err(Errno::EFAULT));
    assert_eq!(mm.mincore(at, u64::MAX, at), Err(Errno::ENOMEM));
    assert_eq!(mm.msync(at, P, 5), Err(Errno::EINVAL));
    assert_eq!(mm.msync(at, 3 * P, 4), Err(Errno::ENOMEM));
    let shared = mm.mmap(&mut t, of(file(Prot::READ | Prot::WRITE), 0, P, RW, SHARED)).unwrap();
    mm.msync(shared, P, 4).unwrap();
    mm.mlock(&mut t, UserAddr(at.0 + 1), 10, 0).unwrap();
    assert_eq!(mm.usage().locked, P);
    assert_eq!(mm.madvise(&mut t, at, P, 4), Err(Errno::EINVAL));
    assert_eq!(mm.msync(at, P, 2), Err(Errno::EBUSY));
    assert_eq!(mm.mlock(&mut t, at, 3 * P, 0), Err(Errno::ENOMEM));
    assert_eq!(mm.usage().locked, 2 * P);
    mm.munlock(at, 2 * P).unwrap();
    assert_eq!(mm.mlock(&mut t, at, 16 << 20, 0), Err(Errno::ENOMEM));
    assert_eq!(mm.mlockall(&mut t, 4), Err(Errno::EINVAL));
    mm.mlockall(&mut t, 3).unwrap();
    assert_eq!(mm.usage().locked, 3 * P);
    mm.mmap(&mut t, anon(0, P, RW, PRIVATE)).unwrap();
    assert_eq!(mm.usage().locked, 4 * P);
    mm.munlockall().unwrap();
    assert_eq!(mm.usage().locked, 0);
}

#[test]
fn user_memory_stays_in_the_guest_range() {
    let (mm, mut t) = mm();
    let at = UserAddr(0x10_0000);
    mm.mmap(&mut t, anon(at.0, 2 * P, RW, PRIVATE | FIXED)).unwrap();
    let top = mm.guest_range().end();
    let mut buf = [0; 16];
    assert_eq!(mm.read(UserAddr(top - 8), &mut buf), Err(Errno::EFAULT));
    assert_eq!(mm.read(UserAddr(u64::MAX), &mut buf), Err(Errno::EFAULT));
    assert_eq!(mm.write(UserAddr(top), b"x"), Err(Errno::EFAULT));
    let end = UserAddr(at.0 + 2 * P);
    assert_eq!(mm.write_partial(UserAddr(end.0 - 4), b"0123456"), Ok(4));
    assert_eq!(mm.read_partial(UserAddr(end.0 - 4), &mut buf), Ok(4));
    assert_eq!(mm.read_partial(end, &mut buf), Err(Errno::EFAULT));
    assert_eq!(mm.read_cstring(UserAddr(end.0 - 4), 4096), Err(Errno::EFAULT));
    mm.write(UserAddr(end.0 - 4), b"abc\0").unwrap();
    assert_eq!(mm.read_cstring(UserAddr(end.0 - 4), 4), Ok(b"abc".to_vec()));
    assert_eq!(mm.read_cstring(UserAddr(end.0 - 4), 3), Err(Errno::ENAMETOOLONG));
    mm.write(at, &[b'x'; 5000]).unwrap();
    assert_eq!(mm.read_cstring(at, 4096), Err(Errno::ENAMETOOLONG));
    assert_eq!(mm.read_cstring(at, 8192).unwrap().len(), 5000);
    mm.write_obj(at, &[1u64, 2]).unwrap();
    assert_eq!(mm.read_obj::<[u64; 2]>(at), Ok([1, 2]));
    assert_eq!(mm.read_array::<u64>(at, 2), Ok(vec![1, 2]));
    mm.zero(at, 5000).unwrap();
    assert_eq!(mm.read_cstring(at, 10), Ok(vec![]));
}

#[test]
fn vectors() {
    let (mm, mut t) = mm();
    let at = UserAddr(0x10_0000);
    mm.mmap(&mut t, anon(at.0, 2 * P, RW, PRIVATE | FIXED)).unwrap();
    let buffers = [at.0 + 0x800, 3, at.0 + 0x900, 4, at.0 + 2 * P, 10];
    mm.write_obj(at, &buffers).unwrap();
    let vector = mm.read_iovecs(at, 3).unwrap();
    assert_eq!(mm.write_vectored(&vector, 0, b"abcdefgh"), Ok(7));
    let mut back = [0; 5];
    assert_eq!(mm.read_vectored(&vector, 2, &mut back), Ok(5));
    assert_eq!(&back, b"cdefg");
    assert_eq!(mm.write_vectored(&vector, 7, b"abc"), Err(Errno::EFAULT));
    assert_eq!(mm.read_iovecs(at, 1025), Err(Errno::EINVAL));
    mm.write_obj(at, &[at.0, u64::MAX]).unwrap();
    assert_eq!(mm.read_iovecs(at, 1), Err(Errno::EINVAL));
    mm.write_obj(at, &[0xffff_ffff_0000u64 << 16, 5]).unwrap();
    assert_eq!(mm.read_iovecs(at, 1), Err(Errno::EFAULT));
    mm.write_obj(at, &[at.0, 0x7000_0000, at.0, 0x7000_0000]).unwrap();
    let vector = mm.read_iovecs(at, 2).unwrap();
    assert_eq!(IoVec::total(&vector), MAX_RW_COUNT);
}

#[test]
fn maps_text_is_linux() {
    let vdso = Vdso { range: UserRange::from_bounds(0x7ff8_0000_0000, 0x7ff8_0000_6000).unwrap(), header: UserAddr(0x7ff8_0000_4000) };
    let (mm, mut t) = mm_with(crate::MmConfig { vdso: Some(vdso), ..config() });
    let request = MapRequest { offset: 0x3000, ..of(file(Prot::READ | Prot::EXEC), 0x55_5555_5000, 2 * P, 5, PRIVATE | FIXED) };
    mm.mmap(&mut t, request).unwrap();
    mm.mmap(&mut t, anon(0x10_0000, P, 0, PRIVATE | FIXED)).unwrap();
    mm.set_anon_name(UserAddr(0x10_0000), P, Some(b"arena")).unwrap();
    mm.mmap(&mut t, anon(0x20_0000, P, RW, PRIVATE | FIXED)).unwrap();
    let text = String::from_utf8(mm.maps()).unwrap();
    assert_eq!(
        text,
        "00100000-00101000 ---p 00000000 00:00 0                                  [anon:arena]\n\
         00200000-00201000 rw-p 00000000 00:00 0 \n\
         5555555000-5555557000 r-xp 00003000 fd:01 1234                           /lib/x\\012y.so\n\
         7ff800000000-7ff800004000 r--p 00000000 00:00 0                          [vvar]\n\
         7ff800004000-7ff800006000 r-xp 00000000 00:00 0                          [vdso]\n\
         ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
    );
    let shared = mm.mmap(&mut t, anon(0x30_0000, P, RW, SHARED | FIXED)).unwrap();
    assert_eq!(shared.0, 0x30_0000);
    let text = String::from_utf8(mm.maps()).unwrap();
    let line = text.lines().find(|l| l.starts_with("00300000")).unwrap();
    assert!(line.starts_with("00300000-00301000 rw-s 00000000 00:01 ") && line.ends_with(" /dev/zero (deleted)"), "{line}");
    assert_eq!(line.find('/'), Some(73));
    assert!(String::from_utf8(mm.smaps()).unwrap().contains("\nVmFlags: rd wr sh mr mw me ms \n"));
    assert_eq!(String::from_utf8(mm.statm()).unwrap(), "5 4 3 0 0 1 0\n");
}

#[test]
fn direct_requests_change_the_tree_or_ask() {
    let (mm, mut t) = mm();
    let requests = t.fake.requests();
    let id = mm.space().id();
    let at = requests.place(id, 4 * P).unwrap();
    let range = UserRange::new(at, 4 * P).unwrap();
    let part = UserRange::new(at, P).unwrap();
    let map = MemoryRequest::Map { at: range, prot: Prot::READ | Prot::WRITE };
    let held = mm.begin_operation();
    assert_eq!(requests.decide(id, &map), Verdict::AskTheSentry);
    drop(held);
    assert_eq!(requests.decide(id, &map), Verdict::Continue);
    assert_eq!(requests.decide(id, &map), Verdict::AskTheSentry);
    assert_eq!(requests.decide(id, &MemoryRequest::Protect { range: part, prot: Prot::empty() }), Verdict::Continue);
    assert_eq!(requests.decide(id, &MemoryRequest::Advise { range: part, advice: 4 }), Verdict::Continue);
    assert_eq!(requests.decide(id, &MemoryRequest::Advise { range: part, advice: 12 }), Verdict::AskTheSentry);
    assert_eq!(ranges(&mm).len(), 2);
    assert_eq!(requests.decide(id, &MemoryRequest::Unmap { range: part }), Verdict::Continue);
    assert_eq!(ranges(&mm), [(at.0 + P, at.0 + 4 * P, Prot::READ | Prot::WRITE)]);
    let high = UserRange::from_bounds(mm.guest_range().end(), mm.guest_range().end() + P).unwrap();
    assert_eq!(requests.decide(id, &MemoryRequest::Unmap { range: high }), Verdict::AskTheSentry);
    let null = UserRange::from_bounds(0, P).unwrap();
    assert_eq!(requests.decide(id, &MemoryRequest::Map { at: null, prot: Prot::READ }), Verdict::AskTheSentry);
    let shared = mm.mmap(&mut t, anon(0, P, RW, SHARED)).unwrap();
    let shared = UserRange::new(shared, P).unwrap();
    assert_eq!(requests.decide(id, &MemoryRequest::Unmap { range: shared }), Verdict::AskTheSentry);
    assert_eq!(requests.decide(id, &MemoryRequest::Protect { range: shared, prot: Prot::READ }), Verdict::AskTheSentry);
    let mapping = file(Prot::all());
    let held = mapping.fd.clone();
    let request = of(mapping, 0, P, Prot::READ.bits().into(), PRIVATE);
    let private = UserRange::new(mm.mmap(&mut t, request).unwrap(), P).unwrap();
    assert_eq!(requests.decide(id, &MemoryRequest::Unmap { range: private }), Verdict::Continue);
    let before = Arc::strong_count(&held);
    drop(mm.begin_operation());
    assert_eq!(Arc::strong_count(&held), before - 1);
}

#[test]
fn the_ticket_is_one_at_a_time() {
    let (mm, _) = mm();
    let inside = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (mm, inside) = (mm.clone(), inside.clone());
            std::thread::spawn(move || {
                for _ in 0..2000 {
                    let _operation = mm.begin_operation();
                    assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn special_ranges_are_not_the_guests() {
    let vdso = Vdso { range: UserRange::from_bounds(0x70_0000, 0x70_6000).unwrap(), header: UserAddr(0x70_4000) };
    let (mm, mut t) = mm_with(crate::MmConfig { vdso: Some(vdso), ..config() });
    assert_eq!(mm.munmap(&mut t, UserAddr(0x70_0000), P), Err(Errno::EINVAL));
    assert_eq!(mm.mprotect(&mut t, UserAddr(0x70_0000), P, RW), Err(Errno::EACCES));
    assert_eq!(mm.mmap(&mut t, anon(0x70_0000, P, RW, PRIVATE | FIXED)), Err(Errno::EINVAL));
    let remap = RemapRequest { old: UserAddr(0x70_0000), old_len: P, new_len: P, flags: 3, new: UserAddr(0x10_0000) };
    assert_eq!(mm.mremap(&mut t, remap), Err(Errno::EFAULT));
    assert!(t.fake.log().is_empty());
}

/// One step of a random program, in pages from a small base.
#[derive(Clone, Debug)]
enum Step {
    Map { at: u64, len: u64, prot: u8, shared: bool, fixed: bool },
    Unmap { at: u64, len: u64 },
    Protect { at: u64, len: u64, prot: u8 },
    Remap { at: u64, len: u64, new_len: u64, flags: u64, to: u64 },
    Direct { at: u64, len: u64, what: u8 },
    Advise { at: u64, len: u64, advice: i32 },
}

fn step() -> impl Strategy<Value = Step> {
    let (at, len, prot) = (0..40u64, 1..9u64, 0..8u8);
    prop_oneof![
        (at.clone(), len.clone(), prot.clone(), any::<bool>(), any::<bool>()).prop_map(|(at, len, prot, shared, fixed)| Step::Map {
            at,
            len,
            prot,
            shared,
            fixed
        }),
        (at.clone(), len.clone()).prop_map(|(at, len)| Step::Unmap { at, len }),
        (at.clone(), len.clone(), prot).prop_map(|(at, len, prot)| Step::Protect { at, len, prot }),
        (at.clone(), len.clone(), 1..9u64, 0..8u64, 0..40u64).prop_map(|(at, len, new_len, flags, to)| Step::Remap {
            at,
            len,
            new_len,
            flags,
            to
        }),
        (at.clone(), len.clone(), 0..3u8).prop_map(|(at, len, what)| Step::Direct { at, len, what }),
        (at, len, 0..26i32).prop_map(|(at, len, advice)| Step::Advise { at, len, advice }),
    ]
}

const BASE: u64 = 0x10_0000;

fn apply(mm: &Mm, t: &mut FakeThread, step: &Step) {
    let addr = |page: u64| UserAddr(BASE + page * P);
    match *step {
        Step::Map { at, len, prot, shared, fixed } => {
            let kind = if shared { SHARED } else { PRIVATE } | if fixed { FIXED } else { 0 };
            let _ = mm.mmap(t, anon(addr(at).0, len * P, prot.into(), kind));
        }
        Step::Unmap { at, len } => mm.munmap(t, addr(at), len * P).unwrap(),
        Step::Protect { at, len, prot } => {
            let _ = mm.mprotect(t, addr(at), len * P, prot.into());
        }
        Step::Remap { at, len, new_len, flags, to } => {
            let request = RemapRequest { old: addr(at), old_len: len * P, new_len: new_len * P, flags, new: addr(to) };
            let _ = mm.mremap(t, request);
        }
        Step::Direct { at, len, what } => direct(mm, t, UserRange::new(addr(at), len * P).unwrap(), what),
        Step::Advise { at, len, advice } => {
            let _ = mm.madvise(t, addr(at), len * P, advice);
        }
    }
}

/// As a platform would: ask, then execute.
fn direct(mm: &Mm, t: &mut FakeThread, range: UserRange, what: u8) {
    use sentry_platform::{GuestThread, MapSource};
    let request = match what {
        0 => MemoryRequest::Map { at: range, prot: Prot::READ },
        1 => MemoryRequest::Unmap { range },
        _ => MemoryRequest::Protect { range, prot: Prot::WRITE },
    };
    if t.fake.requests().decide(mm.space().id(), &request) == Verdict::Continue {
        match request {
            MemoryRequest::Map { at, prot } => t.map(at, MapSource::Anonymous, Share::Private, prot).unwrap(),
            MemoryRequest::Unmap { range } => t.unmap(range).unwrap(),
            MemoryRequest::Protect { range, prot } => t.protect(range, prot).unwrap(),
            MemoryRequest::Advise { .. } => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn tree_and_host_agree(steps in proptest::collection::vec(step(), 1..60)) {
        let (mm, mut t) = mm();
        for step in &steps {
            apply(&mm, &mut t, step);
            check_host(&mm, &t);
        }
        let vmas = mm.snapshot();
        for pair in vmas.windows(2) {
            prop_assert!(pair[0].end <= pair[1].start);
            prop_assert!(!pair[0].merges_with(&pair[1]), "unmerged at {:x}", pair[1].start);
        }
        let operation = mm.begin_operation();
        let child = mm.fork(&operation, FakeSpace::new());
        drop(operation);
        let kept = vmas.iter().filter(|v| !v.flags.contains(VmaFlags::DONTFORK)).count();
        prop_assert_eq!(child.snapshot().len(), kept);
    }

    #[test]
    fn vma_set_is_an_array_of_pages(
        steps in proptest::collection::vec((0..64u64, 1..20u64, 0..4u8), 1..80),
        want in 1..12u64,
        window in (0..64u64, 0..64u64),
    ) {
        let range = UserRange::from_bounds(P, 65 * P).unwrap();
        let mut set = VmaSet::new(range);
        let mut model: Vec<Option<u8>> = vec![None; 64];
        for (at, len, what) in steps {
            let end = (at + len).min(64);
            let (start_addr, end_addr) = (P + at * P, P + end * P);
            match what {
                0 => {
                    drop(set.remove(start_addr, end_addr));
                    model[at as usize..end as usize].fill(None);
                }
                3 => {
                    set.update(start_addr, end_addr, |v| v.prot = Prot::EXEC);
                    model[at as usize..end as usize].iter_mut().flatten().for_each(|p| *p = Prot::EXEC.bits());
                }
                prot => {
                    drop(set.remove(start_addr, end_addr));
                    let range = UserRange::from_bounds(start_addr, end_addr).unwrap();
                    set.insert_merging(Vma::anonymous(range, Prot::from_bits_truncate(prot), VmaFlags::empty()));
                    model[at as usize..end as usize].fill(Some(prot));
                }
            }
            check_set(&set, &model);
        }
        let (low, high) = (window.0.min(window.1), window.0.max(window.1));
        let fits: Vec<u64> = (low..high)
            .filter(|at| at + want <= high && model[*at as usize..(at + want) as usize].iter().all(Option::is_none))
            .map(|at| P + at * P)
            .collect();
        let (low, high) = (P + low * P, P + high * P);
        prop_assert_eq!(set.highest_gap(want * P, low, high, P), fits.last().copied());
        prop_assert_eq!(set.lowest_gap(want * P, low, high, P), fits.first().copied());
        let aligned = fits.iter().rev().find(|at| **at % (4 * P) == 0).copied();
        prop_assert_eq!(set.highest_gap(want * P, low, high, 4 * P), aligned);
        let aligned = fits.iter().find(|at| **at % (4 * P) == 0).copied();
        prop_assert_eq!(set.lowest_gap(want * P, low, high, 4 * P), aligned);
    }
}

fn check_set(set: &VmaSet, model: &[Option<u8>]) {
    let mut pages = vec![None; model.len()];
    let mut sum = 0;
    for vma in set.iter() {
        sum += vma.len();
        for at in (vma.start..vma.end).step_by(P as usize) {
            pages[(at / P - 1) as usize] = Some(vma.prot.bits());
        }
    }
    assert_eq!(pages, model);
    assert_eq!(set.totals().all, sum);
    let mut runs = 0;
    let mut last = None;
    for page in model {
        runs += usize::from(page.is_some() && *page != last);
        last = *page;
    }
    assert_eq!(set.len(), runs, "not merged");
    let mut holes = 0;
    for (start, len) in set.gaps_for_test() {
        assert!(set.is_free(start, start + len));
        holes += len;
    }
    assert_eq!(holes + sum, model.len() as u64 * P);
}
