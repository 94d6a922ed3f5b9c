//! Processes I and Z: from `execveat` of the image to a zygote that waits for orders (ZYGOTE.md section 2, steps 7 to 9).

use core::sync::atomic::{AtomicU32, Ordering};

use crate::layout::{self, AREA_LEN, BootParams, SLOT_SIZE, ThreadArea};
use crate::{handoff, label, sys};

const AT_SYSINFO_EHDR: u64 = 33;
const READY: u32 = 1;
const FAILED: u32 = 2;
/// `-EPERM`: the kernel has sealed its mappings.
const EPERM: i64 = -1;

/// Steps that a failure names.
mod step {
    pub const AREA: i32 = 1;
    pub const CLONE: i32 = 2;
    pub const SIGNALS: i32 = 3;
    pub const VDSO: i32 = 4;
    pub const UNMAP: i32 = 5;
    pub const PRIVILEGES: i32 = 6;
    pub const FILTER: i32 = 7;
    pub const TIMEOUT: i32 = 8;
}

fn params() -> *mut BootParams {
    (handoff::area_base() + layout::BOOT_PARAMS as u64) as *mut BootParams
}

/// Entry of I; `stack` points to argc.
pub unsafe extern "C" fn maker(stack: *const u64) -> ! {
    // SAFETY: the kernel's initial stack.
    let vdso = unsafe { auxiliary(stack, AT_SYSINFO_EHDR) };
    let area = handoff::area_base();
    // MAP_SHARED | MAP_FIXED_NOREPLACE
    let mapped = sys::call(sys::MMAP, area, AREA_LEN, 3, 0x10_0001, layout_fd::AREA, 0);
    if mapped != area as i64 {
        report_failure(step::AREA, mapped);
    }
    sys::call(sys::PRCTL, 4, 0, 0, 0, 0, 0); // PR_SET_DUMPABLE
    let mut pidfd: i32 = -1;
    // CLONE_FILES | CLONE_PIDFD | SIGCHLD
    let child = sys::call(sys::CLONE, 0x400 | 0x1000 | 17, 0, (&raw mut pidfd) as u64, 0, 0, 0);
    if child < 0 {
        report_failure(step::CLONE, child);
    }
    if child == 0 {
        // SAFETY: jumps to a fresh stack in the area; nothing of the old one is used again.
        unsafe {
            core::arch::asm!("mov rsp, {sp}", "xor ebp, ebp", "call {zygote}", "ud2", sp = in(reg) area + SLOT_SIZE as u64 - 64,
                zygote = sym zygote, in("rdi") vdso, options(noreturn));
        }
    }
    // SAFETY: the area is mapped; Z writes the state once.
    let state = unsafe { AtomicU32::from_ptr(&raw mut (*params()).state) };
    let mut rounds = 0;
    while state.load(Ordering::Acquire) == 0 {
        let pause = [0u64, 100_000_000];
        sys::call(sys::FUTEX, state.as_ptr() as u64, 0, 0, pause.as_ptr() as u64, 0, 0);
        rounds += 1;
        if rounds > 100 {
            report_failure(step::TIMEOUT, -110);
        }
    }
    // SAFETY: Z has finished writing.
    let (failed, errno, listener) = unsafe { ((*params()).step, (*params()).errno, (*params()).listener) };
    if state.load(Ordering::Acquire) != READY {
        report_failure(failed, -(errno as i64));
    }
    let hello = [layout::HELLO_MAGIC as i32, child as i32, 0, 0];
    let fds = [pidfd, layout_fd::AREA as i32, listener];
    let sent = send(hello, &fds, if traced() { 2 } else { 3 });
    // Z shares this table: now it has none of these descriptors either. A traced one gets files by the socket.
    sys::call(sys::CLOSE_RANGE, traced() as u64, 0xffff_ffff, 0, 0, 0, 0);
    leave((sent < 0) as u64)
}

mod layout_fd {
    pub const SOCKET: u64 = 0;
    pub const AREA: u64 = 1;
}

