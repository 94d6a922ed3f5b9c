//! Tracing, as far as leak checkers and simple tools need it: attaching, stops at the delivery of signals, registers of a stopped thread.
//! ptrace(2), kernel/ptrace.c.
//!
//! A stopped tracee publishes a copy of its registers, which its tracer reads and changes, and takes it back when it goes on: nobody but its own
//! sentry thread ever touches its stub. The tracer is a process here, not a thread. Absent: single steps, stops at system calls and other
//! events, group stops of tracees, and waiting for the end of a tracee that is no child.

use std::sync::Arc;

use sentry_abi::signal::{CLD_TRAPPED, SI_KERNEL, SI_USER};
use sentry_abi::{Errno, Result, SigInfo, Signal};
use sentry_auth::Caps;
use sentry_platform::Registers;
use sentry_sync::{Level, Mutex, Parker};

use crate::signal::{Disposition, sa};
use crate::task::{CurrentTask, RunState, Task};
use crate::thread_group::ThreadGroup;

/// A thread's tracing, if it is or was traced.
pub(crate) struct Tracing(Mutex<Trace>);

#[derive(Default)]
struct Trace {
    tracer: Option<Arc<ThreadGroup>>,
    stop: Option<TraceStop>,
}

/// A thread that has stopped for its tracer.
pub struct TraceStop {
    pub registers: Registers,
    /// The vector state as it was when the thread stopped; changes have no effect.
    pub fp_state: Vec<u8>,
    /// The signal whose delivery stopped it.
    pub info: SigInfo,
    signal: Signal,
    /// wait4(2) has been told.
    reported: bool,
    /// It may go on, with this signal.
    resume: Option<Option<SigInfo>>,
}

impl Tracing {
    pub fn new() -> Tracing {
        Tracing(Mutex::new(Level::Leaf, Trace::default()))
    }
}

impl Task {
    /// The process that traces this thread.
    pub fn tracer(&self) -> Option<Arc<ThreadGroup>> {
        self.tracing.0.lock().tracer.clone()
    }

    /// Somebody who has not CAP_SYS_PTRACE traces this thread: it must get no rights that the tracer has not.
    pub(crate) fn has_weak_tracer(&self) -> bool {
        let Some(tracer) = self.tracer() else { return false };
        tracer.any_task().is_none_or(|t| !t.credentials().has(Caps::SYS_PTRACE))
    }

    /// From now on `tracer` hears of this thread's signals. `EPERM` if it is traced already.
    pub fn trace_by(self: &Arc<Task>, tracer: &Arc<ThreadGroup>) -> Result<()> {
        {
            let mut trace = self.tracing.0.lock();
            if trace.tracer.is_some() {
                return Err(Errno::EPERM);
            }
            trace.tracer = Some(tracer.clone());
        }
        tracer.tracees.lock().push(self.clone());
        Ok(())
    }

    /// PTRACE_ATTACH: also stops the thread.
    pub fn attach(self: &Arc<Task>, tracer: &Arc<ThreadGroup>) -> Result<()> {
        self.trace_by(tracer)?;
        self.send(Signal::SIGSTOP, SigInfo::new(Signal::SIGSTOP, SI_KERNEL))
    }

    /// Looks at the stop of this thread, for its tracer. `ESRCH` if it is not this tracer's, or not stopped.
    pub fn with_trace_stop<R>(&self, tracer: &ThreadGroup, act: impl FnOnce(&mut TraceStop) -> R) -> Result<R> {
        let mut trace = self.tracing.0.lock();
        let mine = trace.tracer.as_ref().is_some_and(|t| std::ptr::eq(t.as_ref(), tracer));
        let stop = trace.stop.as_mut().filter(|stop| mine && stop.resume.is_none());
        stop.map(act).ok_or(Errno::ESRCH)
    }

    /// Lets it go on, with `signal` instead of the one that stopped it.
    pub fn resume_traced(&self, tracer: &ThreadGroup, signal: Option<Signal>) -> Result<()> {
        let sender = (tracer.id, tracer.any_task().map_or(0, |t| t.credentials().uid));
        self.with_trace_stop(tracer, |stop| {
            let info = signal.map(|s| if s == stop.signal { stop.info } else { SigInfo::from_sender(s, SI_USER, sender.0, sender.1) });
            stop.resume = Some(info);
        })?;
        self.kick();
        Ok(())
    }

