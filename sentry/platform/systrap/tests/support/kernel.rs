//! The smallest kernel that runs static glibc programs on a platform.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use sentry_abi::{Errno, UserAddr, UserRange};
use sentry_platform::{
    Exit, FaultInfo, GuestThread, HostExit, Interrupt, MapSource, MemoryRequest, MemoryRequests, Platform, Prot, Registers, Share, SpaceId,
    SpawnKind, Verdict,
};

const PAGE: u64 = 4096;

type Hook = Box<dyn FnMut(&mut dyn GuestThread) + Send>;

#[derive(Default)]
pub struct Shared {
    pub output: Mutex<Vec<u8>>,
    processes: Mutex<HashMap<i32, ProcessState>>,
    changed: Condvar,
    next_pid: AtomicI32,
    /// Host thread ids of running guest threads, for torture.
    pub tids: Mutex<Vec<i32>>,
    pub live_threads: AtomicI32,
    pub interrupted: AtomicU64,
    /// Direct requests; none are made unless `use_direct`.
    pub direct: AtomicU64,
    pub use_direct: AtomicBool,
    pub faults: Mutex<Vec<(FaultInfo, Registers)>>,
    pub interrupts: Mutex<Vec<Arc<dyn Interrupt>>>,
    /// Answered to the test's own call 1000.
    pub hook: Mutex<Option<Hook>>,
}

#[derive(Clone, Debug)]
struct ProcessState {
    parent: i32,
    threads: i32,
    /// Wait status.
    status: Option<i32>,
}

pub struct Machine {
    pub shared: Arc<Shared>,
}

/// A tree that knows only where the next mapping goes; the last one is reused when it is unmapped.
struct Requests {
    memory: Arc<Mutex<Memory>>,
    shared: Arc<Shared>,
}

impl MemoryRequests for Requests {
    fn decide(&self, _: SpaceId, request: &MemoryRequest) -> Verdict {
        let mut memory = self.memory.lock().unwrap();
        self.shared.direct.fetch_add(1, Ordering::Relaxed);
        match request {
            MemoryRequest::Map { at, .. } => {
                if at.start() != memory.next {
                    return Verdict::AskTheSentry;
                }
                memory.next = at.end() + PAGE;
            }
            MemoryRequest::Unmap { range } => memory.unmapped(*range),
            _ => {}
        }
        Verdict::Continue
    }

    fn place(&self, _: SpaceId, _: u64) -> Option<UserAddr> {
        Some(UserAddr(self.memory.lock().unwrap().next))
    }
}

struct Memory {
    brk_start: u64,
    brk: u64,
    next: u64,
}

struct Task {
    shared: Arc<Shared>,
    memory: Arc<Mutex<Memory>>,
    pid: i32,
    tid: i32,
    parent: i32,
    clear_tid: Option<u64>,
    thread: Box<dyn GuestThread>,
}

impl Memory {
    fn unmapped(&mut self, range: UserRange) {
        if range.end() + PAGE == self.next {
            self.next = range.start();
        }
    }
}

enum Flow {
    Go(u64),
    End(i32, bool),
}

impl Machine {
    pub fn new() -> Machine {
        let shared = Shared { next_pid: AtomicI32::new(2), ..Shared::default() };
        Machine { shared: Arc::new(shared) }
    }

    /// Runs a static ELF program; its wait status.
    pub fn run(&self, platform: &dyn Platform, elf: &[u8], args: &[&str]) -> i32 {
        let mut thread = platform.new_space().expect("a space");
        let memory = load(&mut *thread, platform, elf, args);
        self.shared.processes.lock().unwrap().insert(1, ProcessState { parent: 0, threads: 1, status: None });
        let task =
            Task { shared: self.shared.clone(), memory: Arc::new(Mutex::new(memory)), pid: 1, tid: 1, parent: 0, clear_tid: None, thread };
        start(task);
        let mut processes = self.shared.processes.lock().unwrap();
        loop {
            if let Some(status) = processes.get(&1).and_then(|p| p.status) {
                processes.remove(&1);
                return status;
            }
            let (guard, timeout) = self.shared.changed.wait_timeout(processes, Duration::from_secs(120)).unwrap();
            processes = guard;
            if timeout.timed_out() {
                panic!("the guest hangs: {:?}", *processes);
            }
        }
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.shared.output.lock().unwrap()).into_owned()
    }
}

fn start(task: Task) {
    if task.shared.use_direct.load(Ordering::Relaxed) {
        let requests = Requests { memory: task.memory.clone(), shared: task.shared.clone() };
        task.thread.space().set_memory_requests(Arc::new(requests));
    }
    task.shared.live_threads.fetch_add(1, Ordering::SeqCst);
    task.shared.interrupts.lock().unwrap().push(task.thread.interrupter());
    thread::Builder::new().stack_size(256 << 10).spawn(move || task.live()).expect("a thread");
}

