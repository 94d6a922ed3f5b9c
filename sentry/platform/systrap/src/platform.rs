//! [`SystrapPlatform`]: a container's zygote, taken over by the sentry.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use sentry_abi::{UserAddr, UserRange};
use sentry_platform::{GuestThread, Platform, PlatformError, Registers, Vdso};
use sentry_stub::layout::{self, BASE_ALIGN, BootParams, GUEST_START, REGION_END, REGION_START};
use sentry_sync::{Level, Mutex};

use crate::area::{self, Area};
use crate::container::Container;
use crate::frame::FpLayout;
use crate::guest::SystrapThread;
use crate::notify;
use crate::process::{Mm, Process};
use crate::reaper::Reaper;
use crate::spawn;
use crate::stub::Stub;
use crate::sys;
use crate::zygote::ZygoteHandles;

/// How long the maker of a zygote may take to vanish after its last message.
const ADOPTION_LIMIT: Duration = Duration::from_secs(5);

/// Address spaces and areas that are kept ready.
const READY: usize = 4;
/// Nice value of the thread that makes them.
const REFILL_NICE: i32 = 10;

/// One container's processes. Dropping it kills them.
pub struct SystrapPlatform {
    shared: Arc<Shared>,
}

struct Shared {
    container: Arc<Container>,
    zygote: Arc<Stub>,
    process: Arc<Process>,
    pidfd: OwnedFd,
    vdso: Option<Vdso>,
    pool: Mutex<Vec<Arc<Stub>>>,
}

impl SystrapPlatform {
    /// Takes over the zygote behind `handles` (from [`crate::zygote::receive`]); starts the container's notification thread.
    pub fn adopt(handles: ZygoteHandles, reaper: &Arc<Reaper>) -> Result<Arc<SystrapPlatform>, PlatformError> {
        let broken = |what: &str, e: std::io::Error| PlatformError::Broken(format!("{what}: {e}"));
        let params = area::read_params(handles.area.as_fd()).map_err(|e| broken("zygote's parameters", e))?;
        let vdso = check_params(&params)?;
        let fp = FpLayout::of_this_machine().ok_or_else(|| PlatformError::Broken("vector state of this machine is too large".into()))?;
        wait_for_child(handles.pid, reaper)?;
        let listener = handles.listener.ok_or_else(|| PlatformError::Broken("the zygote has no listener".into()))?;
        let container = Arc::new(Container::new(listener, params.base, fp, reaper.clone()));
        let area = Area::map(handles.area, 0).map_err(|e| broken("zygote's area", e))?;
        let mm = Arc::new(Mm::new(container.new_space_id(), area, 0));
        let process = Process::new(&container, mm, true);
        let stub = Stub::new(&process, 0, None);
        stub.set_tid(handles.pid);
        process.set_pid(handles.pid);
        container.add_thread(&stub);
        notify::start(&container).map_err(|e| broken("notification thread", e))?;
        let pool = Mutex::new(Level::PlatformZygote, Vec::new());
        let shared = Arc::new(Shared { container, zygote: stub, process, pidfd: handles.pidfd, vdso, pool });
        let weak = Arc::downgrade(&shared);
        let refill = thread::Builder::new()
            .name("refill".into())
            .stack_size(128 << 10)
            .spawn(move || refill(&weak))
            .map_err(|e| broken("refill thread", e))?;
        shared.container.set_refill(refill.thread().clone());
        Ok(Arc::new(SystrapPlatform { shared }))
    }

    /// The zygote in the sentry's pid namespace. Its host pid is the container's OCI pid.
    pub fn zygote_pid(&self) -> i32 {
        self.shared.process.pid()
    }

    pub fn zygote_pidfd(&self) -> BorrowedFd<'_> {
        self.shared.pidfd.as_fd()
    }

    /// `act` is called once if the zygote dies (at once if it is dead): all guests of the container are dead or dying then.
    pub fn on_failure(&self, act: Box<dyn FnOnce() + Send>) {
        self.shared.container.on_failure(act);
    }

    /// Copies are made by stopped guest threads only, as on a host that refuses process_vm_readv (found out by itself there).
    pub fn copy_by_stubs(&self) {
        self.shared.container.host_copies.store(false, Ordering::Relaxed);
    }

    /// Kills all processes of the container, the zygote included.
    pub fn shutdown(&self) {
        self.shared.process.kill();
        self.shared.container.fail();
    }
}

