//! One zygote and everything that came from it: who is who by host thread id, and which births are awaited.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use sentry_platform::SpaceId;
use sentry_sync::{Level, Mutex};

use crate::area::Area;
use crate::frame::FpLayout;
use crate::process::Process;
use crate::reaper::Reaper;
use crate::stub::Stub;
use crate::sys;

pub struct Container {
    pub listener: OwnedFd,
    /// Address of the blob; the area lies at a fixed distance.
    pub base: u64,
    pub fp: FpLayout,
    pub reaper: Arc<Reaper>,
    /// The host permits process_vm_readv and writev.
    pub host_copies: AtomicBool,
    /// CPUs that the sentry may use; `None`: threads are not bound.
    pub usual_cpus: Option<libc::cpu_set_t>,
    tables: Mutex<Tables>,
    /// Areas made ahead of need.
    areas: Mutex<Vec<Area>>,
    /// The thread that makes areas and address spaces ahead of need.
    refill: OnceLock<Thread>,
    next_space: AtomicU64,
    failed: AtomicBool,
    on_failure: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Default)]
struct Tables {
    /// Live stub threads by host thread id (in the sentry's pid namespace).
    threads: HashMap<i32, Arc<Stub>>,
    /// Awaited births by token.
    births: HashMap<u64, Birth>,
}

/// How a new thread proves itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BirthKind {
    /// `mmap` of its area, whose file offset is the token.
    Process,
    /// The hello call of a thread of the parent's process.
    Thread,
    /// The hello call of a process that shares the parent's memory.
    SharedSpace,
}

#[derive(Clone)]
pub struct Birth {
    pub kind: BirthKind,
    pub child: Arc<Stub>,
    pub parent: Arc<Stub>,
}

impl Container {
    pub fn new(listener: OwnedFd, base: u64, fp: FpLayout, reaper: Arc<Reaper>) -> Container {
        Container {
            listener,
            base,
            fp,
            reaper,
            host_copies: AtomicBool::new(true),
            usual_cpus: sys::affinity(),
            tables: Mutex::new(Level::PlatformTable, Tables::default()),
            areas: Mutex::new(Level::PlatformProcess, Vec::new()),
            refill: OnceLock::new(),
            next_space: AtomicU64::new(1),
            failed: AtomicBool::new(false),
            on_failure: Mutex::new(Level::PlatformTable, None),
        }
    }

    pub fn area_base(&self) -> u64 {
        self.base + sentry_stub::layout::AREA_OFFSET
    }

    pub fn set_refill(&self, thread: Thread) {
        let _ = self.refill.set(thread);
    }

    pub fn wake_refill(&self) {
        if let Some(thread) = self.refill.get() {
            thread.unpark();
        }
    }

    /// An area for a new process.
    pub fn take_area(&self) -> io::Result<Area> {
        let ready = self.areas.lock().pop();
        self.wake_refill();
        ready.map_or_else(Area::new, Ok)
    }

    /// Makes one more area for later, unless there are `enough`; whether it did.
    pub fn add_area(&self, enough: usize) -> bool {
        if self.areas.lock().len() >= enough {
            return false;
        }
        let Ok(area) = Area::new() else { return false };
        self.areas.lock().push(area);
        true
    }

    pub fn new_space_id(&self) -> SpaceId {
        SpaceId(self.next_space.fetch_add(1, Ordering::Relaxed))
    }

    pub fn thread(&self, tid: i32) -> Option<Arc<Stub>> {
        self.tables.lock().threads.get(&tid).cloned()
    }

    pub fn await_birth(&self, token: u64, birth: Birth) {
        self.tables.lock().births.insert(token, birth);
    }

    /// Ends the wait for a birth; `None` if it has happened.
    pub fn cancel_birth(&self, token: u64) -> Option<Birth> {
        self.tables.lock().births.remove(&token)
    }

    /// The process has ended: its births will not happen.
    pub fn forget_births(&self, process: &Process) {
        // Dropped after the lock.
        let _forgotten: Vec<Birth> = {
            let mut tables = self.tables.lock();
            tables.births.extract_if(|_, b| std::ptr::eq(b.child.process.as_ref(), process)).map(|(_, b)| b).collect()
        };
    }

    /// The birth that `tid` proves by `token`, once; from now on the thread is known.
    pub fn take_birth(&self, token: u64, fits: impl Fn(&Birth) -> bool, tid: i32) -> Option<Birth> {
        let mut tables = self.tables.lock();
        let birth = tables.births.get(&token).filter(|b| fits(b))?.clone();
        tables.births.remove(&token);
        birth.child.set_tid(tid);
        tables.threads.insert(tid, birth.child.clone());
        Some(birth)
    }

    pub fn add_thread(&self, stub: &Arc<Stub>) {
        self.tables.lock().threads.insert(stub.tid(), stub.clone());
    }

    /// Forgets a thread, if `tid` still is that thread.
    pub fn remove_thread(&self, stub: &Stub) {
        let mut tables = self.tables.lock();
        if tables.threads.get(&stub.tid()).is_some_and(|known| std::ptr::eq(known.as_ref(), stub)) {
            tables.threads.remove(&stub.tid());
        }
    }

    pub fn on_failure(&self, act: Box<dyn FnOnce() + Send>) {
        *self.on_failure.lock() = Some(act);
        if self.failed() {
            self.fail();
        }
    }

    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The zygote is dead or the listener is: nothing can go on. Kills every process of the container.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        let threads: Vec<_> = self.tables.lock().threads.values().cloned().collect();
        for stub in threads {
            stub.process.kill();
        }
        let act = self.on_failure.lock().take();
        if let Some(act) = act {
            act();
        }
    }

    /// An unknown thread made a notified call: a child that was never ordered, or one whose birth is over.
    pub fn kill_unknown(&self, tid: i32) {
        tracing::warn!(tid, "unknown stub thread killed");
        sys::kill(tid, libc::SIGKILL);
    }
}
