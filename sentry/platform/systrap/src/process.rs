//! Host processes: their life, their threads, the memory they share with each other ([`Mm`]) and with the sentry.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sentry_abi::UserAddr;
use sentry_platform::{AddressSpace, Fault, HostExit, MemoryRequests, SpaceId};
use sentry_stub::layout::{GUEST_START, REGION_START, SLOT_COUNT};
use sentry_sync::{Level, Mutex, RwLock};

use crate::area::Area;
use crate::container::Container;
use crate::copy;
use crate::inflight::InFlight;
use crate::stub::Stub;
use crate::sys;

/// What all host processes of one address space have in common (more than one only after vfork).
pub struct Mm {
    pub id: SpaceId,
    pub area: Area,
    slots: Mutex<Slots>,
    requests: RwLock<Option<Arc<dyn MemoryRequests>>>,
    /// Processes that share it (vfork, CLONE_VM): the memory outlives the first of them.
    users: Mutex<Vec<Weak<Process>>>,
    pub in_flight: InFlight,
}

struct Slots {
    /// The slot of the first thread: never given to another one, its end is not shown by the kernel.
    birth: u32,
    next: u32,
    retired: Vec<u32>,
}

impl Mm {
    pub fn new(id: SpaceId, area: Area, birth: u32) -> Mm {
        let slots = Slots { birth, next: 0, retired: Vec::new() };
        Mm {
            id,
            area,
            slots: Mutex::new(Level::PlatformProcess, slots),
            requests: RwLock::new(Level::PlatformProcess, None),
            users: Mutex::new(Level::PlatformProcess, Vec::new()),
            in_flight: InFlight::new(),
        }
    }

    pub fn add_user(&self, process: &Arc<Process>) {
        let mut users = self.users.lock();
        users.retain(|u| u.strong_count() > 0);
        users.push(Arc::downgrade(process));
    }

    fn users(&self) -> Vec<Arc<Process>> {
        self.users.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// A slot whose stack no thread uses, cleared. `None`: too many threads.
    pub fn take_slot(&self) -> Option<u32> {
        let mut slots = self.slots.lock();
        let free = |slot: &u32| self.area.slot(*slot).host_tid().load(Ordering::Acquire) == 0;
        let slot = match slots.retired.iter().position(free) {
            Some(at) => slots.retired.swap_remove(at),
            None => {
                if slots.next == slots.birth {
                    slots.next += 1;
                }
                if slots.next as usize >= SLOT_COUNT {
                    return None;
                }
                slots.next += 1;
                slots.next - 1
            }
        };
        let view = self.area.slot(slot);
        view.clear();
        view.host_tid().store(1, Ordering::Release);
        Some(slot)
    }

    /// The thread is leaving; the slot is free when the kernel has cleared its `host_tid`.
    pub fn retire_slot(&self, slot: u32) {
        let mut slots = self.slots.lock();
        if slot != slots.birth {
            slots.retired.push(slot);
        }
    }

    /// The thread was never made.
    pub fn return_slot(&self, slot: u32) {
        self.area.slot(slot).host_tid().store(0, Ordering::Release);
        self.retire_slot(slot);
    }

    pub fn requests(&self) -> Option<Arc<dyn MemoryRequests>> {
        self.requests.read().clone()
    }

    pub fn set_requests(&self, requests: Arc<dyn MemoryRequests>) {
        *self.requests.write() = Some(requests);
    }
}

/// One host process.
pub struct Process {
    pub container: Arc<Container>,
    pub mm: Arc<Mm>,
    /// 0 until it has said hello.
    pid: AtomicI32,
    /// Held for reading while `pid` is used; the reaper writes before it gives the id back to the host.
    life: RwLock<Option<HostExit>>,
    stubs: Mutex<Vec<Weak<Stub>>>,
    /// The zygote's own process: its death ends the container.
    is_zygote: bool,
}

impl Process {
    pub fn new(container: &Arc<Container>, mm: Arc<Mm>, is_zygote: bool) -> Arc<Process> {
        Arc::new(Process {
            container: container.clone(),
            mm,
            pid: AtomicI32::new(0),
            life: RwLock::new(Level::PlatformProcess, None),
            stubs: Mutex::new(Level::PlatformProcess, Vec::new()),
            is_zygote,
        })
    }

