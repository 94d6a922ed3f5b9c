//! A process as other processes see it: its tasks, its signals, how it stops and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use sentry_abi::{SigSet, Signal};
use sentry_platform::GuestThread;
use sentry_sync::{Level, Mutex, WaitQueue};
use sentry_time::{ClockId, Timer};

use crate::limits::{Limits, Resource};
use crate::signal::{Handlers, Pending};
use crate::task::Task;
use crate::timers::ProcessTimers;

/// How a process or thread ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExitStatus {
    Exited(u8),
    Signaled { signal: Signal, core: bool },
}

impl ExitStatus {
    /// As wait4(2) tells it.
    pub fn wait_status(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => (code as i32) << 8,
            ExitStatus::Signaled { signal, core } => signal.number() as i32 | if core { 0x80 } else { 0 },
        }
    }
}

/// Job control state.
#[derive(Default)]
pub struct StopState {
    /// The signal that stopped the process, while it is (being) stopped.
    pub signal: Option<Signal>,
    /// Tells one stop from the next: a task that slept through a SIGCONT counts itself again.
    pub generation: u64,
    /// Tasks that have reached the stop.
    pub stopped: usize,
    /// All of them have, and the parent has been told.
    pub complete: bool,
    /// The first task that goes on tells the parent.
    pub tell_continued: bool,
    /// What wait4(2) with WUNTRACED or WCONTINUED has not been told yet.
    pub unreported: Option<StopReport>,
}

impl StopState {
    /// The signal of a stop that the last of `tasks` has now reached: the parent must be told.
    pub fn settle(&mut self, tasks: usize) -> Option<Signal> {
        let signal = self.signal.filter(|_| !self.complete && tasks > 0 && self.stopped >= tasks)?;
        self.complete = true;
        self.unreported = Some(StopReport::Stopped(signal));
        Some(signal)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReport {
    Stopped(Signal),
    Continued,
}

/// CPU time and the like, as getrusage(2) sums it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Usage {
    pub user: Duration,
    pub system: Duration,
    pub max_rss_kib: u64,
}

impl Usage {
    pub fn add(&mut self, other: &Usage) {
        self.user += other.user;
        self.system += other.system;
        self.max_rss_kib = self.max_rss_kib.max(other.max_rss_kib);
    }
}

pub struct GroupState {
    pub tasks: Vec<Arc<Task>>,
    pub pending: Pending,
    /// Set once the process must end; every task of it then ends as soon as it can.
    pub exit: Option<ExitStatus>,
    /// The leader's exit(2) code: the process's, unless it ends as a whole.
    pub leader_code: u8,
    /// The tid of the task in execve(2) that waits for all others to end.
    pub exec: Option<i32>,
    pub stop: StopState,
    /// All tasks have ended; the parent has not waited yet.
    pub zombie: Option<ExitStatus>,
    /// What the process was called, and whose it was, when its last task ended.
    pub last_comm: Vec<u8>,
    pub last_uid: u32,
    /// System time of tasks that have ended. User time of host processes that execve(2) has left; of all once the process has ended.
    pub usage: Usage,
    pub children_usage: Usage,
    /// Guest threads of tasks that have ended while others of the process still end: dropping one kills the host process.
    pub(crate) graves: Vec<Box<dyn GuestThread>>,
    /// Kills the host process of a process whose tasks do not come to their end.
    pub(crate) patience: Option<Timer>,
    /// Signals to several processes at once that this one has been sent: a fork that overlaps with one begins again.
    pub(crate) broadcasts: u64,
}

pub struct ThreadGroup {
    pub id: i32,
    /// It is the sandbox's init, which cannot be killed or stopped from inside (pid_namespaces(7)).
    pub is_protected: AtomicBool,
    pub state: Mutex<GroupState>,
    pub handlers: Mutex<Arc<Handlers>>,
    pub limits: Mutex<Limits>,
    /// Woken when a child changes state.
    pub children_changed: WaitQueue,
    /// Woken when a signal is queued, for signalfd and sigtimedwait.
    pub signal_queued: WaitQueue,
    /// Threads of others that this process traces.
    pub(crate) tracees: Mutex<Vec<Arc<Task>>>,
    /// Woken when the process has ended (pidfd).
    pub ended: WaitQueue,
    /// Sent to the parent at the end; 0 for none.
    pub exit_signal: AtomicI32,
    pub did_exec: AtomicBool,
    /// How often the process has executed a program, and how often its parent had when it made it: a signal of its own choice at the end is
    /// for the program that chose it, not for one that came later.
    execs: AtomicU64,
    parent_execs: AtomicU64,
    pub dumpable: AtomicBool,
    pub child_subreaper: AtomicBool,
    pub personality: AtomicU32,
    pub oom_score_adj: AtomicI32,
    /// The address space is or was shared with another process (CLONE_VM without CLONE_THREAD).
    pub(crate) shares_space: AtomicBool,
    pub timers: ProcessTimers,
    /// CLOCK_BOOTTIME at the start, ns.
    pub start_ns: i64,
}

impl ThreadGroup {
    pub fn new(id: i32, handlers: Arc<Handlers>, limits: Limits, exit_signal: i32, start_ns: i64) -> Arc<ThreadGroup> {
        Arc::new(ThreadGroup {
            id,
            is_protected: AtomicBool::new(false),
            state: Mutex::new(
                Level::ThreadGroup,
                GroupState {
                    tasks: Vec::new(),
                    pending: Pending::default(),
                    exit: None,
                    leader_code: 0,
                    exec: None,
                    stop: StopState::default(),
                    zombie: None,
                    last_comm: Vec::new(),
                    last_uid: 0,
                    usage: Usage::default(),
                    children_usage: Usage::default(),
                    graves: Vec::new(),
                    patience: None,
                    broadcasts: 0,
                },
            ),
            handlers: Mutex::new(Level::Leaf, handlers),
            limits: Mutex::new(Level::Leaf, limits),
            children_changed: WaitQueue::new(),
            signal_queued: WaitQueue::new(),
            tracees: Mutex::new(Level::Leaf, Vec::new()),
            ended: WaitQueue::new(),
            exit_signal: AtomicI32::new(exit_signal),
            did_exec: AtomicBool::new(false),
            execs: AtomicU64::new(0),
            parent_execs: AtomicU64::new(0),
            dumpable: AtomicBool::new(true),
            child_subreaper: AtomicBool::new(false),
            personality: AtomicU32::new(0),
            oom_score_adj: AtomicI32::new(0),
            shares_space: AtomicBool::new(false),
            timers: ProcessTimers::default(),
            start_ns,
        })
    }

