//! How tasks and processes end. kernel/exit.c.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sentry_abi::signal::{CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_STOPPED};
use sentry_abi::{SigInfo, Signal, UserAddr};
use sentry_platform::{GuestThread, Share};

use super::current::Ended;
use super::{CurrentTask, RunState, Task};
use crate::process_tree::Lineage;
use crate::signal::{Disposition, sa};
use crate::thread_group::{ExitStatus, ThreadGroup, Usage};

impl CurrentTask {
    /// exit(2): this thread ends.
    pub fn exit(&mut self, code: u8) {
        self.ended = Some(Ended::Exit);
        // From now on no signal for the process is meant for this task.
        self.task.set_run_state(RunState::Dead);
        if self.task.tid() == self.task.pid() {
            self.task.group.state.lock().leader_code = code;
        }
        self.keep_registers();
    }

    /// exit_group(2), or a signal's default action: the process ends.
    pub fn end_process(&mut self, status: ExitStatus) {
        self.keep_registers();
        self.task.group.kill_all(status);
    }

    /// The task's last act.
    pub(crate) fn finish(mut self) {
        let task = self.task.clone();
        let orderly = self.ended == Some(Ended::Exit);
        let mut user = Duration::ZERO;
        if self.ended != Some(Ended::HostGone) {
            user = self.thread.space().cpu_time();
            self.release_robust_list();
            if !orderly {
                self.clear_shared_tid();
            }
        }
        task.note_system_time();
        let clear = task.clear_child_tid.load(Ordering::Relaxed);
        let clear = (clear != 0).then_some(UserAddr(clear));
        let CurrentTask { thread, mm, .. } = self;
        let body = if orderly {
            thread.exit(clear);
            None
        } else {
            Some(thread)
        };
        drop(mm);
        task.leave(body, user);
    }

    /// A process that shares its memory with another one, and dies as a whole, still clears its tasks' words (mm_release()).
    pub(super) fn clear_shared_tid(&mut self) {
        let at = UserAddr(self.task.clear_child_tid.load(Ordering::Relaxed));
        if !at.is_null() && self.task.group.shares_space.load(Ordering::Relaxed) && self.mm.write_obj(at, &0u32).is_ok() {
            let _ = self.thread.futex_wake(at, 1, Share::Shared);
            let _ = self.thread.futex_wake(at, 1, Share::Private);
        }
    }
}

impl Task {
    /// Takes the task out of its process; the last one makes the process a zombie. `body` is what is left of the guest thread of a process that
    /// is being ended, `user` the CPU time of its host process.
    fn leave(self: &Arc<Task>, body: Option<Box<dyn GuestThread>>, user: Duration) {
        let group = self.group.clone();
        // Files go before the parent hears of the end.
        let files = self.files();
        self.set_files(Arc::new(crate::fd_table::FdTable::default()));
        drop(files);
        self.kernel.tell_of_parent_death(self);
        self.untrace();
        let (last, bodies, heir) = {
            let lineage = self.kernel.processes.lineage();
            let mut state = group.state.lock();
            state.graves.extend(body);
            state.tasks.retain(|t| !Arc::ptr_eq(t, self));
            state.usage.system += self.system_time();
            let left = state.tasks.len();
            let bodies = if left == 0 {
                state.usage.user += user;
                std::mem::take(&mut state.graves)
            } else {
                Vec::new()
            };
            // What was sent to the process while this task could still have taken it.
            let pending = state.pending.set();
            let heir = state.tasks.iter().find(|t| !t.wanted().intersect(pending).is_empty()).cloned();
            let stopped = state.stop.settle(left);
            drop(state);
            if let Some(signal) = stopped {
                self.kernel.tell_parent_of_stop(&lineage, &group, CLD_STOPPED, signal.number() as i32);
            }
            (left == 0, bodies, heir)
        };
        // The host process is dead before a vfork parent goes on in the same memory, and before the parent hears of the end.
        drop(bodies);
        self.finish_vfork();
        // The leader's number stays taken while the process is there: as a group's.
        self.kernel.processes.remove_task(self);
        if last {
            self.kernel.process_ended(&group, self);
        } else {
            group.ended.wake_all();
        }
        if let Some(heir) = heir {
            heir.kick();
        }
    }
}

impl crate::kernel::Kernel {
    /// The last task of a process has ended.
    fn process_ended(&self, group: &Arc<ThreadGroup>, last: &Task) {
        let patience = group.state.lock().patience.take();
        drop(patience);
        group.timers.disarm_all();
        self.system_calls.process_ended(group.id);
        self.release_tracees(group);
        self.leave_session(group);
        if group.id == 1 {
            self.kill_everything_else();
        }
        let status = self.become_zombie(group, last);
        group.ended.wake_all();
        if group.id == 1 {
            self.init_ended(status);
        }
    }

    /// What parent, children and process groups see of the end, as one step. exit_notify().
    fn become_zombie(&self, group: &Arc<ThreadGroup>, last: &Task) -> ExitStatus {
        let lineage = self.processes.lineage();
        let mut anchored: Vec<i32> =
            self.processes.children(group.id).iter().filter(|c| self.processes.is_anchored(c.id)).map(|c| c.id).collect();
        if self.processes.is_anchored(group.id) {
            anchored.push(group.id);
        }
        let uid = last.credentials().uid;
        let status = {
            let mut state = group.state.lock();
            let code = state.leader_code;
            let status = *state.exit.get_or_insert(ExitStatus::Exited(code));
            state.zombie = Some(status);
            state.last_comm = last.comm();
            state.last_uid = uid;
            status
        };
        if let Some((heir, children)) = self.processes.reparent_children(group.id) {
            for child in children {
                // Nobody is to be killed by the end of a child that is not its own.
                child.exit_signal.store(i32::from(Signal::SIGCHLD.number()), Ordering::Relaxed);
                if child.is_zombie() {
                    self.tell_parent_of_end(&lineage, &child, &heir);
                }
            }
        }
        self.wake_orphans(&lineage, &anchored);
        if let Some(parent) = self.processes.group(self.processes.parent(group.id)) {
            self.tell_parent_of_end(&lineage, group, &parent);
        }
        status
    }

    /// Process groups that have just become orphaned while a member is stopped: SIGHUP and SIGCONT (kill_orphaned_pgrp()).
    fn wake_orphans(&self, lineage: &Lineage<'_>, members: &[i32]) {
        let mut groups: Vec<i32> = members.iter().filter_map(|id| self.processes.process_group(*id)).collect();
        groups.sort_unstable();
        groups.dedup();
        for id in groups {
            let stopped = || self.processes.members(id).iter().any(|m| m.state.lock().stop.complete);
            if self.processes.is_orphaned(id) && stopped() {
                self.signal_members(lineage, id, Signal::SIGHUP);
                self.signal_members(lineage, id, Signal::SIGCONT);
            }
        }
    }

    /// SIGCHLD and a wake-up; the child is forgotten at once where the parent does not want to know.
    fn tell_parent_of_end(&self, _: &Lineage<'_>, group: &Arc<ThreadGroup>, parent: &Arc<ThreadGroup>) {
        let (status, usage, uid) = {
            let state = group.state.lock();
            let Some(status) = state.zombie else { return };
            (status, state.usage, state.last_uid)
        };
        let signal = group.end_signal_for(parent);
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
    fn kill_everything_else(&self) {
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