unsafe fn auxiliary(stack: *const u64, wanted: u64) -> u64 {
    // SAFETY: argc, argv, NULL, envp, NULL, pairs up to a zero type, as execve leaves them.
    unsafe {
        let mut at = stack.add(1 + stack.read() as usize + 1);
        while at.read() != 0 {
            at = at.add(1);
        }
        at = at.add(1);
        while at.read() != 0 {
            if at.read() == wanted {
                return at.add(1).read();
            }
            at = at.add(2);
        }
    }
    0
}

fn traced() -> bool {
    // SAFETY: written by runsc.
    unsafe { (*params()).traced != 0 }
}

fn send(words: [i32; 4], fds: &[i32; 3], count: usize) -> i64 {
    let vector = [words.as_ptr() as u64, layout::HELLO_LEN as u64];
    // cmsghdr: length, SOL_SOCKET, SCM_RIGHTS, descriptors
    let mut control = [0u64; 4];
    control[0] = 16 + 4 * count as u64;
    control[1] = 1 | (1 << 32);
    let [a, b, c] = *fds;
    control[2] = a as u32 as u64 | ((b as u32 as u64) << 32);
    control[3] = c as u32 as u64;
    let control_len = if count == 0 { 0 } else { 32u64 };
    let control_at = if count == 0 { 0 } else { control.as_ptr() as u64 };
    let message = [0u64, 0, vector.as_ptr() as u64, 1, control_at, control_len, 0];
    sys::call(sys::SENDMSG, layout_fd::SOCKET, message.as_ptr() as u64, 0x4000, 0, 0, 0)
}

fn report_failure(step: i32, result: i64) -> ! {
    send([layout::HELLO_MAGIC as i32, 0, step, -(result as i32)], &[0; 3], 0);
    leave(1)
}

fn leave(code: u64) -> ! {
    loop {
        sys::call(231, code, 0, 0, 0, 0, 0); // exit_group
    }
}

/// Z, on slot 0 of its area.
unsafe extern "C" fn zygote(vdso: u64) -> ! {
    let area = handoff::area_base() as *mut ThreadArea;
    let outcome = prepare(vdso, area);
    // SAFETY: the area is mapped; I reads after `state`.
    unsafe {
        let params = params();
        let state = AtomicU32::from_ptr(&raw mut (*params).state);
        if let Err((step, result)) = outcome {
            (*params).step = step;
            (*params).errno = -(result as i32);
            state.store(FAILED, Ordering::Release);
        } else {
            state.store(READY, Ordering::Release);
        }
        crate::futex::wake(state.as_ptr() as u64, 0, 1);
        if outcome.is_err() {
            leave(1);
        }
        // Never returns: no order resumes Z. If one did, there would be no frame, and the fault kills it.
        handoff::process_born(area);
        leave(1)
    }
}

fn prepare(vdso: u64, area: *mut ThreadArea) -> Result<(), (i32, i64)> {
    sys::call(sys::SETPGID, 0, 0, 0, 0, 0, 0);
    let name: [u64; 2] = [0x6275_7473, 0];
    sys::call(sys::PRCTL, 15, name.as_ptr() as u64, 0, 0, 0, 0); // PR_SET_NAME "stub"
    signals().map_err(|r| (step::SIGNALS, r))?;
    // SAFETY: slot 0 is ours.
    unsafe { handoff::set_alternate_stack(area) };
    let (kept, kept_end) = move_vdso(vdso).map_err(|r| (step::VDSO, r))?;
    unmap_rest(kept, kept_end).map_err(|r| (step::UNMAP, r))?;
    if traced() {
        // MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        let at = label!("blob_start") + layout::SCRATCH_OFFSET;
        check(sys::call(sys::MMAP, at, layout::SCRATCH_LEN, 3, 0x32, u64::MAX, 0)).map_err(|r| (step::AREA, r))?;
    }
    check(sys::call(sys::MADVISE, area as u64, AREA_LEN, 10, 0, 0, 0)).map_err(|r| (step::PRIVILEGES, r))?;
    check(sys::call(sys::PRCTL, 38, 1, 0, 0, 0, 0)).map_err(|r| (step::PRIVILEGES, r))?; // PR_SET_NO_NEW_PRIVS
    // SAFETY: params were written by runsc.
    unsafe {
        let params = params();
        let program = [(*params).filter_len as u64, (&raw const (*params).filter) as u64];
        // SECCOMP_SET_MODE_FILTER; NEW_LISTENER | WAIT_KILLABLE_RECV
        let flags = if traced() { 0 } else { (1 << 3) | (1 << 5) };
        let fd = check(sys::call(sys::SECCOMP, 1, flags, program.as_ptr() as u64, 0, 0, 0)).map_err(|r| (step::FILTER, r))?;
        (*params).listener = fd as i32;
    }
    Ok(())
}

