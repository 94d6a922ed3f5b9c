//! The notification thread: the only one that answers a zygote's listener.
//!
//! A notified call passes if the thread was ordered to make exactly this one, or if it proves an awaited birth. Everything else is a guest
//! that forged something: its process dies.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use sentry_platform::Verdict;
use sentry_stub::layout::{AREA_LEN, HELLO_LENGTH, HELLO_PROT};

use crate::container::{Birth, BirthKind, Container};
use crate::direct;
use crate::stub::Stub;
use crate::sys::{self, Notification};

const NR_MMAP: u64 = 9;
const NR_MPROTECT: u64 = 10;
/// MAP_SHARED | MAP_FIXED
const AREA_FLAGS: u64 = 0x11;
/// Number under which a new process finds its area's file.
const AREA_FD: u32 = 3;

/// Starts the thread; it ends with the last process that the filter binds.
pub fn start(container: &Arc<Container>) -> io::Result<()> {
    let container = container.clone();
    sys::set_sync_wake_up(container.listener.as_fd());
    thread::Builder::new().name("notify".into()).stack_size(256 << 10).spawn(move || serve(&container))?;
    Ok(())
}

fn serve(container: &Container) {
    loop {
        match sys::receive(container.listener.as_fd()) {
            Ok(notification) => answer(container, &notification),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // The caller died or was interrupted before we looked; or nobody is left.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                if sys::hung_up(container.listener.as_fd()) {
                    break;
                }
            }
            Err(e) => {
                tracing::error!("seccomp listener failed: {e}");
                break;
            }
        }
    }
    container.fail();
}

fn answer(container: &Container, n: &Notification) {
    let listener = container.listener.as_fd();
    let tid = n.tid as i32;
    let Some(stub) = container.thread(tid) else {
        born(container, n, tid);
        return;
    };
    if let Some(result) = ordered(listener, &stub, n) {
        // A stub that has died meanwhile needs no answer.
        let _ = match result {
            Ok(()) => sys::answer_continue(listener, n.id),
            Err(e) => sys::answer_result(listener, n.id, e.raw_os_error().unwrap_or(libc::ENOMEM)),
        };
        return;
    }
    let verdict = direct::decide(&stub, n);
    let _ = match verdict {
        Verdict::Continue => sys::answer_continue(listener, n.id),
        Verdict::Refuse(_) | Verdict::AskTheSentry => sys::answer_result(listener, n.id, direct::refusal(verdict)),
        Verdict::Kill if !sys::tgkill(stub.process.pid(), tid, 0) => {
            // The thread that was known by this number has ended on its own, and another one has got its number.
            container.remove_thread(&stub);
            born(container, n, tid);
            Ok(())
        }
        Verdict::Kill => {
            tracing::warn!(pid = stub.process.pid(), tid, nr = n.nr, args = ?n.args, "stub killed: forged a call");
            stub.process.kill();
            Ok(())
        }
    };
}

/// `Some` if the call is the one that was ordered; its file is then in place.
fn ordered(listener: BorrowedFd<'_>, stub: &Stub, n: &Notification) -> Option<io::Result<()>> {
    stub.with_expected(|expected| {
        let expected = expected.filter(|e| e.nr == n.nr as u64 && e.args == n.args && e.left > 0)?;
        expected.left -= 1;
        let Some((file, number)) = expected.file else { return Some(Ok(())) };
        // SAFETY: the orderer borrows the file until it has withdrawn the expectation, which waits for this lock.
        let file = unsafe { BorrowedFd::borrow_raw(file) };
        Some(sys::inject(listener, n.id, file, number))
    })
}

/// A thread that is not known yet: it must prove which awaited birth it is.
fn born(container: &Container, n: &Notification, tid: i32) {
    let listener = container.listener.as_fd();
    let as_process = [container.area_base(), AREA_LEN, 3, AREA_FLAGS, u64::from(AREA_FD), n.args[5]];
    let as_thread = [n.args[0], HELLO_LENGTH, HELLO_PROT, 0, 0, 0];
    let (token, process) = match n.nr as u64 {
        NR_MMAP if n.args == as_process => (n.args[5], true),
        NR_MPROTECT if n.args == as_thread => (n.args[0], false),
        _ => return container.kill_unknown(tid),
    };
    let fits = |birth: &Birth| match birth.kind {
        BirthKind::Process => process && sys::is_child(tid),
        BirthKind::Thread => !process && sys::tgkill(birth.parent.process.pid(), tid, 0),
        BirthKind::SharedSpace => !process && sys::is_child(tid),
    };
    let Some(birth) = container.take_birth(token, fits, tid) else {
        return container.kill_unknown(tid);
    };
    if birth.kind != BirthKind::Thread {
        birth.child.process.set_pid(tid);
    }
    let sent = if process {
        sys::inject(listener, n.id, birth.child.process.mm.area.memfd(), AREA_FD).and_then(|()| sys::answer_continue(listener, n.id))
    } else {
        sys::answer_result(listener, n.id, 0)
    };
    if let Err(e) = sent
        && e.raw_os_error() != Some(libc::ENOENT)
    {
        tracing::warn!(tid, "new stub refused: {e}");
        birth.child.process.kill();
    }
    birth.child.born.store(true, Ordering::SeqCst);
    // An interrupt that came before the id was known.
    if birth.child.running.load(Ordering::SeqCst) && birth.child.interrupted.load(Ordering::SeqCst) {
        birth.child.process.signal(tid);
    }
    birth.parent.poke();
}
