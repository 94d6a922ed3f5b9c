//! The running task: the one way to registers, guest memory and blocking. Lives on its sentry thread's stack.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::{Errno, Result, SigSet, Signal, UserAddr};
use sentry_auth::Credentials;
use sentry_mm::Mm;
use sentry_platform::{FaultInfo, GuestThread, SyscallArgs};
use sentry_vfs::{Caller, FileDescription, FsContext, JobControl, Path};

use super::{Restart, SysResult, Task};
use crate::fd_table::FdTable;
use crate::kernel::Kernel;
use crate::limits::Resource;
use crate::signal::AltStack;

/// What restart_syscall(2) goes on with.
pub type RestartBlock = Box<dyn FnOnce(&mut CurrentTask) -> SysResult + Send>;

pub struct CurrentTask {
    pub task: Arc<Task>,
    pub thread: Box<dyn GuestThread>,
    /// The address space, as `task.mm()` has it.
    pub(crate) mm: Arc<Mm>,
    /// sigsuspend(2), ppoll(2) …: the mask to go back to once signals have been looked at.
    pub(crate) saved_mask: Option<SigSet>,
    pub(crate) alt_stack: AltStack,
    pub(crate) restart: Option<RestartBlock>,
    /// The call that was interrupted and whose fate signals decide; whether the platform executed it natively.
    pub(crate) interrupted: Option<(Restart, Native)>,
    /// The last fault of guest code, for signal frames.
    pub(crate) last_fault: FaultInfo,
    /// The call itself has set all registers (rt_sigreturn, execve).
    pub(crate) registers_set: bool,
    /// exit(2) was called, or the host thread is dead.
    pub(crate) ended: Option<Ended>,
}

/// Who executed an interrupted call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Native {
    Sentry,
    /// A futex wait in the guest's own address space.
    Platform,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// exit(2): the host thread still has to end.
    Exit,
    /// The host thread is gone.
    HostGone,
}

impl CurrentTask {
    pub fn new(task: Arc<Task>, thread: Box<dyn GuestThread>) -> CurrentTask {
        let mm = task.mm();
        CurrentTask {
            task,
            thread,
            mm,
            saved_mask: None,
            alt_stack: AltStack::default(),
            restart: None,
            interrupted: None,
            last_fault: FaultInfo::default(),
            registers_set: false,
            ended: None,
        }
    }

    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.task.kernel
    }

    pub fn mm(&self) -> &Arc<Mm> {
        &self.mm
    }

    /// The address space and the thread that executes operations on it, together.
    pub fn mm_and_thread(&mut self) -> (&Arc<Mm>, &mut dyn GuestThread) {
        (&self.mm, self.thread.as_mut())
    }

    pub fn call(&self) -> SyscallArgs {
        self.thread.call()
    }

    pub fn files(&self) -> Arc<FdTable> {
        self.task.files()
    }

    /// The open file behind a descriptor, not an O_PATH one.
    pub fn file(&self, fd: i32) -> Result<Arc<FileDescription>> {
        self.task.files().get_open(fd)
    }

    /// Installs as the lowest free descriptor.
    pub fn install(&self, file: Arc<FileDescription>, close_on_exec: bool) -> Result<i32> {
        self.install_from(file, close_on_exec, 0)
    }

    pub fn install_from(&self, file: Arc<FileDescription>, close_on_exec: bool, from: i32) -> Result<i32> {
        let limit = self.limit(Resource::Files);
        self.task.files().install(file, close_on_exec, from, limit)
    }

    /// Soft limit.
    pub fn limit(&self, resource: Resource) -> u64 {
        self.task.group.limits().soft(resource)
    }

    pub fn creds(&self) -> Arc<Credentials> {
        self.task.credentials()
    }

    pub fn fs_context(&self) -> FsContext {
        self.fs_context_as(self.task.credentials())
    }

    /// With other credentials, as access(2) wants.
    pub fn fs_context_as(&self, credentials: Arc<Credentials>) -> FsContext {
        self.task.fs().context(credentials, self.task.kernel.special.clone())
    }

    /// Where a path that is relative to `dirfd` begins: `AT_FDCWD` or a directory's descriptor (O_PATH ones too).
    pub fn start_path(&self, cx: &FsContext, dirfd: i32) -> Result<Path> {
        const AT_FDCWD: i32 = -100;
        if dirfd == AT_FDCWD {
            return Ok(cx.cwd.clone());
        }
        Ok(self.task.files().get(dirfd)?.path.clone())
    }

    /// A path argument: NUL-terminated, shorter than 4,096 bytes. `EFAULT`, `ENAMETOOLONG`.
    pub fn read_path(&self, at: UserAddr) -> Result<Vec<u8>> {
        self.mm.read_cstring(at, 4096)
    }

    /// Keeps what restart_syscall(2) is to do; the call then ends with [`super::Restart::Block`].
    pub fn set_restart(&mut self, block: RestartBlock) {
        self.restart = Some(block);
    }

    /// restart_syscall(2).
    pub fn run_restart(&mut self) -> SysResult {
        match self.restart.take() {
            Some(block) => block(self),
            None => Err(Errno::EINTR.into()),
        }
    }

    /// The call has set the registers itself; its result goes nowhere.
    pub fn keep_registers(&mut self) {
        self.registers_set = true;
    }

    /// Blocks `mask` until the call's signals have been delivered (sigsuspend, ppoll, pselect, epoll_pwait).
    pub fn set_temporary_mask(&mut self, mask: SigSet) {
        if self.saved_mask.is_none() {
            self.saved_mask = Some(self.task.mask());
        }
        self.set_mask(mask);
    }

    /// After a call with a temporary mask ended by itself: back to the old mask at once.
    pub fn restore_mask(&mut self) {
        if let Some(mask) = self.saved_mask.take() {
            self.set_mask(mask);
        }
    }

    /// rt_sigprocmask(2): SIGKILL and SIGSTOP stay unblocked.
    pub fn set_mask(&mut self, mask: SigSet) {
        let mask = mask.without(SigSet::UNBLOCKABLE);
        let old = SigSet(self.task.mask.swap(mask.0, Ordering::SeqCst));
        let newly_blocked = mask.without(old);
        if newly_blocked.is_empty() {
            return;
        }
        // A signal for the process that this task was to take is another one's now (retarget_shared_pending()).
        let heir = {
            let state = self.task.group.state.lock();
            let orphaned = state.pending.set().intersect(newly_blocked);
            if orphaned.is_empty() { None } else { state.tasks.iter().find(|t| !t.wanted().intersect(orphaned).is_empty()).cloned() }
        };
        if let Some(heir) = heir {
            heir.kick();
        }
    }
}

