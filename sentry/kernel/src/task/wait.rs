//! Waiting for children: wait4(2), waitid(2). kernel/exit.c `do_wait`.

use std::sync::Arc;

use sentry_abi::{Errno, Signal};
use sentry_sync::Events;

use super::{BlockError, CurrentTask, Restart, Stop};
use crate::process_tree::Lineage;
use crate::thread_group::{ExitStatus, StopReport, ThreadGroup, Usage};

/// Which children.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitTarget {
    Any,
    Process(i32),
    Group(i32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WaitOptions {
    pub exited: bool,
    pub stopped: bool,
    pub continued: bool,
    pub no_hang: bool,
    /// Leave the child waitable.
    pub no_wait: bool,
    /// __WALL, __WCLONE: children whose end sends no SIGCHLD, all or only.
    pub all: bool,
    pub clones: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum Change {
    Ended(ExitStatus),
    Stopped(Signal),
    /// Stopped for its tracer.
    Trapped(Signal),
    Continued,
}

#[derive(Clone, Copy, Debug)]
pub struct WaitEvent {
    pub pid: i32,
    pub uid: u32,
    pub change: Change,
    pub usage: Usage,
}

impl WaitEvent {
    /// The status word of wait4(2).
    pub fn status(&self) -> i32 {
        match self.change {
            Change::Ended(status) => status.wait_status(),
            Change::Stopped(signal) | Change::Trapped(signal) => (signal.number() as i32) << 8 | 0x7f,
            Change::Continued => 0xffff,
        }
    }
}

enum Look {
    Found(WaitEvent),
    /// There are children to wait for.
    NotYet,
    NoChild,
}

impl CurrentTask {
    /// `None` with WNOHANG when nothing has changed. `ECHILD`.
    pub fn wait(&mut self, target: WaitTarget, options: WaitOptions) -> Result<Option<WaitEvent>, Stop> {
        let outcome = self.block_until(Events::all(), None, |waiter| {
            if let Some(waiter) = waiter {
                self.task.group.children_changed.add(waiter);
            }
            match self.look(target, options) {
                Look::Found(event) => Some(Ok(Some(event))),
                Look::NoChild => Some(Err(Errno::ECHILD)),
                Look::NotYet if options.no_hang => Some(Ok(None)),
                Look::NotYet => None,
            }
        });
        match outcome {
            Ok(result) => result.map_err(Stop::from),
            Err(BlockError::Interrupted | BlockError::TimedOut) => Err(Stop::Restart(Restart::IfAllowed)),
        }
    }

    fn look(&self, target: WaitTarget, options: WaitOptions) -> Look {
        let tree = &self.task.kernel.processes;
        let lineage = tree.lineage();
        let mut candidates = false;
        for child in tree.children(self.task.pid()) {
            let wanted = match target {
                WaitTarget::Any => true,
                WaitTarget::Process(id) => child.id == id,
                WaitTarget::Group(id) => tree.process_group(child.id) == Some(id),
            };
            let is_clone = child.exit_signal() != Some(Signal::SIGCHLD);
            if !wanted || (!options.all && is_clone != options.clones) {
                continue;
            }
            candidates = true;
            if let Some(event) = self.change_of(&lineage, &child, options) {
                return Look::Found(event);
            }
        }
        for tracee in self.task.group.tracees() {
            let wanted = match target {
                WaitTarget::Any => true,
                WaitTarget::Process(id) => tracee.tid() == id,
                WaitTarget::Group(id) => tree.process_group(tracee.pid()) == Some(id),
            };
            candidates |= wanted;
            if wanted && let Some(signal) = tracee.unreported_trace_stop(options.no_wait) {
                let (pid, uid) = (tracee.tid(), tracee.credentials().uid);
                return Look::Found(WaitEvent { pid, uid, change: Change::Trapped(signal), usage: Usage::default() });
            }
        }
        if candidates { Look::NotYet } else { Look::NoChild }
    }

    fn change_of(&self, _: &Lineage<'_>, child: &Arc<ThreadGroup>, options: WaitOptions) -> Option<WaitEvent> {
        let (change, usage, uid) = {
            let mut state = child.state.lock();
            let mut usage = state.usage;
            usage.add(&state.children_usage);
            let change = match (state.zombie, state.stop.unreported) {
                (Some(status), _) if options.exited => Change::Ended(status),
                (None, Some(StopReport::Stopped(signal))) if options.stopped => Change::Stopped(signal),
                (None, Some(StopReport::Continued)) if options.continued => Change::Continued,
                _ => return None,
            };
            if !matches!(change, Change::Ended(_)) && !options.no_wait {
                state.stop.unreported = None;
            }
            (change, usage, state.tasks.first().map_or(state.last_uid, |t| t.credentials().uid))
        };
        if matches!(change, Change::Ended(_)) && !options.no_wait && !self.task.kernel.reap(child, &self.task.group) {
            return None;
        }
        Some(WaitEvent { pid: child.id, uid, change, usage })
    }
}
