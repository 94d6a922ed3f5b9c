//! How tasks and processes end. kernel/exit.c.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sentry_abi::signal::{CLD_DUMPED, CLD_EXITED, CLD_KILLED};
use sentry_abi::{SigInfo, Signal, UserAddr};

use super::current::Ended;
use super::{CurrentTask, Task};
use crate::signal::{Disposition, sa};
use crate::thread_group::{ExitStatus, ThreadGroup, Usage};

impl CurrentTask {
    /// exit(2): this thread ends.
    pub fn exit(&mut self, code: u8) {
        self.ended = Some(Ended::Exit);
        if self.task.tid() == self.task.pid() {
            self.task.group.state.lock().leader_code = code;
        }
        self.keep_registers();
    }

    /// exit_group(2), or a signal's default action: the process ends.
    pub fn end_process(&mut self, status: ExitStatus) {
        self.keep_registers();
        {
            let mut state = self.task.group.state.lock();
            state.exit.get_or_insert(status);
        }
        self.note_usage();
        self.release_robust_list();
        self.task.group.kill_all(status);
    }

    /// CPU time of the host process, while it can still be asked.
    fn note_usage(&mut self) {
        let user = self.mm.space().cpu_time();
        self.task.group.state.lock().usage.user = user;
    }

    /// The task's last act.
    pub(crate) fn finish(mut self) {
        let task = self.task.clone();
        let orderly = self.ended == Some(Ended::Exit);
        if orderly {
            self.note_usage();
            self.release_robust_list();
        }
        let clear = task.clear_child_tid.load(Ordering::Relaxed);
        let clear = (clear != 0).then_some(UserAddr(clear));
        // A vfork child's end must not be seen before it has stopped using the parent's memory: the thread goes first.
        let CurrentTask { thread, mm, .. } = self;
        if orderly {
            thread.exit(clear);
        } else {
            // The host process was killed, or a task in execve kills it.
            drop(thread);
        }
        drop(mm);
        task.finish_vfork();
        task.leave();
    }
}

impl Task {
    /// Takes the task out of its process; the last one makes the process a zombie.
    fn leave(self: &Arc<Task>) {
        let group = self.group.clone();
        // Files go before the parent hears of the end.
        let files = self.files();
        self.set_files(Arc::new(crate::fd_table::FdTable::default()));
        drop(files);
        self.kernel.tell_of_parent_death(self);
        let last = {
            let mut state = group.state.lock();
            state.tasks.retain(|t| !Arc::ptr_eq(t, self));
            state.usage.system += Duration::from_nanos(self.system_ns.load(Ordering::Relaxed));
            state.tasks.is_empty()
        };
        // The leader's number stays taken while the process is there: as a group's.
        self.kernel.processes.remove_task(self.tid());
        if last {
            self.kernel.process_ended(&group, self);
        } else {
            group.ended.wake_all();
        }
    }
}

impl crate::kernel::Kernel {
    /// The last task of a process has ended.
    fn process_ended(&self, group: &Arc<ThreadGroup>, last: &Task) {
        let status = {
            let mut state = group.state.lock();
            let code = state.leader_code;
            state.last_comm = last.comm();
            *state.exit.get_or_insert(ExitStatus::Exited(code))
        };
        group.timers.disarm_all();
        self.system_calls.process_ended(group.id);
        self.leave_session(group);
        if group.id == 1 {
            self.kill_everything_else(status);
        }
        self.become_zombie(group, status, last.credentials().uid);
        group.ended.wake_all();
        if group.id == 1 {
            self.init_ended(status);
        }
    }

