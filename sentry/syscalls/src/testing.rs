//! System calls without a platform: guest memory is a vector, and a test makes the calls itself, through the table, on a thread of its own.

use std::sync::Arc;
use std::time::Duration;

use sentry_abi::{Errno, FileKind, Result, SigInfo, SigSet, Signal, Timespec, UserAddr, UserRange, nr};
use sentry_auth::{Caps, Credentials};
use sentry_fs_anonfs::AnonFs;
use sentry_fs_pipefs::Pipes;
use sentry_fs_tmpfs::memfd::Memfds;
use sentry_fs_tmpfs::{TmpFs, TmpFsOptions};
use sentry_kernel::signal::{Handlers, SigAction};
use sentry_kernel::task::TaskSeed;
use sentry_kernel::{CurrentTask, FdTable, FsState, Kernel, KernelParts, Limits, Places, Stop, SysResult, Task, Terminals, ThreadGroup};
use sentry_memory::MemfdSource;
use sentry_mm::Mm;
use sentry_platform::{
    AddressSpace, Exit, Fault, GuestThread, Interrupt, MapSource, MemoryRequests, Platform, PlatformError, Prot, Registers, Share, SpaceId,
    SpawnKind, SyscallArgs, Vdso,
};
use sentry_sync::{Level, Mutex};
use sentry_vfs::{Caller, Dentry, FileOps, FileSystem, Inode, Mount, MountFlags, MountNamespace, OpenHow, Path, SpecialFiles};

use crate::file::{FileServices, FileSystems, MountRequest};
use crate::{System, table};

const BASE: u64 = 0x10000;
const SIZE: usize = 4 << 20;

/// Readable and writable from `BASE` on, nothing elsewhere.
struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn part(at: UserAddr, len: usize) -> (usize, usize) {
        let start = at.0.checked_sub(BASE).map_or(SIZE, |s| (s as usize).min(SIZE));
        (start, len.min(SIZE - start))
    }
}

impl AddressSpace for Memory {
    fn id(&self) -> SpaceId {
        SpaceId(1)
    }
    fn read(&self, at: UserAddr, dst: &mut [u8]) -> Result<(), Fault> {
        let (start, n) = Memory::part(at, dst.len());
        dst[..n].copy_from_slice(&self.0.lock()[start..start + n]);
        if n == dst.len() { Ok(()) } else { Err(Fault { done: n }) }
    }
    fn write(&self, at: UserAddr, src: &[u8]) -> Result<(), Fault> {
        let (start, n) = Memory::part(at, src.len());
        self.0.lock()[start..start + n].copy_from_slice(&src[..n]);
        if n == src.len() { Ok(()) } else { Err(Fault { done: n }) }
    }
    fn set_memory_requests(&self, _: Arc<dyn MemoryRequests>) {}
    fn cpu_time(&self) -> Duration {
        Duration::ZERO
    }
}

struct Thread {
    space: Arc<dyn AddressSpace>,
    registers: Registers,
    call: Arc<Mutex<SyscallArgs>>,
}

struct NoInterrupt;

impl Interrupt for NoInterrupt {
    fn interrupt(&self) {}
    fn kill(&self) {}
}

fn refuse<T>() -> Result<T, PlatformError> {
    Err(PlatformError::Host(Errno::ENOSYS))
}

impl GuestThread for Thread {
    fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }
    fn run(&mut self) -> Exit {
        Exit::Interrupted
    }
    fn call(&self) -> SyscallArgs {
        *self.call.lock()
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
        refuse()
    }
    fn map(&mut self, _: UserRange, _: MapSource<'_>, _: Share, _: Prot) -> Result<(), PlatformError> {
        refuse()
    }
    fn unmap(&mut self, _: UserRange) -> Result<(), PlatformError> {
        refuse()
    }
    fn protect(&mut self, _: UserRange, _: Prot) -> Result<(), PlatformError> {
        refuse()
    }
    fn remap(&mut self, _: UserRange, _: UserRange, _: bool) -> Result<(), PlatformError> {
        refuse()
    }
    fn advise(&mut self, _: UserRange, _: i32) -> Result<(), PlatformError> {
        refuse()
    }
    fn membarrier(&mut self, _: i32, _: u32) -> Result<u64, PlatformError> {
        refuse()
    }
    fn futex_wake(&mut self, _: UserAddr, _: u32, _: Share) -> Result<u32, PlatformError> {
        Ok(0)
    }
    fn cpu_time(&mut self) -> Duration {
        Duration::ZERO
    }
    fn exit(self: Box<Self>, _: Option<UserAddr>) {}
    fn host_tid(&self) -> i32 {
        0
    }
}

