//! Making tasks: clone(2), fork(2), vfork(2). kernel/fork.c.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sentry_abi::{Errno, Result, UserAddr};
use sentry_auth::Caps;
use sentry_mm::Mm;
use sentry_platform::{GuestThread, Registers, SpawnKind};
use sentry_sync::WaitQueue;

use super::{CurrentTask, Restart, Stop, SysResult, Task, TaskSeed, VforkDone};
use crate::limits::Resource;
use crate::thread_group::ThreadGroup;

/// `CLONE_*`.
pub mod clone_flags {
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const PIDFD: u64 = 0x1000;
    pub const PTRACE: u64 = 0x2000;
    pub const VFORK: u64 = 0x4000;
    pub const PARENT: u64 = 0x8000;
    pub const THREAD: u64 = 0x10000;
    pub const NEWNS: u64 = 0x20000;
    pub const SYSVSEM: u64 = 0x40000;
    pub const SETTLS: u64 = 0x80000;
    pub const PARENT_SETTID: u64 = 0x10_0000;
    pub const CHILD_CLEARTID: u64 = 0x20_0000;
    pub const DETACHED: u64 = 0x40_0000;
    pub const UNTRACED: u64 = 0x80_0000;
    pub const CHILD_SETTID: u64 = 0x100_0000;
    pub const NEWCGROUP: u64 = 0x200_0000;
    pub const NEWUTS: u64 = 0x400_0000;
    pub const NEWIPC: u64 = 0x800_0000;
    pub const NEWUSER: u64 = 0x1000_0000;
    pub const NEWPID: u64 = 0x2000_0000;
    pub const NEWNET: u64 = 0x4000_0000;
    pub const IO: u64 = 0x8000_0000;
    pub const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    pub const INTO_CGROUP: u64 = 0x2_0000_0000;
    pub const NEWTIME: u64 = 0x80;
    pub const NAMESPACES: u64 = NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET | NEWTIME;
}

use clone_flags as flag;

/// The arguments of clone3(2), into which the older calls are put too.
#[derive(Clone, Copy, Default, Debug)]
pub struct CloneRequest {
    pub flags: u64,
    pub pidfd: UserAddr,
    pub child_tid: UserAddr,
    pub parent_tid: UserAddr,
    /// 0 for none: must then share the address space or be a parent's.
    pub exit_signal: u64,
    /// Top of the child's stack; 0 keeps the caller's.
    pub stack_top: u64,
    pub tls: u64,
    /// A wanted pid (clone3's set_tid, innermost namespace), 0 for any.
    pub set_tid: i32,
}

/// Opens a descriptor for a process that is being made (CLONE_PIDFD) and tells the caller its number.
pub type OpenPidfd<'a> = &'a dyn Fn(&mut CurrentTask, &Arc<ThreadGroup>) -> Result<i32>;

impl CurrentTask {
    /// Makes the child and starts it; returns its id. With CLONE_VFORK only once it has exec'd or ended.
    pub fn clone(&mut self, request: &CloneRequest, pidfd: Option<OpenPidfd<'_>>) -> SysResult {
        let flags = request.flags;
        self.check(request)?;
        let broadcasts = self.task.group.state.lock().broadcasts;
        if flags & flag::THREAD == 0 && self.task.has_work() {
            // A signal to a process group must meet parent and child, or neither child nor fork.
            return Err(Stop::Restart(Restart::Always));
        }
        let tid = self.task.kernel.processes.allocate()?;
        let (thread, mm) = self.host_thread(request)?;
        let group = if flags & flag::THREAD != 0 { self.task.group.clone() } else { self.child_group(tid, flags, request.exit_signal) };
        let task = self.new_task(tid, request, &group, thread.as_ref(), mm);
        let vfork = (flags & flag::VFORK != 0).then(|| Arc::new(VforkDone { done: AtomicBool::new(false), queue: WaitQueue::new() }));
        *task.vfork.lock() = vfork.clone();
        self.write_ids(request, &task);
        let pidfd = pidfd.map(|open| open(self, &group)).transpose();
        let entered = match pidfd {
            Ok(_) => self.enter(&task, &group, flags, broadcasts),
            Err(errno) => Err(errno.into()),
        };
        if let Err(stop) = entered {
            if let Ok(Some(fd)) = pidfd {
                let _ = self.files().remove(fd);
            }
            thread.exit(None);
            return Err(stop);
        }
        let mut current = CurrentTask::new(task.clone(), thread);
        // A child on the parent's own stack (fork, vfork) keeps the alternate stack; one on another stack of the same memory does not.
        if flags & flag::VM == 0 || flags & flag::VFORK != 0 {
            current.alt_stack = self.alt_stack;
        }
        if let Err(error) = super::spawn(current) {
            tracing::warn!(%error, "no thread for a new task");
            task.abandon();
            return Err(Errno::EAGAIN.into());
        }
        if let Some(done) = vfork {
            self.await_vfork(&done);
        }
        Ok(tid as u64)
    }