impl Caller for CurrentTask {
    fn credentials(&self) -> Arc<Credentials> {
        self.task.credentials()
    }

    fn pid(&self) -> i32 {
        self.task.pid()
    }

    fn copy_in(&self, at: UserAddr, dst: &mut [u8]) -> Result<()> {
        self.mm.read(at, dst)
    }

    fn copy_out(&self, at: UserAddr, src: &[u8]) -> Result<()> {
        self.mm.write(at, src)
    }

    fn signal_self(&self, signal: Signal) {
        let info = sentry_abi::SigInfo::from_sender(signal, sentry_abi::signal::SI_USER, self.task.pid(), self.task.credentials().uid);
        // A full queue cannot refuse a standard signal.
        let _ = self.task.send(signal, info);
    }

    fn job_control(&self) -> &dyn JobControl {
        self
    }

    fn now(&self) -> sentry_abi::Timespec {
        sentry_time::ClockId::Realtime.now()
    }

    fn install_file(&self, file: Arc<FileDescription>, close_on_exec: bool) -> Result<i32> {
        self.install(file, close_on_exec)
    }
}

impl JobControl for CurrentTask {
    fn session(&self) -> i32 {
        self.task.kernel.processes.session(self.task.pid()).unwrap_or(0)
    }

    fn process_group(&self) -> i32 {
        self.task.kernel.processes.process_group(self.task.pid()).unwrap_or(0)
    }

    fn is_session_leader(&self) -> bool {
        self.session() == self.task.pid()
    }

    fn controlling_terminal(&self) -> Option<u64> {
        self.task.kernel.processes.controlling_terminal(self.session())
    }

    fn set_controlling_terminal(&self, key: Option<u64>) -> Result<()> {
        self.task.kernel.processes.set_controlling_terminal(self.session(), key);
        Ok(())
    }

    fn group_in_session(&self, group: i32) -> bool {
        self.task.kernel.processes.group_in_session(group, self.session())
    }

    fn group_is_orphaned(&self) -> bool {
        self.task.kernel.processes.is_orphaned(self.process_group())
    }

    fn ignores(&self, signal: Signal) -> bool {
        self.task.mask().contains(signal) || self.task.group.handlers().get(signal).disposition() == crate::signal::Disposition::Ignore
    }

    fn signal_group(&self, group: i32, signal: Signal) {
        self.task.kernel.signal_process_group(group, signal);
    }

    fn to_user(&self, id: i32) -> i32 {
        id
    }

    fn from_user(&self, id: i32) -> Option<i32> {
        (id > 0).then_some(id)
    }
}
