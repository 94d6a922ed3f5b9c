//! One sandbox's kernel: everything that tasks share.

use std::sync::Arc;

use sentry_abi::{Result, SigInfo, SigSet, Signal};
use sentry_auth::Credentials;
use sentry_fs_anonfs::AnonFs;
use sentry_memory::FileSource;
use sentry_mm::{Mm, MmConfig, Randomize};
use sentry_platform::Platform;
use sentry_sync::{Events, Level, Mutex, Parker, WaitQueue, Waiter};
use sentry_time::TimerQueue;
use sentry_vfs::SpecialFiles;

use crate::cpu::Features;
use crate::fd_table::FdTable;
use crate::fs_state::{FsState, Places};
use crate::limits::{Limits, Resource};
use crate::loader::{self, AuxIds};
use crate::process_tree::ProcessTree;
use crate::signal::Handlers;
use crate::task::{CurrentTask, IdleThreads, SysResult, Task, TaskSeed};
use crate::thread_group::{ExitStatus, ThreadGroup};
use crate::uts::Uts;

/// The system call table, from the crate above.
pub trait SystemCalls: Send + Sync {
    /// Serves the call that `task.call()` describes.
    fn call(&self, task: &mut CurrentTask) -> SysResult;

    /// A process has ended; its parent has not been told yet.
    fn process_ended(&self, pid: i32);

    /// For the layer itself, which finds its own state through it.
    fn as_any(self: Arc<Self>) -> Arc<dyn std::any::Any + Send + Sync>;
}

/// What the kernel tells terminals.
pub trait Terminals: Send + Sync {
    /// The leader of `session` has ended: hang up its controlling terminal (SIGHUP, SIGCONT to the foreground group).
    fn session_leader_ended(&self, terminal: u64, session: i32);
    /// Its device number, for /proc/pid/stat.
    fn device(&self, terminal: u64) -> u64;
    /// Its foreground process group, -1 for none.
    fn foreground(&self, terminal: u64) -> i32;
}

/// What a kernel is made with.
pub struct KernelParts {
    pub platform: Arc<dyn Platform>,
    pub system_calls: Arc<dyn SystemCalls>,
    pub special: Arc<dyn SpecialFiles>,
    pub terminals: Arc<dyn Terminals>,
    pub file_source: Arc<dyn FileSource>,
    pub anon: Arc<AnonFs>,
    pub timers: Arc<TimerQueue>,
    pub hostname: Vec<u8>,
    /// Most tasks that may live at once.
    pub max_tasks: u64,
    /// What guests are told of the machine's memory, in bytes.
    pub memory_total: u64,
    pub cpu: Features,
    /// Processors that guests may use.
    pub cpus: u32,
}

/// What guests are told of memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryInfo {
    pub total: u64,
    pub free: u64,
}

pub struct Kernel {
    pub platform: Arc<dyn Platform>,
    pub system_calls: Arc<dyn SystemCalls>,
    pub special: Arc<dyn SpecialFiles>,
    pub terminals: Arc<dyn Terminals>,
    pub file_source: Arc<dyn FileSource>,
    pub anon: Arc<AnonFs>,
    pub timers: Arc<TimerQueue>,
    pub processes: ProcessTree,
    pub(crate) idle_threads: IdleThreads,
    pub uts: Uts,
    pub max_tasks: u64,
    memory_total: u64,
    pub cpu: Features,
    pub cpus: u32,
    /// CLOCK_BOOTTIME when the sandbox began, ns.
    pub boot_ns: i64,
    init_status: Mutex<Option<ExitStatus>>,
    init_ended: WaitQueue,
}

/// The first program of a container.
pub struct InitProcess {
    pub argv: Vec<Vec<u8>>,
    pub env: Vec<Vec<u8>>,
    /// Where the program was found.
    pub path: sentry_vfs::Path,
    pub name: Vec<u8>,
    pub places: Places,
    pub files: FdTable,
    pub credentials: Credentials,
    pub limits: Limits,
    /// Key of the controlling terminal, if the container has one.
    pub terminal: Option<u64>,
    /// Whether it is to be an init as in a pid namespace, which signals from inside do not end.
    pub is_protected: bool,
}

impl Kernel {
    pub fn new(parts: KernelParts) -> Arc<Kernel> {
        Arc::new(Kernel {
            platform: parts.platform,
            system_calls: parts.system_calls,
            special: parts.special,
            terminals: parts.terminals,
            file_source: parts.file_source,
            anon: parts.anon,
            timers: parts.timers,
            processes: ProcessTree::default(),
            idle_threads: IdleThreads::default(),
            uts: Uts::new(&parts.hostname),
            max_tasks: parts.max_tasks,
            memory_total: parts.memory_total,
            cpu: parts.cpu,
            cpus: parts.cpus.max(1),
            boot_ns: sentry_time::ClockId::Boottime.now_ns(),
            init_status: Mutex::new(Level::Control, None),
            init_ended: WaitQueue::new(),
        })
    }