    /// Hands the children on, becomes waitable and tells the parent, in one turn: who waits sees all of it or nothing, so SIGCHLD is pending
    /// when wait4(2) returns, and nobody reaps a child that has not told yet.
    fn become_zombie(&self, group: &Arc<ThreadGroup>, status: ExitStatus, uid: u32) {
        let _turn = self.ends.lock();
        if let Some((heir, children)) = self.processes.reparent_children(group.id) {
            for child in children {
                if child.state.lock().zombie.is_some() {
                    self.tell_parent_of_end(&child, &heir, 0);
                }
            }
        }
        group.state.lock().zombie = Some(status);
        if let Some(parent) = self.processes.group(self.processes.parent(group.id)) {
            self.tell_parent_of_end(group, &parent, uid);
        }
    }

    /// SIGCHLD and a wake-up; the child is forgotten at once where the parent does not want to know.
    fn tell_parent_of_end(&self, group: &Arc<ThreadGroup>, parent: &Arc<ThreadGroup>, uid: u32) {
        let (status, usage) = {
            let state = group.state.lock();
            let Some(status) = state.zombie else { return };
            (status, state.usage)
        };
        let signal = group.exit_signal();
        let action = parent.handlers().get(Signal::SIGCHLD);
        let unwanted = signal == Some(Signal::SIGCHLD) && (action.disposition() == Disposition::Ignore || action.has(sa::NOCLDWAIT));
        if let Some(signal) = signal
            && !(unwanted && action.disposition() == Disposition::Ignore)
        {
            let (code, value) = match status {
                ExitStatus::Exited(code) => (CLD_EXITED, code as i32),
                ExitStatus::Signaled { signal, core: true } => (CLD_DUMPED, signal.number() as i32),
                ExitStatus::Signaled { signal, core: false } => (CLD_KILLED, signal.number() as i32),
            };
            let ticks = |d: Duration| (d.as_millis() / 10) as i64;
            let mut info = SigInfo::child(code, group.id, uid, value, ticks(usage.user), ticks(usage.system));
            info.signo = signal.number() as i32;
            let _ = parent.send(signal, info);
        }
        if unwanted {
            self.reap(group, parent);
        }
        parent.children_changed.wake_all();
    }

    /// Forgets a zombie and adds its usage to the parent's account.
    pub(crate) fn reap(&self, group: &Arc<ThreadGroup>, parent: &Arc<ThreadGroup>) -> bool {
        if !self.processes.reap(group.id) {
            return false;
        }
        let total = {
            let state = group.state.lock();
            let mut total = state.usage;
            total.add(&state.children_usage);
            total
        };
        add_children_usage(parent, &total);
        true
    }

    /// The session leader's end gives the terminal up: SIGHUP and SIGCONT to its foreground group.
    fn leave_session(&self, group: &ThreadGroup) {
        if self.processes.session(group.id) != Some(group.id) {
            return;
        }
        if let Some(key) = self.processes.controlling_terminal(group.id) {
            self.processes.set_controlling_terminal(group.id, None);
            self.terminals.session_leader_ended(key, group.id);
        }
    }

    /// The end of init is the end of all (pid_namespaces(7)).
    fn kill_everything_else(&self, _status: ExitStatus) {
        for other in self.processes.groups() {
            if other.id != 1 {
                other.kill_all(ExitStatus::Signaled { signal: Signal::SIGKILL, core: false });
            }
        }
    }

    /// PR_SET_PDEATHSIG: children that this thread made hear of its end.
    fn tell_of_parent_death(&self, ended: &Task) {
        for child in self.processes.children(ended.pid()) {
            for task in child.tasks() {
                let number = task.parent_death_signal.load(Ordering::Relaxed);
                if task.creator_tid.load(Ordering::Relaxed) == ended.tid()
                    && let Some(signal) = Signal::new(number as u64)
                {
                    let info = SigInfo::from_sender(signal, sentry_abi::signal::SI_USER, ended.pid(), ended.credentials().uid);
                    let _ = task.send(signal, info);
                }
            }
        }
    }
}

fn add_children_usage(parent: &ThreadGroup, usage: &Usage) {
    parent.state.lock().children_usage.add(usage);
}
