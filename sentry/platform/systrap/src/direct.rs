//! Direct requests: a guest's anonymous memory calls, made by its stub and decided by the sentry's VMA tree on the notification thread.

use std::mem::offset_of;
use std::sync::Arc;

use sentry_abi::{Errno, UserAddr, UserRange};
use sentry_platform::{MemoryRequest, MemoryRequests, Prot, Verdict};
use sentry_stub::layout::ThreadArea;

use crate::process::guest_range;
use crate::stub::Stub;
use crate::sys::Notification;

const NR_MMAP: i32 = 9;
const NR_MPROTECT: i32 = 10;
const NR_MUNMAP: i32 = 11;
const NR_MADVISE: i32 = 28;
/// MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
const MAP_FLAGS: u64 = 0x10_0022;
const MAP_NORESERVE: u64 = 0x4000;

/// Advice that the host may be asked for (LAWS 1.10): NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED, FREE, DONTFORK DOFORK, HUGEPAGE NOHUGEPAGE
/// DONTDUMP DODUMP WIPEONFORK KEEPONFORK COLD, POPULATE_READ POPULATE_WRITE, GUARD_INSTALL GUARD_REMOVE.
pub fn native_advice(advice: i32) -> bool {
    matches!(advice, 0..=4 | 8 | 10 | 11 | 14..=20 | 22 | 23 | 102 | 103)
}

/// What to do with a notified call that nobody ordered.
pub fn decide(stub: &Arc<Stub>, n: &Notification) -> Verdict {
    let mm = &stub.process.mm;
    let Some(requests) = mm.requests() else { return Verdict::Kill };
    let Some((range, request)) = parse(n) else { return Verdict::Kill };
    if let MemoryRequest::Advise { advice, .. } = request
        && !native_advice(advice)
    {
        return Verdict::AskTheSentry;
    }
    if !mm.in_flight.begin_direct(stub, range) {
        return Verdict::AskTheSentry;
    }
    let verdict = requests.decide(mm.id, &request);
    if verdict != Verdict::Continue {
        mm.in_flight.refuse_direct(stub);
        return verdict;
    }
    match request {
        MemoryRequest::Map { .. } => suggest(stub, &*requests, range.len()),
        MemoryRequest::Unmap { .. } => suggest(stub, &*requests, stub.view().get(offset_of!(ThreadArea, hint_len))),
        _ => {}
    }
    verdict
}

fn parse(n: &Notification) -> Option<(UserRange, MemoryRequest)> {
    let [at, len, third, fourth, fifth, sixth] = n.args;
    let range = UserRange::new(UserAddr(at), len).filter(|r| !r.is_empty() && r.is_page_aligned() && guest_range(at, len))?;
    let prot = || u8::try_from(third).ok().and_then(Prot::from_bits);
    let rest_is_zero = fourth == 0 && fifth == 0 && sixth == 0;
    let request = match n.nr {
        NR_MMAP if fourth & !MAP_NORESERVE == MAP_FLAGS && fifth == u64::MAX && sixth == 0 => {
            MemoryRequest::Map { at: range, prot: prot()? }
        }
        NR_MUNMAP if third == 0 && rest_is_zero => MemoryRequest::Unmap { range },
        NR_MPROTECT if rest_is_zero => MemoryRequest::Protect { range, prot: prot()? },
        NR_MADVISE if rest_is_zero => MemoryRequest::Advise { range, advice: u32::try_from(third).ok()? as i32 },
        _ => return None,
    };
    Some((range, request))
}

/// Tells a stopped stub where its next mapping of `len` bytes may go.
pub fn suggest(stub: &Stub, requests: &dyn MemoryRequests, len: u64) {
    if len == 0 {
        return;
    }
    let view = stub.view();
    let place = requests.place(stub.process.mm.id, len).filter(|a| guest_range(a.0, len));
    view.put(offset_of!(ThreadArea, hint_len), len);
    view.put(offset_of!(ThreadArea, hint_at), place.map_or(0, |a| a.0));
}

/// The number of a refusal.
pub fn refusal(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Refuse(errno) => errno.raw(),
        _ => Errno::ENOSYS.raw(),
    }
}