    /// The sum over address spaces stands for what is used: the host alone knows better.
    pub fn memory(&self) -> MemoryInfo {
        let used: u64 = self.processes.groups().iter().filter_map(|g| g.any_task()).map(|t| t.mm().usage().resident).sum();
        MemoryInfo { total: self.memory_total, free: self.memory_total.saturating_sub(used) }
    }

    pub fn mm_config(&self, limits: &Limits) -> MmConfig {
        MmConfig {
            guest_range: self.platform.guest_range(),
            vdso: self.platform.vdso(),
            file_source: self.file_source.clone(),
            limits: mm_limits(limits),
            randomize: Randomize::On,
        }
    }

    /// Loads the container's first program. The returned task has not started; [`StartedInit::start`] does it.
    pub fn prepare_init(self: &Arc<Kernel>, init: InitProcess) -> Result<PreparedInit> {
        let tid = self.processes.allocate()?;
        let start_ns = sentry_time::ClockId::Boottime.now_ns();
        let thread = self.platform.new_space().map_err(|e| {
            tracing::error!(error = %e, "no address space for the first process");
            e.errno()
        })?;
        let mm = Mm::new(thread.space().clone(), self.mm_config(&init.limits));
        let group = ThreadGroup::new(tid, Arc::new(Handlers::default()), init.limits, Signal::SIGCHLD.number() as i32, start_ns);
        let task = Task::new(TaskSeed {
            tid,
            kernel: self.clone(),
            group: group.clone(),
            interrupter: thread.interrupter(),
            mask: SigSet::EMPTY,
            mm: mm.clone(),
            fs: Arc::new(FsState::new(init.places)),
            files: Arc::new(init.files),
            credentials: Arc::new(init.credentials),
            comm: Vec::new(),
            start_ns,
        });
        let mut current = CurrentTask::new(task.clone(), thread);
        let cx = current.fs_context();
        let file = loader::open_program(&cx, &current, &init.path)?;
        let program = loader::prepare(&cx, &current, file, &init.name, init.argv)?;
        let creds = task.credentials();
        let ids = AuxIds { uid: creds.uid, euid: creds.euid, gid: creds.gid, egid: creds.egid, secure: false, cpu: self.cpu };
        let comm = program.comm.clone();
        let entry = {
            let (mm, thread) = current.mm_and_thread();
            program.load(&mm.clone(), thread, &init.env, &ids)?
        };
        *current.thread.registers() = sentry_platform::Registers::fresh(entry.rip, entry.rsp);
        current.thread.reset_fp_state();
        task.set_comm(&comm);
        group.did_exec.store(true, std::sync::atomic::Ordering::Relaxed);
        group.is_protected.store(init.is_protected, std::sync::atomic::Ordering::Relaxed);
        group.state.lock().tasks.push(task.clone());
        group.timers.watch_cpu_limit(self, &group);
        self.processes.add_process(group, task, 0);
        if let Some(key) = init.terminal {
            self.processes.set_controlling_terminal(tid, Some(key));
        }
        Ok(PreparedInit(current))
    }

    pub(crate) fn init_ended(&self, status: ExitStatus) {
        *self.init_status.lock() = Some(status);
        self.init_ended.wake_all();
    }

    /// The container is ended before its first process was started.
    pub fn end_before_start(&self, signal: Signal) {
        self.init_ended(ExitStatus::Signaled { signal, core: false });
    }

    /// The first process's end, if it has come.
    pub fn init_status(&self) -> Option<ExitStatus> {
        *self.init_status.lock()
    }

    /// Blocks the calling thread, which is no task, until the first process has ended.
    pub fn wait_for_init(&self) -> ExitStatus {
        let waiter = Waiter::new(Arc::new(Parker::current()), Events::all());
        self.init_ended.add(&waiter);
        loop {
            if let Some(status) = self.init_status() {
                return status;
            }
            Parker::park(None);
        }
    }

    /// A signal from outside the sandbox to its first process, or to all processes.
    pub fn signal_from_outside(&self, signal: Signal, all: bool) -> Result<()> {
        let info = SigInfo::new(signal, sentry_abi::signal::SI_KERNEL);
        for group in self.processes.groups() {
            if all || group.id == 1 {
                group.send(signal, info)?;
            }
        }
        Ok(())
    }
}

/// A first process that has been loaded.
pub struct PreparedInit(CurrentTask);

impl PreparedInit {
    pub fn start(self) -> std::io::Result<()> {
        crate::task::spawn(self.0)
    }
}

/// The limits that the address space enforces itself.
pub fn mm_limits(limits: &Limits) -> sentry_mm::Limits {
    sentry_mm::Limits {
        address_space: limits.soft(Resource::AddressSpace),
        data: limits.soft(Resource::Data),
        stack: limits.soft(Resource::Stack),
        memlock: limits.soft(Resource::LockedMemory),
        ..sentry_mm::Limits::default()
    }
}
