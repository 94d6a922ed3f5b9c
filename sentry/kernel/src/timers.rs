//! Timers of a process that end in signals: setitimer(2), timer_create(2).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sentry_abi::signal::SI_KERNEL;
use sentry_abi::{Errno, Result, SigInfo, Signal};
use sentry_sync::{Level, Mutex};
use sentry_time::{ClockId, Remaining, Timer};

use crate::kernel::Kernel;
use crate::limits::INFINITY;
use crate::task::Task;
use crate::thread_group::ThreadGroup;

/// How often the CPU time of a process with a CPU timer is looked at: one tick of a 100 Hz kernel.
const CPU_TICK: u64 = 10_000_000;
const SECOND: u64 = 1_000_000_000;

/// Which interval timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interval {
    Real = 0,
    Virtual = 1,
    Prof = 2,
}

/// Where a POSIX timer's expirations go.
#[derive(Clone)]
pub enum Notification {
    None,
    Process { signal: Signal, value: u64 },
    Thread { signal: Signal, value: u64, task: Weak<Task> },
}

/// Which clock a POSIX timer runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerClock {
    Host(ClockId),
    ProcessCpu,
}

enum Engine {
    Host(Timer),
    Cpu(CpuTimer),
}

struct PosixTimer {
    engine: Engine,
    /// Expirations that met the timer's signal still pending.
    missed: Arc<AtomicI32>,
    /// The overrun of the last signal that was delivered.
    overrun: i32,
}

#[derive(Default)]
struct Timers {
    real: Option<Timer>,
    cpu: [Option<CpuTimer>; 2],
    /// RLIMIT_CPU.
    limit: Option<CpuTimer>,
    posix: BTreeMap<i32, PosixTimer>,
    next_id: i32,
}

pub struct ProcessTimers(Mutex<Timers>);

impl Default for ProcessTimers {
    fn default() -> ProcessTimers {
        // Below the process's own state: CPU timers look at it under this lock. Callbacks of timers run without it.
        ProcessTimers(Mutex::new(Level::ProcessTimers, Timers::default()))
    }
}

impl ProcessTimers {
    /// setitimer(2); 0 disarms. Returns the old setting.
    pub fn set_interval(
        &self,
        kernel: &Arc<Kernel>,
        group: &Arc<ThreadGroup>,
        which: Interval,
        value_ns: u64,
        interval_ns: u64,
    ) -> Remaining {
        let mut timers = self.0.lock();
        match which {
            Interval::Real => {
                let timer = timers.real.get_or_insert_with(|| signal_timer(kernel, group, ClockId::Monotonic, Signal::SIGALRM));
                if value_ns == 0 { timer.disarm() } else { timer.arm_in(value_ns, interval_ns) }
            }
            Interval::Virtual | Interval::Prof => {
                let (slot, signal) = if which == Interval::Virtual { (0, Signal::SIGVTALRM) } else { (1, Signal::SIGPROF) };
                let weak = Arc::downgrade(group);
                let timer = timers.cpu[slot].get_or_insert_with(|| {
                    let target = weak.clone();
                    CpuTimer::new(kernel, weak, Arc::new(move |_| send_to(&target, signal)))
                });
                timer.set(value_ns, interval_ns)
            }
        }
    }

    pub fn interval(&self, which: Interval) -> Remaining {
        let timers = self.0.lock();
        match which {
            Interval::Real => timers.real.as_ref().map(Timer::remaining).unwrap_or_default(),
            Interval::Virtual => timers.cpu[0].as_ref().map(CpuTimer::remaining).unwrap_or_default(),
            Interval::Prof => timers.cpu[1].as_ref().map(CpuTimer::remaining).unwrap_or_default(),
        }
    }

