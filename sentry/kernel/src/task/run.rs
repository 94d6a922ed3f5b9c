//! The life of a task: run guest code, serve what it asks for, deliver signals, until it ends.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use sentry_abi::signal::SEGV_MAPERR;
use sentry_abi::{Errno, SigInfo, Signal};
use sentry_platform::{Exit, FaultInfo, GuestThread, HostDeath, HostExit};
use sentry_sync::Parker;

use super::current::{Ended, Native};
use super::{CurrentTask, Restart, RunState, Stop, SysResult, Task};
use crate::thread_group::ExitStatus;

thread_local! {
    /// The task of this sentry thread, for what is asked without a caller at hand (/proc/self).
    static CURRENT: Cell<Option<Arc<Task>>> = const { Cell::new(None) };
}

/// (process, thread) of the task that this sentry thread runs, if any.
pub fn current_ids() -> Option<(i32, i32)> {
    let task = CURRENT.take();
    let ids = task.as_ref().map(|t| (t.pid(), t.tid()));
    CURRENT.set(task);
    ids
}

/// Is this the task of the calling sentry thread?
pub(crate) fn is_current(task: &Arc<Task>) -> bool {
    let current = CURRENT.take();
    let same = current.as_ref().is_some_and(|t| Arc::ptr_eq(t, task));
    CURRENT.set(current);
    same
}

impl Task {
    /// Wants to hear of the death of its host process, which may come while it sleeps in a system call.
    pub(crate) fn watch_host(self: &Arc<Self>, thread: &dyn GuestThread) {
        let watch = Arc::new(HostWatch(Arc::downgrade(self)));
        let watcher: Weak<HostWatch> = Arc::downgrade(&watch);
        let old = self.host_watch.lock().replace(watch);
        drop(old);
        thread.watch_death(watcher);
    }

    /// The host process has done its work (execve): its death is no news any more.
    pub(crate) fn forget_host(&self) {
        let old = self.host_watch.lock().take();
        drop(old);
    }
}

/// Hears of the death of one host process of a task: the one that it has now. After execve(2) that of the old one is nobody's news.
pub(crate) struct HostWatch(Weak<Task>);

impl HostDeath for HostWatch {
    fn host_died(&self, how: HostExit) {
        let Some(task) = self.0.upgrade() else { return };
        let current = task.host_watch.lock().as_ref().is_some_and(|watch| std::ptr::eq(Arc::as_ptr(watch), self));
        if current {
            task.host_died(how);
        }
    }
}

impl Task {
    /// The process ends as if the guest had been killed so.
    fn host_died(&self, how: HostExit) {
        // One that executes a program no longer needs the old host process, which its threads may have had to be killed with.
        let executes = self.group.state.lock().exec == Some(self.tid());
        if executes || self.run_state() == RunState::Dead || self.is_doomed() {
            return;
        }
        let signal = match how {
            HostExit::Signal(number) => Signal::new(number as u64).unwrap_or(Signal::SIGKILL),
            HostExit::Code(_) => Signal::SIGKILL,
        };
        tracing::warn!(pid = self.pid(), ?how, "the host ended a guest process");
        self.group.kill_all(ExitStatus::Signaled { signal, core: false });
    }
}

impl CurrentTask {
    /// Makes the calling sentry thread, which serves no other task, this task's own: it is woken when the task is.
    pub fn adopt_thread(&self) {
        // The task is new: nobody has set it before.
        let _ = self.task.parker.set(Parker::current());
        self.task.watch_host(self.thread.as_ref());
        self.task.system_base_ns.store(sentry_time::thread_cpu_ns(), Ordering::Relaxed);
        CURRENT.set(Some(self.task.clone()));
    }

    /// Runs to the task's end.
    pub(crate) fn run(mut self) {
        self.adopt_thread();
        while self.return_to_guest() {
            self.task.in_guest.store(true, Ordering::SeqCst);
            // A signal that came before the flag was set has not interrupted anybody.
            if self.task.has_work() {
                self.task.in_guest.store(false, Ordering::SeqCst);
                continue;
            }
            let exit = self.thread.run();
            self.task.in_guest.store(false, Ordering::SeqCst);
            self.handle(exit);
        }
        self.task.set_run_state(RunState::Dead);
        self.finish();
        // Not left to the thread's end, when its other locals may be gone.
        drop(CURRENT.take());
    }

    fn handle(&mut self, exit: Exit) {
        match exit {
            Exit::Syscall => {
                self.registers_set = false;
                let kernel = self.task.kernel.clone();
                let result = kernel.system_calls.call(self);
                self.complete(result);
            }
            Exit::Fault(info) => self.fault(&info),
            Exit::Interrupted => {}
            Exit::InterruptedWait { timed } => {
                let restart = if timed { Restart::Block } else { Restart::IfAllowed };
                self.interrupted = Some((restart, Native::Platform));
            }
            Exit::Gone(how) => self.host_gone(how),
        }
    }

    /// Puts a call's result where the guest will find it, or lets a signal decide first.
    pub(crate) fn complete(&mut self, result: SysResult) {
        if self.registers_set || self.ended.is_some() {
            return;
        }
        match result {
            Ok(value) => self.thread.set_result(value),
            Err(Stop::Fail(Errno::EFAULT)) if self.thread.is_vsyscall() => {
                self.force_signal(SigInfo::fault(Signal::SIGSEGV, SEGV_MAPERR, self.thread.call().args[0]), None);
            }
            Err(Stop::Fail(errno)) => self.thread.set_result(errno.as_result()),
            Err(Stop::Restart(restart)) => self.interrupted = Some((restart, Native::Sentry)),
        }
    }

    fn fault(&mut self, info: &FaultInfo) {
        let signal = Signal::new(info.signo as u64).unwrap_or(Signal::SIGSEGV);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let registers = *self.thread.registers();
            tracing::debug!(
                pid = self.task.pid(),
                ?signal,
                address = format_args!("{:#x}", info.addr),
                rip = format_args!("{:#x}", registers.rip),
                "fault"
            );
        }
        self.force_signal(SigInfo::fault(signal, info.code, info.addr), Some(*info));
    }

    /// The host process died: killed by the host (SIGKILL, OOM), or by us because the guest process ends.
    fn host_gone(&mut self, how: HostExit) {
        self.ended = Some(Ended::HostGone);
        if self.task.is_doomed() {
            return;
        }
        self.task.host_died(how);
    }

    /// Looks at everything that must happen before guest code runs again; false when it never will.
    fn return_to_guest(&mut self) -> bool {
        loop {
            if self.ended.is_some() || self.task.is_doomed() {
                return false;
            }
            if self.stop_if_asked() {
                continue;
            }
            if self.task.has_work() && self.deliver_signal() {
                continue;
            }
            if !self.finish_interrupted_call() {
                break;
            }
        }
        self.restore_mask();
        !(self.ended.is_some() || self.task.is_doomed())
    }
}

impl From<super::BlockError> for Stop {
    /// The usual meaning: interrupted calls restart if the handler allows it; a time-out is `ETIMEDOUT`.
    fn from(error: super::BlockError) -> Stop {
        match error {
            super::BlockError::Interrupted => Stop::Restart(Restart::IfAllowed),
            super::BlockError::TimedOut => Stop::Fail(Errno::ETIMEDOUT),
        }
    }
}
