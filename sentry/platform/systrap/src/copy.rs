//! Copies between the sentry and a guest process: by process_vm_readv and writev, or by one of its stopped threads where the host refuses those
//! (Yama scope 3, LAWS 8.1).

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sentry_abi::UserAddr;
use sentry_platform::Fault;
use sentry_stub::layout::{BUFFER, BUFFER_LEN, order};

use crate::process::{Process, guest_range};
use crate::stub::{Stub, Turn};
use crate::sys;

pub fn read(process: &Process, at: UserAddr, dst: &mut [u8]) -> Result<(), Fault> {
    let len = dst.len();
    transfer(process, at, len, &mut |way, address, done| {
        let rest = dst.get_mut(done..).unwrap_or_default();
        match way {
            Way::Host(id) => sys::read_process(id, address, rest),
            Way::Stub(turn) => {
                let n = by_stub(turn, order::COPY_FROM_GUEST, address, rest.len())?;
                let _ = rest.get_mut(..n).and_then(|to| turn.view.read(BUFFER, to));
                Ok(n)
            }
        }
    })
}

pub fn write(process: &Process, at: UserAddr, src: &[u8]) -> Result<(), Fault> {
    transfer(process, at, src.len(), &mut |way, address, done| {
        let rest = src.get(done..).unwrap_or_default();
        match way {
            Way::Host(id) => sys::write_process(id, address, rest),
            Way::Stub(turn) => {
                let n = rest.len().min(BUFFER_LEN);
                let _ = rest.get(..n).and_then(|from| turn.view.write(BUFFER, from));
                by_stub(turn, order::COPY_TO_GUEST, address, n)
            }
        }
    })
}

enum Way<'a, 'b> {
    /// By the host, in the process with this id.
    Host(i32),
    Stub(&'a mut Turn<'b>),
}

/// Copies on from `done` at an address; how many bytes, at least one unless it faulted.
type Step<'a> = dyn FnMut(Way<'_, '_>, u64, usize) -> io::Result<usize> + 'a;

fn transfer(process: &Process, at: UserAddr, len: usize, step: &mut Step<'_>) -> Result<(), Fault> {
    if !guest_range(at.0, len as u64) {
        return Err(Fault { done: 0 });
    }
    let mut done = 0;
    if process.container.host_copies.load(Ordering::Relaxed) {
        match by_host(process, at, len, &mut done, step) {
            Host::Copied => return Ok(()),
            Host::Faulted => return Err(Fault { done }),
            Host::Refused => process.container.host_copies.store(false, Ordering::Relaxed),
            Host::NoLeader => {}
        }
    }
    let Some(stub) = process.stubs().into_iter().find(|s| s.may_copy()) else { return Err(Fault { done }) };
    let mut attempt = |stub: &Arc<Stub>| {
        let mut turn = stub.try_turn()?;
        while done < len {
            match step(Way::Stub(&mut turn), at.0 + done as u64, done) {
                Ok(n) if n > 0 => done += n,
                _ => return Some(false),
            }
        }
        Some(true)
    };
    // The first may have started to run meanwhile.
    let result = attempt(&stub).or_else(|| process.stubs().iter().filter(|s| s.may_copy()).find_map(attempt));
    if result == Some(true) { Ok(()) } else { Err(Fault { done }) }
}

/// How far the host's copy got.
enum Host {
    Copied,
    Faulted,
    /// The host permits no such copies.
    Refused,
    /// The process lives on without its first thread, the only one whose id stays its own: a guest can end any other thread unseen, and the
    /// host then gives the id to whatever process is made next, which must not be written into.
    NoLeader,
}

fn by_host(process: &Process, at: UserAddr, len: usize, done: &mut usize, step: &mut Step<'_>) -> Host {
    while *done < len {
        let result = process.while_alive(|pid| step(Way::Host(pid), at.0 + *done as u64, *done));
        match result.unwrap_or(Ok(0)) {
            Ok(0) => return Host::Faulted,
            Ok(n) => *done += n,
            Err(e) => match e.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EPERM | libc::ENOSYS) => return Host::Refused,
                Some(libc::ESRCH) => return Host::NoLeader,
                // The container's memory limit: as the host's OOM killer would.
                Some(libc::ENOMEM) => {
                    process.kill();
                    return Host::Faulted;
                }
                _ => return Host::Faulted,
            },
        }
    }
    Host::Copied
}

fn by_stub(turn: &mut Turn<'_>, what: u32, address: u64, len: usize) -> io::Result<usize> {
    let len = len.min(BUFFER_LEN);
    let result = turn.order(what, &[address, len as u64]).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // It cannot have copied more than it was told.
    usize::try_from(result).map(|n| n.min(len)).map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))
}
