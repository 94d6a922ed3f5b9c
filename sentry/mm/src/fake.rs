//! A platform for tests: a host address space as a map of pages, with the host's own rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sentry_abi::{Errno, PAGE_SIZE, UserAddr, UserRange};
use sentry_memory::MemfdSource;
use sentry_platform::{
    AddressSpace, Exit, Fault, GuestThread, Interrupt, MapSource, MemoryRequests, PlatformError, Prot, Registers, Share, SpaceId,
    SpawnKind, SyscallArgs,
};
use sentry_sync::{Level, Mutex};

use crate::layout::Randomize;
use crate::limits::Limits;
use crate::mm::{Mm, MmConfig};

pub const GUEST: (u64, u64) = (0x1000, 0x7ff0_0000_0000);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    pub prot: Prot,
    pub share: Share,
    pub file: bool,
    /// Which host mapping call made it; the host moves only within one.
    pub area: u64,
    /// Follows the page when it moves.
    pub id: u64,
}

#[derive(Default)]
pub struct Host {
    pub pages: BTreeMap<u64, Page>,
    pub bytes: BTreeMap<u64, Vec<u8>>,
    pub log: Vec<String>,
    next: u64,
    pub requests: Option<Arc<dyn MemoryRequests>>,
}

pub struct FakeSpace {
    id: SpaceId,
    pub host: Mutex<Host>,
}

impl FakeSpace {
    pub fn new() -> Arc<FakeSpace> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(FakeSpace { id: SpaceId(NEXT.fetch_add(1, Ordering::Relaxed)), host: Mutex::new(Level::Leaf, Host::default()) })
    }

    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.host.lock().log)
    }

    pub fn requests(&self) -> Arc<dyn MemoryRequests> {
        self.host.lock().requests.clone().unwrap()
    }
}

fn pages(range: UserRange) -> impl Iterator<Item = u64> {
    (range.start()..range.end()).step_by(PAGE_SIZE as usize)
}

impl AddressSpace for FakeSpace {
    fn id(&self) -> SpaceId {
        self.id
    }

    fn read(&self, at: UserAddr, dst: &mut [u8]) -> Result<(), Fault> {
        let host = self.host.lock();
        for (done, byte) in dst.iter_mut().enumerate() {
            let addr = at.0 + done as u64;
            let page = addr - addr % PAGE_SIZE;
            if !host.pages.get(&page).is_some_and(|p| p.prot.contains(Prot::READ)) {
                return Err(Fault { done });
            }
            *byte = host.bytes.get(&page).map_or(0, |b| b[(addr % PAGE_SIZE) as usize]);
        }
        Ok(())
    }

    fn write(&self, at: UserAddr, src: &[u8]) -> Result<(), Fault> {
        let mut host = self.host.lock();
        for (done, byte) in src.iter().enumerate() {
            let addr = at.0 + done as u64;
            let page = addr - addr % PAGE_SIZE;
            if !host.pages.get(&page).is_some_and(|p| p.prot.contains(Prot::WRITE)) {
                return Err(Fault { done });
            }
            host.bytes.entry(page).or_insert_with(|| vec![0; PAGE_SIZE as usize])[(addr % PAGE_SIZE) as usize] = *byte;
        }
        Ok(())
    }

    fn set_memory_requests(&self, requests: Arc<dyn MemoryRequests>) {
        self.host.lock().requests = Some(requests);
    }

    fn cpu_time(&self) -> Duration {
        Duration::ZERO
    }
}

pub struct FakeThread {
    pub fake: Arc<FakeSpace>,
    space: Arc<dyn AddressSpace>,
    registers: Registers,
}

struct NoInterrupt;

impl Interrupt for NoInterrupt {
    fn interrupt(&self) {}
    fn kill(&self) {}
}

impl FakeThread {
    fn refuse(errno: Errno) -> Result<(), PlatformError> {
        Err(PlatformError::Host(errno))
    }
}

