//! Everything that has to be assembly: entries, the way back, births, and the instructions whose faults or interrupts are recognised by address.
//!
//! Ranges known to `trap.rs`:
//! - `resume_start..resume_end`: the guest's frame is only read, so an interrupt abandons the attempt;
//! - `futex_start..futex_end`: an interrupt goes to `futex_abort`;
//! - `copy_insn`, `load32_insn`, `cas32_insn`, `store32_insn`: a fault goes to the matching `*_fix`.

use core::arch::{global_asm, naked_asm};
use core::mem::offset_of;

use crate::layout::{self, FutexWait, ThreadArea, uc};
use crate::{boot, handoff, trap};

#[repr(C)]
pub struct Word {
    pub value: u64,
    pub fault: u64,
}

pub const ABORTED: i64 = -0x10000;

/// Distance of a thread's first stack pointer from its slot's end.
pub const STACK_GAP: usize = 64;

// What a handler is entered with: rdi signal, rsi siginfo, rdx ucontext; all else is the guest's. NT would break iretq, AC would make
// the stub's own accesses fault.
const SLOT_MASK: i64 = -(layout::SLOT_SIZE as i64);

global_asm!(
    ".macro RESTORE",
    "movzx eax, word ptr [rsi + {SS}]",
    "push rax",
    "push qword ptr [rsi + {RSP}]",
    "push qword ptr [rsi + {EFLAGS}]",
    "movzx eax, word ptr [rsi + {CS}]",
    "push rax",
    "push qword ptr [rsi + {RIP}]",
    "mov r8, [rsi + {R8}]",
    "mov r9, [rsi + {R8} + 8]",
    "mov r10, [rsi + {R8} + 16]",
    "mov r11, [rsi + {R8} + 24]",
    "mov r12, [rsi + {R8} + 32]",
    "mov r13, [rsi + {R8} + 40]",
    "mov r14, [rsi + {R8} + 48]",
    "mov r15, [rsi + {R8} + 56]",
    "mov rdi, [rsi + {RDI}]",
    "mov rbp, [rsi + {RBP}]",
    "mov rbx, [rsi + {RBX}]",
    "mov rdx, [rsi + {RDX}]",
    "mov rax, [rsi + {RAX}]",
    "mov rcx, [rsi + {RCX}]",
    "mov rsi, [rsi + {RSI}]",
    ".endm",
    ".section .text.entry,\"ax\",@progbits",
    ".globl stub_entry",
    ".hidden stub_entry",
    "stub_entry:",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {boot}",
    "ud2",
    // Signal handler of all signals.
    "signal_entry:",
    "test dword ptr [rdx + {EFLAGS}], 0x44000",
    "jnz 2f",
    "1:",
    "mov rsi, rdx",
    "mov rdx, rsp",
    "and rdx, {SLOT_MASK}",
    "sub rsp, 8",
    "call {trap}",
    "cmp edx, 1",
    "je nested_return",
    "jb resume",
    // A new attempt from a given stack.
    "mov rsp, rax",
    "and rsp, -16",
    "mov rdi, rsp",
    "and rdi, {SLOT_MASK}",
    "call {reenter}",
    // Back to guest code from the ucontext at rax.
    "resume:",
    "mov rdi, rsp",
    "and rdi, {SLOT_MASK}",
    "mov rsi, rax",
    "resume_start:",
    "cmp dword ptr [rdi + {INTR}], 0",
    "jne 5f",
    "mov rcx, [rsi + {FPSTATE}]",
    "test rcx, rcx",
    "jz 3f",
    "mov eax, [rcx + {XFEATURES}]",
    "mov edx, [rcx + {XFEATURES} + 4]",
    "xrstor64 [rcx]",
    "3:",
    "RESTORE",
    "iretq",
    "resume_end:",
    "2:",
    "push 2",
    "popfq",
    "jmp 1b",
    "5:",
    "and rsp, -16",
    "call {interrupted}",
    "jmp resume",
    // Back into the stub from a nested frame; the stub uses no vector registers.
    "nested_return:",
    "mov rsi, rax",
    "RESTORE",
    "iretq",
    // The ptrace platform's: a call of the tracer's, and a birth; the child sleeps on the scratch memory until it is seized.
    ".globl traced_call",
    ".hidden traced_call",
    ".globl traced_clone",
    ".hidden traced_clone",
    "traced_call:",
    "syscall",
    "int3",
    "jmp traced_call",
    "traced_clone:",
    "syscall",
    "test rax, rax",
    "jz 8f",
    "int3",
    "8:",
    "lea rdi, [rip + blob_start + {SCRATCH}]",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "mov eax, 202",
    "syscall",
    "jmp 8b",
    "signal_restorer:",
    "ud2",
    "int3",
    R8 = const uc::R8, RDI = const uc::RDI, RSI = const uc::RSI, RBP = const uc::RBP, RBX = const uc::RBX, RDX = const uc::RDX,
    RAX = const uc::RAX, RCX = const uc::RCX, RSP = const uc::RSP, RIP = const uc::RIP, EFLAGS = const uc::EFLAGS,
    CS = const uc::CS, SS = const uc::SS, FPSTATE = const uc::FPSTATE, XFEATURES = const layout::FP_XFEATURES,
    SCRATCH = const layout::SCRATCH_OFFSET, SLOT_MASK = const SLOT_MASK, INTR = const offset_of!(ThreadArea, intr),
    boot = sym boot::maker, trap = sym trap::trap, reenter = sym handoff::hand_over, interrupted = sym handoff::interrupted,
);

