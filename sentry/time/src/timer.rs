//! Timers: one service thread for all, started with the first timer that is armed, asleep while nothing is.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use sentry_sync::{Events, Level, Mutex, Parker, WaitQueue, Waiter};

use crate::clock::ClockId;

/// Called on the service thread, with no lock held, with the number of expirations since the last call (1 unless periods were missed).
pub type TimerCallback = Arc<dyn Fn(u64) + Send + Sync>;

/// How long the service thread trusts a clock that may jump (a step of the host's time, a suspend).
const RECHECK: Duration = Duration::from_millis(500);

/// Clocks of one kind share an order of deadlines.
#[derive(Clone, Copy)]
enum Domain {
    Monotonic = 0,
    Realtime = 1,
    Boottime = 2,
    Tai = 3,
}

const DOMAINS: [(Domain, ClockId); 4] = [
    (Domain::Monotonic, ClockId::Monotonic),
    (Domain::Realtime, ClockId::Realtime),
    (Domain::Boottime, ClockId::Boottime),
    (Domain::Tai, ClockId::Tai),
];

fn domain(clock: ClockId) -> Domain {
    match clock {
        ClockId::Monotonic | ClockId::MonotonicRaw | ClockId::MonotonicCoarse => Domain::Monotonic,
        ClockId::Realtime | ClockId::RealtimeCoarse | ClockId::RealtimeAlarm => Domain::Realtime,
        ClockId::Boottime | ClockId::BoottimeAlarm => Domain::Boottime,
        ClockId::Tai => Domain::Tai,
    }
}

/// What a timer was set to, as timer_gettime(2) tells it. All zero when disarmed; `remaining_ns` is at least 1 when armed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Remaining {
    pub remaining_ns: u64,
    pub interval_ns: u64,
}

struct Armed {
    clock: ClockId,
    deadline_ns: i64,
    interval_ns: u64,
}

impl Armed {
    fn remaining(&self) -> Remaining {
        let left = self.deadline_ns.saturating_sub(self.clock.now_ns()).max(1);
        Remaining { remaining_ns: left as u64, interval_ns: self.interval_ns }
    }
}

struct Entry {
    callback: TimerCallback,
    armed: Option<Armed>,
}

#[derive(Default)]
struct Timers {
    next_id: u64,
    entries: HashMap<u64, Entry>,
    deadlines: [BTreeSet<(i64, u64)>; 4],
    /// The timer whose callback runs now.
    running: Option<u64>,
    stop: bool,
}

struct Inner {
    timers: Mutex<Timers>,
    thread: OnceLock<Thread>,
    /// Woken after each callback.
    finished: WaitQueue,
}

/// All timers of a sandbox.
pub struct TimerQueue {
    inner: Arc<Inner>,
}

impl TimerQueue {
    pub fn new() -> Arc<TimerQueue> {
        let timers = Mutex::new(Level::Timer, Timers::default());
        Arc::new(TimerQueue { inner: Arc::new(Inner { timers, thread: OnceLock::new(), finished: WaitQueue::new() }) })
    }

    /// Starts the thread now, so that no guest can use up what the host allows before the first timer is armed.
    pub fn start(&self) {
        let _timers = self.inner.timers.lock();
        self.wake();
    }

    /// Called with the timers locked. Where the host has no thread left, the next timer that is armed tries again.
    fn wake(&self) {
        if self.inner.thread.get().is_none() {
            let inner = self.inner.clone();
            let spawned = std::thread::Builder::new().name("timers".into()).stack_size(256 << 10).spawn(move || serve(&inner));
            let Ok(thread) = spawned else { return };
            // Nobody else sets it: the lock is held.
            let _ = self.inner.thread.set(thread.thread().clone());
        }
        if let Some(thread) = self.inner.thread.get() {
            thread.unpark();
        }
    }
}

impl Drop for TimerQueue {
    fn drop(&mut self) {
        self.inner.timers.lock().stop = true;
        if let Some(thread) = self.inner.thread.get() {
            thread.unpark();
        }
    }
}

/// One timer. Disarmed when dropped; a callback that has begun may still finish.
pub struct Timer {
    queue: Arc<TimerQueue>,
    clock: ClockId,
    id: u64,
}

impl Timer {
    pub fn new(queue: &Arc<TimerQueue>, clock: ClockId, callback: TimerCallback) -> Timer {
        let mut timers = queue.inner.timers.lock();
        timers.next_id += 1;
        let id = timers.next_id;
        timers.entries.insert(id, Entry { callback, armed: None });
        Timer { queue: queue.clone(), clock, id }
    }

    pub fn clock(&self) -> ClockId {
        self.clock
    }

