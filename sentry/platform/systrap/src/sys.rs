//! Host calls of the platform. All `unsafe` that is not memory access of an area is here.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use sentry_platform::HostExit;

pub const MFD_NOEXEC_SEAL: libc::c_uint = 8;
pub const MFD_EXEC: libc::c_uint = 16;
const F_SEAL_EXEC: i32 = 0x20;
/// Nothing about the file can change any more.
pub const SEALS_FIXED: i32 =
    libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_FUTURE_WRITE | F_SEAL_EXEC;
/// The size cannot change.
pub const SEALS_SIZE: i32 = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

fn check(result: libc::c_long) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `memfd_create`; kernels before 6.3 do not know the EXEC and NOEXEC flags.
pub fn memfd(name: &CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    let create = |flags: libc::c_uint| -> io::Result<OwnedFd> {
        // SAFETY: a NUL-terminated name.
        let fd = check(libc::c_long::from(unsafe { libc::memfd_create(name.as_ptr(), flags) }))?;
        // SAFETY: a new descriptor that nobody else has.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    match create(flags) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => create(flags & !(MFD_EXEC | MFD_NOEXEC_SEAL)),
        other => other,
    }
}

pub fn set_len(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(libc::c_long::from(unsafe { libc::ftruncate(fd.as_raw_fd(), len as i64) })).map(drop)
}

pub fn fchmod(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(libc::c_long::from(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })).map(drop)
}

/// Adds seals; a kernel that does not know F_SEAL_EXEC gets the others.
pub fn add_seals(fd: BorrowedFd<'_>, seals: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let add = |seals: i32| check(libc::c_long::from(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) }));
    match add(seals) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => add(seals & !F_SEAL_EXEC).map(drop),
        other => other.map(drop),
    }
}

pub fn write_all_at(fd: BorrowedFd<'_>, mut data: &[u8], mut offset: u64) -> io::Result<()> {
    while !data.is_empty() {
        // SAFETY: `data` is readable for its length.
        let n = check(unsafe { libc::pwrite(fd.as_raw_fd(), data.as_ptr().cast(), data.len(), offset as i64) } as libc::c_long)? as usize;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        data = data.get(n..).unwrap_or_default();
        offset += n as u64;
    }
    Ok(())
}

pub fn read_exact_at(fd: BorrowedFd<'_>, data: &mut [u8], offset: u64) -> io::Result<()> {
    // SAFETY: `data` is writable for its length.
    let n = check(unsafe { libc::pread(fd.as_raw_fd(), data.as_mut_ptr().cast(), data.len(), offset as i64) } as libc::c_long)?;
    if n as usize == data.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

pub fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: `bytes` is writable for its length.
    let n = check(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } as libc::c_long)?;
    if n == 8 { Ok(u64::from_le_bytes(bytes)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// One message and its descriptors (close-on-exec), at most `max` of them.
pub fn recv_with_fds(socket: BorrowedFd<'_>, data: &mut [u8], max: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut vector = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let mut control = [0u64; 16];
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control);
    let len = loop {
        // SAFETY: the message's buffers outlive the call.
        match check(unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) } as libc::c_long) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    // SAFETY: the kernel filled the control buffer; CMSG_* walk inside it.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&message);
        while !at.is_null() {
            if (*at).cmsg_level == libc::SOL_SOCKET && (*at).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*at).cmsg_len - libc::CMSG_LEN(0) as usize) / mem::size_of::<i32>();
                let first = libc::CMSG_DATA(at).cast::<i32>();
                for i in 0..count {
                    fds.push(OwnedFd::from_raw_fd(first.add(i).read_unaligned()));
                }
            }
            at = libc::CMSG_NXTHDR(&message, at);
        }
    }
    if fds.len() > max || message.msg_flags & libc::MSG_CTRUNC != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
    }
    Ok((len as usize, fds))
}

const FUTEX_WAIT: i32 = 0;
const FUTEX_WAKE: i32 = 1;
const FUTEX_PRIVATE: i32 = 128;

/// Wakes up to `count` waiters of a word in shared memory.
pub fn futex_wake_shared(word: *const u32, count: u32) {
    // SAFETY: the kernel checks the address.
    unsafe { libc::syscall(libc::SYS_futex, word, FUTEX_WAKE, count) };
}

