//! One stub thread, and the channel by which its sentry thread orders it about.

use std::hint;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use sentry_platform::{HostDeath, HostExit};
use sentry_stub::layout::{ThreadArea, event, order};
use sentry_sync::{Level, Mutex, MutexGuard};

use crate::area::SlotView;
use crate::pace::{self, Awaited, Pace};
use crate::process::Process;
use crate::sys;

/// A notified call that a thread was ordered to make. It stands until the result is reported: an interrupted clone comes twice.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub nr: u64,
    pub args: [u64; 6],
    /// A file that must be in the thread's table before the call, and under which number.
    pub file: Option<(RawFd, u32)>,
    /// How often it may be made under one order: an interrupted clone comes again, a hostile one as well.
    pub left: u32,
}

/// Repetitions of one call that interruptions may explain.
pub const REPEATS: u32 = 10_000;

pub struct Stub {
    pub process: Arc<Process>,
    pub slot: u32,
    tid: AtomicI32,
    /// The private word that every wait for the stub also sleeps on.
    poke: AtomicU32,
    expected: Mutex<Option<Expected>>,
    /// The sentry thread is in `run`.
    pub running: AtomicBool,
    /// An interrupt has not been reported yet.
    pub interrupted: AtomicBool,
    /// Has said hello.
    pub born: AtomicBool,
    /// Has been ordered to leave.
    pub left: AtomicBool,
    channel: Mutex<Channel>,
    watcher: OnceLock<Weak<dyn HostDeath>>,
}

/// The process has ended, or is being killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl Stub {
    /// A thread that is to be born in a cleared slot; it waits as its parent has learnt to.
    pub fn new(process: &Arc<Process>, slot: u32, parent: Option<&Turn<'_>>) -> Arc<Stub> {
        let pace = parent.map_or_else(|| Pace::new(process.container.usual_cpus), |p| p.channel.pace.child());
        let stub = Arc::new(Stub {
            process: process.clone(),
            slot,
            tid: AtomicI32::new(0),
            poke: AtomicU32::new(0),
            expected: Mutex::new(Level::PlatformStub, None),
            running: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            born: AtomicBool::new(false),
            left: AtomicBool::new(false),
            channel: Mutex::new(Level::PlatformZygote, Channel { seen: 0, posted: 0, pace }),
            watcher: OnceLock::new(),
        });
        process.add_stub(&stub);
        stub
    }

    pub fn watch_death(&self, watcher: Weak<dyn HostDeath>) {
        // A second one is a mistake that costs nothing: the first goes on hearing.
        let _ = self.watcher.set(watcher);
    }

    /// Its process has died. Who has ordered it to leave expects that.
    pub fn tell_death(&self, how: HostExit) {
        if !self.left.load(Ordering::Acquire)
            && let Some(watcher) = self.watcher.get().and_then(Weak::upgrade)
        {
            watcher.host_died(how);
        }
    }

    /// Waits until nobody else orders this thread about: only the zygote has a queue.
    pub fn turn<'a>(self: &'a Arc<Self>) -> Turn<'a> {
        Turn { stub: self, view: self.view(), channel: self.channel.lock() }
    }

    /// The turn if the thread is stopped and has no order.
    pub fn try_turn<'a>(self: &'a Arc<Self>) -> Option<Turn<'a>> {
        let channel = self.channel.try_lock()?;
        Some(Turn { stub: self, view: self.view(), channel })
    }

    /// The thread lives, as far as its orders go.
    pub fn may_copy(&self) -> bool {
        self.born.load(Ordering::Acquire) && !self.left.load(Ordering::Acquire)
    }

    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::SeqCst)
    }

    pub fn set_tid(&self, tid: i32) {
        self.tid.store(tid, Ordering::SeqCst);
    }

    pub fn view(&self) -> SlotView {
        self.process.mm.area.slot(self.slot)
    }

    /// Address of the slot in the guest.
    pub fn address(&self) -> u64 {
        self.process.container.area_base() + u64::from(self.slot) * sentry_stub::layout::SLOT_SIZE as u64
    }

    pub fn poke(&self) {
        self.poke.fetch_add(1, Ordering::AcqRel);
        sys::futex_wake_private(&self.poke);
    }

    pub fn poke_word(&self) -> &AtomicU32 {
        &self.poke
    }

    /// How the process ended; waits until it has.
    pub fn exit_status(&self) -> HostExit {
        loop {
            let poke = self.poke.load(Ordering::Acquire);
            if let Some(exit) = self.process.exit() {
                return exit;
            }
            if self.process.pid() == 0 {
                return HostExit::Signal(libc::SIGKILL);
            }
            sys::futex_wait_private(&self.poke, poke, None);
        }
    }

    /// The stub did what it cannot do unless the guest has forged something: the guest process dies alone.
    pub fn violation(&self, what: &str, detail: u32) {
        tracing::warn!(pid = self.process.pid(), tid = self.tid(), detail, "stub killed: {what}");
        self.process.kill();
    }

    /// The stub may make anonymous memory calls on its own.
    pub fn set_direct(&self) {
        self.view().put32(offset_of!(ThreadArea, direct), 1);
    }

    /// Calls `act` with what the thread may do now; the expectation cannot change meanwhile.
    pub fn with_expected<R>(&self, act: impl FnOnce(Option<&mut Expected>) -> R) -> R {
        act(self.expected.lock().as_mut())
    }

    pub fn expect(&self, expected: Option<Expected>) {
        *self.expected.lock() = expected;
    }
}

