//! Host calls.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use sentry_platform::{HostExit, Registers};

/// `SIGTRAP | 0x80`: a call of the guest (PTRACE_O_TRACESYSGOOD).
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
const OPTIONS: libc::c_int = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACESECCOMP | libc::PTRACE_O_EXITKILL;
const PTRACE_SYSEMU: libc::c_uint = 31;
const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;

/// Why a traced thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Gone(HostExit),
    Syscall,
    /// A notified call asks for permission.
    Seccomp,
    Signal(i32),
    /// PTRACE_INTERRUPT, a group stop, or its end.
    Other,
}

/// The thread is dead, or not ours to trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

fn ptrace(request: libc::c_uint, tid: i32, address: usize, data: usize) -> Result<i64, io::Error> {
    // SAFETY: callers pass addresses of live buffers where the request wants one.
    let result = unsafe { libc::ptrace(request, tid, address, data) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn seize(tid: i32) -> Result<(), Gone> {
    ptrace(libc::PTRACE_SEIZE, tid, 0, OPTIONS as usize).map_err(|_| Gone)?;
    ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0).map_err(|_| Gone).map(drop)
}

pub fn detach(tid: i32) {
    let _ = ptrace(libc::PTRACE_DETACH, tid, 0, 0);
}

/// Goes on natively.
pub fn cont(tid: i32) -> Result<(), Gone> {
    ptrace(libc::PTRACE_CONT, tid, 0, 0).map_err(|_| Gone).map(drop)
}

/// Goes on until the next call, which will not be executed.
pub fn emulate(tid: i32) -> Result<(), Gone> {
    ptrace(PTRACE_SYSEMU, tid, 0, 0).map_err(|_| Gone).map(drop)
}

/// Waits until a traced thread, or child, stops or ends; an ended one is collected.
pub fn wait(tid: i32) -> Stop {
    let mut status = 0;
    loop {
        // SAFETY: `status` is writable.
        let got = unsafe { libc::waitpid(tid, &mut status, libc::__WALL) };
        if got == tid {
            break;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return Stop::Gone(HostExit::Signal(libc::SIGKILL));
        }
    }
    if libc::WIFEXITED(status) {
        return Stop::Gone(HostExit::Code(libc::WEXITSTATUS(status)));
    }
    if libc::WIFSIGNALED(status) {
        return Stop::Gone(HostExit::Signal(libc::WTERMSIG(status)));
    }
    match (libc::WSTOPSIG(status), status >> 16) {
        (SYSCALL_STOP, 0) => Stop::Syscall,
        (_, libc::PTRACE_EVENT_SECCOMP) => Stop::Seccomp,
        (signal, 0) => Stop::Signal(signal),
        _ => Stop::Other,
    }
}

pub fn registers(tid: i32) -> Result<Registers, Gone> {
    let mut registers = Registers::default();
    let mut vector = libc::iovec { iov_base: (&raw mut registers).cast(), iov_len: size_of::<Registers>() };
    ptrace(libc::PTRACE_GETREGSET, tid, NT_PRSTATUS, &raw mut vector as usize).map_err(|_| Gone)?;
    Ok(registers)
}

/// A value that the host refuses (a selector, a base) leaves all registers as they are.
pub fn set_registers(tid: i32, registers: &Registers) -> Result<(), Gone> {
    let mut vector = libc::iovec { iov_base: ptr::from_ref(registers).cast_mut().cast(), iov_len: size_of::<Registers>() };
    match ptrace(libc::PTRACE_SETREGSET, tid, NT_PRSTATUS, &raw mut vector as usize) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Err(Gone),
        _ => Ok(()),
    }
}

/// The XSAVE image.
pub fn vector_state(tid: i32) -> Result<Vec<u8>, Gone> {
    let mut image = vec![0; 16 << 10];
    let mut vector = libc::iovec { iov_base: image.as_mut_ptr().cast(), iov_len: image.len() };
    ptrace(libc::PTRACE_GETREGSET, tid, NT_X86_XSTATE, &raw mut vector as usize).map_err(|_| Gone)?;
    image.truncate(vector.iov_len);
    Ok(image)
}

/// False: the processor would not take it.
pub fn set_vector_state(tid: i32, image: &[u8]) -> bool {
    let mut vector = libc::iovec { iov_base: image.as_ptr().cast_mut().cast(), iov_len: image.len() };
    ptrace(libc::PTRACE_SETREGSET, tid, NT_X86_XSTATE, &raw mut vector as usize).is_ok()
}

/// What the host tells of a signal stop.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    pub code: i32,
    pub address: u64,
    /// Of a SIGSYS: number and architecture.
    pub call: u64,
    pub arch: u32,
}

pub fn signal(tid: i32) -> Result<Signal, Gone> {
    let mut words = [0u64; 16];
    ptrace(libc::PTRACE_GETSIGINFO, tid, 0, words.as_mut_ptr() as usize).map_err(|_| Gone)?;
    Ok(Signal { code: words[1] as i32, address: words[2], call: words[3] as i32 as i64 as u64, arch: (words[3] >> 32) as u32 })
}

/// Architecture of the call at which a thread is stopped.
pub fn call_arch(tid: i32) -> u32 {
    const GET_SYSCALL_INFO: libc::c_uint = 0x420e;
    let mut info = [0u32; 24];
    match ptrace(GET_SYSCALL_INFO, tid, mem::size_of_val(&info), info.as_mut_ptr() as usize) {
        Ok(_) => info[1],
        Err(_) => 0,
    }
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

pub fn tgkill(pid: i32, tid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
}

/// `process_vm_readv`; bytes read.
pub fn read(pid: i32, address: u64, data: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: data.len() };
    // SAFETY: `data` is writable; the remote side is checked by the kernel.
    let n = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

/// `process_vm_writev`; bytes written.
pub fn write(pid: i32, address: u64, data: &[u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: data.len() };
    // SAFETY: `data` is readable; the remote side is checked by the kernel.
    let n = unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

/// Sends one byte and a descriptor.
pub fn send_file(socket: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<()> {
    let mut byte = [0u8];
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // cmsghdr: length, SOL_SOCKET, SCM_RIGHTS, descriptor
    let mut control = [20u64, 1 | 1 << 32, file.as_raw_fd() as u64];
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    // SAFETY: the message's buffers live through the call.
    let n = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_NOSIGNAL) };
    if n == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub fn process_cpu_time(pid: i32) -> Duration {
    let clock = (!pid << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CLOCK_MONOTONIC.
pub fn now() -> (i64, i64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec, time.tv_nsec)
}