fn range(start: u64, len: u64) -> UserRange {
    UserRange::new(UserAddr(start), len).expect("range")
}

fn page_up(v: u64) -> u64 {
    (v + PAGE - 1) & !(PAGE - 1)
}

fn load(thread: &mut dyn GuestThread, platform: &dyn Platform, elf: &[u8], args: &[&str]) -> Memory {
    let u16_at = |o: usize| u16::from_le_bytes(elf[o..o + 2].try_into().unwrap()) as usize;
    let u64_at = |o: usize| u64::from_le_bytes(elf[o..o + 8].try_into().unwrap());
    let (entry, phoff, phnum) = (u64_at(24), u64_at(32) as usize, u16_at(56));
    let mut end = 0;
    let mut first = u64::MAX;
    for i in 0..phnum {
        let ph = phoff + 56 * i;
        if u64_at(ph) as u32 != 1 {
            continue;
        }
        let flags = (u64_at(ph) >> 32) as u32;
        let (offset, vaddr, filesz, memsz) = (u64_at(ph + 8), u64_at(ph + 16), u64_at(ph + 32), u64_at(ph + 40));
        let start = vaddr & !(PAGE - 1);
        let len = page_up(vaddr + memsz) - start;
        let mut prot = Prot::empty();
        prot.set(Prot::EXEC, flags & 1 != 0);
        prot.set(Prot::WRITE, flags & 2 != 0);
        prot.set(Prot::READ, flags & 4 != 0);
        thread.map(range(start, len), MapSource::Anonymous, Share::Private, Prot::READ | Prot::WRITE).expect("map");
        thread.space().write(UserAddr(vaddr), &elf[offset as usize..(offset + filesz) as usize]).expect("load");
        thread.protect(range(start, len), prot).expect("protect");
        end = end.max(start + len);
        first = first.min(vaddr - offset);
    }
    let top = platform.guest_range().end() - (16 << 20);
    let stack_len = 8 << 20;
    thread.map(range(top - stack_len, stack_len), MapSource::Anonymous, Share::Private, Prot::READ | Prot::WRITE).expect("stack");
    let mut at = top - 64;
    let mut push = |bytes: &[u8], thread: &mut dyn GuestThread| {
        at -= bytes.len() as u64;
        thread.space().write(UserAddr(at), bytes).expect("stack");
        at
    };
    let random = push(&[7u8; 16], thread);
    let strings: Vec<u64> = args.iter().map(|a| push(format!("{a}\0").as_bytes(), thread)).collect();
    let mut words = vec![args.len() as u64];
    words.extend(&strings);
    words.push(0);
    words.push(0);
    let vdso = platform.vdso().map_or(0, |v| v.header.0);
    let aux = [(3, first + phoff as u64), (4, 56), (5, phnum as u64), (6, PAGE), (9, entry), (25, random), (33, vdso), (51, 3632), (0, 0)];
    for (key, value) in aux {
        if key != 33 || value != 0 {
            words.extend([key, value]);
        }
    }
    let sp = ((strings.last().copied().unwrap_or(random) & !15) - words.len() as u64 * 8) & !15;
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    thread.space().write(UserAddr(sp), &bytes).expect("stack");
    *thread.registers() = Registers::fresh(entry, sp);
    Memory { brk_start: end + PAGE, brk: end + PAGE, next: 0x7000_0000_0000 }
}

impl Task {
    fn live(mut self) {
        let mut known = false;
        let end = loop {
            let exit = self.thread.run();
            if !known {
                // A new thread's id may not be known earlier.
                known = true;
                self.shared.tids.lock().unwrap().push(self.thread.host_tid());
            }
            match exit {
                Exit::Syscall => match self.syscall() {
                    Flow::Go(value) => self.thread.set_result(value),
                    Flow::End(status, group) => break (status, group),
                },
                Exit::Interrupted => {
                    self.shared.interrupted.fetch_add(1, Ordering::Relaxed);
                }
                Exit::InterruptedWait { .. } => {
                    self.shared.interrupted.fetch_add(1, Ordering::Relaxed);
                    self.thread.resume_native();
                }
                Exit::Fault(fault) => {
                    let registers = *self.thread.registers();
                    self.shared.faults.lock().unwrap().push((fault, registers));
                    break (fault.signo, true);
                }
                Exit::Gone(HostExit::Signal(signal)) => break (signal, true),
                Exit::Gone(HostExit::Code(code)) => break (code << 8, true),
            }
        };
        self.finish(end.0, end.1);
    }