    pub fn handlers(&self) -> Arc<Handlers> {
        self.handlers.lock().clone()
    }

    pub fn limits(&self) -> Limits {
        *self.limits.lock()
    }

    /// Signals pending for the process as a whole.
    pub fn pending_set(&self) -> SigSet {
        self.state.lock().pending.set()
    }

    /// Any task of it that still lives, the leader if it does.
    pub fn any_task(&self) -> Option<Arc<Task>> {
        let state = self.state.lock();
        state.tasks.iter().find(|t| t.tid() == self.id).or_else(|| state.tasks.first()).cloned()
    }

    pub fn tasks(&self) -> Vec<Arc<Task>> {
        self.state.lock().tasks.clone()
    }

    pub fn is_ending(&self) -> bool {
        let state = self.state.lock();
        state.exit.is_some() || state.zombie.is_some()
    }

    pub fn exit_signal(&self) -> Option<Signal> {
        Signal::new(self.exit_signal.load(Ordering::Relaxed) as u64)
    }

    /// execve(2): the parent of what this process made so far is another program now, and its own end is an ordinary one.
    pub fn tell_of_exec(&self) {
        self.execs.fetch_add(1, Ordering::Relaxed);
        self.exit_signal.store(Signal::SIGCHLD.number() as i32, Ordering::Relaxed);
    }

    pub fn set_parent_program(&self, parent: &ThreadGroup) {
        self.parent_execs.store(parent.execs.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub fn set_parent_program_of_sibling(&self, sibling: &ThreadGroup) {
        self.parent_execs.store(sibling.parent_execs.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What `parent` is sent at this process's end (do_notify_parent()).
    pub fn end_signal_for(&self, parent: &ThreadGroup) -> Option<Signal> {
        let signal = self.exit_signal()?;
        let same_program = self.parent_execs.load(Ordering::Relaxed) == parent.execs.load(Ordering::Relaxed);
        Some(if same_program { signal } else { Signal::SIGCHLD })
    }

    pub fn is_zombie(&self) -> bool {
        self.state.lock().zombie.is_some()
    }

    /// CPU time, user and system. User time is what the host process used.
    pub fn cpu_times(&self) -> (Duration, Duration) {
        let (tasks, past) = {
            let state = self.state.lock();
            (state.tasks.clone(), state.usage)
        };
        let live = tasks.first().map(|t| t.mm().space().cpu_time()).unwrap_or_default();
        let system = tasks.iter().map(|t| t.system_time()).sum::<Duration>();
        (past.user + live, past.system + system)
    }

    /// RLIMIT_CPU.
    pub fn cpu_limit(&self) -> (u64, u64) {
        let limit = self.limits().get(Resource::Cpu);
        (limit.soft, limit.hard)
    }

    /// Ends the whole process with `status`, unless it is ending already: its tasks leave guest code and sleeps and end in order, so that what
    /// they hold for others (robust futexes) is let go.
    pub fn kill_all(self: &Arc<Self>, status: ExitStatus) {
        {
            let mut state = self.state.lock();
            if state.exit.is_none() && state.zombie.is_none() {
                state.exit = Some(status);
            }
        }
        self.hurry(|_| true);
    }

    /// Makes tasks look at their orders to end. Those that do not within [`PATIENCE`] lose their host process.
    pub(crate) fn hurry(self: &Arc<Self>, whom: impl Fn(&Arc<Task>) -> bool) {
        let tasks: Vec<Arc<Task>> = self.state.lock().tasks.iter().filter(|t| whom(t)).cloned().collect();
        let Some(first) = tasks.first() else { return };
        // One that runs the caller's own thread only comes to its end as well.
        if tasks.len() > 1 || !crate::task::is_current(first) {
            let group = Arc::downgrade(self);
            let timer = Timer::new(
                &first.kernel.timers,
                ClockId::Monotonic,
                Arc::new(move |_| {
                    if let Some(group) = group.upgrade() {
                        group.lose_patience();
                    }
                }),
            );
            timer.arm_in(PATIENCE_NS, 0);
            let old = self.state.lock().patience.replace(timer);
            drop(old);
        }
        for task in &tasks {
            task.kick();
        }
    }

    fn lose_patience(&self) {
        let tasks = self.tasks();
        let late: Vec<&Arc<Task>> = tasks.iter().filter(|t| t.is_doomed()).collect();
        if !late.is_empty() {
            tracing::warn!(pid = self.id, tasks = late.len(), "guest threads do not end: killing their host process");
        }
        for task in late {
            task.kill_host();
            task.kick();
        }
    }
}

/// How long tasks of a process that ends may take to leave guest code: an interrupt needs microseconds.
const PATIENCE_NS: u64 = 2_000_000_000;
