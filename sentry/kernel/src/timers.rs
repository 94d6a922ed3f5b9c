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
use crate::task::Task;
use crate::thread_group::ThreadGroup;

/// How often the CPU time of a process with a CPU timer is looked at: one tick of a 100 Hz kernel.
const CPU_TICK: u64 = 10_000_000;

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
    overrun: Arc<AtomicI32>,
}

#[derive(Default)]
struct Timers {
    real: Option<Timer>,
    cpu: [Option<CpuTimer>; 2],
    posix: BTreeMap<i32, PosixTimer>,
    next_id: i32,
}

pub struct ProcessTimers(Mutex<Timers>);

impl Default for ProcessTimers {
    fn default() -> ProcessTimers {
        // Below everything: CPU timers look at the process under it. Callbacks of timers run without it.
        ProcessTimers(Mutex::new(Level::Control, Timers::default()))
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
        let id = timers.next_id;
        timers.next_id = timers.next_id.wrapping_add(1).max(0);
        let overrun = Arc::new(AtomicI32::new(0));
        let expire = expiry(id, Arc::downgrade(group), notification, overrun.clone());
        let engine = match clock {
            TimerClock::Host(clock) => Engine::Host(Timer::new(&kernel.timers, clock, expire)),
            TimerClock::ProcessCpu => Engine::Cpu(CpuTimer::new(kernel, Arc::downgrade(group), expire)),
        };
        timers.posix.insert(id, PosixTimer { engine, overrun });
        Ok(id)
    }

    /// timer_settime(2): `value_ns` absolute on the timer's clock or relative; 0 disarms.
    pub fn set(&self, id: i32, absolute: bool, value_ns: u64, interval_ns: u64) -> Result<Remaining> {
        let timers = self.0.lock();
        let timer = timers.posix.get(&id).ok_or(Errno::EINVAL)?;
        timer.overrun.store(0, Ordering::Relaxed);
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
        Ok(timers.posix.get(&id).ok_or(Errno::EINVAL)?.overrun.load(Ordering::Relaxed))
    }

    pub fn delete(&self, id: i32) -> Result<()> {
        let old = self.0.lock().posix.remove(&id).ok_or(Errno::EINVAL)?;
        drop(old);
        Ok(())
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

fn expiry(id: i32, group: Weak<ThreadGroup>, notification: Notification, overrun: Arc<AtomicI32>) -> Expiry {
    Arc::new(move |expirations| {
        let missed = i32::try_from(expirations.saturating_sub(1)).unwrap_or(i32::MAX);
        match &notification {
            Notification::None => {}
            Notification::Process { signal, value } => {
                let Some(group) = group.upgrade() else { return };
                let missed = if group.pending_set().contains(*signal) {
                    overrun.fetch_add(missed.saturating_add(1), Ordering::Relaxed);
                    return;
                } else {
                    missed
                };
                overrun.store(missed, Ordering::Relaxed);
                let _ = group.send(*signal, SigInfo::timer(*signal, id, missed, *value));
            }
            Notification::Thread { signal, value, task } => {
                let Some(task) = task.upgrade() else { return };
                if task.pending_set().contains(*signal) {
                    overrun.fetch_add(missed.saturating_add(1), Ordering::Relaxed);
                    return;
                }
                overrun.store(missed, Ordering::Relaxed);
                let _ = task.send(*signal, SigInfo::timer(*signal, id, missed, *value));
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

/// CPU time of a process, user and system.
pub fn process_cpu_time(group: &ThreadGroup) -> Duration {
    let Some(task) = group.any_task() else { return group.state.lock().usage.user };
    let system: Duration = group.tasks().iter().map(|t| t.system_time()).sum();
    task.mm().space().cpu_time() + system + group.state.lock().usage.system
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
                let due = {
                    let mut state = look.lock();
                    match state.deadline_ns {
                        Some(deadline) if now >= deadline => {
                            state.deadline_ns = (state.interval_ns != 0).then(|| now + state.interval_ns);
                            true
                        }
                        _ => false,
                    }
                };
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