impl Drop for SystrapPlatform {
    fn drop(&mut self) {
        self.shutdown();
        self.shared.container.wake_refill();
    }
}

impl Shared {
    /// A new process from the zygote, stopped before its first instruction.
    fn make_space(&self) -> Result<Arc<Stub>, PlatformError> {
        if self.container.failed() {
            return Err(PlatformError::Broken("the zygote is dead".into()));
        }
        let start = Registers::fresh(0, 0);
        let image = self.container.fp.fresh();
        spawn::process(&mut self.zygote.turn(), &start, &image).map_err(|e| match e {
            PlatformError::Gone => PlatformError::Broken("the zygote is dead".into()),
            other => other,
        })
    }

    fn take_ready(&self) -> Option<Arc<Stub>> {
        loop {
            let stub = self.pool.lock().pop()?;
            // The host may have killed it while it waited.
            if stub.process.exit().is_none() {
                return Some(stub);
            }
        }
    }
}

/// Keeps some address spaces and areas ready, whenever it is woken.
fn refill(shared: &Weak<Shared>) {
    sys::be_nice(REFILL_NICE);
    loop {
        thread::park();
        loop {
            let Some(shared) = shared.upgrade() else { return };
            let areas = shared.container.add_area(READY);
            let ready = shared.pool.lock().len();
            if ready < READY {
                // A failure here is reported by whoever needs the next space.
                let Ok(stub) = shared.make_space() else { break };
                shared.pool.lock().push(stub);
            } else if !areas {
                break;
            }
        }
    }
}

/// Z is the sentry's child once its maker is gone.
fn wait_for_child(pid: i32, reaper: &Reaper) -> Result<(), PlatformError> {
    let deadline = Instant::now() + ADOPTION_LIMIT;
    while !sys::is_child(pid) {
        // One that was killed meanwhile has been a child, and has been reaped.
        if reaper.take_unknown(pid).is_some() {
            return Err(PlatformError::Broken("the zygote is dead".into()));
        }
        if Instant::now() > deadline {
            return Err(PlatformError::Broken(format!("zygote {pid} did not become a child of the sentry")));
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

fn check_params(params: &BootParams) -> Result<Option<Vdso>, PlatformError> {
    let end = params.base.saturating_add(layout::AREA_OFFSET + layout::AREA_LEN);
    if params.state != 1 || !params.base.is_multiple_of(BASE_ALIGN) || params.base < REGION_START || end > REGION_END {
        return Err(PlatformError::Broken("zygote is not ready, or not ours".into()));
    }
    if params.vdso_at == 0 {
        return Ok(None);
    }
    let before = params.vvar_len.saturating_add(params.vclock_len);
    let range = params
        .vdso_at
        .checked_sub(before)
        .and_then(|start| UserRange::new(UserAddr(start), before.saturating_add(params.vdso_len)))
        .ok_or_else(|| PlatformError::Broken("zygote's vDSO is out of range".into()))?;
    Ok(Some(Vdso { range, header: UserAddr(params.vdso_at) }))
}

impl Platform for SystrapPlatform {
    fn guest_range(&self) -> UserRange {
        UserRange::from_bounds(GUEST_START, REGION_START).unwrap_or_default()
    }

    fn vdso(&self) -> Option<Vdso> {
        self.shared.vdso
    }

    fn new_space(&self) -> Result<Box<dyn GuestThread>, PlatformError> {
        let ready = if self.shared.container.failed() { None } else { self.shared.take_ready() };
        let stub = match ready {
            Some(stub) => stub,
            None => self.shared.make_space()?,
        };
        self.shared.container.wake_refill();
        Ok(Box::new(SystrapThread::new(&stub)))
    }
}
