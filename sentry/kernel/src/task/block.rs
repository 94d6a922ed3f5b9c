//! Sleeping: the one place where a task waits for something.

use std::sync::Arc;
use std::time::Instant;

use sentry_sync::{Events, Notify, Parker, Waiter};

use super::{CurrentTask, RunState, Task};

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockError {
    /// A signal, a stop or the task's end came first. The call decides how it restarts ([`super::Restart`]).
    Interrupted,
    TimedOut,
}

/// Wakes a task through its parker.
struct WakeTask(Arc<Task>);

impl Notify for WakeTask {
    fn notify(&self, _: Events) {
        if let Some(parker) = self.0.parker.get() {
            parker.unpark();
        }
    }
}

impl CurrentTask {
    /// Calls `attempt` until it gives a value, sleeping between calls. The first call is made without a waiter (nothing is registered when
    /// there is no need to wait), the second with one, which `attempt` registers with whatever will wake it; later ones without.
    /// `want` is the mask of events that wake.
    pub fn block_until<T>(
        &self,
        want: Events,
        deadline: Option<Instant>,
        attempt: impl FnMut(Option<&Waiter>) -> Option<T>,
    ) -> Result<T, BlockError> {
        self.block(want, deadline, true, attempt)
    }

    /// Like [`CurrentTask::block_until`], but only the task's end interrupts it (vfork, exec): TASK_KILLABLE.
    pub(crate) fn block_killable<T>(&self, attempt: impl FnMut(Option<&Waiter>) -> Option<T>) -> Result<T, BlockError> {
        self.block(Events::all(), None, false, attempt)
    }

    fn block<T>(
        &self,
        want: Events,
        deadline: Option<Instant>,
        interruptible: bool,
        mut attempt: impl FnMut(Option<&Waiter>) -> Option<T>,
    ) -> Result<T, BlockError> {
        if let Some(value) = attempt(None) {
            return Ok(value);
        }
        let waiter = Waiter::new(Arc::new(WakeTask(self.task.clone())), want);
        let mut first = Some(&waiter);
        self.task.note_system_time();
        self.task.set_run_state(RunState::Sleeping);
        let result = loop {
            if let Some(value) = attempt(first.take()) {
                break Ok(value);
            }
            let stop = if interruptible { self.task.has_work() } else { self.task.is_doomed() };
            if stop {
                break Err(BlockError::Interrupted);
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                break Err(BlockError::TimedOut);
            }
            Parker::park(deadline);
        };
        self.task.set_run_state(RunState::Running);
        result
    }

    /// Sleeps until `deadline`, or for ever; ends early only by interruption.
    pub fn sleep(&self, deadline: Option<Instant>) -> Result<(), BlockError> {
        match self.block_until::<()>(Events::empty(), deadline, |_| None) {
            Err(BlockError::TimedOut) => Ok(()),
            Err(other) => Err(other),
            Ok(()) => Ok(()),
        }
    }
}
