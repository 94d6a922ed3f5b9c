//! Job control: stopping a process and going on. signal(7), wait(2) WUNTRACED.

use sentry_abi::signal::{CLD_CONTINUED, CLD_STOPPED};
use sentry_abi::{SigInfo, Signal};
use sentry_sync::Parker;

use super::{CurrentTask, RunState};
use crate::process_tree::Lineage;
use crate::thread_group::{GroupState, StopReport, StopState, ThreadGroup};

impl CurrentTask {
    /// Sleeps while the process is stopped; true if it was.
    pub(crate) fn stop_if_asked(&mut self) -> bool {
        if self.task.group.state.lock().stop.signal.is_none() {
            return self.tell_continued();
        }
        let mut counted = None;
        self.task.set_run_state(RunState::Stopped);
        while self.reach_stop(&mut counted) {
            Parker::park(None);
        }
        self.task.set_run_state(RunState::Running);
        self.tell_continued();
        true
    }

    /// Counts this task among the stopped ones, once a stop. False when the process is not stopped (any more), or this task ends.
    fn reach_stop(&self, counted: &mut Option<u64>) -> bool {
        let group = &self.task.group;
        let lineage = self.task.kernel.processes.lineage();
        let all_stopped = {
            let mut state = group.state.lock();
            let tasks = state.tasks.len();
            if state.exit.is_some() || self.task.must_exit.load(std::sync::atomic::Ordering::SeqCst) {
                if *counted == Some(state.stop.generation) && state.stop.signal.is_some() {
                    state.stop.stopped = state.stop.stopped.saturating_sub(1);
                }
                return false;
            }
            if state.stop.signal.is_none() {
                return false;
            }
            if *counted == Some(state.stop.generation) {
                return true;
            }
            *counted = Some(state.stop.generation);
            state.stop.stopped += 1;
            state.stop.settle(tasks)
        };
        if let Some(signal) = all_stopped {
            self.task.kernel.tell_parent_of_stop(&lineage, group, CLD_STOPPED, signal.number() as i32);
        }
        true
    }

    /// The first task that goes on after a stop tells the parent. False: nothing to tell.
    fn tell_continued(&self) -> bool {
        let group = &self.task.group;
        if !group.state.lock().stop.tell_continued {
            return false;
        }
        let lineage = self.task.kernel.processes.lineage();
        if std::mem::take(&mut group.state.lock().stop.tell_continued) {
            self.task.kernel.tell_parent_of_stop(&lineage, group, CLD_CONTINUED, Signal::SIGCONT.number() as i32);
        }
        false
    }

    /// The default action of a stop signal.
    pub(crate) fn begin_stop(&mut self, signal: Signal) {
        let tasks = {
            let mut state = self.task.group.state.lock();
            if state.stop.signal.is_none() {
                let generation = state.stop.generation + 1;
                state.stop = StopState { signal: Some(signal), generation, ..StopState::default() };
            }
            state.tasks.clone()
        };
        for task in tasks {
            task.kick();
        }
    }
}

impl GroupState {
    /// SIGCONT lets a stopped process go on. True if it was stopped, or about to be.
    pub(crate) fn resume(&mut self) -> bool {
        if self.stop.signal.take().is_none() {
            return false;
        }
        self.stop.stopped = 0;
        let was_complete = std::mem::take(&mut self.stop.complete);
        self.stop.unreported = was_complete.then_some(StopReport::Continued);
        self.stop.tell_continued = was_complete;
        true
    }
}

impl crate::kernel::Kernel {
    /// SIGCHLD with CLD_STOPPED or CLD_CONTINUED, unless the parent asked not to be told (SA_NOCLDSTOP), and a wake-up of its wait.
    pub(crate) fn tell_parent_of_stop(&self, _: &Lineage<'_>, group: &ThreadGroup, code: i32, status: i32) {
        let Some(parent) = self.processes.group(self.processes.parent(group.id)) else { return };
        let action = parent.handlers().get(Signal::SIGCHLD);
        if !action.has(crate::signal::sa::NOCLDSTOP) && action.disposition() != crate::signal::Disposition::Ignore {
            let uid = group.any_task().map_or(0, |t| t.credentials().uid);
            let info = SigInfo::child(code, group.id, uid, status, 0, 0);
            let _ = parent.send(Signal::SIGCHLD, info);
        }
        parent.children_changed.wake_all();
    }
}
