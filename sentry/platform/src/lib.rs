//! How application code runs: the traits between the kernel and a platform. Nothing above them may know which platform it is.
//!
//! A guest address space is a host address space ([`AddressSpace`]); a guest thread is a host thread in it ([`GuestThread`]), driven by
//! exactly one sentry thread. Memory operations are executed by a guest thread that is stopped in the sentry, so they are methods of
//! [`GuestThread`]; copies may come from anywhere and are methods of [`AddressSpace`].
//! Deliberately absent: page faults (the host serves them) and VMA bookkeeping (`sentry-mm`).
#![forbid(unsafe_code)]

mod registers;

pub use registers::{FaultInfo, Registers};

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bitflags::bitflags;
use sentry_abi::{Errno, UserAddr, UserRange};

bitflags! {
    /// Access rights of a mapping; the bits are `PROT_*`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
    pub struct Prot: u8 {
        const READ = 1;
        const WRITE = 2;
        const EXEC = 4;
    }
}

/// What stands behind a mapping.
#[derive(Clone, Copy, Debug)]
pub enum MapSource<'a> {
    Anonymous,
    /// A host file from a page-aligned offset. Its access mode must allow the mapping's rights: the host enforces them for ever after.
    File {
        fd: BorrowedFd<'a>,
        offset: u64,
        /// Its pages, which are in memory, are mapped at once (MAP_POPULATE).
        populate: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    Private,
    Shared,
}

/// Why a platform could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The host refused the operation; the guest may be told so.
    #[error("host refused: {0}")]
    Host(Errno),
    /// The guest's process or thread is dead; the operation will never be done.
    #[error("the guest process is gone")]
    Gone,
    /// The platform itself cannot go on (no zygote, out of descriptors …).
    #[error("platform failed: {0}")]
    Broken(String),
}

impl PlatformError {
    /// What the guest sees. A guest that is gone will not see anything.
    pub fn errno(&self) -> Errno {
        match self {
            PlatformError::Host(errno) => *errno,
            PlatformError::Gone => Errno::ESRCH,
            PlatformError::Broken(_) => Errno::ENOMEM,
        }
    }
}

/// A guest address could not be read or written; `done` bytes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub done: usize,
}

/// Makes address spaces, each with its first thread. One per container (zygote).
pub trait Platform: Send + Sync {
    /// Addresses that a guest may map. The top of it is where the initial stack goes.
    fn guest_range(&self) -> UserRange;

    /// The range of vvar and vdso as the guest sees them and the address of the vDSO's ELF header (AT_SYSINFO_EHDR).
    fn vdso(&self) -> Option<Vdso>;

    /// A ready, empty address space, and a thread in it that is stopped with undefined registers.
    fn new_space(&self) -> Result<Box<dyn GuestThread>, PlatformError>;
}

#[derive(Clone, Copy, Debug)]
pub struct Vdso {
    pub range: UserRange,
    pub header: UserAddr,
}

/// Identity of an address space, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SpaceId(pub u64);

/// One guest address space. Memory of a guest is never a `&[u8]`.
pub trait AddressSpace: Send + Sync {
    fn id(&self) -> SpaceId;

    /// Copies out of the guest, honouring the mapping's rights as the guest's own loads would be.
    fn read(&self, at: UserAddr, dst: &mut [u8]) -> Result<(), Fault>;

    /// Copies into the guest.
    fn write(&self, at: UserAddr, src: &[u8]) -> Result<(), Fault>;

    /// Asked for anonymous memory operations that guest code makes on its own ("direct", DESIGN 2.3). Until set, every operation crosses.
    fn set_memory_requests(&self, requests: Arc<dyn MemoryRequests>);

    /// CPU time used by the host process.
    fn cpu_time(&self) -> Duration;
}

/// What guest code asks on its own for anonymous private memory.
#[derive(Clone, Copy, Debug)]
pub enum MemoryRequest {
    /// `at` was chosen from ranges that [`MemoryRequests`] handed out before, or is exact.
    Map {
        at: UserRange,
        prot: Prot,
    },
    Unmap {
        range: UserRange,
    },
    Protect {
        range: UserRange,
        prot: Prot,
    },
    Advise {
        range: UserRange,
        advice: i32,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The host executes the request; the tree already shows it.
    Continue,
    Refuse(Errno),
    /// Come by the ordinary hand-off.
    AskTheSentry,
    Kill,
}

/// Asked by a platform's notification thread when guest code maps, unmaps, protects or advises anonymous memory on its own.
/// `mm` implements it and keeps its tree true; the wiring hands it in. Never blocks on a guest.
pub trait MemoryRequests: Send + Sync {
    fn decide(&self, space: SpaceId, request: &MemoryRequest) -> Verdict;

    /// An address for `len` bytes of fresh anonymous memory, as mmap(NULL) would choose; it is not yet mapped and not reserved.
    fn place(&self, space: SpaceId, len: u64) -> Option<UserAddr>;
}

/// Number and arguments of a system call, as the registers held them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyscallArgs {
    pub number: u64,
    pub args: [u64; 6],
}