    /// What can be refused before anything is made.
    fn check(&self, request: &CloneRequest) -> Result<(), Stop> {
        check(request)?;
        if request.flags & flag::PARENT != 0 && self.task.pid() == 1 {
            return Err(Errno::EINVAL.into());
        }
        self.check_task_limit()?;
        Ok(())
    }

    /// The child's thread on the host, and its address space.
    fn host_thread(&mut self, request: &CloneRequest) -> Result<(Box<dyn GuestThread>, Arc<Mm>)> {
        let kind = match request.flags {
            f if f & flag::THREAD != 0 => SpawnKind::Thread,
            f if f & flag::VM != 0 => SpawnKind::SharedSpace,
            _ => SpawnKind::Fork,
        };
        let start = self.child_registers(request);
        let operation = self.mm.begin_operation();
        let thread = self.thread.spawn(kind, &start).map_err(|e| match e.errno() {
            Errno::ESRCH | Errno::ENOMEM => Errno::ENOMEM,
            _ => Errno::EAGAIN,
        })?;
        let mm = if kind == SpawnKind::Fork { self.mm.fork(&operation, thread.space().clone()) } else { self.mm.clone() };
        drop(operation);
        Ok((thread, mm))
    }

    fn new_task(&self, tid: i32, request: &CloneRequest, group: &Arc<ThreadGroup>, thread: &dyn GuestThread, mm: Arc<Mm>) -> Arc<Task> {
        let flags = request.flags;
        let task = Task::new(TaskSeed {
            tid,
            kernel: self.task.kernel.clone(),
            group: group.clone(),
            interrupter: thread.interrupter(),
            mask: self.task.mask(),
            mm,
            fs: if flags & flag::FS != 0 { self.task.fs() } else { Arc::new(self.task.fs().fork()) },
            files: if flags & flag::FILES != 0 { self.task.files() } else { Arc::new(self.task.files().fork()) },
            credentials: self.task.credentials(),
            comm: self.task.comm(),
            start_ns: sentry_time::ClockId::Boottime.now_ns(),
        });
        self.inherit(&task, request);
        task
    }

    /// Only the end of this task ends the wait; the child then goes on alone.
    fn await_vfork(&self, done: &VforkDone) {
        let _ = self.block_killable(|waiter| {
            if let Some(waiter) = waiter {
                done.queue.add(waiter);
            }
            done.done.load(Ordering::SeqCst).then_some(())
        });
    }

    fn child_registers(&mut self, request: &CloneRequest) -> Registers {
        let mut start = *self.thread.registers();
        start.rax = 0;
        start.orig_rax = u64::MAX;
        if request.stack_top != 0 {
            start.rsp = request.stack_top;
        }
        if request.flags & flag::SETTLS != 0 {
            start.fs_base = request.tls;
        }
        start
    }

