//! execve(2): a new program in a new address space, under the same process id. fs/exec.c.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::{Errno, Mode, Result, Signal};
use sentry_auth::Credentials;
use sentry_mm::Mm;
use sentry_platform::{GuestThread, Registers};
use sentry_vfs::{FileDescription, MountFlags, Path};

use super::{CurrentTask, SysResult, Task};
use crate::limits::Resource;
use crate::loader::{self, AuxIds, Entry, Program};
use crate::thread_group::ExitStatus;

/// A program to execute; the file has been resolved and opened by [`loader::open_program`].
pub struct ExecRequest {
    pub file: Arc<FileDescription>,
    /// The name as given, or /dev/fd/N.
    pub name: Vec<u8>,
    pub argv: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
}

/// What an execve(2) does to how far others may look into the process.
#[derive(Clone, Copy)]
struct Change {
    /// The effective ids are no longer the real ones of before.
    set_id: bool,
    /// The caller may not read the program it executes.
    hidden: bool,
    /// More capabilities than before.
    gained: bool,
}

impl CurrentTask {
    /// Replaces the program. On an error nothing has changed; on success the guest starts afresh.
    pub fn exec(&mut self, request: ExecRequest) -> SysResult {
        let mut argv = request.argv;
        if argv.is_empty() {
            // Linux since 5.18: an empty list becomes one empty string.
            argv.push(Vec::new());
        }
        let stack_limit = self.limit(Resource::Stack);
        let strings: Vec<Vec<u8>> = argv.iter().chain(&request.env).cloned().collect();
        loader::check_strings(&strings, stack_limit)?;
        drop(strings);
        let cx = self.fs_context();
        let program = loader::prepare(&cx, self, request.file, &request.name, argv)?;
        let credentials = self.credentials_after(&program.path)?;
        let old = self.task.credentials();
        let change = Change {
            set_id: credentials.euid != old.uid || credentials.egid != old.gid,
            hidden: loader::is_unreadable(&cx, &program)?,
            gained: !old.permitted.contains(credentials.permitted),
        };
        let comm = program.comm.clone();
        let (mut thread, mm, entry) = match self.build(program, &request.env, &credentials) {
            // The host killed the new process while it was filled (out of memory): too late to go back, as in Linux's begin_new_exec().
            Err(Errno::ESRCH | Errno::EFAULT) => {
                self.end_process(ExitStatus::Signaled { signal: Signal::SIGKILL, core: false });
                return Ok(0);
            }
            built => built?,
        };
        self.end_other_threads()?;
        *thread.registers() = Registers::fresh(entry.rip, entry.rsp);
        thread.reset_fp_state();
        self.become_program(thread, mm, credentials, &comm, change);
        Ok(0)
    }

    fn build(&mut self, program: Program, env: &[Vec<u8>], credentials: &Credentials) -> Result<(Box<dyn GuestThread>, Arc<Mm>, Entry)> {
        let kernel = self.task.kernel.clone();
        let mut thread = kernel.platform.new_space().map_err(|e| {
            tracing::warn!(error = %e, "no address space for execve");
            e.errno()
        })?;
        let mm = Mm::new(thread.space().clone(), kernel.mm_config(&self.task.group.limits()));
        let c = credentials;
        let secure = c.uid != c.euid || c.gid != c.egid;
        let ids = AuxIds { uid: c.uid, euid: c.euid, gid: c.gid, egid: c.egid, secure, cpu: kernel.cpu };
        match program.load(&mm, thread.as_mut(), env, &ids) {
            Ok(entry) => Ok((thread, mm, entry)),
            Err(errno) => {
                thread.interrupter().kill();
                Err(errno)
            }
        }
    }

    /// Set-id bits, unless the mount, no_new_privs or a tracer without privileges says no (ptrace(2), LSM_UNSAFE_PTRACE).
    fn credentials_after(&self, path: &Path) -> Result<Credentials> {
        let old = self.task.credentials();
        let attr = path.inode().attr()?;
        let allowed = !path.mount.flags().contains(MountFlags::NO_SUID) && !old.no_new_privs && !self.task.has_weak_tracer();
        let set_uid = (allowed && attr.mode.0 & Mode::SET_UID != 0).then_some(attr.uid);
        let gid_bits = Mode::SET_GID | 0o010;
        let set_gid = (allowed && attr.mode.0 & gid_bits == gid_bits).then_some(attr.gid);
        Ok(old.after_exec(set_uid, set_gid))
    }