    /// timer_create(2). `EAGAIN` beyond a sane number.
    pub fn create(&self, kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, clock: TimerClock, notification: Notification) -> Result<i32> {
        let mut timers = self.0.lock();
        if timers.posix.len() >= 8192 {
            return Err(Errno::EAGAIN);
        }
        let mut id = timers.next_id;
        while timers.posix.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(0);
        }
        timers.next_id = id.checked_add(1).unwrap_or(0);
        let missed = Arc::new(AtomicI32::new(0));
        let expire = expiry(id, Arc::downgrade(group), notification, missed.clone());
        let engine = match clock {
            TimerClock::Host(clock) => Engine::Host(Timer::new(&kernel.timers, clock, expire)),
            TimerClock::ProcessCpu => Engine::Cpu(CpuTimer::new(kernel, Arc::downgrade(group), expire)),
        };
        timers.posix.insert(id, PosixTimer { engine, missed, overrun: 0 });
        Ok(id)
    }

    /// timer_settime(2): `value_ns` absolute on the timer's clock or relative; 0 disarms.
    pub fn set(&self, id: i32, absolute: bool, value_ns: u64, interval_ns: u64) -> Result<Remaining> {
        let mut timers = self.0.lock();
        let timer = timers.posix.get_mut(&id).ok_or(Errno::EINVAL)?;
        timer.missed.store(0, Ordering::Relaxed);
        timer.overrun = 0;
        Ok(match &timer.engine {
            Engine::Host(t) if value_ns == 0 => t.disarm(),
            Engine::Host(t) if absolute => t.arm(i64::try_from(value_ns).unwrap_or(i64::MAX), interval_ns),
            Engine::Host(t) => t.arm_in(value_ns, interval_ns),
            Engine::Cpu(t) if absolute && value_ns != 0 => t.set_absolute(value_ns, interval_ns),
            Engine::Cpu(t) => t.set(value_ns, interval_ns),
        })
    }

    pub fn get(&self, id: i32) -> Result<Remaining> {
        let timers = self.0.lock();
        let timer = timers.posix.get(&id).ok_or(Errno::EINVAL)?;
        Ok(match &timer.engine {
            Engine::Host(t) => t.remaining(),
            Engine::Cpu(t) => t.remaining(),
        })
    }

    pub fn overrun(&self, id: i32) -> Result<i32> {
        let timers = self.0.lock();
        Ok(timers.posix.get(&id).ok_or(Errno::EINVAL)?.overrun)
    }

    /// A timer's signal is being delivered: its information with the overrun up to now.
    pub(crate) fn delivered(&self, info: SigInfo) -> SigInfo {
        let id = info.pid();
        let mut timers = self.0.lock();
        let (Some(timer), Some(signal)) = (timers.posix.get_mut(&id), Signal::new(info.signo as u64)) else { return info };
        timer.overrun = timer.missed.swap(0, Ordering::Relaxed);
        SigInfo::timer(signal, id, timer.overrun, info.fields[1])
    }

    pub fn delete(&self, id: i32) -> Result<()> {
        let old = self.0.lock().posix.remove(&id).ok_or(Errno::EINVAL)?;
        drop(old);
        Ok(())
    }

    /// RLIMIT_CPU is set or inherited: SIGXCPU at the soft limit and each second from then on, SIGKILL at the hard one.
    pub fn watch_cpu_limit(&self, kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>) {
        let (soft, hard) = group.cpu_limit();
        let old = std::mem::take(&mut self.0.lock().limit);
        drop(old);
        if soft == INFINITY {
            return;
        }
        let target = Arc::downgrade(group);
        let expire: Expiry = Arc::new(move |_| {
            let Some(group) = target.upgrade() else { return };
            let used = process_cpu_time(&group).as_secs();
            let signal = if hard != INFINITY && used >= hard { Signal::SIGKILL } else { Signal::SIGXCPU };
            let _ = group.send(signal, SigInfo::new(signal, SI_KERNEL));
        });
        let timer = CpuTimer::new(kernel, Arc::downgrade(group), expire);
        timer.set_absolute(soft.max(1).saturating_mul(SECOND), SECOND);
        self.0.lock().limit = Some(timer);
    }

    /// POSIX timers do not survive execve(2); interval timers do.
    pub fn after_exec(&self) {
        let old = std::mem::take(&mut self.0.lock().posix);
        drop(old);
    }

    pub fn disarm_all(&self) {
        let old = std::mem::take(&mut *self.0.lock());
        drop(old);
    }
}

fn send_to(group: &Weak<ThreadGroup>, signal: Signal) {
    if let Some(group) = group.upgrade() {
        let _ = group.send(signal, SigInfo::new(signal, SI_KERNEL));
    }
}

fn signal_timer(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, clock: ClockId, signal: Signal) -> Timer {
    let group = Arc::downgrade(group);
    Timer::new(&kernel.timers, clock, Arc::new(move |_| send_to(&group, signal)))
}

type Expiry = Arc<dyn Fn(u64) + Send + Sync>;

