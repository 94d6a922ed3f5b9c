//! Memory that the stub and the sentry share, and where the stub lives. Used by both sides, so it has no code.
//!
//! Everything here may be overwritten by the guest at any time: the sentry reads each value once and checks it.
//! A *slot* is the part of a process's area that belongs to one thread:
//! `ThreadArea` | start frame | buffer | alternate signal stack. The host kernel writes its signal frames onto that stack, so the
//! guest's whole register file is visible to the sentry without a copy.

use core::sync::atomic::AtomicU32;

/// The stub region: nothing below it belongs to the platform, nothing from it up may be mapped by a guest.
pub const REGION_START: u64 = 0x7ffc_0000_0000;
pub const REGION_END: u64 = 0x7fff_ffff_f000;
/// First address a guest may map (the usual vm.mmap_min_addr).
pub const GUEST_START: u64 = 0x1_0000;

/// The blob lies at `base` (2 MiB aligned, random), the others relative to it.
pub const BASE_ALIGN: u64 = 0x20_0000;
pub const BLOB_MAX: u64 = 0x1_0000;
pub const VDSO_OFFSET: u64 = 0x10_0000;
pub const AREA_OFFSET: u64 = 0x100_0000;

/// Private memory of every process of the ptrace platform, for structures of injected calls.
pub const SCRATCH_OFFSET: u64 = AREA_OFFSET + AREA_LEN + 0x10_0000;
pub const SCRATCH_LEN: u64 = 0x10_0000;

pub const SLOT_SIZE: usize = 0x1_0000;
pub const SLOT_COUNT: usize = 4096;
pub const AREA_LEN: u64 = (SLOT_SIZE * SLOT_COUNT) as u64;

/// Offsets inside a slot.
pub const START_FRAME: usize = 0x1000;
/// The start frame's vector state; room for it ends at [`BUFFER`].
pub const START_FP: usize = 0x1200;
pub const BUFFER: usize = 0x2000;
pub const BUFFER_LEN: usize = 0x2000;
pub const STACK: usize = 0x4000;
/// Room for a dozen nested signal frames.
pub const STACK_LEN: usize = 0xc000;

/// Parameters for the zygote's birth lie in the buffer of its slot 0.
pub const BOOT_PARAMS: usize = BUFFER;
pub const FILTER_MAX: usize = 256;

/// Message from I to the sentry: magic, pid of Z, step that failed (0: none), errno; little-endian 32-bit words.
pub const HELLO_MAGIC: u32 = 0x3147_595a;
pub const HELLO_LEN: usize = 16;

/// Offsets in the host's `struct ucontext` (x86-64), which is `UC_SIZE` bytes and followed by the `siginfo`.
pub mod uc {
    pub const R8: usize = 40;
    pub const RDI: usize = 104;
    pub const RSI: usize = 112;
    pub const RBP: usize = 120;
    pub const RBX: usize = 128;
    pub const RDX: usize = 136;
    pub const RAX: usize = 144;
    pub const RCX: usize = 152;
    pub const RSP: usize = 160;
    pub const RIP: usize = 168;
    pub const EFLAGS: usize = 176;
    pub const CS: usize = 184;
    pub const SS: usize = 190;
    pub const ERR: usize = 192;
    pub const TRAPNO: usize = 200;
    pub const CR2: usize = 216;
    pub const FPSTATE: usize = 224;
    pub const SIZE: usize = 304;
    /// `siginfo` behind it.
    pub const SI_SIGNO: usize = SIZE;
    pub const SI_CODE: usize = SIZE + 8;
    /// `si_addr`, or `si_call_addr` of a SIGSYS.
    pub const SI_ADDR: usize = SIZE + 16;
    pub const SI_SYSCALL: usize = SIZE + 24;
    pub const SI_ARCH: usize = SIZE + 28;
    pub const SIGINFO_SIZE: usize = 128;
}

/// Offset of `sw_reserved` in an XSAVE image of a signal frame: magic1, extended size, xfeatures (64 bits), xstate size.
pub const FP_SW_BYTES: usize = 464;
pub const FP_XFEATURES: usize = 472;

/// What made the stub hand over ([`ThreadArea::event`]).
pub mod event {
    /// A system call of the guest; the frame is the SIGSYS one.
    pub const SYSCALL: u32 = 1;
    /// A synchronous signal of the guest; `info` is the frame that describes it.
    pub const FAULT: u32 = 2;
    pub const INTERRUPTED: u32 = 3;
    /// A native futex wait was interrupted; `timed` tells whether it had a time-out.
    pub const INTERRUPTED_WAIT: u32 = 4;
    /// The order is done, `result` holds its result.
    pub const DONE: u32 = 5;
    /// A signal in the stub's text that cannot be the stub's own doing.
    pub const VIOLATION: u32 = 6;
}