    fn finish(self, status: i32, group: bool) {
        let Task { shared, pid, thread, clear_tid, .. } = self;
        let tid = thread.host_tid();
        shared.tids.lock().unwrap().retain(|t| *t != tid);
        if group {
            thread.interrupter().kill();
        }
        if group {
            drop(thread);
        } else {
            thread.exit(clear_tid.map(UserAddr));
        }
        let mut processes = shared.processes.lock().unwrap();
        if let Some(process) = processes.get_mut(&pid) {
            process.threads -= 1;
            if process.status.is_none() && (group || process.threads == 0) {
                process.status = Some(status);
            }
        }
        drop(processes);
        shared.live_threads.fetch_sub(1, Ordering::SeqCst);
        shared.changed.notify_all();
    }

    fn syscall(&mut self) -> Flow {
        let call = self.thread.call();
        let a = call.args;
        let result = match call.number {
            1 => self.write(a),
            60 => return Flow::End(((a[0] & 0xff) << 8) as i32, false),
            231 => return Flow::End(((a[0] & 0xff) << 8) as i32, true),
            12 => Ok(self.brk(a[0])),
            9 => self.mmap(a),
            11 => {
                let done = self.on_range(a, |t, r| t.unmap(r));
                if let Some(range) = UserRange::new(UserAddr(a[0]), page_up(a[1])) {
                    self.memory.lock().unwrap().unmapped(range);
                }
                done
            }
            10 => {
                let prot = Prot::from_bits_truncate(a[2] as u8);
                self.on_range(a, |t, r| t.protect(r, prot))
            }
            28 => self.on_range(a, |t, r| t.advise(r, a[2] as i32)),
            158 => self.arch_prctl(a),
            218 => {
                self.clear_tid = (a[0] != 0).then_some(a[0]);
                Ok(self.tid as u64)
            }
            39 => Ok(self.pid as u64),
            186 => Ok(self.tid as u64),
            110 => Ok(self.parent as u64),
            56 => self.clone(a[0], a[1], a[2], a[3], a[4]),
            57 => self.clone(17, 0, 0, 0, 0),
            58 => self.clone(0x4100 | 17, 0, 0, 0, 0),
            435 => self.clone3(a[0]),
            61 => self.wait4(a[0] as i32, a[1]),
            24 | 13 | 14 | 273 => Ok(0),
            35 => {
                thread::sleep(Duration::from_millis(1));
                Ok(0)
            }
            230 => {
                thread::sleep(Duration::from_millis(1));
                Ok(0)
            }
            318 => {
                let bytes = vec![5u8; a[1].min(4096) as usize];
                self.thread.space().write(UserAddr(a[0]), &bytes).map(|()| a[1]).map_err(|_| Errno::EFAULT)
            }
            324 => self.thread.membarrier(a[0] as i32, a[1] as u32).map_err(|e| e.errno()),
            1000 => {
                if let Some(hook) = self.shared.hook.lock().unwrap().as_mut() {
                    hook(&mut *self.thread);
                }
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        };
        Flow::Go(match result {
            Ok(value) => value,
            Err(errno) => (-(errno.raw() as i64)) as u64,
        })
    }

    fn write(&mut self, a: [u64; 6]) -> Result<u64, Errno> {
        let mut bytes = vec![0; a[2].min(1 << 20) as usize];
        self.thread.space().read(UserAddr(a[1]), &mut bytes).map_err(|_| Errno::EFAULT)?;
        self.shared.output.lock().unwrap().extend_from_slice(&bytes);
        Ok(a[2])
    }

    fn brk(&mut self, to: u64) -> u64 {
        let mut memory = self.memory.lock().unwrap();
        if to > memory.brk {
            let (from, end) = (page_up(memory.brk), page_up(to));
            if end > from
                && self.thread.map(range(from, end - from), MapSource::Anonymous, Share::Private, Prot::READ | Prot::WRITE).is_err()
            {
                return memory.brk;
            }
            memory.brk = to;
        } else if to >= memory.brk_start {
            memory.brk = to;
        }
        memory.brk
    }

    fn mmap(&mut self, a: [u64; 6]) -> Result<u64, Errno> {
        let len = page_up(a[1]);
        let fixed = a[3] & 0x10 != 0;
        let at = if fixed {
            a[0]
        } else {
            let mut memory = self.memory.lock().unwrap();
            memory.next += len + PAGE;
            memory.next - len - PAGE
        };
        let at_range = UserRange::new(UserAddr(at), len).ok_or(Errno::ENOMEM)?;
        let prot = Prot::from_bits_truncate(a[2] as u8);
        let share = if a[3] & 1 != 0 { Share::Shared } else { Share::Private };
        if fixed {
            self.thread.map(at_range, MapSource::Anonymous, share, prot).map_err(|e| e.errno())?;
            return Ok(at);
        }
        match self.thread.map_fresh(at_range, MapSource::Anonymous, share, prot) {
            Err(e) if e.errno() == Errno::EEXIST => self.mmap(a),
            other => other.map(|()| at).map_err(|e| e.errno()),
        }
    }

    fn on_range(
        &mut self,
        a: [u64; 6],
        act: impl FnOnce(&mut dyn GuestThread, UserRange) -> Result<(), sentry_platform::PlatformError>,
    ) -> Result<u64, Errno> {
        let at = UserRange::new(UserAddr(a[0]), page_up(a[1])).ok_or(Errno::ENOMEM)?;
        act(&mut *self.thread, at).map(|()| 0).map_err(|e| e.errno())
    }

    fn arch_prctl(&mut self, a: [u64; 6]) -> Result<u64, Errno> {
        match a[0] {
            0x1002 => self.thread.registers().fs_base = a[1],
            0x1001 => self.thread.registers().gs_base = a[1],
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    fn clone3(&mut self, at: u64) -> Result<u64, Errno> {
        let mut bytes = [0u8; 64];
        self.thread.space().read(UserAddr(at), &mut bytes).map_err(|_| Errno::EFAULT)?;
        let word = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap());
        // flags pidfd child_tid parent_tid exit_signal stack stack_size tls
        let stack = if word(5) == 0 { 0 } else { word(5) + word(6) };
        self.clone(word(0) | word(4), stack, word(3), word(2), word(7))
    }

    fn clone(&mut self, flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) -> Result<u64, Errno> {
        let mut start = *self.thread.registers();
        start.rax = 0;
        if stack != 0 {
            start.rsp = stack;
        }
        if flags & 0x80000 != 0 {
            start.fs_base = tls;
        }
        let kind = match flags & 0x10100 {
            0x10100 => SpawnKind::Thread,
            0x100 => SpawnKind::SharedSpace,
            _ => SpawnKind::Fork,
        };
        let id = self.shared.next_pid.fetch_add(1, Ordering::SeqCst);
        let child = self.thread.spawn(kind, &start).map_err(|e| e.errno())?;
        if flags & 0x100000 != 0 {
            let _ = self.thread.space().write(UserAddr(parent_tid), &id.to_le_bytes());
        }
        if flags & 0x1000000 != 0 {
            let _ = child.space().write(UserAddr(child_tid), &id.to_le_bytes());
        }
        let pid = if kind == SpawnKind::Thread { self.pid } else { id };
        {
            let mut processes = self.shared.processes.lock().unwrap();
            if kind == SpawnKind::Thread {
                if let Some(p) = processes.get_mut(&pid) {
                    p.threads += 1;
                }
            } else {
                processes.insert(pid, ProcessState { parent: self.pid, threads: 1, status: None });
            }
        }
        let memory = if kind == SpawnKind::Fork {
            let m = self.memory.lock().unwrap();
            Arc::new(Mutex::new(Memory { brk_start: m.brk_start, brk: m.brk, next: m.next }))
        } else {
            self.memory.clone()
        };
        let clear_tid = (flags & 0x200000 != 0).then_some(child_tid);
        start_child(Task { shared: self.shared.clone(), memory, pid, tid: id, parent: self.pid, clear_tid, thread: child });
        if flags & 0x4000 != 0 {
            let mut processes = self.shared.processes.lock().unwrap();
            while processes.get(&pid).is_some_and(|p| p.status.is_none()) {
                processes = self.shared.changed.wait_timeout(processes, Duration::from_millis(100)).unwrap().0;
            }
        }
        Ok(id as u64)
    }

    fn wait4(&mut self, wanted: i32, status_at: u64) -> Result<u64, Errno> {
        let mut processes = self.shared.processes.lock().unwrap();
        loop {
            let mine = |p: (&i32, &ProcessState)| p.1.parent == self.pid && (wanted == -1 || wanted == *p.0);
            if !processes.iter().any(mine) {
                return Err(Errno::ECHILD);
            }
            let found = processes.iter().find(|p| mine((p.0, p.1)) && p.1.status.is_some()).map(|p| (*p.0, p.1.status));
            if let Some((pid, Some(status))) = found {
                processes.remove(&pid);
                drop(processes);
                if status_at != 0 {
                    let _ = self.thread.space().write(UserAddr(status_at), &status.to_le_bytes());
                }
                return Ok(pid as u64);
            }
            processes = self.shared.changed.wait_timeout(processes, Duration::from_millis(100)).unwrap().0;
        }
    }
}

fn start_child(task: Task) {
    start(task);
}