impl GuestThread for FakeThread {
    fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }
    fn run(&mut self) -> Exit {
        Exit::Interrupted
    }
    fn call(&self) -> SyscallArgs {
        SyscallArgs::default()
    }
    fn set_result(&mut self, _: u64) {}
    fn registers(&mut self) -> &mut Registers {
        &mut self.registers
    }
    fn fp_state(&mut self) -> Vec<u8> {
        Vec::new()
    }
    fn set_fp_state(&mut self, _: &[u8]) -> Result<(), Errno> {
        Ok(())
    }
    fn reset_fp_state(&mut self) {}
    fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(NoInterrupt)
    }
    fn resume_native(&mut self) {}
    fn spawn(&mut self, _: SpawnKind, _: &Registers) -> Result<Box<dyn GuestThread>, PlatformError> {
        Err(PlatformError::Broken("fake".into()))
    }

    fn map(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        assert!(at.is_page_aligned() && !at.is_empty());
        let mut host = self.fake.host.lock();
        host.log.push(format!("map {:x}+{:x} {prot:?}", at.start(), at.len()));
        host.next += 1;
        let area = host.next;
        for page in pages(at) {
            host.next += 1;
            let id = host.next;
            let file = matches!(source, MapSource::File { .. });
            host.pages.insert(page, Page { prot, share, file, area, id });
            host.bytes.remove(&page);
        }
        Ok(())
    }

    fn map_fresh(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        if pages(at).any(|p| self.fake.host.lock().pages.contains_key(&p)) {
            return FakeThread::refuse(Errno::EEXIST);
        }
        self.map(at, source, share, prot)
    }

    fn unmap(&mut self, range: UserRange) -> Result<(), PlatformError> {
        let mut host = self.fake.host.lock();
        host.log.push(format!("unmap {:x}+{:x}", range.start(), range.len()));
        for page in pages(range) {
            host.pages.remove(&page);
            host.bytes.remove(&page);
        }
        Ok(())
    }

    fn protect(&mut self, range: UserRange, prot: Prot) -> Result<(), PlatformError> {
        let mut host = self.fake.host.lock();
        host.log.push(format!("protect {:x}+{:x} {prot:?}", range.start(), range.len()));
        for page in pages(range) {
            match host.pages.get_mut(&page) {
                Some(p) => p.prot = prot,
                None => return FakeThread::refuse(Errno::ENOMEM),
            }
        }
        Ok(())
    }

    fn remap(&mut self, from: UserRange, to: UserRange, keep_old: bool) -> Result<(), PlatformError> {
        assert!(!from.overlaps(to) && to.len() >= from.len() && !from.is_empty());
        let mut host = self.fake.host.lock();
        host.log.push(format!("remap {:x}+{:x} {:x}+{:x}", from.start(), from.len(), to.start(), to.len()));
        let Some(first) = host.pages.get(&from.start()).copied() else { return FakeThread::refuse(Errno::EFAULT) };
        let one_area = pages(from).all(|p| host.pages.get(&p).is_some_and(|q| q.area == first.area && q.prot == first.prot));
        if !one_area {
            return FakeThread::refuse(Errno::EFAULT);
        }
        host.next += 1;
        let area = host.next;
        for (index, page) in pages(to).enumerate() {
            let old = from.start() + index as u64 * PAGE_SIZE;
            host.bytes.remove(&page);
            let mut moved = first;
            if from.contains(old) {
                moved = host.pages[&old];
                if let Some(bytes) = host.bytes.remove(&old) {
                    host.bytes.insert(page, bytes);
                }
                if !keep_old {
                    host.pages.remove(&old);
                }
            }
            moved.area = area;
            host.pages.insert(page, moved);
        }
        Ok(())
    }

    fn advise(&mut self, range: UserRange, advice: i32) -> Result<(), PlatformError> {
        self.fake.host.lock().log.push(format!("advise {:x}+{:x} {advice}", range.start(), range.len()));
        Ok(())
    }
    fn membarrier(&mut self, _: i32, _: u32) -> Result<u64, PlatformError> {
        Ok(0)
    }
    fn futex_wake(&mut self, _: UserAddr, _: u32, _: Share) -> Result<u32, PlatformError> {
        Ok(0)
    }
    fn cpu_time(&mut self) -> Duration {
        Duration::ZERO
    }
    fn exit(self: Box<Self>, _: Option<UserAddr>) {}
    fn host_tid(&self) -> i32 {
        1
    }
}

pub fn config() -> MmConfig {
    MmConfig {
        guest_range: UserRange::from_bounds(GUEST.0, GUEST.1).unwrap(),
        vdso: None,
        file_source: Arc::new(MemfdSource),
        limits: Limits::default(),
        randomize: Randomize::Off,
    }
}

pub fn mm_with(config: MmConfig) -> (Arc<Mm>, FakeThread) {
    let fake = FakeSpace::new();
    let space: Arc<dyn AddressSpace> = fake.clone();
    let mm = Mm::new(space.clone(), config);
    (mm, FakeThread { fake, space, registers: Registers::default() })
}

pub fn mm() -> (Arc<Mm>, FakeThread) {
    mm_with(config())
}
