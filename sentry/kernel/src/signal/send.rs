//! Sending signals. kill(2), kernel/signal.c `send_signal_locked`, `prepare_signal`, `complete_signal`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::signal::{DefaultAction, SI_KERNEL, SI_USER};
use sentry_abi::{Errno, Result, SigInfo, SigSet, Signal};

use crate::kernel::Kernel;
use crate::limits::Resource;
use crate::process_tree::Lineage;
use crate::task::{RunState, Task};
use crate::thread_group::{ExitStatus, GroupState, ThreadGroup};

impl Task {
    /// To this thread alone (tgkill(2)). `EAGAIN` when a real-time signal finds the queue full.
    pub fn send(self: &Arc<Task>, signal: Signal, info: SigInfo) -> Result<()> {
        deliver(&self.group, Some(self), signal, info)
    }
}

impl ThreadGroup {
    /// To the process as a whole (kill(2)).
    pub fn send(self: &Arc<Self>, signal: Signal, info: SigInfo) -> Result<()> {
        deliver(self, None, signal, info)
    }

    /// [`ThreadGroup::send`] for one of the processes that a signal goes to: a process that this one is just making must not escape it.
    pub fn send_as_one_of(self: &Arc<Self>, _: &Lineage<'_>, signal: Signal, info: SigInfo) -> Result<()> {
        self.state.lock().broadcasts += 1;
        deliver(self, None, signal, info)
    }
}

fn deliver(group: &Arc<ThreadGroup>, thread: Option<&Arc<Task>>, signal: Signal, info: SigInfo) -> Result<()> {
    let handlers = group.handlers();
    let limit = group.limits().soft(Resource::PendingSignals);
    // The sandbox's init cannot be killed or stopped from inside (pid_namespaces(7)).
    let unblockable = SigSet::UNBLOCKABLE.contains(signal);
    if group.is_protected.load(Ordering::Relaxed) && unblockable && info.code <= SI_USER {
        return Ok(());
    }
    let (fatal, targets) = {
        let mut state = group.state.lock();
        if state.zombie.is_some() {
            return Ok(());
        }
        let mut targets = prepare(&mut state, signal);
        if signal == Signal::SIGKILL || ends_at_once(&state, thread, signal, &info, &handlers, group) {
            state.exit.get_or_insert(ExitStatus::Signaled { signal, core: false });
            (true, Vec::new())
        } else if dropped(&state, thread, signal, &info, &handlers, group) {
            (false, targets)
        } else {
            // Only a real-time signal finds the queue full, and none of those wakes by `prepare`.
            match thread {
                Some(task) => task.pending.lock().push(signal, info, limit)?,
                None => state.pending.push(signal, info, limit)?,
            }
            targets.extend(wake_targets(&state, thread, signal));
            (false, targets)
        }
    };
    if fatal {
        group.hurry(|_| true);
    }
    for task in &targets {
        task.kick();
    }
    group.signal_queued.wake_all();
    Ok(())
}

/// Stop signals and SIGCONT cancel each other when they are sent; SIGCONT lets a stopped process go on whatever becomes of it.
/// Returns the tasks that must look. `prepare_signal`.
fn prepare(state: &mut GroupState, signal: Signal) -> Vec<Arc<Task>> {
    if signal == Signal::SIGCONT {
        discard(state, SigSet::STOPS);
        return if state.resume() { state.tasks.clone() } else { Vec::new() };
    }
    if signal.default_action() == DefaultAction::Stop {
        discard(state, SigSet::of(Signal::SIGCONT));
    }
    Vec::new()
}

/// A signal that will end the process by its default action does so when it is sent, also while the task that would take it sleeps a sleep
/// that only the end interrupts (vfork). `complete_signal`, `sig_fatal`.
fn ends_at_once(
    state: &GroupState,
    thread: Option<&Arc<Task>>,
    signal: Signal,
    info: &SigInfo,
    handlers: &super::Handlers,
    group: &ThreadGroup,
) -> bool {
    if handlers.get(signal).disposition() != super::Disposition::Default
        || signal.default_action() != DefaultAction::Terminate
        || group.is_protected.load(Ordering::Relaxed) && info.code <= SI_USER
        || state.stop.signal.is_some()
    {
        return false;
    }
    let takes = |t: &Arc<Task>| t.run_state() != RunState::Dead && !t.mask().contains(signal) && !t.awaits(signal);
    match thread {
        Some(task) => takes(task),
        None => state.tasks.iter().any(takes),
    }
}

fn discard(state: &mut GroupState, signals: SigSet) {
    state.pending.discard(signals);
    for task in &state.tasks {
        task.pending.lock().discard(signals);
    }
}

/// Ignored signals are dropped at once, unless they are blocked: then they wait, since the disposition may change meanwhile.
fn dropped(
    state: &GroupState,
    thread: Option<&Arc<Task>>,
    signal: Signal,
    info: &SigInfo,
    handlers: &super::Handlers,
    group: &ThreadGroup,
) -> bool {
    let blocked = match thread {
        Some(task) => task.mask().contains(signal),
        // As Linux, the leader's mask decides: threads that block everything must not make the others' sleeps end for nothing.
        None => {
            let leader = state.tasks.iter().find(|t| t.tid() == group.id).or_else(|| state.tasks.first());
            leader.is_some_and(|t| t.mask().contains(signal))
        }
    };
    if blocked {
        return false;
    }
    // The sandbox's init is protected from signals of its own children that it has not asked for (pid_namespaces(7)); those the kernel
    // raises for its own faults are forced elsewhere.
    if group.is_protected.load(Ordering::Relaxed)
        && handlers.get(signal).disposition() == super::Disposition::Default
        && info.code <= SI_USER
    {
        return true;
    }
    handlers.ignores(signal)
}

/// Who must look: the thread itself, or for a process one that does not block the signal, or all for a signal that ends it.
fn wake_targets(state: &GroupState, thread: Option<&Arc<Task>>, signal: Signal) -> Vec<Arc<Task>> {
    if let Some(task) = thread {
        return vec![task.clone()];
    }
    let willing = state.tasks.iter().find(|t| t.run_state() != RunState::Dead && t.wanted().contains(signal));
    willing.cloned().into_iter().collect()
}

impl Kernel {
    /// To a process, from the kernel (terminal). One that is not there is passed over.
    pub fn signal_process(&self, pid: i32, signal: Signal) {
        if let Some(group) = self.processes.group(pid) {
            let _ = group.send(signal, SigInfo::new(signal, SI_KERNEL));
        }
    }

    /// To every process of a group, from the kernel (terminal).
    pub fn signal_process_group(&self, process_group: i32, signal: Signal) {
        self.signal_members(&self.processes.lineage(), process_group, signal);
    }

    pub(crate) fn signal_members(&self, lineage: &Lineage<'_>, process_group: i32, signal: Signal) {
        for group in self.processes.members(process_group) {
            let _ = group.send_as_one_of(lineage, signal, SigInfo::new(signal, SI_KERNEL));
        }
    }
}

/// `EINVAL` for a number that is no signal; 0 is `None`, the test for existence.
pub fn signal_argument(number: i32) -> Result<Option<Signal>> {
    if number == 0 {
        return Ok(None);
    }
    u64::try_from(number).ok().and_then(Signal::new).map(Some).ok_or(Errno::EINVAL)
}

impl Task {
    /// sigaction(2): a signal that is now ignored is thrown away wherever it waits.
    pub fn discard_pending(&self, signal: Signal) {
        discard(&mut self.group.state.lock(), SigSet::of(signal));
    }
}
