//! The register file of a guest thread (x86-64), as ptrace's `user_regs_struct` orders it.

/// General registers. `fs_base` and `gs_base` are the guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The call's number while in a system call, `u64::MAX` otherwise.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Registers {
    /// User code and stack selectors of 64-bit Linux.
    pub const USER_CS: u64 = 0x33;
    pub const USER_SS: u64 = 0x2b;

    /// What execve(2) leaves: all zero but selectors, flags (IF), entry and stack.
    pub fn fresh(entry: u64, stack: u64) -> Registers {
        Registers {
            rip: entry,
            rsp: stack,
            cs: Registers::USER_CS,
            ss: Registers::USER_SS,
            eflags: 0x202,
            orig_rax: u64::MAX,
            ..Registers::default()
        }
    }
}

/// A synchronous fault as the processor and the host kernel reported it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultInfo {
    /// Host signal number (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP).
    pub signo: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
    /// Processor's trap number, error code and CR2, as they go into a guest's signal frame.
    pub trapno: u64,
    pub err: u64,
    pub cr2: u64,
}