    /// Expires when the timer's clock reads `deadline_ns`, then each `interval_ns` (0: never again). Returns what it was set to.
    pub fn arm(&self, deadline_ns: i64, interval_ns: u64) -> Remaining {
        self.set(Some(Armed { clock: self.clock, deadline_ns, interval_ns }))
    }

    /// Expires `delay_ns` from now. Steps of a settable clock do not move such a deadline (timer_settime(2)).
    pub fn arm_in(&self, delay_ns: u64, interval_ns: u64) -> Remaining {
        let clock = if self.clock.is_settable() { ClockId::Monotonic } else { self.clock };
        let delay = i64::try_from(delay_ns).unwrap_or(i64::MAX);
        self.set(Some(Armed { clock, deadline_ns: clock.now_ns().saturating_add(delay), interval_ns }))
    }

    /// A callback that runs at this moment may still finish afterwards; see [`Timer::disarm_and_wait`].
    pub fn disarm(&self) -> Remaining {
        self.set(None)
    }

    /// Disarms, and returns only when no callback of this timer runs any more. The caller must hold no lock that the callback takes, and must
    /// not be the callback.
    pub fn disarm_and_wait(&self) -> Remaining {
        let before = self.set(None);
        loop {
            let waiter = Waiter::new(Arc::new(Parker::current()), Events::all());
            self.queue.inner.finished.add(&waiter);
            if self.queue.inner.timers.lock().running != Some(self.id) {
                return before;
            }
            Parker::park(None);
        }
    }

    pub fn remaining(&self) -> Remaining {
        let timers = self.queue.inner.timers.lock();
        let armed = timers.entries.get(&self.id).and_then(|e| e.armed.as_ref());
        armed.map(Armed::remaining).unwrap_or_default()
    }

    fn set(&self, new: Option<Armed>) -> Remaining {
        let mut timers = self.queue.inner.timers.lock();
        let timers = &mut *timers;
        let Some(entry) = timers.entries.get_mut(&self.id) else { return Remaining::default() };
        let old = entry.armed.take();
        if let Some(old) = &old {
            timers.deadlines[domain(old.clock) as usize].remove(&(old.deadline_ns, self.id));
        }
        let before = old.as_ref().map(Armed::remaining).unwrap_or_default();
        let Some(new) = new else { return before };
        let deadlines = &mut timers.deadlines[domain(new.clock) as usize];
        let key = (new.deadline_ns, self.id);
        deadlines.insert(key);
        let is_first = deadlines.first() == Some(&key);
        entry.armed = Some(new);
        if is_first || self.queue.inner.thread.get().is_none() {
            // With the lock held: the thread that this may make takes it only after its start.
            self.queue.wake();
        }
        before
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.set(None);
        // The callback may own what owns a timer: let it go only with the queue unlocked.
        let entry = self.queue.inner.timers.lock().entries.remove(&self.id);
        drop(entry);
    }
}

impl Timers {
    /// Takes one expired timer: its callback and the number of expirations; a periodic one is armed for its next period.
    /// The one that is late the most comes first, whatever its clock: timers with tiny periods, which are always due, keep nobody waiting.
    fn take_expired(&mut self) -> Option<(u64, TimerCallback, u64)> {
        loop {
            let first = |(domain, clock): (Domain, ClockId)| {
                let (deadline, id) = self.deadlines[domain as usize].first().copied()?;
                let now = clock.now_ns();
                (deadline <= now).then(|| (now.abs_diff(deadline), domain, deadline, id, now))
            };
            let (_, domain, deadline, id, now) = DOMAINS.into_iter().filter_map(first).max_by_key(|late| late.0)?;
            let deadlines = &mut self.deadlines[domain as usize];
            deadlines.remove(&(deadline, id));
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let Some(armed) = &mut entry.armed else { continue };
            let expirations = match now.abs_diff(deadline).checked_div(armed.interval_ns) {
                None => {
                    entry.armed = None;
                    1
                }
                Some(missed) => {
                    let expirations = missed.saturating_add(1);
                    let step = i64::try_from(expirations.saturating_mul(armed.interval_ns)).unwrap_or(i64::MAX);
                    armed.deadline_ns = deadline.saturating_add(step);
                    deadlines.insert((armed.deadline_ns, id));
                    expirations
                }
            };
            return Some((id, entry.callback.clone(), expirations));
        }
    }

    /// How long until something may be due; `None` for ever.
    fn next_wait(&self) -> Option<Duration> {
        let mut wait: Option<Duration> = None;
        for (domain, clock) in DOMAINS {
            let Some((deadline, _)) = self.deadlines[domain as usize].first() else { continue };
            let left = deadline.saturating_sub(clock.now_ns()).max(0);
            let mut left = Duration::from_nanos(left as u64);
            if clock != ClockId::Monotonic {
                left = left.min(RECHECK);
            }
            wait = Some(wait.map_or(left, |w| w.min(left)));
        }
        wait
    }
}

