//! Memory operations of one address space that have been approved and may not have been executed yet.
//!
//! The tree of the sentry shows an operation at once, the host a moment later. Operations on overlapping ranges must happen in the tree's
//! order, and a fork copies a state in which none is under way. A direct request that overlaps is sent to the hand-over, where its sentry
//! thread waits; the notification thread never does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use sentry_abi::UserRange;
use sentry_sync::{Level, Mutex};

use crate::process::Process;
use crate::stub::Stub;

/// A stub that hides for so long that it has done what it was allowed to has forged its counters: only its own process suffers.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct InFlight(Mutex<State>);

#[derive(Default)]
struct State {
    operations: Vec<Operation>,
    /// A fork is under way.
    closed: u32,
    next_id: u64,
}

struct Operation {
    id: u64,
    range: UserRange,
    /// A direct one: its stub, and the value of `direct_done` that shows its end. Weak, since the stub owns the memory that owns this: the last
    /// direct operation of a process is looked at by nobody.
    direct: Option<(Weak<Stub>, u32)>,
}

impl Operation {
    fn is_done(&self) -> bool {
        let Some((stub, begun)) = &self.direct else { return false };
        let Some(stub) = stub.upgrade() else { return true };
        // A thread that was told to leave has nothing under way, and its slot, counters included, may be another's by now.
        if stub.left.load(Ordering::Acquire) {
            return true;
        }
        let done = stub.view().direct_done().load(Ordering::Relaxed);
        done.wrapping_sub(*begun) as i32 >= 0
    }
}

impl InFlight {
    pub fn new() -> InFlight {
        InFlight(Mutex::new(Level::PlatformProcess, State::default()))
    }

    /// Enters a direct operation of `stub`, whose notification is pending; false if it may not run now.
    pub fn begin_direct(&self, stub: &Arc<Stub>, range: UserRange) -> bool {
        let mut state = self.0.lock();
        state.purge();
        if state.closed > 0 || state.operations.iter().any(|o| o.range.overlaps(range)) {
            return false;
        }
        let begun = stub.view().direct_begun().load(Ordering::Relaxed);
        state.push(range, Some((Arc::downgrade(stub), begun)));
        true
    }

    /// Withdraws the direct operation of `stub` just entered.
    pub fn refuse_direct(&self, stub: &Arc<Stub>) {
        self.0.lock().operations.retain(|o| !o.direct.as_ref().is_some_and(|(s, _)| std::ptr::eq(s.as_ptr(), Arc::as_ptr(stub))));
    }

    /// Waits until nothing that overlaps `range` is under way, and enters it until the guard is dropped.
    pub fn begin_ordered<'a>(&'a self, process: &Process, range: UserRange) -> Ordered<'a> {
        self.wait(process, |state| !state.operations.iter().any(|o| o.range.overlaps(range)));
        let id = self.0.lock().push(range, None);
        Ordered { owner: self, id }
    }

    /// Waits until nothing is under way, and lets nothing begin until the guard is dropped.
    pub fn close<'a>(&'a self, process: &Process) -> Closed<'a> {
        self.0.lock().closed += 1;
        self.wait(process, |state| state.operations.is_empty());
        Closed(self)
    }

    fn wait(&self, process: &Process, ready: impl Fn(&State) -> bool) {
        let mut deadline = None;
        loop {
            {
                let mut state = self.0.lock();
                state.purge();
                if ready(&state) {
                    return;
                }
                if *deadline.get_or_insert_with(|| Instant::now() + PATIENCE) < Instant::now() {
                    state.operations.retain(|o| o.direct.is_none());
                    return;
                }
            }
            if process.exit().is_some() {
                return;
            }
            thread::sleep(Duration::from_micros(20));
        }
    }
}

impl State {
    fn purge(&mut self) {
        self.operations.retain(|o| !o.is_done());
    }

    fn push(&mut self, range: UserRange, direct: Option<(Weak<Stub>, u32)>) -> u64 {
        self.next_id += 1;
        self.operations.push(Operation { id: self.next_id, range, direct });
        self.next_id
    }
}

/// An ordered operation under way.
pub struct Ordered<'a> {
    owner: &'a InFlight,
    id: u64,
}

impl Drop for Ordered<'_> {
    fn drop(&mut self) {
        self.owner.0.lock().operations.retain(|o| o.id != self.id);
    }
}

/// No operation can begin.
pub struct Closed<'a>(&'a InFlight);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.0.lock().closed -= 1;
    }
}