    fn child_group(&self, tid: i32, flags: u64, exit_signal: u64) -> Arc<ThreadGroup> {
        let mine = &self.task.group;
        let handlers = if flags & flag::SIGHAND != 0 {
            mine.handlers()
        } else if flags & flag::CLEAR_SIGHAND != 0 {
            Arc::new(mine.handlers().cleared())
        } else {
            Arc::new(mine.handlers().copy())
        };
        // A sibling ends as this process does, towards the same parent.
        let exit_signal = if flags & flag::PARENT != 0 { mine.exit_signal.load(Ordering::Relaxed) } else { exit_signal as i32 };
        let group = ThreadGroup::new(tid, handlers, mine.limits(), exit_signal, sentry_time::ClockId::Boottime.now_ns());
        if flags & flag::PARENT != 0 {
            group.set_parent_program_of_sibling(mine);
        } else {
            group.set_parent_program(mine);
        }
        group.dumpable.store(mine.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
        if flags & flag::VM != 0 {
            mine.shares_space.store(true, Ordering::Relaxed);
            group.shares_space.store(true, Ordering::Relaxed);
        }
        group.personality.store(mine.personality.load(Ordering::Relaxed), Ordering::Relaxed);
        group.oom_score_adj.store(mine.oom_score_adj.load(Ordering::Relaxed), Ordering::Relaxed);
        group
    }

    fn inherit(&self, task: &Task, request: &CloneRequest) {
        if request.flags & flag::CHILD_CLEARTID != 0 {
            task.clear_child_tid.store(request.child_tid.0, Ordering::Relaxed);
        }
        const RESET_ON_FORK: i32 = 0x4000_0000;
        let (nice, policy) = (self.task.nice.load(Ordering::Relaxed), self.task.policy.load(Ordering::Relaxed));
        let reset = policy & RESET_ON_FORK != 0;
        task.nice.store(if reset { nice.max(0) } else { nice }, Ordering::Relaxed);
        // Only real-time policies are reset, of which there are none.
        task.policy.store(policy & !RESET_ON_FORK, Ordering::Relaxed);
        task.timer_slack_ns.store(self.task.timer_slack_ns.load(Ordering::Relaxed), Ordering::Relaxed);
        task.inherit_affinity(&self.task);
        task.creator_tid.store(self.task.tid(), Ordering::Relaxed);
    }

    /// As Linux, bad addresses are the caller's and the child's bad luck.
    fn write_ids(&self, request: &CloneRequest, task: &Task) {
        let tid = task.tid();
        if request.flags & flag::PARENT_SETTID != 0 {
            let _ = self.mm.write(request.parent_tid, &tid.to_le_bytes());
        }
        if request.flags & flag::CHILD_SETTID != 0 {
            let _ = task.mm().write(request.child_tid, &tid.to_le_bytes());
        }
    }

    /// The sandbox's most, and RLIMIT_NPROC of those whom it binds.
    fn check_task_limit(&self) -> Result<()> {
        let kernel = &self.task.kernel;
        if kernel.processes.task_count() as u64 >= kernel.max_tasks {
            return Err(Errno::EAGAIN);
        }
        let (limit, creds) = (self.limit(Resource::Processes), self.creds());
        let bound = creds.uid != 0 && !creds.has(Caps::SYS_RESOURCE) && !creds.has(Caps::SYS_ADMIN);
        if bound && limit < kernel.max_tasks && kernel.processes.tasks_of(creds.uid) as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Makes the task known. A process that is ending takes no new tasks.
    fn enter(&self, task: &Arc<Task>, group: &Arc<ThreadGroup>, flags: u64, broadcasts: u64) -> Result<(), Stop> {
        let tree = &self.task.kernel.processes;
        let _lineage = tree.lineage();
        if self.task.is_doomed() {
            return Err(Errno::EAGAIN.into());
        }
        if flags & flag::THREAD == 0 && self.task.group.state.lock().broadcasts != broadcasts {
            return Err(Stop::Restart(Restart::Always));
        }
        {
            let mut state = group.state.lock();
            if state.exit.is_some() || state.exec.is_some() {
                return Err(Errno::EAGAIN.into());
            }
            state.tasks.push(task.clone());
        }
        if flags & flag::THREAD != 0 {
            tree.add_thread(task.clone());
        } else {
            let parent = if flags & flag::PARENT != 0 { tree.parent(self.task.pid()) } else { self.task.pid() };
            tree.add_process(group.clone(), task.clone(), parent);
            group.timers.watch_cpu_limit(&self.task.kernel, group);
        }
        Ok(())
    }
}

/// The combinations that clone(2) refuses.
fn check(request: &CloneRequest) -> Result<(), Stop> {
    let flags = request.flags;
    let has = |f: u64| flags & f != 0;
    if has(flag::SIGHAND) && !has(flag::VM) || has(flag::THREAD) && !has(flag::SIGHAND) {
        return Err(Errno::EINVAL.into());
    }
    if has(flag::FS) && has(flag::NEWNS) || has(flag::SIGHAND) && has(flag::CLEAR_SIGHAND) {
        return Err(Errno::EINVAL.into());
    }
    if has(flag::THREAD) && has(flag::PIDFD) || request.exit_signal > 64 {
        return Err(Errno::EINVAL.into());
    }
    if has(flag::NAMESPACES) {
        // As on a kernel without these namespaces' support.
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

impl Task {
    /// Undoes [`CurrentTask::enter`] for a task that never started.
    fn abandon(self: &Arc<Task>) {
        self.group.state.lock().tasks.retain(|t| !Arc::ptr_eq(t, self));
        self.kernel.processes.remove_task(self);
        if self.group.id == self.tid() {
            self.kernel.processes.reap(self.group.id);
        }
    }
}