struct NoPlatform;

impl Platform for NoPlatform {
    fn guest_range(&self) -> UserRange {
        UserRange::new(UserAddr(0x1000), 0x7fff_0000).unwrap()
    }
    fn vdso(&self) -> Option<Vdso> {
        None
    }
    fn new_space(&self) -> Result<Box<dyn GuestThread>, PlatformError> {
        refuse()
    }
}

struct Special(Arc<Pipes>);

impl SpecialFiles for Special {
    fn open_fifo(&self, inode: &Arc<dyn Inode>, how: &OpenHow) -> Result<Arc<dyn FileOps>> {
        self.0.open_fifo(inode, how)
    }
    fn open_device(&self, _: &Arc<dyn Inode>, _: FileKind, _: u64, _: &OpenHow, _: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }
}

struct NoTerminals;

impl Terminals for NoTerminals {
    fn session_leader_ended(&self, _: u64, _: i32) {}
    fn device(&self, _: u64) -> u64 {
        0
    }
    fn foreground(&self, _: u64) -> i32 {
        -1
    }
}

struct OnlyTmpfs;

impl FileSystems for OnlyTmpfs {
    fn make(&self, request: &MountRequest<'_>) -> Result<Arc<dyn FileSystem>> {
        if request.kind == b"tmpfs" { Ok(tmpfs(50)) } else { Err(Errno::ENODEV) }
    }
}

fn clock() -> Arc<dyn Fn() -> Timespec + Send + Sync> {
    Arc::new(|| sentry_time::ClockId::Realtime.now())
}

fn tmpfs(device: u64) -> Arc<dyn FileSystem> {
    TmpFs::new(TmpFsOptions::default(), device, Arc::new(MemfdSource), clock()).unwrap()
}

/// A sandbox with a tmpfs as its root.
pub struct World {
    kernel: Arc<Kernel>,
    places: Places,
}

impl World {
    pub fn new() -> World {
        let pipes = Arc::new(Pipes::new(2, clock()));
        let memfds = Arc::new(Memfds::new(3, Arc::new(MemfdSource), clock()).unwrap());
        let files = FileServices::new(pipes.clone(), memfds, Arc::new(OnlyTmpfs));
        let kernel = Kernel::new(KernelParts {
            platform: Arc::new(NoPlatform),
            system_calls: Arc::new(System::new(files, crate::socket::testing::sockets())),
            special: Arc::new(Special(pipes)),
            terminals: Arc::new(NoTerminals),
            file_source: Arc::new(MemfdSource),
            anon: AnonFs::new(4),
            timers: sentry_time::TimerQueue::new(),
            hostname: b"test".to_vec(),
            max_tasks: 100,
            memory_total: 1 << 30,
            cpu: sentry_kernel::cpu::features(),
            cpus: 1,
        });
        let mount = Mount::new(Dentry::root(tmpfs(1)), MountFlags::empty(), b"none".to_vec());
        let namespace = MountNamespace::new(mount.clone());
        let root = Path::new(mount.clone(), mount.root().clone());
        World { kernel, places: Places { namespace, root: root.clone(), cwd: root, umask: 0o022 } }
    }

    /// A process of its own, run by the calling thread.
    pub fn process(&self) -> Guest {
        self.task(Arc::new(FdTable::default()), 0)
    }

    pub fn process_of(&self, uid: u32) -> Guest {
        self.task(Arc::new(FdTable::default()), uid)
    }

    /// A task that shares the descriptors of another, whose numbers it knows.
    pub fn sharing(&self, files: Arc<FdTable>) -> Guest {
        self.task(files, 0)
    }

