//! How a sentry thread and its stub wait for each other, and on which cores (DESIGN 2.6).
//!
//! A hand-off through sleeping costs microseconds on one core and tens of them when a halted core must be woken, which is what the host's
//! scheduler chooses on an idle machine; spinning costs a fraction of a microsecond, but only if the other side runs at the same time on
//! another core. Hence three states:
//! - *free*: the guest computes; the scheduler places both.
//! - *paired*: the guest's calls come in quick succession; both are bound to the stub's core, for a short time, so that the scheduler's
//!   balancing is never shut out: the bond ends when the guest computes for a while, and regularly.
//! - *apart*: the calls come so quickly that it pays to serve them from another core, spinning. A spin in vain (competition, or a guest that
//!   has begun to compute) ends it and forbids it for a time that doubles.
//!
//! Nothing spins when the guest is idle. The stub's figures may be lies: they cost bounded spins and odd placement of that stub.

use std::arch::x86_64::_rdtsc;
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sentry_stub::layout::ThreadArea;

use crate::area::SlotView;
use crate::sys;

/// Guest code that runs no longer than this between two calls is worth waiting for (cycles; some 20 µs).
const SHORT: u64 = 50_000;
/// And this long a pair stays bound (some 200 µs).
const CHATTY: u64 = 500_000;
/// Short calls in a row from another core before spinning starts.
const STREAK: u32 = 3;
/// The same on one core, before the sentry's thread moves away.
const MOVE_STREAK: u32 = 100;
/// The sentry's and the stub's longest spin.
const SENTRY_SPIN: u64 = 60_000;
const STUB_SPIN: u32 = 30_000;
/// A spinning thread that does not run for so long has competition (cycles).
pub const LOST: u64 = 100_000;
/// How long spinning is forbidden after one in vain: from 1 ms to 1 s.
const REST_MIN: u64 = 2_500_000;
const REST_MAX: u64 = 2_500_000_000;
/// Spins that were answered in a row before the rest is short again.
const FORGIVEN: u32 = 2_000;
/// A bond that old is undone for one call, for the scheduler's sake (some 10 ms).
const BOND_MAX: u64 = 25_000_000;
/// A guest that computes for so long is set free.
const BOND_WAIT: Duration = Duration::from_millis(1);

pub fn now() -> u64 {
    // SAFETY: reads a counter.
    unsafe { _rdtsc() }
}

/// What is waited for: each kind has its own experience.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// The guest's next call.
    Guest,
    /// The result of an order.
    Order,
}

/// Spins in vain and their punishment.
#[derive(Clone, Copy)]
struct Experience {
    answered: u32,
    rest: u64,
    rest_until: u64,
}

impl Experience {
    fn new() -> Experience {
        Experience { answered: 0, rest: REST_MIN, rest_until: 0 }
    }

    fn allows(&self) -> bool {
        now() >= self.rest_until
    }
}

/// Where the two threads may run.
enum Place {
    Free,
    /// Both on this CPU, since then. The sentry's thread may still have to follow.
    Paired {
        cpu: u32,
        since: u64,
        follows: bool,
    },
    /// The sentry's thread anywhere but on its stub's CPU.
    Apart,
}

pub struct Pace {
    /// Short calls in a row: from another core, from this one.
    streak: u32,
    beside: u32,
    guest: Experience,
    order: Experience,
    stub_spins: bool,
    place: Place,
    /// CPUs that threads of ours may use.
    usual: Option<libc::cpu_set_t>,
    /// False once the host has refused.
    may_bind: bool,
}

impl Pace {
    /// `usual`: CPUs that the sentry could use before it bound any thread.
    pub fn new(usual: Option<libc::cpu_set_t>) -> Pace {
        Pace {
            streak: 0,
            beside: 0,
            guest: Experience::new(),
            order: Experience::new(),
            stub_spins: false,
            place: Place::Free,
            usual,
            may_bind: usual.is_some(),
        }
    }

    /// For a new thread: whether spinning and binding pay is known from its parent.
    pub fn child(&self) -> Pace {
        Pace { guest: self.guest, order: self.order, may_bind: self.may_bind, ..Pace::new(self.usual) }
    }

    /// Before an order is posted.
    pub fn posting(&self, view: &SlotView) {
        view.put32(offset_of!(ThreadArea, sentry_cpu), own_cpu() + 1);
    }

    /// Before guest code is resumed for the first time; the child has inherited its parent's bond.
    pub fn begin(&mut self, view: &SlotView, tid: i32) {
        match stub_cpu(view) {
            Some(cpu) => self.bind(cpu, tid),
            // The calling thread may have inherited a bond as well.
            None => self.release(tid),
        }
    }