/// Why [`GuestThread::run`] returned.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
    /// A system call; [`GuestThread::call`] has it. Its result is given by [`GuestThread::set_result`] before the next `run`.
    Syscall,
    /// A synchronous fault of guest code.
    Fault(FaultInfo),
    /// [`Interrupt::interrupt`] stopped it between two instructions.
    Interrupted,
    /// It was interrupted while a futex wait that the platform executes natively was blocked. The registers stand right after the call's
    /// instruction, `call()` has its arguments. The kernel either calls [`GuestThread::resume_native`], or sets a result, or rewinds.
    InterruptedWait { timed: bool },
    /// The host thread is dead; the number is the wait status of its host process.
    Gone(HostExit),
}

/// How a host process ended: signal number, or exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostExit {
    Signal(i32),
    Code(i32),
}

/// Hears that the host process of a guest thread has died before the sentry ended it, also while nobody is in [`GuestThread::run`] to report it:
/// a thread that sleeps in a system call would never learn. Called with no lock held, from any thread.
pub trait HostDeath: Send + Sync {
    fn host_died(&self, how: HostExit);
}

/// Makes a running [`GuestThread::run`] return, from any thread. Sticky: an interrupt before `run` makes that `run` return at once.
pub trait Interrupt: Send + Sync {
    fn interrupt(&self);

    /// Kills the host process of the thread, with all threads of that guest process (exit_group, exec, SIGKILL). A process that shares the address
    /// space (vfork) lives on. Returns at once; threads that run report [`Exit::Gone`]. Harmless when it is dead already.
    fn kill(&self);
}

/// What a new guest thread shares with the one that made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpawnKind {
    /// CLONE_VM|CLONE_THREAD: same host process.
    Thread,
    /// CLONE_VM without CLONE_THREAD (vfork): own host process on the same memory, dies alone.
    SharedSpace,
    /// A copy of the address space.
    Fork,
}

/// One guest thread, stopped whenever the sentry holds it outside `run`.
pub trait GuestThread: Send {
    fn space(&self) -> &Arc<dyn AddressSpace>;

    /// Resumes guest code until it needs the kernel. Blocks the calling sentry thread.
    fn run(&mut self) -> Exit;

    /// The cheap path: no register file.
    fn call(&self) -> SyscallArgs;
    fn set_result(&mut self, value: u64);
    /// Whether the call came through the vsyscall page, whose users get SIGSEGV where others get EFAULT.
    fn is_vsyscall(&self) -> bool {
        false
    }

    /// All general registers. At a system call `rax` is what the call's result will overwrite, `orig_rax` its number. Changes take effect at the next `run`.
    fn registers(&mut self) -> &mut Registers;

    /// The XSAVE image of the vector state in the layout of a signal frame (standard format, with the kernel's `sw_reserved` bytes), fetched on demand.
    fn fp_state(&mut self) -> Vec<u8>;
    /// Replaces it. `EINVAL` when the image is not one that the processor would take.
    fn set_fp_state(&mut self, image: &[u8]) -> Result<(), Errno>;
    /// The state of a fresh program.
    fn reset_fp_state(&mut self);

    fn interrupter(&self) -> Arc<dyn Interrupt>;

    /// Who is told of the host's killing this thread's process. Called once. A platform that cannot tell leaves it to the next `run`.
    fn watch_death(&self, watcher: Weak<dyn HostDeath>) {
        drop(watcher);
    }

    /// After [`Exit::InterruptedWait`]: the next `run` goes on waiting, with the original deadline.
    fn resume_native(&mut self);

    /// Makes a thread that starts with `start` and this thread's vector state. The new one is returned stopped.
    fn spawn(&mut self, kind: SpawnKind, start: &Registers) -> Result<Box<dyn GuestThread>, PlatformError>;

    fn map(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError>;
    /// Like [`GuestThread::map`], but only onto addresses that are free on the host; `EEXIST` otherwise, which happens while an approved direct unmap of
    /// another thread is still under way. A platform without direct mode need not look.
    fn map_fresh(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        self.map(at, source, share, prot)
    }
    fn unmap(&mut self, range: UserRange) -> Result<(), PlatformError>;
    fn protect(&mut self, range: UserRange, prot: Prot) -> Result<(), PlatformError>;
    /// mremap(2) with MREMAP_MAYMOVE|MREMAP_FIXED to `to`; `keep_old` is MREMAP_DONTUNMAP.
    fn remap(&mut self, from: UserRange, to: UserRange, keep_old: bool) -> Result<(), PlatformError>;
    /// madvise(2) with an advice that the kernel may be asked for natively (LAWS 1.10).
    fn advise(&mut self, range: UserRange, advice: i32) -> Result<(), PlatformError>;
    /// membarrier(2) executed by the process itself; `ENOSYS` where it cannot.
    fn membarrier(&mut self, command: i32, flags: u32) -> Result<u64, PlatformError>;

    /// Wakes waiters of a futex of this address space natively.
    fn futex_wake(&mut self, at: UserAddr, count: u32, share: Share) -> Result<u32, PlatformError>;

    /// CPU time of this thread.
    fn cpu_time(&mut self) -> Duration;

    /// Ends the host thread. `clear_tid` is written 0 and woken first, in the guest's memory. A thread that is dropped without it is killed with its process.
    fn exit(self: Box<Self>, clear_tid: Option<UserAddr>);

    /// Host ids for diagnostics.
    fn host_tid(&self) -> i32;
}