fn serve(inner: &Inner) {
    loop {
        let (due, wait) = {
            let mut timers = inner.timers.lock();
            if timers.stop {
                return;
            }
            let due = timers.take_expired();
            timers.running = due.as_ref().map(|(id, _, _)| *id);
            let wait = timers.next_wait();
            (due, wait)
        };
        match due {
            Some((_, callback, expirations)) => {
                callback(expirations);
                drop(callback);
                inner.timers.lock().running = None;
                inner.finished.wake_all();
            }
            // A deadline too far for the host's clock is as good as none: the thread looks again when it is woken.
            None => Parker::park(wait.map(|w| Instant::now() + w.min(Duration::from_secs(3600 * 24)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn counting(queue: &Arc<TimerQueue>, clock: ClockId) -> (Timer, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let seen = count.clone();
        let callback = move |n| {
            seen.fetch_add(n, Ordering::SeqCst);
        };
        (Timer::new(queue, clock, Arc::new(callback)), count)
    }

    fn wait_for(count: &AtomicU64, at_least: u64) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while count.load(Ordering::SeqCst) < at_least {
            assert!(Instant::now() < deadline, "timer did not fire");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn one_shot_fires_once_on_every_clock() {
        let queue = TimerQueue::new();
        for clock in [ClockId::Monotonic, ClockId::Realtime, ClockId::Boottime, ClockId::Tai] {
            let (timer, count) = counting(&queue, clock);
            timer.arm(clock.now_ns() + 5_000_000, 0);
            assert!(timer.remaining().remaining_ns <= 5_000_000);
            wait_for(&count, 1);
            std::thread::sleep(Duration::from_millis(10));
            assert_eq!(count.load(Ordering::SeqCst), 1);
            assert_eq!(timer.remaining(), Remaining::default());
        }
    }

    #[test]
    fn periods_are_counted_and_a_past_deadline_fires_at_once() {
        let queue = TimerQueue::new();
        let (timer, count) = counting(&queue, ClockId::Monotonic);
        timer.arm(ClockId::Monotonic.now_ns() - 10_000_000, 1_000_000);
        wait_for(&count, 11);
        let before = timer.disarm_and_wait();
        assert_eq!(before.interval_ns, 1_000_000);
        assert!(before.remaining_ns >= 1 && before.remaining_ns <= 1_000_000);
        let seen = count.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(count.load(Ordering::SeqCst), seen);
    }

    #[test]
    fn an_earlier_deadline_overtakes_and_a_dropped_timer_is_silent() {
        let queue = TimerQueue::new();
        let (late, late_count) = counting(&queue, ClockId::Realtime);
        late.arm_in(3600 * 1_000_000_000, 0);
        let (soon, soon_count) = counting(&queue, ClockId::Monotonic);
        soon.arm_in(1_000_000, 0);
        wait_for(&soon_count, 1);
        let again = soon.arm_in(1_000_000_000_000, 7);
        assert_eq!(again, Remaining::default());
        drop(soon);
        assert_eq!(late_count.load(Ordering::SeqCst), 0);
        assert!(late.disarm().remaining_ns > 3_000_000_000_000);
        assert_eq!(late.arm(i64::MAX, u64::MAX).remaining_ns, 0);
        assert!(late.remaining().remaining_ns > 1);
    }

    #[test]
    fn a_timer_that_is_always_due_does_not_starve_other_clocks() {
        let queue = TimerQueue::new();
        let (busy, busy_count) = counting(&queue, ClockId::Monotonic);
        busy.arm_in(1, 1);
        wait_for(&busy_count, 1);
        let (other, other_count) = counting(&queue, ClockId::Boottime);
        other.arm_in(1_000_000, 0);
        wait_for(&other_count, 1);
    }

    #[test]
    fn a_callback_may_rearm_its_timer() {
        let queue = TimerQueue::new();
        let slot: Arc<OnceLock<Timer>> = Arc::new(OnceLock::new());
        let count = Arc::new(AtomicU64::new(0));
        let (inner_slot, inner_count) = (slot.clone(), count.clone());
        let timer = Timer::new(
            &queue,
            ClockId::Monotonic,
            Arc::new(move |_| {
                inner_count.fetch_add(1, Ordering::SeqCst);
                if let Some(timer) = inner_slot.get() {
                    timer.arm_in(100_000, 0);
                }
            }),
        );
        timer.arm_in(5_000_000, 0);
        assert!(slot.set(timer).is_ok());
        wait_for(&count, 5);
    }
}
