//! A process as other processes see it: its tasks, its signals, how it stops and ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use sentry_abi::{SigSet, Signal};
use sentry_sync::{Level, Mutex, WaitQueue};

use crate::limits::Limits;
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
    /// Tasks that have reached the stop.
    pub stopped: usize,
    /// What wait4(2) with WUNTRACED or WCONTINUED has not been told yet.
    pub unreported: Option<StopReport>,
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
    /// What the process was called when its last task ended.
    pub last_comm: Vec<u8>,
    /// Of tasks that have ended.
    pub usage: Usage,
    pub children_usage: Usage,
}

pub struct ThreadGroup {
    pub id: i32,
    pub state: Mutex<GroupState>,
    pub handlers: Mutex<Arc<Handlers>>,
    pub limits: Mutex<Limits>,
    /// Woken when a child changes state.
    pub children_changed: WaitQueue,
    /// Woken when a signal is queued, for signalfd and sigtimedwait.
    pub signal_queued: WaitQueue,
    /// Woken when the process has ended (pidfd).
    pub ended: WaitQueue,
    /// Sent to the parent at the end; 0 for none.
    pub exit_signal: AtomicI32,
    pub did_exec: AtomicBool,
    pub dumpable: AtomicBool,
    pub child_subreaper: AtomicBool,
    pub personality: AtomicU32,
    pub oom_score_adj: AtomicI32,
    pub timers: ProcessTimers,
    /// CLOCK_BOOTTIME at the start, ns.
    pub start_ns: i64,
}

impl ThreadGroup {
    pub fn new(id: i32, handlers: Arc<Handlers>, limits: Limits, exit_signal: i32, start_ns: i64) -> Arc<ThreadGroup> {
        Arc::new(ThreadGroup {
            id,
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
                    usage: Usage::default(),
                    children_usage: Usage::default(),
                },
            ),
            handlers: Mutex::new(Level::Leaf, handlers),
            limits: Mutex::new(Level::Leaf, limits),
            children_changed: WaitQueue::new(),
            signal_queued: WaitQueue::new(),
            ended: WaitQueue::new(),
            exit_signal: AtomicI32::new(exit_signal),
            did_exec: AtomicBool::new(false),
            dumpable: AtomicBool::new(true),
            child_subreaper: AtomicBool::new(false),
            personality: AtomicU32::new(0),
            oom_score_adj: AtomicI32::new(0),
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

    /// Ends the whole process with `status`, unless it is ending already. Host processes are killed, sleeping tasks woken.
    pub fn kill_all(&self, status: ExitStatus) {
        let tasks = {
            let mut state = self.state.lock();
            if state.exit.is_none() && state.zombie.is_none() {
                state.exit = Some(status);
            }
            state.tasks.clone()
        };
        for task in tasks {
            task.kill_host();
            task.kick();
        }
    }
}