/// What the sentry orders ([`ThreadArea::order`]).
pub mod order {
    /// Back to guest code, from the frame.
    pub const RESUME: u32 = 1;
    /// Execute system call `args[6]` with `args[0..6]`; result in `result`.
    pub const SYSCALL: u32 = 2;
    /// `clone` with CLONE_VM: flags `args[0]`, address of the child's slot `args[1]`. The child says hello with `token` of its slot.
    pub const CLONE_THREAD: u32 = 3;
    /// `clone` of the process: flags `args[0]`, file offset of the child's area (its token) `args[1]`.
    pub const CLONE_PROCESS: u32 = 4;
    /// Copy `args[1]` bytes from guest address `args[0]` into the buffer; `result` is the number of bytes copied.
    pub const COPY_FROM_GUEST: u32 = 5;
    /// Copy `args[1]` bytes from the buffer to guest address `args[0]`.
    pub const COPY_TO_GUEST: u32 = 6;
    /// End the thread: if `args[0]` is not 0, clear the word there and wake one waiter first.
    pub const EXIT: u32 = 7;
    /// Go on with the native futex wait that was interrupted.
    pub const RESUME_WAIT: u32 = 8;
    /// CPU clock `args[0]` into the buffer (timespec).
    pub const CPU_CLOCK: u32 = 9;
}

/// How many cycles the stub looks for the next order after it has executed one, if the sentry's thread is on another CPU.
pub const ORDER_SPIN: u64 = 30_000;

/// The notified call by which a new thread makes itself known: `mprotect(token, HELLO_LENGTH, HELLO_PROT)`, never executed.
pub const HELLO_LENGTH: u64 = 0x7373_0000;
pub const HELLO_PROT: u64 = 0x5a5a_5a5a;

/// A native futex wait in progress, with an absolute deadline.
#[repr(C)]
pub struct FutexWait {
    pub addr: u64,
    pub op: u64,
    pub val: u64,
    pub bitset: u64,
    pub has_deadline: u64,
    pub deadline: [i64; 2],
}

/// First bytes of a slot. One cache line for each writer.
#[repr(C, align(64))]
pub struct ThreadArea {
    // Written by the stub.
    /// Incremented when the stub hands over.
    pub to_sentry: AtomicU32,
    /// The stub sleeps on `to_stub`, or is about to.
    pub stub_sleeping: AtomicU32,
    pub event: AtomicU32,
    /// Offset in the slot of the guest's ucontext.
    pub frame: AtomicU32,
    /// Offset in the slot of the ucontext (and siginfo) that describes a fault; mostly the same.
    pub info: AtomicU32,
    pub timed: AtomicU32,
    pub result: i64,
    pub fs_base: u64,
    pub gs_base: u64,
    /// Time stamp counter at the last hand-over and at the last resumption of guest code.
    pub tsc_over: u64,
    pub tsc_resumed: u64,
    /// Host CPU at the last hand-over, plus one; 0 before the thread is born.
    pub cpu: AtomicU32,
    pub pad_a: u32,
    pub pad0: [u64; 6],

    // Written by the sentry.
    /// Incremented when an order is posted.
    pub to_stub: AtomicU32,
    /// The sentry sleeps on `to_sentry`, or is about to.
    pub sentry_sleeping: AtomicU32,
    pub order: u32,
    /// How many cycles the stub looks for an order before it sleeps.
    pub spin: u32,
    pub args: [u64; 7],
    /// Set the segment bases below at the next RESUME.
    pub set_bases: u64,
    pub new_fs_base: u64,
    pub new_gs_base: u64,
    /// One-time token that a new thread shows.
    pub token: u64,
    /// Not 0: anonymous memory calls are made by the stub itself, and the notification is the request.
    pub direct: u32,
    /// Host CPU of the sentry's thread when it posted the order, plus one.
    pub sentry_cpu: u32,
    /// Where an anonymous mapping of `hint_len` bytes would go now; 0: unknown.
    pub hint_at: u64,
    pub hint_len: u64,

    // The stub's own.
    /// An interrupt came while the stub was working.
    pub intr: AtomicU32,
    /// Last order seen.
    pub seen: u32,
    /// Direct memory calls begun and done.
    pub direct_begun: AtomicU32,
    pub direct_done: AtomicU32,
    pub pad2: [u64; 6],
    pub wait: FutexWait,
    pub pad3: [u64; 1],

    // Written by the kernel.
    /// Non-zero while the thread may run on this slot's stack (CLONE_CHILD_CLEARTID).
    pub host_tid: AtomicU32,
    pub pad4: [u32; 15],
}

/// Written by runsc, read by I and Z; the results are written by Z and read by I and the sentry.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct BootParams {
    /// 0 while Z works, 1 when it is ready, 2 when it failed.
    pub state: u32,
    pub step: i32,
    pub errno: i32,
    /// Number of the listener in the table of I and Z.
    pub listener: i32,
    /// Address of the blob.
    pub base: u64,
    /// Lengths of [vvar], [vvar_vclock] (may be 0) and [vdso], which follow each other.
    pub vvar_len: u64,
    pub vclock_len: u64,
    pub vdso_len: u64,
    /// Where the vDSO's ELF header came to lie; 0 when there is none.
    pub vdso_at: u64,
    pub filter_len: u32,
    /// For the ptrace platform: no listener; the socket stays in Z's table, and Z has a scratch page.
    pub traced: u32,
    /// `struct sock_filter`s as 64-bit words.
    pub filter: [u64; FILTER_MAX],
}

/// What the blob starts with.
#[repr(C)]
pub struct BlobHeader {
    pub magic: u64,
    /// Entry of process I.
    pub entry: u64,
    /// Executable bytes from the blob's start.
    pub len: u64,
    /// For the ptrace platform: `syscall; int3`, and a `clone` whose child waits without a stack to be seized.
    pub traced_call: u64,
    pub traced_clone: u64,
}

pub const BLOB_MAGIC: u64 = 0x6275_7473_736e_7572;
