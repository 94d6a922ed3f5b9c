//! Job control: stopping a process and going on. signal(7), wait(2) WUNTRACED.

use sentry_abi::signal::{CLD_CONTINUED, CLD_STOPPED};
use sentry_abi::{SigInfo, Signal};
use sentry_sync::Parker;

use super::{CurrentTask, RunState};
use crate::thread_group::{StopReport, ThreadGroup};

impl CurrentTask {
    /// Sleeps while the process is stopped; true if it was.
    pub(crate) fn stop_if_asked(&mut self) -> bool {
        let all_stopped = {
            let mut state = self.task.group.state.lock();
            let Some(signal) = state.stop.signal else { return false };
            if state.exit.is_some() {
                return false;
            }
            state.stop.stopped += 1;
            if state.stop.stopped == state.tasks.len() {
                state.stop.unreported = Some(StopReport::Stopped(signal));
                Some(signal)
            } else {
                None
            }
        };
        if let Some(signal) = all_stopped {
            self.task.kernel.tell_parent_of_stop(&self.task.group, CLD_STOPPED, signal.number() as i32);
        }
        self.task.set_run_state(RunState::Stopped);
        loop {
            if self.task.is_doomed() || self.task.group.state.lock().stop.signal.is_none() {
                break;
            }
            Parker::park(None);
        }
        self.task.set_run_state(RunState::Running);
        true
    }

    /// The default action of a stop signal.
    pub(crate) fn begin_stop(&mut self, signal: Signal) {
        let tasks = {
            let mut state = self.task.group.state.lock();
            if state.stop.signal.is_none() {
                state.stop.signal = Some(signal);
                state.stop.stopped = 0;
            }
            state.tasks.clone()
        };
        for task in tasks {
            task.kick();
        }
    }
}

impl ThreadGroup {
    /// SIGCONT (or SIGKILL): lets a stopped process go on. True if its parent must be told.
    pub(crate) fn resume(&self) -> bool {
        let (tasks, tell) = {
            let mut state = self.state.lock();
            if state.stop.signal.take().is_none() {
                return false;
            }
            let was_stopped = state.stop.stopped == state.tasks.len();
            state.stop.stopped = 0;
            if was_stopped {
                state.stop.unreported = Some(StopReport::Continued);
            } else {
                state.stop.unreported = None;
            }
            (state.tasks.clone(), was_stopped)
        };
        for task in tasks {
            task.kick();
        }
        tell
    }
}

impl crate::kernel::Kernel {
    /// SIGCHLD with CLD_STOPPED or CLD_CONTINUED, unless the parent asked not to be told (SA_NOCLDSTOP), and a wake-up of its wait.
    pub(crate) fn tell_parent_of_stop(&self, group: &ThreadGroup, code: i32, status: i32) {
        let Some(parent) = self.processes.group(self.processes.parent(group.id)) else { return };
        let action = parent.handlers().get(Signal::SIGCHLD);
        if !action.has(crate::signal::sa::NOCLDSTOP) {
            let uid = group.any_task().map_or(0, |t| t.credentials().uid);
            let info = SigInfo::child(code, group.id, uid, status, 0, 0);
            let _ = parent.send(Signal::SIGCHLD, info);
        }
        parent.children_changed.wake_all();
    }

    pub(crate) fn tell_parent_of_continue(&self, group: &ThreadGroup) {
        self.tell_parent_of_stop(group, CLD_CONTINUED, Signal::SIGCONT.number() as i32);
    }
}