fn expiry(id: i32, group: Weak<ThreadGroup>, notification: Notification, missed: Arc<AtomicI32>) -> Expiry {
    Arc::new(move |expirations| {
        let expirations = i32::try_from(expirations).unwrap_or(i32::MAX);
        // A signal that still waits stands for all expirations until it is delivered.
        let first = |pending: sentry_abi::SigSet, signal: Signal| {
            let waits = pending.contains(signal);
            missed.fetch_add(if waits { expirations } else { expirations - 1 }, Ordering::Relaxed);
            !waits
        };
        match &notification {
            Notification::None => {}
            Notification::Process { signal, value } => {
                let Some(group) = group.upgrade() else { return };
                if first(group.pending_set(), *signal) {
                    let _ = group.send(*signal, SigInfo::timer(*signal, id, 0, *value));
                }
            }
            Notification::Thread { signal, value, task } => {
                let Some(task) = task.upgrade() else { return };
                if first(task.pending_set(), *signal) {
                    let _ = task.send(*signal, SigInfo::timer(*signal, id, 0, *value));
                }
            }
        }
    })
}

/// A timer on the CPU time of a process: looks at it each tick while armed.
struct CpuTimer {
    ticker: Timer,
    state: Arc<Mutex<CpuState>>,
    group: Weak<ThreadGroup>,
}

#[derive(Default)]
struct CpuState {
    deadline_ns: Option<u64>,
    interval_ns: u64,
}

impl CpuState {
    /// Is the timer due at CPU time `now`? A periodic one is set again; the guest chose the period, up to the largest number there is.
    fn take_due(&mut self, now: u64) -> bool {
        if self.deadline_ns.is_none_or(|deadline| now < deadline) {
            return false;
        }
        self.deadline_ns = (self.interval_ns != 0).then(|| now.saturating_add(self.interval_ns));
        true
    }
}

/// CPU time of a process, user and system.
pub fn process_cpu_time(group: &ThreadGroup) -> Duration {
    let (user, system) = group.cpu_times();
    user + system
}

impl CpuTimer {
    fn new(kernel: &Arc<Kernel>, group: Weak<ThreadGroup>, expire: Expiry) -> CpuTimer {
        let state = Arc::new(Mutex::new(Level::Leaf, CpuState::default()));
        let (watched, look) = (group.clone(), state.clone());
        let ticker = Timer::new(
            &kernel.timers,
            ClockId::Monotonic,
            Arc::new(move |_| {
                let Some(group) = watched.upgrade() else { return };
                let now = process_cpu_time(&group).as_nanos() as u64;
                let due = look.lock().take_due(now);
                if due {
                    expire(1);
                }
            }),
        );
        CpuTimer { ticker, state, group }
    }

    fn now(&self) -> u64 {
        self.group.upgrade().map_or(0, |g| process_cpu_time(&g).as_nanos() as u64)
    }

    fn set(&self, value_ns: u64, interval_ns: u64) -> Remaining {
        let deadline = (value_ns != 0).then(|| self.now().saturating_add(value_ns));
        self.arm(deadline, interval_ns)
    }

    fn set_absolute(&self, value_ns: u64, interval_ns: u64) -> Remaining {
        self.arm(Some(value_ns), interval_ns)
    }

    fn arm(&self, deadline_ns: Option<u64>, interval_ns: u64) -> Remaining {
        let before = self.remaining();
        *self.state.lock() = CpuState { deadline_ns, interval_ns };
        if deadline_ns.is_some() {
            self.ticker.arm_in(CPU_TICK, CPU_TICK);
        } else {
            self.ticker.disarm();
        }
        before
    }

    fn remaining(&self) -> Remaining {
        let now = self.now();
        let state = self.state.lock();
        let left = state.deadline_ns.map(|d| d.saturating_sub(now).max(1)).unwrap_or(0);
        Remaining { remaining_ns: left, interval_ns: if left == 0 { 0 } else { state.interval_ns } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_without_end_does_not_overflow() {
        let mut state = CpuState { deadline_ns: Some(1), interval_ns: u64::MAX };
        assert!(state.take_due(5));
        assert!(!state.take_due(u64::MAX - 1));
        let mut once = CpuState { deadline_ns: Some(1), interval_ns: 0 };
        assert!(once.take_due(1) && !once.take_due(2));
    }
}