    /// de_thread(): all other tasks of the process end. `EAGAIN` when another one is at it already, or the process is ending.
    fn end_other_threads(&mut self) -> Result<()> {
        let others: Vec<Arc<Task>> = {
            let mut state = self.task.group.state.lock();
            if state.exit.is_some() || state.exec.is_some() {
                return Err(Errno::EAGAIN);
            }
            state.exec = Some(self.task.tid());
            state.tasks.iter().filter(|t| !Arc::ptr_eq(t, &self.task)).cloned().collect()
        };
        for task in &others {
            task.must_exit.store(true, Ordering::SeqCst);
        }
        self.task.group.hurry(|t| !Arc::ptr_eq(t, &self.task));
        let waited = self.block_killable(|waiter| {
            if let Some(waiter) = waiter {
                self.task.group.ended.add(waiter);
            }
            (self.task.group.state.lock().tasks.len() == 1).then_some(())
        });
        if waited.is_ok() {
            self.task.forget_host();
        }
        let patience = {
            let mut state = self.task.group.state.lock();
            state.exec = None;
            // Needed on if the process is ending.
            if state.exit.is_none() { state.patience.take() } else { None }
        };
        drop(patience);
        waited.map_err(|_| Errno::EAGAIN)
    }

    fn become_program(&mut self, thread: Box<dyn GuestThread>, mm: Arc<Mm>, credentials: Credentials, comm: &[u8], change: Change) {
        let task = self.task.clone();
        // The new credentials are in force before the new program can be seen (ThreadGroup::may_access).
        let privileged = change.set_id || change.gained || credentials.euid != credentials.uid || credentials.egid != credentials.gid;
        task.group.dumpable.store(!privileged && !change.hidden, Ordering::SeqCst);
        task.set_credentials(credentials);
        if privileged && task.has_weak_tracer() {
            // It came between the decision and now; one that comes later is judged by the new credentials.
            task.untrace();
        }
        if change.set_id {
            // Nobody else goes on changing a set-user-id program's working directory, root or umask.
            task.set_fs(Arc::new(task.fs().fork()));
        }
        self.leave_memory();
        *task.interrupter.lock() = thread.interrupter();
        task.watch_host(thread.as_ref());
        let old_thread = std::mem::replace(&mut self.thread, thread);
        let old_mm = std::mem::replace(&mut *task.mm.lock(), mm.clone());
        self.mm = mm;
        // The old host process ends with its threads.
        let graves = std::mem::take(&mut task.group.state.lock().graves);
        drop(graves);
        drop(old_thread);
        drop(old_mm);
        self.take_leaders_place();
        task.set_comm(comm);
        task.group.did_exec.store(true, Ordering::Relaxed);
        self.trace_exec();
        task.group.tell_of_exec();
        let handlers = Arc::new(task.group.handlers().after_exec());
        *task.group.handlers.lock() = handlers;
        task.clear_child_tid.store(0, Ordering::Relaxed);
        task.robust_list.store(0, Ordering::Relaxed);
        if privileged {
            task.parent_death_signal.store(0, Ordering::Relaxed);
        }
        task.group.shares_space.store(false, Ordering::Relaxed);
        task.group.timers.after_exec();
        self.reset_alt_stack();
        self.restart = None;
        self.interrupted = None;
        let files = task.files();
        let own = if Arc::strong_count(&files) > 2 { Arc::new(files.fork()) } else { files };
        own.close_marked();
        task.set_files(own);
        self.keep_registers();
        task.finish_vfork();
    }

    /// What others may wait for in the memory that is left: locks, and the word that a joining thread watches (exec_mm_release()).
    fn leave_memory(&mut self) {
        let user = self.thread.space().cpu_time();
        self.task.group.state.lock().usage.user += user;
        self.release_robust_list();
        self.clear_shared_tid();
    }

    /// A thread that was not the leader takes the leader's number.
    fn take_leaders_place(&self) {
        let (tid, leader) = (self.task.tid(), self.task.pid());
        if tid != leader {
            self.task.tid.store(leader, Ordering::Release);
            self.task.kernel.processes.rename_task(&self.task, tid, leader);
        }
    }
}
