//! Sending signals. kill(2), kernel/signal.c `send_signal_locked`, `prepare_signal`, `complete_signal`.

use std::sync::Arc;

use sentry_abi::signal::{DefaultAction, SI_KERNEL, SI_USER};
use sentry_abi::{Errno, Result, SigInfo, SigSet, Signal};

use crate::kernel::Kernel;
use crate::limits::Resource;
use crate::task::Task;
use crate::thread_group::{ExitStatus, GroupState, ThreadGroup};

impl Task {
    /// To this thread alone (tgkill(2)). `EAGAIN` when a real-time signal finds the queue full.
    pub fn send(self: &Arc<Task>, signal: Signal, info: SigInfo) -> Result<()> {
        deliver(&self.group, Some(self), signal, info)
    }
}

impl ThreadGroup {
    /// To the process as a whole (kill(2)).
    pub fn send(&self, signal: Signal, info: SigInfo) -> Result<()> {
        deliver(self, None, signal, info)
    }
}

fn deliver(group: &ThreadGroup, thread: Option<&Arc<Task>>, signal: Signal, info: SigInfo) -> Result<()> {
    let handlers = group.handlers();
    let limit = group.limits().soft(Resource::PendingSignals);
    // The sandbox's init cannot be killed or stopped from inside (pid_namespaces(7)).
    let unblockable = SigSet::UNBLOCKABLE.contains(signal);
    if group.id == 1 && unblockable && info.code <= SI_USER {
        return Ok(());
    }
    let mut resume = false;
    let targets = {
        let mut state = group.state.lock();
        if state.zombie.is_some() {
            return Ok(());
        }
        if signal == Signal::SIGCONT || signal == Signal::SIGKILL {
            discard(&mut state, SigSet::STOPS);
            resume = state.stop.signal.is_some();
        } else if signal.default_action() == DefaultAction::Stop {
            discard(&mut state, SigSet::of(Signal::SIGCONT));
        }
        if signal == Signal::SIGKILL {
            state.exit.get_or_insert(ExitStatus::Signaled { signal, core: false });
            state.tasks.clone()
        } else if dropped(&state, thread, signal, &info, &handlers, group.id) {
            Vec::new()
        } else {
            match thread {
                Some(task) => task.pending.lock().push(signal, info, limit)?,
                None => state.pending.push(signal, info, limit)?,
            }
            wake_targets(&state, thread, signal)
        }
    };
    let tell = resume && group.resume();
    for task in &targets {
        if signal == Signal::SIGKILL {
            task.kill_host();
        }
        task.kick();
    }
    group.signal_queued.wake_all();
    if tell && let Some(task) = group.any_task() {
        task.kernel.tell_parent_of_continue(group);
    }
    Ok(())
}

fn discard(state: &mut GroupState, signals: SigSet) {
    state.pending.discard(signals);
    for task in &state.tasks {
        task.pending.lock().discard(signals);
    }
}

/// Ignored signals are dropped at once, unless they are blocked: then they wait, since the disposition may change meanwhile.
fn dropped(state: &GroupState, thread: Option<&Arc<Task>>, signal: Signal, info: &SigInfo, handlers: &super::Handlers, id: i32) -> bool {
    let blocked = match thread {
        Some(task) => task.mask().contains(signal),
        None => state.tasks.iter().any(|t| t.mask().contains(signal)),
    };
    if blocked {
        return false;
    }
    // The sandbox's init is protected from signals of its own children that it has not asked for (pid_namespaces(7)); those the kernel
    // raises for its own faults are forced elsewhere.
    if id == 1 && handlers.get(signal).disposition() == super::Disposition::Default && info.code <= SI_USER {
        return true;
    }
    handlers.ignores(signal)
}

/// Who must look: the thread itself, or for a process one that does not block the signal, or all for a signal that ends it.
fn wake_targets(state: &GroupState, thread: Option<&Arc<Task>>, signal: Signal) -> Vec<Arc<Task>> {
    if let Some(task) = thread {
        return vec![task.clone()];
    }
    let willing = state.tasks.iter().find(|t| t.wanted().contains(signal));
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
        for group in self.processes.members(process_group) {
            let _ = group.send(signal, SigInfo::new(signal, SI_KERNEL));
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
