//! Births: new threads and processes, made by a stub on order and known only by what the host kernel says about them.

use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sentry_abi::Errno;
use sentry_platform::{PlatformError, Registers, SpawnKind};
use sentry_stub::layout::{SLOT_SIZE, ThreadArea, order};

use crate::container::{Birth, BirthKind, Container};
use crate::frame;
use crate::process::{Mm, Process};
use crate::stub::{Expected, Gone, REPEATS, Stub, Turn};
use crate::sys;

const NR_CLONE: u64 = 56;
const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_SYSVSEM: u64 = 0x4_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const SIGCHLD: u64 = 17;

const THREAD: u64 = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
const SHARED_SPACE: u64 = CLONE_VM | CLONE_PARENT | CLONE_CHILD_CLEARTID | SIGCHLD;
const PROCESS: u64 = CLONE_PARENT | SIGCHLD;

/// The stub leaves this distance from the slot's end to a new thread's stack.
const STACK_GAP: u64 = 64;
/// A child that has not said hello by then never will.
const BIRTH_LIMIT: Duration = Duration::from_secs(10);

impl From<Gone> for PlatformError {
    fn from(_: Gone) -> PlatformError {
        PlatformError::Gone
    }
}

fn broken(e: std::io::Error) -> PlatformError {
    match e.raw_os_error() {
        Some(libc::ENOMEM) => PlatformError::Host(Errno::ENOMEM),
        Some(libc::EMFILE | libc::ENFILE) => PlatformError::Host(Errno::ENFILE),
        _ => PlatformError::Broken(format!("cannot make an area: {e}")),
    }
}

/// Spawns from the thread behind `parent`. `image` is the child's vector state.
pub fn spawn(parent: &mut Turn<'_>, kind: SpawnKind, start: &Registers, image: &[u8]) -> Result<Arc<Stub>, PlatformError> {
    match kind {
        SpawnKind::Fork => process(parent, start, image),
        SpawnKind::Thread => thread(parent, BirthKind::Thread, THREAD, start, image),
        SpawnKind::SharedSpace => thread(parent, BirthKind::SharedSpace, SHARED_SPACE, start, image),
    }
}

/// A process of its own memory: a copy of the parent's, or from the zygote an empty one.
pub fn process(parent: &mut Turn<'_>, start: &Registers, image: &[u8]) -> Result<Arc<Stub>, PlatformError> {
    let container = parent.stub.process.container.clone();
    let area = container.take_area().map_err(broken)?;
    let token = area.token();
    let mm = Arc::new(Mm::new(container.new_space_id(), area, parent.stub.slot));
    let child = Stub::new(&Process::new(&container, mm, false), parent.stub.slot, Some(parent));
    frame::build_start(&child.view(), child.address(), start, image);
    let call = Expected { nr: NR_CLONE, args: [PROCESS, 0, 0, 0, 0, 0], file: None, left: REPEATS };
    let born = Born { container: &container, token, kind: BirthKind::Process, child: &child };
    let parent_mm = parent.stub.process.mm.clone();
    let _still = parent_mm.in_flight.close(&parent.stub.process);
    born.order(parent, order::CLONE_PROCESS, &[PROCESS, token], call)?;
    Ok(child)
}

fn thread(parent: &mut Turn<'_>, kind: BirthKind, flags: u64, start: &Registers, image: &[u8]) -> Result<Arc<Stub>, PlatformError> {
    let container = parent.stub.process.container.clone();
    let mm = parent.stub.process.mm.clone();
    let slot = mm.take_slot().ok_or(PlatformError::Host(Errno::EAGAIN))?;
    let process = match kind {
        BirthKind::Thread => parent.stub.process.clone(),
        _ => {
            let process = Process::new(&container, mm.clone(), false);
            mm.add_user(&process);
            process
        }
    };
    let child = Stub::new(&process, slot, Some(parent));
    // Not an address that could be mapped, so it can be no other call's argument.
    let token = sys::random_u64().map_err(broken)? | 1 << 63;
    let view = child.view();
    frame::build_start(&view, child.address(), start, image);
    view.put(offset_of!(ThreadArea, token), token);
    if mm.requests().is_some() {
        child.set_direct();
    }
    let address = child.address();
    let tid_address = address + offset_of!(ThreadArea, host_tid) as u64;
    let args = [flags, address + SLOT_SIZE as u64 - STACK_GAP, 0, tid_address, 0, 0];
    let call = Expected { nr: NR_CLONE, args, file: None, left: REPEATS };
    let born = Born { container: &container, token, kind, child: &child };
    let result = born.order(parent, order::CLONE_THREAD, &[flags, address], call);
    if let Err(PlatformError::Host(_)) = result {
        mm.return_slot(slot);
    }
    result.map(|()| child)
}

struct Born<'a> {
    container: &'a Arc<Container>,
    token: u64,
    kind: BirthKind,
    child: &'a Arc<Stub>,
}

impl Born<'_> {
    fn order(&self, parent: &mut Turn<'_>, what: u32, args: &[u64], call: Expected) -> Result<(), PlatformError> {
        let birth = Birth { kind: self.kind, child: self.child.clone(), parent: parent.stub.clone() };
        self.container.await_birth(self.token, birth);
        let may_die = self.kind != BirthKind::Thread;
        if may_die {
            self.container.reaper.watch(&parent.stub.process);
        }
        parent.stub.expect(Some(call));
        let result = parent.order(what, args);
        parent.stub.expect(None);
        let outcome = match result {
            // A thread says hello while its parent goes on; it dies with its process at the latest.
            Ok(id) if id > 0 && self.kind == BirthKind::Thread => Ok(()),
            Ok(id) if id > 0 => self.wait(parent, id),
            // Whatever the stub wrote: the smallest number has no counterpart.
            Ok(error) => Err(PlatformError::Host(Errno::from_host(error.wrapping_neg() as i32))),
            Err(Gone) => Err(PlatformError::Gone),
        };
        if may_die {
            self.container.reaper.unwatch(&parent.stub.process);
        }
        if outcome.is_err() && self.container.cancel_birth(self.token).is_none() && may_die {
            // It was born all the same, and nobody will drive it.
            self.child.process.kill();
        }
        outcome
    }

    /// Waits for the child's hello. `id` is what the parent reported: a hint about who may have died.
    fn wait(&self, parent: &Turn<'_>, id: i64) -> Result<(), PlatformError> {
        let deadline = Instant::now() + BIRTH_LIMIT;
        let poke = parent.stub.poke_word();
        loop {
            let seen = poke.load(Ordering::Acquire);
            if self.child.born.load(Ordering::Acquire) {
                return Ok(());
            }
            if parent.stub.process.exit().is_some() {
                return Err(PlatformError::Gone);
            }
            if let Ok(pid) = i32::try_from(id)
                && let Some(exit) = self.container.reaper.take_unknown(pid)
                && self.container.cancel_birth(self.token).is_some()
            {
                // Killed between clone and hello: a child that is dead from the start.
                self.child.process.set_dead(exit);
                return Ok(());
            }
            if Instant::now() > deadline {
                parent.stub.violation("its child never said hello", 0);
                return Err(PlatformError::Gone);
            }
            sys::futex_wait_private(poke, seen, Some(Duration::from_millis(100)));
        }
    }
}