/// The order channel's state.
struct Channel {
    /// Last value of `to_sentry` that was taken.
    seen: u32,
    /// Last value of `to_stub` that was posted.
    posted: u32,
    pace: Pace,
}

/// The right to order a stub thread about: held by whoever drives it, while guest code runs too.
pub struct Turn<'a> {
    pub stub: &'a Arc<Stub>,
    pub view: SlotView,
    channel: MutexGuard<'a, Channel>,
}

impl Turn<'_> {
    /// Lets guest code run, or go on with its native wait.
    pub fn resume(&mut self, what: u32) {
        if self.channel.posted == 0 {
            self.channel.pace.begin(&self.view, self.stub.tid());
        }
        self.post(what, &[]);
        self.channel.pace.resumed();
    }

    /// The calling sentry thread will not drive this thread any more.
    pub fn end(&mut self) {
        self.channel.pace.end();
    }

    /// Sees how the guest behaves, after a hand-over of it.
    pub fn observe(&mut self) {
        self.channel.pace.observe(&self.view, self.stub.tid());
    }

    pub fn post(&mut self, what: u32, args: &[u64]) {
        self.channel.pace.posting(&self.view);
        self.view.put32(offset_of!(ThreadArea, order), what);
        for (i, value) in args.iter().enumerate().take(7) {
            self.view.put(offset_of!(ThreadArea, args) + 8 * i, *value);
        }
        self.channel.posted = self.channel.posted.wrapping_add(1);
        self.view.to_stub().store(self.channel.posted, Ordering::SeqCst);
        if self.view.stub_sleeping().load(Ordering::SeqCst) != 0 {
            sys::futex_wake_shared(self.view.to_stub().as_ptr(), 1);
        }
    }

    /// Waits until the stub hands over; the event.
    pub fn wait(&mut self) -> Result<u32, Gone> {
        self.wait_for(Awaited::Guest)
    }

    fn wait_for(&mut self, awaited: Awaited) -> Result<u32, Gone> {
        let view = self.view;
        let word = view.to_sentry();
        let budget = self.channel.pace.budget(awaited, &view);
        let start = if budget == 0 { 0 } else { pace::now() };
        let mut last = start;
        let mut spinning = budget != 0;
        loop {
            let now = word.load(Ordering::SeqCst);
            if now != self.channel.seen {
                if spinning {
                    self.channel.pace.answered(awaited);
                }
                self.channel.seen = now;
                self.view.sentry_sleeping().store(0, Ordering::Relaxed);
                return Ok(self.view.event().load(Ordering::Acquire));
            }
            if spinning {
                hint::spin_loop();
                let now = pace::now();
                // Out of time, or another thread had the core meanwhile.
                let lost = now.wrapping_sub(last) > pace::LOST;
                last = now;
                if lost || now.wrapping_sub(start) >= budget {
                    spinning = false;
                    self.channel.pace.in_vain(awaited, self.stub.tid());
                }
                continue;
            }
            let poke = self.stub.poke.load(Ordering::Acquire);
            if self.stub.process.exit().is_some() {
                return Err(Gone);
            }
            self.view.sentry_sleeping().store(1, Ordering::SeqCst);
            if word.load(Ordering::SeqCst) == self.channel.seen {
                let limit = self.channel.pace.patience(awaited);
                if !sys::futex_wait_either(word.as_ptr(), self.channel.seen, &self.stub.poke, poke, limit) {
                    self.channel.pace.release(self.stub.tid());
                }
            }
        }
    }

    /// Posts an order and takes its result.
    pub fn order(&mut self, what: u32, args: &[u64]) -> Result<i64, Gone> {
        self.post(what, args);
        self.result()
    }

    /// The result of the order posted last.
    pub fn result(&mut self) -> Result<i64, Gone> {
        match self.wait_for(Awaited::Order)? {
            event::DONE => Ok(self.view.get(offset_of!(ThreadArea, result)) as i64),
            other => {
                self.stub.violation("answered an order with another event", other);
                Err(Gone)
            }
        }
    }

    /// A call that is notified: the stub makes it, the notification thread lets pass just this.
    pub fn call(&mut self, nr: u64, args: [u64; 6], file: Option<BorrowedFd<'_>>) -> Result<i64, Gone> {
        let mut args = args;
        let number = 3 + self.stub.slot;
        if file.is_some() {
            args[4] = u64::from(number);
        }
        self.stub.expect(Some(Expected { nr, args, file: file.map(|f| (f.as_raw_fd(), number)), left: REPEATS }));
        let result = self.order(order::SYSCALL, &[args[0], args[1], args[2], args[3], args[4], args[5], nr]);
        self.stub.expect(None);
        result
    }
}
