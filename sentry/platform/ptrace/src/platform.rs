//! [`PtracePlatform`]: a traced zygote.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use sentry_abi::{UserAddr, UserRange};
use sentry_platform::{GuestThread, Platform, PlatformError, Registers, Vdso};
use sentry_stub::layout::{self, BOOT_PARAMS, BootParams, GUEST_START, REGION_START};
use sentry_sync::{Level, Mutex};

use crate::guest::{self, PtraceThread};
use crate::host::{self, Gone};
use crate::space::{Container, Memory, Space};
use crate::tracee::Tracee;

pub struct PtracePlatform {
    zygote: Arc<Space>,
    /// Held while the zygote is seized.
    turn: Mutex<()>,
    vdso: Option<Vdso>,
    _pidfd: OwnedFd,
}

impl PtracePlatform {
    /// Takes over a zygote made from `zygote::prepare_traced` of the systrap crate: its pid, pidfd and area as received, and the socket on which they
    /// came, which from now on carries files to the guests.
    pub fn adopt(pid: i32, pidfd: OwnedFd, socket: OwnedFd, area: OwnedFd) -> Result<Arc<PtracePlatform>, PlatformError> {
        let params = read_params(&area)?;
        let header = |at: usize| {
            let bytes = sentry_stub::BLOB.get(at..at + 8).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        if params.state != 1 || params.traced == 0 || params.base < REGION_START {
            return Err(PlatformError::Broken("zygote is not ready, or not for tracing".into()));
        }
        let container = Arc::new(Container {
            base: params.base,
            call_site: params.base + header(24),
            clone_site: params.base + header(32),
            socket: Mutex::new(Level::PlatformZygote, socket),
            next_space: AtomicU64::new(1),
        });
        let memory = Memory::new(&container);
        let before = params.vvar_len.saturating_add(params.vclock_len);
        let vdso = params.vdso_at.checked_sub(before).filter(|_| params.vdso_at != 0).and_then(|start| {
            let range = UserRange::new(UserAddr(start), before.saturating_add(params.vdso_len))?;
            Some(Vdso { range, header: UserAddr(params.vdso_at) })
        });
        let zygote = Space::of_zygote(&container, memory, pid);
        Ok(Arc::new(PtracePlatform { zygote, turn: Mutex::new(Level::PlatformZygote, ()), vdso, _pidfd: pidfd }))
    }

    pub fn zygote_pid(&self) -> i32 {
        self.zygote.pid
    }
}

fn read_params(area: &OwnedFd) -> Result<BootParams, PlatformError> {
    let mut bytes = vec![0u8; size_of::<BootParams>()];
    let file = std::fs::File::from(area.try_clone().map_err(|e| PlatformError::Broken(format!("zygote's area: {e}")))?);
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, BOOT_PARAMS as u64)
        .map_err(|e| PlatformError::Broken(format!("zygote's parameters: {e}")))?;
    // SAFETY: any bytes are a valid BootParams.
    Ok(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}

impl Platform for PtracePlatform {
    fn guest_range(&self) -> UserRange {
        UserRange::from_bounds(GUEST_START, REGION_START).unwrap_or_default()
    }

    fn vdso(&self) -> Option<Vdso> {
        self.vdso
    }

    fn new_space(&self) -> Result<Box<dyn GuestThread>, PlatformError> {
        let dead = |Gone| PlatformError::Broken("the zygote is dead".into());
        let _turn = self.turn.lock();
        let mut tracee = Tracee::new(self.zygote.pid);
        tracee.seize().map_err(dead)?;
        let own = host::registers(tracee.tid).map_err(dead)?;
        let made = guest::process_from(&mut tracee, &self.zygote);
        let _ = host::set_registers(tracee.tid, &own);
        host::detach(tracee.tid);
        let pid = made?;
        let space = Space::new(&self.zygote.container, Memory::new(&self.zygote.container), pid);
        Ok(Box::new(PtraceThread::new(&space, pid, &Registers::fresh(0, 0), true)))
    }
}

impl Drop for PtracePlatform {
    fn drop(&mut self) {
        self.zygote.kill();
    }
}

const _: () = assert!(size_of::<layout::BlobHeader>() == 40);