    /// PTRACE_DETACH, or the end of one of the two. A stopped thread goes on, with its signal unless it was told otherwise.
    pub fn untrace(self: &Arc<Task>) {
        let tracer = {
            let mut trace = self.tracing.0.lock();
            if let Some(stop) = &mut trace.stop {
                let info = stop.info;
                stop.resume.get_or_insert(Some(info));
            }
            trace.tracer.take()
        };
        if let Some(tracer) = tracer {
            tracer.tracees.lock().retain(|t| !Arc::ptr_eq(t, self));
            self.kick();
            tracer.children_changed.wake_all();
        }
    }

    /// The signal of a stop that wait4(2) has not been told.
    pub(crate) fn unreported_trace_stop(&self, keep: bool) -> Option<Signal> {
        let mut trace = self.tracing.0.lock();
        let stop = trace.stop.as_mut().filter(|stop| !stop.reported && stop.resume.is_none())?;
        stop.reported = !keep;
        Some(stop.signal)
    }
}

impl ThreadGroup {
    /// The threads that this process traces.
    pub fn tracees(&self) -> Vec<Arc<Task>> {
        self.tracees.lock().clone()
    }
}

impl CurrentTask {
    /// Signal-delivery-stop: the tracer decides what becomes of the signal. Without tracer, the signal itself.
    pub(crate) fn trace_signal(&mut self, signal: Signal, info: SigInfo) -> Option<SigInfo> {
        if signal == Signal::SIGKILL || self.task.tracing.0.lock().tracer.is_none() {
            return Some(info);
        }
        let registers = *self.thread.registers();
        let fp_state = self.thread.fp_state();
        let tracer = {
            let mut trace = self.task.tracing.0.lock();
            let Some(tracer) = trace.tracer.clone() else { return Some(info) };
            trace.stop = Some(TraceStop { registers, fp_state, info, signal, reported: false, resume: None });
            tracer
        };
        self.task.set_run_state(RunState::Stopped);
        self.tell_tracer(&tracer, signal);
        let (after, resume) = loop {
            let doomed = self.task.is_doomed();
            let mut trace = self.task.tracing.0.lock();
            if let Some(stop) = trace.stop.take_if(|stop| doomed || stop.resume.is_some()) {
                break (stop.registers, stop.resume.flatten());
            }
            drop(trace);
            Parker::park(None);
        };
        self.task.set_run_state(RunState::Running);
        if after != registers {
            *self.thread.registers() = after;
        }
        resume
    }

    fn tell_tracer(&self, tracer: &Arc<ThreadGroup>, signal: Signal) {
        let action = tracer.handlers().get(Signal::SIGCHLD);
        if !action.has(sa::NOCLDSTOP) && action.disposition() != Disposition::Ignore {
            let uid = self.task.credentials().uid;
            let _ = tracer.send(Signal::SIGCHLD, SigInfo::child(CLD_TRAPPED, self.task.tid(), uid, signal.number() as i32, 0, 0));
        }
        tracer.children_changed.wake_all();
    }

    /// A traced thread stops after execve(2).
    pub(crate) fn trace_exec(&self) {
        if self.task.tracer().is_some() {
            let info = SigInfo::from_sender(Signal::SIGTRAP, SI_USER, self.task.pid(), self.task.credentials().uid);
            let _ = self.task.send(Signal::SIGTRAP, info);
        }
    }
}

impl crate::kernel::Kernel {
    /// A process has ended: what it traced goes on alone.
    pub(crate) fn release_tracees(&self, tracer: &ThreadGroup) {
        for tracee in tracer.tracees() {
            tracee.untrace();
        }
    }
}

impl TraceStop {
    /// Changes what the thread is told of the signal, and which one it is.
    pub fn set_info(&mut self, info: SigInfo) -> Result<()> {
        self.signal = Signal::new(info.signo as u64).ok_or(Errno::EIO)?;
        self.info = info;
        Ok(())
    }
}
