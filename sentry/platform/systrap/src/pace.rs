//! When to spin: how a sentry thread and its stub wait for each other (DESIGN 2.6).
//!
//! A hand-off through sleeping costs microseconds on one core and tens of them when a halted core must be woken; spinning costs a fraction
//! of one, but only if the other side runs at the same time on another core. So both sides spin while the guest's calls come shortly after each
//! other from another core and the other side does answer within the budget; a spin in vain means competition or a blocking call, and
//! forbids spinning for a time that doubles. Nothing spins when the guest is idle. The stub's figures may be lies: they cost bounded spins.

use std::arch::x86_64::_rdtsc;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use sentry_stub::layout::ThreadArea;

use crate::area::SlotView;

/// Guest code that runs no longer than this between two calls is worth waiting for (cycles; some 20 µs).
const SHORT: u64 = 50_000;
/// Calls of that kind in a row before spinning starts.
const STREAK: u32 = 3;
/// The sentry's and the stub's longest spin.
const SENTRY_SPIN: u64 = 60_000;
const STUB_SPIN: u32 = 30_000;
/// How long spinning is forbidden after one in vain: from 1 ms to 1 s.
const REST_MIN: u64 = 2_500_000;
const REST_MAX: u64 = 2_500_000_000;
/// Spins that were answered in a row before the rest is short again.
const FORGIVEN: u32 = 2_000;

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

pub struct Pace {
    streak: u32,
    guest: Experience,
    order: Experience,
    stub_spins: bool,
}

impl Pace {
    pub fn new() -> Pace {
        Pace { streak: 0, guest: Experience::new(), order: Experience::new(), stub_spins: false }
    }

    /// Before an order is posted.
    pub fn posting(&self, view: &SlotView) {
        view.put32(offset_of!(ThreadArea, sentry_cpu), own_cpu());
    }

    /// After a hand-over by the guest.
    pub fn observe(&mut self, view: &SlotView) {
        let guest_time = view.get(offset_of!(ThreadArea, tsc_over)).wrapping_sub(view.get(offset_of!(ThreadArea, tsc_resumed)));
        self.streak = if guest_time < SHORT && elsewhere(view) { self.streak.saturating_add(1) } else { 0 };
        let spins = self.streak >= STREAK && self.guest.allows();
        if spins != self.stub_spins {
            self.stub_spins = spins;
            view.put32(offset_of!(ThreadArea, spin), if spins { STUB_SPIN } else { 0 });
        }
    }

    /// Cycles to spin for the next hand-over.
    pub fn budget(&self, awaited: Awaited, view: &SlotView) -> u64 {
        let spins = match awaited {
            Awaited::Guest => self.stub_spins,
            Awaited::Order => self.order.allows() && elsewhere(view),
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
        experience.answered += 1;
        if experience.answered >= FORGIVEN {
            experience.rest = REST_MIN;
        }
    }

    pub fn in_vain(&mut self, awaited: Awaited) {
        let experience = self.experience(awaited);
        experience.answered = 0;
        experience.rest_until = now() + experience.rest;
        experience.rest = (experience.rest * 2).min(REST_MAX);
        if awaited == Awaited::Guest {
            self.streak = 0;
        }
    }
}

/// The stub ran on another CPU than this thread when it was last seen.
fn elsewhere(view: &SlotView) -> bool {
    view.cpu().load(Ordering::Relaxed) != own_cpu()
}

fn own_cpu() -> u32 {
    // SAFETY: no memory is involved.
    unsafe { libc::sched_getcpu() as u32 }
}
