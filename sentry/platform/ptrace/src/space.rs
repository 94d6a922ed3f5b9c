//! Address spaces: host processes, their memory and their end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use sentry_abi::UserAddr;
use sentry_platform::{AddressSpace, Fault, MemoryRequests, SpaceId};
use sentry_stub::layout::{GUEST_START, REGION_START, SCRATCH_LEN, SCRATCH_OFFSET};
use sentry_sync::{Level, Mutex};

use crate::host;

/// One zygote and what all its descendants share.
pub struct Container {
    /// Address of the blob, and of its places for injected calls.
    pub base: u64,
    pub call_site: u64,
    pub clone_site: u64,
    /// Our end of the socket that all processes hold; held while a file is on its way.
    pub socket: Mutex<OwnedFd>,
    pub next_space: AtomicU64,
}

/// Bytes of scratch memory for one thread.
const SCRATCH_SLOT: u64 = 256;

/// Memory that one or more host processes share.
pub struct Memory {
    pub id: SpaceId,
    next_scratch: AtomicU32,
}

impl Memory {
    pub fn new(container: &Container) -> Arc<Memory> {
        let id = SpaceId(container.next_space.fetch_add(1, Ordering::Relaxed));
        Arc::new(Memory { id, next_scratch: AtomicU32::new(1) })
    }

    /// Scratch memory for one more thread; threads share it only when there are thousands.
    pub fn scratch(&self, container: &Container) -> u64 {
        let slot = u64::from(self.next_scratch.fetch_add(1, Ordering::Relaxed)) % (SCRATCH_LEN / SCRATCH_SLOT - 1) + 1;
        container.base + SCRATCH_OFFSET + slot * SCRATCH_SLOT
    }
}

/// One host process.
pub struct Space {
    pub container: Arc<Container>,
    pub memory: Arc<Memory>,
    pub pid: i32,
    /// Threads that live, as far as known; any of them gives access to the memory.
    pub threads: Mutex<Vec<i32>>,
    /// The host has given the pid back.
    collected: AtomicBool,
    keep: bool,
}

impl Space {
    pub fn new(container: &Arc<Container>, memory: Arc<Memory>, pid: i32) -> Arc<Space> {
        let threads = Mutex::new(Level::PlatformProcess, vec![pid]);
        Arc::new(Space { container: container.clone(), memory, pid, threads, collected: AtomicBool::new(false), keep: false })
    }

    /// The zygote's own.
    pub fn of_zygote(container: &Arc<Container>, memory: Arc<Memory>, pid: i32) -> Arc<Space> {
        let threads = Mutex::new(Level::PlatformProcess, vec![pid]);
        Arc::new(Space { container: container.clone(), memory, pid, threads, collected: AtomicBool::new(false), keep: true })
    }

    pub fn set_collected(&self) {
        self.collected.store(true, Ordering::Release);
    }

    /// The thread leaves by itself; it may still give access to the memory for a while, but is not to be signalled.
    pub fn leave(&self, tid: i32) {
        self.threads.lock().retain(|t| *t != tid);
    }

    /// A thread has ended and is collected: its id may be somebody else's soon.
    pub fn forget(&self, tid: i32) {
        self.leave(tid);
    }

    pub fn kill(&self) {
        if !self.collected.load(Ordering::Acquire) {
            host::kill(self.pid, libc::SIGKILL);
        }
    }

    pub fn interrupt(&self, tid: i32) {
        if self.threads.lock().contains(&tid) {
            host::tgkill(self.pid, tid, libc::SIGUSR1);
        }
    }

    fn transfer(&self, at: UserAddr, len: usize, mut step: impl FnMut(i32, u64, usize) -> std::io::Result<usize>) -> Result<(), Fault> {
        if !guest_range(at.0, len as u64) {
            return Err(Fault { done: 0 });
        }
        let mut done = 0;
        let threads = self.threads.lock().clone();
        for tid in threads {
            while done < len {
                match step(tid, at.0 + done as u64, done) {
                    Ok(n) if n > 0 => done += n,
                    Err(e) if e.raw_os_error() == Some(libc::ESRCH) => break,
                    _ => return Err(Fault { done }),
                }
            }
            if done == len {
                return Ok(());
            }
        }
        if len == 0 { Ok(()) } else { Err(Fault { done }) }
    }
}

impl Drop for Space {
    /// Its threads have left or been killed: the process ends now, if it has not.
    fn drop(&mut self) {
        if !self.keep && !self.collected.load(Ordering::Acquire) {
            host::kill(self.pid, libc::SIGKILL);
            while !matches!(host::wait(self.pid), host::Stop::Gone(_)) {}
        }
    }
}

/// Whether a range belongs to the guest.
pub fn guest_range(start: u64, len: u64) -> bool {
    start >= GUEST_START && start.checked_add(len).is_some_and(|end| end <= REGION_START)
}

impl AddressSpace for Space {
    fn id(&self) -> SpaceId {
        self.memory.id
    }

    fn read(&self, at: UserAddr, dst: &mut [u8]) -> Result<(), Fault> {
        self.transfer(at, dst.len(), |tid, address, done| host::read(tid, address, dst.get_mut(done..).unwrap_or_default()))
    }

    fn write(&self, at: UserAddr, src: &[u8]) -> Result<(), Fault> {
        self.transfer(at, src.len(), |tid, address, done| host::write(tid, address, src.get(done..).unwrap_or_default()))
    }

    /// Every operation crosses on this platform.
    fn set_memory_requests(&self, _: Arc<dyn MemoryRequests>) {}

    fn cpu_time(&self) -> Duration {
        if self.collected.load(Ordering::Acquire) { Duration::ZERO } else { host::process_cpu_time(self.pid) }
    }
}