    /// After guest code was resumed: the sentry's thread follows its stub, off the critical path.
    pub fn resumed(&mut self) {
        if let Place::Paired { cpu, follows, .. } = &mut self.place
            && *follows
        {
            *follows = false;
            if !sys::only_cpu(*cpu).is_some_and(|set| sys::set_affinity(0, &set)) {
                self.may_bind = false;
            }
        }
    }

    /// After a hand-over by the guest.
    pub fn observe(&mut self, view: &SlotView, tid: i32) {
        let guest_time = view.get(offset_of!(ThreadArea, tsc_over)).wrapping_sub(view.get(offset_of!(ThreadArea, tsc_resumed)));
        let Some(cpu) = stub_cpu(view) else { return };
        let short = guest_time < SHORT;
        let apart = cpu != own_cpu();
        self.streak = if short && apart { self.streak.saturating_add(1) } else { 0 };
        self.beside = if short && !apart { self.beside.saturating_add(1) } else { 0 };
        match self.place {
            Place::Apart => {}
            _ if self.beside >= MOVE_STREAK && self.guest.allows() => self.move_away(cpu),
            Place::Paired { since, .. } if now().wrapping_sub(since) > BOND_MAX => self.release(tid),
            Place::Paired { cpu: bound, .. } if bound == cpu => {}
            _ if guest_time < CHATTY => self.bind(cpu, tid),
            _ => {}
        }
        let spins = self.streak >= STREAK && matches!(self.place, Place::Apart) && self.guest.allows();
        if spins != self.stub_spins {
            self.stub_spins = spins;
            view.put32(offset_of!(ThreadArea, spin), if spins { STUB_SPIN } else { 0 });
        }
    }

    /// How long to sleep for the next hand-over before [`Pace::release`].
    pub fn patience(&self, awaited: Awaited) -> Option<Duration> {
        (awaited == Awaited::Guest && matches!(self.place, Place::Paired { .. })).then_some(BOND_WAIT)
    }

    fn bind(&mut self, cpu: u32, tid: i32) {
        if !self.may_bind || tid <= 0 {
            return;
        }
        if sys::only_cpu(cpu).is_some_and(|set| sys::set_affinity(tid, &set)) {
            self.place = Place::Paired { cpu, since: now(), follows: true };
        } else {
            self.may_bind = false;
        }
    }

    /// Undoes a bond.
    pub fn release(&mut self, tid: i32) {
        if let Some(usual) = self.usual.as_ref().filter(|_| self.may_bind) {
            if tid > 0 {
                sys::set_affinity(tid, usual);
            }
            sys::set_affinity(0, usual);
        }
        self.place = Place::Free;
    }

    /// The thread has left; the sentry's may go on with another one.
    pub fn end(&mut self) {
        if !matches!(self.place, Place::Free) {
            self.release(0);
        }
    }

    fn move_away(&mut self, cpu: u32) {
        self.beside = 0;
        let others = self.usual.as_ref().and_then(|u| sys::without_cpu(u, cpu));
        match others {
            Some(set) if sys::set_affinity(0, &set) => {
                self.place = Place::Apart;
                self.streak = STREAK;
            }
            // One core only, or not permitted: do not ask again soon.
            _ => self.punish(Awaited::Guest),
        }
    }

    /// Cycles to spin.
    pub fn budget(&self, awaited: Awaited, view: &SlotView) -> u64 {
        let spins = match awaited {
            Awaited::Guest => self.stub_spins,
            Awaited::Order => self.order.allows() && stub_cpu(view).is_some_and(|cpu| cpu != own_cpu()),
        };
        if spins { SENTRY_SPIN } else { 0 }
    }

    fn experience(&mut self, awaited: Awaited) -> &mut Experience {
        match awaited {
            Awaited::Guest => &mut self.guest,
            Awaited::Order => &mut self.order,
        }
    }

    pub fn answered(&mut self, awaited: Awaited) {
        let experience = self.experience(awaited);
        // Counted for as long as the thread lives.
        experience.answered = experience.answered.saturating_add(1);
        if experience.answered >= FORGIVEN {
            experience.rest = REST_MIN;
        }
    }

    fn punish(&mut self, awaited: Awaited) {
        let experience = self.experience(awaited);
        experience.answered = 0;
        experience.rest_until = now() + experience.rest;
        experience.rest = (experience.rest * 2).min(REST_MAX);
    }

    pub fn in_vain(&mut self, awaited: Awaited, tid: i32) {
        self.punish(awaited);
        if awaited == Awaited::Guest {
            self.streak = 0;
            if matches!(self.place, Place::Apart) {
                self.release(tid);
            }
        }
    }
}

/// Where the stub was when it was last seen.
fn stub_cpu(view: &SlotView) -> Option<u32> {
    view.cpu().load(Ordering::Relaxed).checked_sub(1)
}

fn own_cpu() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::sched_getcpu() as u32 }
}