/// `clone` with CLONE_VM; the child goes to guest code by itself.
#[unsafe(naked)]
pub unsafe extern "C" fn clone_thread(flags: u64, stack: u64, tid_addr: u64) -> i64 {
    naked_asm!(
        "mov r10, rdx",
        "xor edx, edx",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jz 4f",
        "ret",
        "4:",
        "xor ebp, ebp",
        "mov rdi, rsp",
        "and rdi, {SLOT_MASK}",
        "and rsp, -16",
        "call {thread_born}",
        "jmp resume",
        SLOT_MASK = const SLOT_MASK, thread_born = sym handoff::thread_born,
    )
}

/// `clone` of the process: the child has no area, hence no stack, until its mmap.
#[unsafe(naked)]
pub unsafe extern "C" fn clone_process(flags: u64, area_base: u64, token: u64) -> i64 {
    naked_asm!(
        "push rbx",
        "push r12",
        "push r13",
        "mov rbx, rsp",
        "and rbx, {SLOT_MASK}",
        "mov r12, rsi",
        "mov r13, rdx",
        "xor esi, esi",
        "xor edx, edx",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "mov eax, 56",
        "syscall",
        "test rax, rax",
        "jz 6f",
        "pop r13",
        "pop r12",
        "pop rbx",
        "ret",
        "6:",
        "mov rdi, r12",
        "mov esi, {AREA_LEN}",
        "mov edx, 3",
        "mov r10d, 0x11",
        "mov r8d, 3",
        "mov r9, r13",
        "mov eax, 9",
        "syscall",
        "cmp rax, r12",
        "jne 7f",
        "mov rdi, r12",
        "mov esi, {AREA_LEN}",
        "mov edx, 10",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "mov eax, 28",
        "syscall",
        "lea rsp, [rbx + {SLOT_SIZE} - {GAP}]",
        "mov rdi, rbx",
        "call {process_born}",
        "jmp resume",
        "7:",
        "mov edi, 1",
        "mov eax, 60",
        "syscall",
        "ud2",
        SLOT_MASK = const SLOT_MASK, SLOT_SIZE = const layout::SLOT_SIZE, GAP = const STACK_GAP, AREA_LEN = const layout::AREA_LEN,
        process_born = sym handoff::process_born,
    )
}

/// Copies; returns how many bytes were left when it faulted.
#[unsafe(naked)]
pub unsafe extern "C" fn copy(dst: u64, src: u64, len: u64) -> u64 {
    naked_asm!("mov rcx, rdx", "copy_insn:", "rep movsb", "copy_fix:", "mov rax, rcx", "ret",)
}

/// A guest word.
#[unsafe(naked)]
pub unsafe extern "C" fn load32(addr: u64) -> Word {
    naked_asm!("xor edx, edx", "load32_insn:", "mov eax, [rdi]", "ret",)
}

/// Compare and exchange; `value` is what was seen.
#[unsafe(naked)]
pub unsafe extern "C" fn cas32(addr: u64, old: u32, new: u32) -> Word {
    naked_asm!("mov eax, esi", "cas32_insn:", "lock cmpxchg [rdi], edx", "xor edx, edx", "ret", "word_fix:", "mov edx, 1", "ret",)
}

/// 0, or 1 on a fault.
#[unsafe(naked)]
pub unsafe extern "C" fn store32(addr: u64, value: u32) -> u64 {
    naked_asm!("xor eax, eax", "store32_insn:", "mov [rdi], esi", "ret", "store32_fix:", "mov eax, 1", "ret",)
}

/// Executes `wait` unless an interrupt is pending or comes: then [`ABORTED`].
#[unsafe(naked)]
pub unsafe extern "C" fn futex_wait(area: *mut ThreadArea, wait: *const FutexWait) -> i64 {
    naked_asm!(
        "mov rax, rdi",
        "mov rdi, [rsi + {W_ADDR}]",
        "mov rdx, [rsi + {W_VAL}]",
        "mov r9, [rsi + {W_BITSET}]",
        "lea r10, [rsi + {W_DEADLINE}]",
        "xor r8d, r8d",
        "cmp qword ptr [rsi + {W_HAS}], 0",
        "cmove r10, r8",
        "mov rsi, [rsi + {W_OP}]",
        "futex_start:",
        "cmp dword ptr [rax + {INTR}], 0",
        "jne futex_abort",
        "mov eax, 202",
        "syscall",
        "futex_end:",
        "ret",
        "futex_abort:",
        "mov rax, -0x10000",
        "ret",
        INTR = const offset_of!(ThreadArea, intr),
        W_ADDR = const offset_of!(FutexWait, addr), W_OP = const offset_of!(FutexWait, op), W_VAL = const offset_of!(FutexWait, val),
        W_BITSET = const offset_of!(FutexWait, bitset), W_HAS = const offset_of!(FutexWait, has_deadline),
        W_DEADLINE = const offset_of!(FutexWait, deadline),
    )
}
