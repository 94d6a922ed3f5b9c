//! Tasks (guest threads): [`Task`] is what others may see, [`CurrentTask`] the running one.

mod block;
mod clone;
pub(crate) mod current;
mod exec;
mod exit;
mod robust;
mod run;
mod stop;
mod threads;
mod wait;

pub use block::BlockError;
pub use clone::{CloneRequest, OpenPidfd, clone_flags};
pub use current::{CurrentTask, RestartBlock};
pub use exec::ExecRequest;
pub use robust::TaskFutexes;
pub use run::current_ids;
pub(crate) use run::is_current;
pub(crate) use threads::{IdleThreads, spawn};
pub use wait::{Change, WaitEvent, WaitOptions, WaitTarget};

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sentry_abi::signal::SI_TIMER;
use sentry_abi::{Errno, SigInfo, SigSet, Signal};
use sentry_auth::Credentials;
use sentry_mm::Mm;
use sentry_platform::Interrupt;
use sentry_sync::{Level, Mutex, Parker, WaitQueue};

use crate::fd_table::FdTable;
use crate::fs_state::FsState;
use crate::kernel::Kernel;
use crate::ptrace::Tracing;
use crate::signal::Pending;
use crate::thread_group::ThreadGroup;

/// Why a system call ends without a value for the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    Fail(Errno),
    Restart(Restart),
}

/// What happens to a call that a signal interrupted; the ERESTART* codes of the kernel, which no guest ever sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Restarted unless a handler without SA_RESTART runs (ERESTARTSYS).
    IfAllowed,
    /// Always restarted (ERESTARTNOINTR).
    Always,
    /// Restarted only when no handler runs (ERESTARTNOHAND).
    WithoutHandler,
    /// Restarted by restart_syscall(2), when no handler runs, with what [`CurrentTask::set_restart`] kept (ERESTART_RESTARTBLOCK).
    Block,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        // A terminal read in the background answers ERESTART: stop first, then try again.
        if errno == Errno::ERESTART { Stop::Restart(Restart::IfAllowed) } else { Stop::Fail(errno) }
    }
}

/// What a system call handler returns.
pub type SysResult = Result<u64, Stop>;

/// As /proc/pid/stat names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RunState {
    Running = b'R',
    Sleeping = b'S',
    Stopped = b'T',
    Dead = b'X',
}

/// A guest thread as others see it.
pub struct Task {
    tid: AtomicI32,
    pub kernel: Arc<Kernel>,
    pub group: Arc<ThreadGroup>,
    parker: OnceLock<Parker>,
    interrupter: Mutex<Arc<dyn Interrupt>>,
    /// Guest code runs; a signal must interrupt it.
    in_guest: AtomicBool,
    /// A task in execve(2) wants this one to end.
    must_exit: AtomicBool,
    run_state: AtomicU8,
    /// Blocked signals. Written by the task itself.
    mask: AtomicU64,
    /// Signals that sigtimedwait(2) waits for although they are blocked.
    awaited: AtomicU64,
    pub(crate) pending: Mutex<Pending>,
    pub(crate) tracing: Tracing,
    mm: Mutex<Arc<Mm>>,
    fs: Mutex<Arc<FsState>>,
    files: Mutex<Arc<FdTable>>,
    credentials: Mutex<Arc<Credentials>>,
    comm: Mutex<Vec<u8>>,
    /// Guest address that is cleared and woken at the thread's end; 0 for none.
    pub clear_child_tid: AtomicU64,
    pub robust_list: AtomicU64,
    /// Set while the creator waits for this task to exec or end (CLONE_VFORK).
    vfork: Mutex<Option<Arc<VforkDone>>>,
    /// Who hears of the death of the host process that the task has now.
    host_watch: Mutex<Option<Arc<run::HostWatch>>>,
    /// Sent when the creating *thread* ends (PR_SET_PDEATHSIG).
    pub parent_death_signal: AtomicI32,
    pub timer_slack_ns: AtomicU64,
    pub nice: AtomicI32,
    /// SCHED_OTHER, SCHED_BATCH or SCHED_IDLE, perhaps with SCHED_RESET_ON_FORK: remembered for whoever asks.
    pub policy: AtomicI32,
    /// The CPUs it asked to run on (sched_setaffinity(2)), a bit each; `None` for all.
    affinity: Mutex<Option<Arc<[u8]>>>,
    /// System time: what the sentry's own thread used for it, in ns.
    pub system_ns: AtomicU64,
    /// What the sentry's thread had used for others before this task.
    system_base_ns: AtomicU64,
    pub start_ns: i64,
    /// Tells of the creator, for PR_SET_PDEATHSIG.
    pub creator_tid: AtomicI32,
}