    fn task(&self, files: Arc<FdTable>, uid: u32) -> Guest {
        let call = Arc::new(Mutex::new(Level::Leaf, SyscallArgs::default()));
        let space: Arc<dyn AddressSpace> = Arc::new(Memory(Mutex::new(Level::Leaf, vec![0; SIZE])));
        let thread = Thread { space: space.clone(), registers: Registers::fresh(0, 0), call: call.clone() };
        let limits = Limits::default();
        let mm = Mm::new(space, self.kernel.mm_config(&limits));
        let tid = self.kernel.processes.allocate().unwrap();
        let group = ThreadGroup::new(tid, Arc::new(Handlers::default()), limits, 17, 0);
        let task = Task::new(TaskSeed {
            tid,
            kernel: self.kernel.clone(),
            group: group.clone(),
            interrupter: thread.interrupter(),
            mask: SigSet::EMPTY,
            mm,
            fs: Arc::new(FsState::new(self.places.clone())),
            files,
            credentials: Arc::new(Credentials::new(uid, uid, &[], Caps::all())),
            comm: Vec::new(),
            start_ns: 0,
        });
        group.state.lock().tasks.push(task.clone());
        self.kernel.processes.add_process(group, task.clone(), 0);
        let current = CurrentTask::new(task, Box::new(thread));
        current.adopt_thread();
        Guest { task: current, call, next: BASE }
    }
}

/// A task and its memory.
pub struct Guest {
    pub task: CurrentTask,
    call: Arc<Mutex<SyscallArgs>>,
    next: u64,
}

impl Guest {
    /// Makes a call by number; the result as the kernel's ABI has it.
    pub fn call(&mut self, number: u32, args: &[u64]) -> SysResult {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        *self.call.lock() = SyscallArgs { number: number as u64, args: all };
        (table::entry(number).unwrap().handler)(&mut self.task, &all)
    }

    /// The value of a call that must succeed.
    pub fn ok(&mut self, number: u32, args: &[u64]) -> u64 {
        match self.call(number, args) {
            Ok(value) => value,
            Err(stop) => panic!("{}: {stop:?}", table::entry(number).unwrap().name),
        }
    }

    /// The error of a call that must fail.
    pub fn err(&mut self, number: u32, args: &[u64]) -> Errno {
        match self.call(number, args) {
            Err(Stop::Fail(errno)) => errno,
            other => panic!("{}: {other:?}", table::entry(number).unwrap().name),
        }
    }

    /// Fresh memory.
    pub fn room(&mut self, len: usize) -> u64 {
        let at = self.next;
        self.next += (len as u64).next_multiple_of(64);
        assert!(self.next < BASE + SIZE as u64);
        at
    }

    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.room(bytes.len());
        self.task.mm().write(UserAddr(at), bytes).unwrap();
        at
    }

    /// A NUL-terminated string.
    pub fn string(&mut self, text: &str) -> u64 {
        self.put(&[text.as_bytes(), b"\0"].concat())
    }

    pub fn get(&self, at: u64, len: usize) -> Vec<u8> {
        self.task.mm().read_vec(UserAddr(at), len).unwrap()
    }

    pub fn word(&self, at: u64) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap())
    }

    pub fn int(&self, at: u64) -> i32 {
        i32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    pub fn open(&mut self, path: &str, flags: u32) -> u64 {
        let path = self.string(path);
        self.ok(nr::OPEN, &[path, flags as u64, 0o644])
    }

    /// A file with these contents.
    pub fn file(&mut self, path: &str, contents: &[u8]) -> u64 {
        let fd = self.open(path, 0o102);
        let at = self.put(contents);
        assert_eq!(self.ok(nr::WRITE, &[fd, at, contents.len() as u64]), contents.len() as u64);
        self.ok(nr::LSEEK, &[fd, 0, 0]);
        fd
    }

    pub fn write(&mut self, fd: u64, bytes: &[u8]) -> SysResult {
        let at = self.put(bytes);
        self.call(nr::WRITE, &[fd, at, bytes.len() as u64])
    }

    pub fn read(&mut self, fd: u64, len: usize) -> Result<Vec<u8>, Stop> {
        let at = self.room(len);
        let n = self.call(nr::READ, &[fd, at, len as u64])?;
        Ok(self.get(at, n as usize))
    }

    pub fn pipe(&mut self) -> (u64, u64) {
        let at = self.room(8);
        self.ok(nr::PIPE, &[at]);
        (self.int(at) as u64, self.int(at + 4) as u64)
    }

    /// Sends this task a signal that it has a handler for: by default it would end the process at once.
    pub fn signal(task: &Arc<Task>, signal: Signal) {
        task.group.handlers().set(signal, SigAction { handler: 0x1000, ..SigAction::default() });
        // From the kernel: one from a process would not reach pid 1.
        task.send(signal, SigInfo::new(signal, sentry_abi::signal::SI_KERNEL)).unwrap();
    }
}