    pub fn pid(&self) -> i32 {
        self.pid.load(Ordering::Acquire)
    }

    pub fn set_pid(self: &Arc<Self>, pid: i32) {
        self.pid.store(pid, Ordering::Release);
        self.container.reaper.claim(pid, self);
    }

    pub fn add_stub(&self, stub: &Arc<Stub>) {
        let mut stubs = self.stubs.lock();
        stubs.retain(|s| s.strong_count() > 0);
        stubs.push(Arc::downgrade(stub));
    }

    pub fn stubs(&self) -> Vec<Arc<Stub>> {
        self.stubs.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub fn exit(&self) -> Option<HostExit> {
        *self.life.read()
    }

    /// Called by the reaper, before the pid can be used again.
    pub fn set_dead(&self, exit: HostExit) {
        *self.life.write() = Some(exit);
        for stub in self.stubs() {
            self.container.remove_thread(&stub);
            stub.poke();
        }
        self.container.forget_births(self);
        if self.is_zygote {
            tracing::error!(?exit, "zygote died");
            self.container.fail();
        }
        for stub in self.stubs() {
            stub.tell_death(exit);
        }
    }

    /// Lets all sentry threads that wait for a thread of this process look around.
    pub fn poke(&self) {
        for stub in self.stubs() {
            stub.poke();
        }
    }

    pub fn kill(&self) {
        self.while_alive(|pid| sys::kill(pid, libc::SIGKILL));
    }

    /// Sends the interrupt signal to one of its threads.
    pub fn signal(&self, tid: i32) {
        if tid > 0 {
            self.while_alive(|pid| sys::tgkill(pid, tid, libc::SIGUSR1));
        }
    }

    /// Calls `act` with its pid, which stays its own meanwhile; `None` if it is dead or not born.
    pub fn while_alive<R>(&self, act: impl FnOnce(i32) -> R) -> Option<R> {
        let life = self.life.read();
        let pid = self.pid();
        (life.is_none() && pid > 0).then(|| act(pid))
    }

    /// A copy through this process, or where it is dead through another one on the same memory.
    fn by_any(&self, mut copy: impl FnMut(&Process) -> Result<(), Fault>) -> Result<(), Fault> {
        let own = copy(self);
        if own.is_ok() {
            return own;
        }
        let others = self.mm.users();
        if others.iter().filter(|other| !std::ptr::eq(&***other, self)).any(|other| copy(other).is_ok()) { Ok(()) } else { own }
    }

    pub fn cpu(&self) -> Duration {
        self.while_alive(sys::process_cpu_time).unwrap_or_default()
    }
}

/// Whether a range belongs to the guest (it may be read in the stub region's vDSO, which programs never pass).
pub fn guest_range(start: u64, len: u64) -> bool {
    start >= GUEST_START && start.checked_add(len).is_some_and(|end| end <= REGION_START)
}

impl AddressSpace for Process {
    fn id(&self) -> SpaceId {
        self.mm.id
    }

    fn read(&self, at: UserAddr, dst: &mut [u8]) -> Result<(), Fault> {
        self.by_any(|process| copy::read(process, at, dst))
    }

    fn write(&self, at: UserAddr, src: &[u8]) -> Result<(), Fault> {
        self.by_any(|process| copy::write(process, at, src))
    }

    fn set_memory_requests(&self, requests: Arc<dyn MemoryRequests>) {
        self.mm.set_requests(requests);
        for stub in self.stubs() {
            stub.set_direct();
        }
    }

    fn cpu_time(&self) -> Duration {
        self.cpu()
    }
}