fn check(result: i64) -> Result<i64, i64> {
    if result < 0 { Err(result) } else { Ok(result) }
}

fn signals() -> Result<(), i64> {
    const SA_SIGINFO: u64 = 4;
    const SA_ONSTACK: u64 = 0x0800_0000;
    const SA_RESTART: u64 = 0x1000_0000;
    const SA_NODEFER: u64 = 0x4000_0000;
    const SA_RESTORER: u64 = 0x0400_0000;
    let (entry, restorer) = (label!("signal_entry"), label!("signal_restorer"));
    let mut number = 1u64;
    while number <= 64 {
        let flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTORER;
        let action: [u64; 4] = match number {
            4 | 5 | 7 | 8 | 11 | 31 => [entry, flags, restorer, 0],
            10 => [entry, flags | SA_RESTART, restorer, 0],
            9 | 17 | 19 => {
                number += 1;
                continue;
            }
            // Ignored: a signal from the host's side must not end a guest process behind the sentry's back.
            _ => [1, SA_RESTORER, restorer, 0],
        };
        check(sys::call(sys::RT_SIGACTION, number, action.as_ptr() as u64, 0, 8, 0, 0))?;
        number += 1;
    }
    let empty = 0u64;
    check(sys::call(sys::RT_SIGPROCMASK, 2, (&raw const empty) as u64, 0, 8, 0, 0))?;
    Ok(())
}

/// Moves vvar, vvar_vclock and vdso to their random place; where the kernel has sealed them they stay. Returns the range they occupy.
fn move_vdso(vdso: u64) -> Result<(u64, u64), i64> {
    // SAFETY: written by runsc.
    let (vvar, vclock, code) = unsafe { ((*params()).vvar_len, (*params()).vclock_len, (*params()).vdso_len) };
    if vdso == 0 || code == 0 {
        return Ok((0, 0));
    }
    let total = vvar + vclock + code;
    let old = vdso - vvar - vclock;
    let mut new = label!("blob_start") + layout::VDSO_OFFSET;
    let mut at = 0;
    for len in [vvar, vclock, code] {
        if len != 0 {
            // MREMAP_MAYMOVE | MREMAP_FIXED
            let moved = sys::call(sys::MREMAP, old + at, len, len, 3, new + at, 0);
            if moved == EPERM && at == 0 {
                new = old;
                break;
            }
            check(moved)?;
        }
        at += len;
    }
    // SAFETY: the area is ours.
    unsafe { (*params()).vdso_at = new + vvar + vclock };
    Ok((new, new + total))
}

/// Leaves only blob, area and the vDSO's block (which may lie anywhere).
fn unmap_rest(kept: u64, kept_end: u64) -> Result<(), i64> {
    let page = |address: u64| (address + 0xfff) & !0xfff;
    let blob = (label!("blob_start"), page(label!("blob_end")));
    let area = (handoff::area_base(), handoff::area_base() + AREA_LEN);
    let keep = [blob, (kept, kept_end), area];
    let mut from = 0;
    loop {
        // The kept range that comes next from `from` on.
        let mut next = (layout::REGION_END, layout::REGION_END);
        for range in keep {
            if range.1 > from && range.0 >= from && range.0 < next.0 {
                next = range;
            }
        }
        if next.0 > from {
            check(sys::call(sys::MUNMAP, from, next.0 - from, 0, 0, 0, 0))?;
        }
        if next.0 == layout::REGION_END {
            return Ok(());
        }
        from = next.1;
    }
}