/// A parent's wait for its vfork child.
pub struct VforkDone {
    done: AtomicBool,
    queue: WaitQueue,
}

/// What a new [`Task`] starts with.
pub struct TaskSeed {
    pub tid: i32,
    pub kernel: Arc<Kernel>,
    pub group: Arc<ThreadGroup>,
    pub interrupter: Arc<dyn Interrupt>,
    pub mask: SigSet,
    pub mm: Arc<Mm>,
    pub fs: Arc<FsState>,
    pub files: Arc<FdTable>,
    pub credentials: Arc<Credentials>,
    pub comm: Vec<u8>,
    pub start_ns: i64,
}

impl Task {
    pub fn new(seed: TaskSeed) -> Arc<Task> {
        Arc::new(Task {
            tid: AtomicI32::new(seed.tid),
            kernel: seed.kernel,
            group: seed.group,
            parker: OnceLock::new(),
            interrupter: Mutex::new(Level::Leaf, seed.interrupter),
            in_guest: AtomicBool::new(false),
            must_exit: AtomicBool::new(false),
            run_state: AtomicU8::new(RunState::Running as u8),
            mask: AtomicU64::new(seed.mask.0),
            awaited: AtomicU64::new(0),
            pending: Mutex::new(Level::Signal, Pending::default()),
            tracing: Tracing::new(),
            mm: Mutex::new(Level::Leaf, seed.mm),
            fs: Mutex::new(Level::Leaf, seed.fs),
            files: Mutex::new(Level::Leaf, seed.files),
            credentials: Mutex::new(Level::Leaf, seed.credentials),
            comm: Mutex::new(Level::Leaf, seed.comm),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            vfork: Mutex::new(Level::Leaf, None),
            host_watch: Mutex::new(Level::Leaf, None),
            parent_death_signal: AtomicI32::new(0),
            timer_slack_ns: AtomicU64::new(50_000),
            nice: AtomicI32::new(0),
            policy: AtomicI32::new(0),
            affinity: Mutex::new(Level::Leaf, None),
            system_ns: AtomicU64::new(0),
            system_base_ns: AtomicU64::new(0),
            start_ns: seed.start_ns,
            creator_tid: AtomicI32::new(0),
        })
    }

    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Acquire)
    }

    pub fn pid(&self) -> i32 {
        self.group.id
    }

    pub fn mm(&self) -> Arc<Mm> {
        self.mm.lock().clone()
    }

    pub fn fs(&self) -> Arc<FsState> {
        self.fs.lock().clone()
    }

    pub fn files(&self) -> Arc<FdTable> {
        self.files.lock().clone()
    }

    pub fn set_fs(&self, fs: Arc<FsState>) {
        let old = std::mem::replace(&mut *self.fs.lock(), fs);
        drop(old);
    }

    pub fn set_files(&self, files: Arc<FdTable>) {
        let old = std::mem::replace(&mut *self.files.lock(), files);
        drop(old);
    }

    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    pub fn set_credentials(&self, credentials: Credentials) {
        let old = std::mem::replace(&mut *self.credentials.lock(), Arc::new(credentials));
        drop(old);
    }

    /// At most 15 bytes, as `TASK_COMM_LEN` has it.
    pub fn comm(&self) -> Vec<u8> {
        self.comm.lock().clone()
    }

    pub fn set_comm(&self, name: &[u8]) {
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len()).min(15);
        *self.comm.lock() = name[..end].to_vec();
    }

    /// The CPUs that the task may use, a bit each.
    pub fn affinity(&self) -> Vec<u8> {
        if let Some(mask) = self.affinity.lock().as_ref() {
            return mask.to_vec();
        }
        let cpus = self.kernel.cpus as usize;
        let mut all = vec![0u8; cpus.div_ceil(64) * 8];
        (0..cpus).for_each(|cpu| all[cpu / 8] |= 1 << (cpu % 8));
        all
    }

    /// Restricts it to those CPUs of `mask` that there are; false, without effect, when there is none.
    pub fn set_affinity(&self, mask: &[u8]) -> bool {
        let cpus = self.kernel.cpus as usize;
        let mut kept = vec![0u8; cpus.div_ceil(64) * 8];
        (0..cpus).for_each(|cpu| kept[cpu / 8] |= mask.get(cpu / 8).map_or(0, |b| b & 1 << (cpu % 8)));
        let any = kept.iter().any(|b| *b != 0);
        if any {
            *self.affinity.lock() = Some(kept.into());
        }
        any
    }

    pub(crate) fn inherit_affinity(&self, parent: &Task) {
        let mask = parent.affinity.lock().clone();
        *self.affinity.lock() = mask;
    }

    pub fn mask(&self) -> SigSet {
        SigSet(self.mask.load(Ordering::Acquire))
    }

    /// Signals that this task would take now.
    pub(crate) fn wanted(&self) -> SigSet {
        SigSet::ALL.without(self.mask()).union(SigSet(self.awaited.load(Ordering::SeqCst)))
    }

    pub(crate) fn awaits(&self, signal: Signal) -> bool {
        SigSet(self.awaited.load(Ordering::SeqCst)).contains(signal)
    }

    /// Signals that sigtimedwait(2) waits for; the empty set when it is over.
    pub fn set_awaited(&self, signals: SigSet) {
        self.awaited.store(signals.0, Ordering::SeqCst);
    }

    pub fn run_state(&self) -> RunState {
        match self.run_state.load(Ordering::Relaxed) {
            b'S' => RunState::Sleeping,
            b'T' => RunState::Stopped,
            b'X' => RunState::Dead,
            _ => RunState::Running,
        }
    }

    pub(crate) fn set_run_state(&self, state: RunState) {
        self.run_state.store(state as u8, Ordering::Relaxed);
    }

    /// Signals pending for this thread alone.
    pub fn pending_set(&self) -> SigSet {
        self.pending.lock().set()
    }

    /// Makes the task look at its signals and orders: out of guest code, out of a sleep.
    pub fn kick(&self) {
        if self.in_guest.load(Ordering::SeqCst) {
            let interrupter = self.interrupter.lock().clone();
            interrupter.interrupt();
        }
        if let Some(parker) = self.parker.get() {
            parker.unpark();
        }
    }

    /// Kills the host process that runs this task's guest code.
    pub(crate) fn kill_host(&self) {
        let interrupter = self.interrupter.lock().clone();
        interrupter.kill();
    }

    /// Must this task end as soon as it can?
    pub(crate) fn is_doomed(&self) -> bool {
        self.must_exit.load(Ordering::SeqCst) || self.group.state.lock().exit.is_some()
    }

    /// Is there anything that a sleep must end for: a deliverable signal, a stop, an end?
    pub(crate) fn has_work(&self) -> bool {
        if self.must_exit.load(Ordering::SeqCst) {
            return true;
        }
        let state = self.group.state.lock();
        let wanted = self.wanted();
        state.exit.is_some()
            || state.stop.signal.is_some()
            || !state.pending.set().intersect(wanted).is_empty()
            || !self.pending.lock().set().intersect(wanted).is_empty()
    }

    /// Adds what the calling sentry thread, which is this task's own, has used.
    pub fn note_system_time(&self) {
        let used = sentry_time::thread_cpu_ns().saturating_sub(self.system_base_ns.load(Ordering::Relaxed));
        self.system_ns.store(used, Ordering::Relaxed);
    }

    /// System time as it was last noted: at the last sleep. User time is the host process's, known only for the process as a whole.
    pub fn system_time(&self) -> Duration {
        Duration::from_nanos(self.system_ns.load(Ordering::Relaxed))
    }

    /// Takes a pending signal out of `wanted`, its own first, then the process's.
    pub fn take_signal(&self, wanted: SigSet) -> Option<SigInfo> {
        let info = {
            let mut state = self.group.state.lock();
            let own = self.pending.lock().take(wanted);
            own.or_else(|| state.pending.take(wanted)).map(|(_, info)| info)?
        };
        Some(if info.code == SI_TIMER { self.group.timers.delivered(info) } else { info })
    }

    pub(crate) fn finish_vfork(&self) {
        let done = self.vfork.lock().take();
        if let Some(done) = done {
            done.done.store(true, Ordering::SeqCst);
            done.queue.wake_all();
        }
    }
}