pub fn futex_wake_private(word: &AtomicU32) {
    // SAFETY: the kernel checks the address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), FUTEX_WAKE | FUTEX_PRIVATE, i32::MAX) };
}

/// Sleeps while `*word == expected`, at most `limit`.
pub fn futex_wait_private(word: &AtomicU32, expected: u32, limit: Option<Duration>) {
    let time = limit.map(|d| libc::timespec { tv_sec: d.as_secs() as i64, tv_nsec: i64::from(d.subsec_nanos()) });
    let time_at = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: word and time-out live through the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), FUTEX_WAIT | FUTEX_PRIVATE, expected, time_at) };
}

#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;
const SYS_FUTEX_WAITV: libc::c_long = 449;

/// Sleeps until one of the words differs from its expected value or is woken: `shared` lies in memory that a guest can write, so nothing
/// may depend on its waker; `private` is ours. May return for no reason. False: `limit` has passed.
pub fn futex_wait_either(shared: *const u32, shared_value: u32, private: &AtomicU32, private_value: u32, limit: Option<Duration>) -> bool {
    let waiters = [
        Waiter { value: u64::from(shared_value), address: shared as u64, flags: FUTEX2_SIZE_U32, reserved: 0 },
        Waiter { value: u64::from(private_value), address: private.as_ptr() as u64, flags: FUTEX2_SIZE_U32 | FUTEX2_PRIVATE, reserved: 0 },
    ];
    let mut deadline = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let deadline_at = limit.map_or(ptr::null(), |limit| {
        // SAFETY: `deadline` is writable.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut deadline) };
        let nanos = deadline.tv_nsec + i64::from(limit.subsec_nanos());
        deadline.tv_sec += limit.as_secs() as i64 + nanos / 1_000_000_000;
        deadline.tv_nsec = nanos % 1_000_000_000;
        ptr::from_ref(&deadline)
    });
    // SAFETY: the array and the deadline live through the call.
    let result = unsafe { libc::syscall(SYS_FUTEX_WAITV, waiters.as_ptr(), 2, 0, deadline_at, libc::CLOCK_MONOTONIC) };
    if result >= 0 {
        return true;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::ETIMEDOUT) => false,
        Some(libc::ENOSYS) => {
            // Before 5.16: look at the private word every now and then.
            let time = libc::timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            // SAFETY: the kernel checks the address.
            unsafe { libc::syscall(libc::SYS_futex, shared, FUTEX_WAIT, shared_value, &raw const time) };
            true
        }
        _ => true,
    }
}

/// `process_vm_readv` of one range; the number of bytes read.
pub fn read_process(pid: i32, address: u64, data: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: data.len() };
    // SAFETY: `data` is writable for its length; the remote side is checked by the kernel.
    check(unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) } as libc::c_long).map(|n| n as usize)
}

/// `process_vm_writev` of one range; the number of bytes written.
pub fn write_process(pid: i32, address: u64, data: &[u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: data.len() };
    // SAFETY: `data` is readable for its length; the remote side is checked by the kernel.
    check(unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) } as libc::c_long).map(|n| n as usize)
}

pub fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::kill(pid, signal) };
}

/// True if the thread is in that process.
pub fn tgkill(pid: i32, tid: i32, signal: i32) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) == 0 }
}

/// Lowers the calling thread's priority, if the host lets it.
pub fn be_nice(nice: i32) {
    // SAFETY: no memory is involved; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// CPUs that the calling thread may use; `None` if the host does not say.
pub fn affinity() -> Option<libc::cpu_set_t> {
    // SAFETY: an all-zero set is valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is writable; 0 is the calling thread.
    (unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } == 0).then_some(set)
}

/// Restricts a thread (0: the calling one); false if the host refuses.
pub fn set_affinity(tid: i32, set: &libc::cpu_set_t) -> bool {
    // SAFETY: `set` is readable.
    unsafe { libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), set) == 0 }
}

/// One CPU alone.
pub fn only_cpu(cpu: u32) -> Option<libc::cpu_set_t> {
    // SAFETY: an all-zero set is valid.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    if cpu >= libc::CPU_SETSIZE as u32 {
        return None;
    }
    // SAFETY: `cpu` is below the set's size.
    unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    Some(set)
}

/// `set` without one CPU; `None` if nothing is left.
pub fn without_cpu(set: &libc::cpu_set_t, cpu: u32) -> Option<libc::cpu_set_t> {
    let mut rest = *set;
    if cpu >= libc::CPU_SETSIZE as u32 {
        return None;
    }
    // SAFETY: `cpu` is below the set's size.
    unsafe { libc::CPU_CLR(cpu as usize, &mut rest) };
    // SAFETY: a valid set.
    (unsafe { libc::CPU_COUNT(&rest) } > 0).then_some(rest)
}

/// CPU time of a process of ours.
pub fn process_cpu_time(pid: i32) -> Duration {
    let clock = (!pid << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A child that has ended, without collecting it; blocks. `None`: there is no child.
pub fn wait_any() -> Option<(i32, HostExit)> {
    loop {
        match wait_id(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT | libc::__WALL) {
            Ok(Some(found)) => return Some(found),
            Ok(None) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Collects an ended child.
pub fn reap(pid: i32) {
    let _ = wait_id(libc::P_PID, pid as libc::id_t, libc::WEXITED | libc::WNOHANG | libc::__WALL);
}

/// Whether `pid` is a child of ours, alive or not.
pub fn is_child(pid: i32) -> bool {
    wait_id(libc::P_PID, pid as libc::id_t, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL).is_ok()
}

fn wait_id(kind: libc::idtype_t, id: libc::id_t, options: i32) -> io::Result<Option<(i32, HostExit)>> {
    // SAFETY: an all-zero siginfo is valid.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: `info` is writable.
    check(libc::c_long::from(unsafe { libc::waitid(kind, id, &mut info, options) }))?;
    // SAFETY: waitid filled the child fields, or left zeros.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit = if info.si_code == libc::CLD_EXITED { HostExit::Code(status) } else { HostExit::Signal(status) };
    Ok(Some((pid, exit)))
}

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Notification {
    pub id: u64,
    pub tid: u32,
    pub flags: u32,
    pub nr: i32,
    pub arch: u32,
    pub ip: u64,
    pub args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}

const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;
const NOTIF_ADDFD: libc::c_ulong = 0x4018_2103;
const NOTIF_SET_FLAGS: libc::c_ulong = 0x4008_2104;
const SYNC_WAKE_UP: u64 = 1;
const USER_NOTIF_FLAG_CONTINUE: u32 = 1;
const ADDFD_FLAG_SETFD: u32 = 1;

/// Wakes the notification thread on the notifier's core and back: nobody has anything else to do meanwhile. Kernels before 6.6 cannot.
pub fn set_sync_wake_up(listener: BorrowedFd<'_>) {
    // SAFETY: the argument is a number.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
}

/// The next notification; blocks.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    let mut notification = Notification::default();
    // SAFETY: the structure is the kernel's, zeroed as it wants.
    check(libc::c_long::from(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &mut notification) }))?;
    Ok(notification)
}

/// Lets the call be executed.
pub fn answer_continue(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    answer(listener, &Response { id, val: 0, error: 0, flags: USER_NOTIF_FLAG_CONTINUE })
}

/// Answers the call with 0, or with an error (a positive errno), unexecuted.
pub fn answer_result(listener: BorrowedFd<'_>, id: u64, errno: i32) -> io::Result<()> {
    answer(listener, &Response { id, val: 0, error: -errno, flags: 0 })
}

fn answer(listener: BorrowedFd<'_>, response: &Response) -> io::Result<()> {
    // SAFETY: the structure is the kernel's.
    check(libc::c_long::from(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, ptr::from_ref(response)) })).map(drop)
}

/// Puts `file` into the notifying thread's table as `number`, replacing what was there.
pub fn inject(listener: BorrowedFd<'_>, id: u64, file: BorrowedFd<'_>, number: u32) -> io::Result<()> {
    let order = AddFd { id, flags: ADDFD_FLAG_SETFD, source: file.as_raw_fd() as u32, number, number_flags: libc::O_CLOEXEC as u32 };
    // SAFETY: the structure is the kernel's.
    check(libc::c_long::from(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ADDFD, &raw const order) })).map(drop)
}

/// True when nobody is left whom the filter binds.
pub fn hung_up(listener: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one valid entry, a time, no signal mask.
    let n = unsafe { libc::ppoll(&mut poll, 1, &now, std::ptr::null()) };
    n > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}
