//! [`GuestThread`] on a stub thread.

use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sentry_abi::{Errno, UserAddr, UserRange};
use sentry_platform::{
    AddressSpace, Exit, FaultInfo, GuestThread, HostDeath, HostExit, Interrupt, MapSource, PlatformError, Prot, Registers, Share,
    SpawnKind, SyscallArgs,
};
use sentry_stub::layout::{self, BUFFER, ThreadArea, event, order, uc};

use crate::area::SlotView;
use crate::direct;
use crate::frame;
use crate::process::guest_range;
use crate::spawn;
use crate::stub::{Gone, Stub};

const NR_MMAP: u64 = 9;
const NR_MPROTECT: u64 = 10;
const NR_MUNMAP: u64 = 11;
const NR_MREMAP: u64 = 25;
const NR_MADVISE: u64 = 28;
const NR_FUTEX: u64 = 202;
const NR_MEMBARRIER: u64 = 324;
const FUTEX_WAKE: u64 = 1;
const FUTEX_PRIVATE: u64 = 128;
const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_FIXED: u64 = 0x10;
const MAP_POPULATE: u64 = 0x8000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_NORESERVE: u64 = 0x4000;
const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;
const CLOCK_THREAD_CPUTIME: u64 = 3;
const ARCH_X86_64: u32 = 0xc000_003e;
/// Where legacy programs call the kernel.
const VSYSCALL_PAGE: u64 = 0xffff_ffff_ff60_0000;

/// A mapping of this size is not reserved: the guest's limits are the sentry's business.
const HUGE: u64 = 1 << 30;

pub struct SystrapThread {
    stub: Arc<Stub>,
    view: SlotView,
    space: Arc<dyn AddressSpace>,
    /// Checked offset of the guest's frame in the slot.
    frame: usize,
    registers: Registers,
    /// `registers` holds the frame's values, perhaps changed.
    loaded: bool,
    /// Values of the bases when they were loaded.
    bases: (u64, u64),
    /// The slot asks for bases to be set.
    bases_pending: bool,
    call: SyscallArgs,
    orig_rax: u64,
    /// `Some(timed)`: the next run resumes a native wait.
    resume_wait: Option<bool>,
    /// The wait that was interrupted last had a time-out.
    timed: bool,
    gone: Option<HostExit>,
    left: bool,
}

impl SystrapThread {
    /// A thread that has just been born, with its start frame in place.
    pub fn new(stub: &Arc<Stub>) -> SystrapThread {
        SystrapThread {
            stub: stub.clone(),
            view: stub.view(),
            space: stub.process.clone(),
            frame: layout::START_FRAME,
            registers: Registers::default(),
            loaded: false,
            bases: (0, 0),
            bases_pending: true,
            call: SyscallArgs::default(),
            orig_rax: u64::MAX,
            resume_wait: None,
            timed: false,
            gone: None,
            left: false,
        }
    }

    fn load_registers(&mut self) {
        if self.loaded {
            return;
        }
        self.registers = frame::load(&self.view, self.frame);
        if self.bases_pending {
            // A new thread: its bases are still on the way.
            self.registers.fs_base = self.view.get(offset_of!(ThreadArea, new_fs_base));
            self.registers.gs_base = self.view.get(offset_of!(ThreadArea, new_gs_base));
        }
        self.registers.orig_rax = self.orig_rax;
        self.bases = (self.registers.fs_base, self.registers.gs_base);
        self.loaded = true;
    }

    /// Before guest code runs again.
    fn flush_registers(&mut self) {
        if self.loaded {
            frame::store(&self.view, self.frame, &self.registers);
            let bases = (self.registers.fs_base, self.registers.gs_base);
            if bases != self.bases {
                frame::set_bases(&self.view, bases.0, bases.1);
                self.bases_pending = true;
            }
            self.loaded = false;
        }
    }

    fn take_gone(&mut self) -> Exit {
        let exit = self.stub.exit_status();
        self.gone = Some(exit);
        Exit::Gone(exit)
    }

    fn violation(&mut self, what: &str, detail: u32) -> Exit {
        self.stub.violation(what, detail);
        self.take_gone()
    }

    /// What the stub handed over.
    fn take_event(&mut self, kind: u32) -> Exit {
        let view = self.view;
        if self.bases_pending {
            view.put(offset_of!(ThreadArea, set_bases), 0);
            self.bases_pending = false;
        }
        let Some(frame) = frame::checked_offset(view.frame().load(Ordering::Relaxed)) else {
            return self.violation("reported a frame outside its slot", kind);
        };
        self.frame = frame;
        self.loaded = false;
        self.orig_rax = u64::MAX;
        match kind {
            event::SYSCALL => self.take_call(),
            event::INTERRUPTED => {
                self.stub.interrupted.store(false, Ordering::SeqCst);
                Exit::Interrupted
            }
            event::INTERRUPTED_WAIT => {
                self.stub.interrupted.store(false, Ordering::SeqCst);
                self.timed = view.timed().load(Ordering::Relaxed) != 0;
                self.read_call();
                Exit::InterruptedWait { timed: self.timed }
            }
            event::FAULT => {
                let Some(info) = frame::checked_offset(view.info().load(Ordering::Relaxed)) else {
                    return self.violation("reported a fault outside its slot", kind);
                };
                self.take_fault(info)
            }
            _ => self.violation("fell into its own text", kind),
        }
    }

    fn read_call(&mut self) {
        let view = &self.view;
        let at = |offset: usize| view.get(self.frame + offset);
        // The kernel looks at 32 bits.
        let number = at(uc::RAX) as i32 as i64 as u64;
        let args = [at(uc::RDI), at(uc::RSI), at(uc::RDX), at(uc::R8 + 16), at(uc::R8), at(uc::R8 + 8)];
        self.call = SyscallArgs { number, args };
        self.orig_rax = number;
    }

    fn take_call(&mut self) -> Exit {
        let arch = (self.view.get(self.frame + uc::SI_SYSCALL) >> 32) as u32;
        if arch == ARCH_X86_64 {
            self.read_call();
            return Exit::Syscall;
        }
        self.compat_call()
    }

    /// `int 0x80` (or sysenter): as on a kernel without 32-bit calls.
    fn compat_call(&mut self) -> Exit {
        const INT_80: [u8; 2] = [0xcd, 0x80];
        let rip = self.view.get(self.frame + uc::RIP);
        let mut bytes = [0; 2];
        let known = self.space.read(UserAddr(rip.wrapping_sub(2)), &mut bytes).is_ok() && bytes == INT_80;
        if known {
            self.view.put(self.frame + uc::RIP, rip - 2);
        }
        let err = if known { 0x402 } else { 0 };
        Exit::Fault(FaultInfo { signo: libc::SIGSEGV, code: 0x80, addr: 0, trapno: 13, err, cr2: 0 })
    }

    fn take_fault(&mut self, info: usize) -> Exit {
        let view = &self.view;
        let signo = view.get(info + uc::SI_SIGNO) as i32;
        let fault = FaultInfo {
            signo,
            code: view.get(info + uc::SI_CODE) as i32,
            addr: view.get(info + uc::SI_ADDR),
            trapno: view.get(info + uc::TRAPNO),
            err: view.get(info + uc::ERR),
            cr2: view.get(info + uc::CR2),
        };
        match signo {
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP => Exit::Fault(fault),
            _ => self.violation("reported a fault that is none", signo as u32),
        }
    }

    /// A notified memory call; the result, or the host's error.
    fn memory_call(&mut self, nr: u64, args: [u64; 6], file: Option<std::os::fd::BorrowedFd<'_>>) -> Result<u64, PlatformError> {
        if self.gone.is_some() {
            return Err(PlatformError::Gone);
        }
        let process = self.stub.process.clone();
        // membarrier has no range.
        let range = if nr == NR_MREMAP { span(args) } else { UserRange::new(UserAddr(args[0]), args[1]) };
        let _turn = range.filter(|_| nr != NR_MEMBARRIER).map(|r| process.mm.in_flight.begin_ordered(&process, r));
        host_result(self.stub.turn().call(nr, args, file)?)
    }

    fn map_with(&mut self, how: u64, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        SystrapThread::check(at)?;
        let mut flags = how | if share == Share::Shared { MAP_SHARED } else { MAP_PRIVATE };
        if prot.is_empty() || at.len() >= HUGE {
            flags |= MAP_NORESERVE;
        }
        let (file, offset) = match source {
            MapSource::Anonymous => {
                flags |= MAP_ANONYMOUS;
                (None, 0)
            }
            MapSource::File { fd, offset, populate } => {
                flags |= if populate { MAP_POPULATE } else { 0 };
                (Some(fd), offset)
            }
        };
        // An injected file's number is filled in later; anonymous memory has none.
        let fd = if file.is_some() { 0 } else { u64::MAX };
        let got = self.memory_call(NR_MMAP, [at.start(), at.len(), u64::from(prot.bits()), flags, fd, offset], file)?;
        if got != at.start() {
            return Err(PlatformError::Host(Errno::ENOMEM));
        }
        if file.is_none()
            && how == MAP_FIXED_NOREPLACE
            && let Some(requests) = self.stub.process.mm.requests()
        {
            direct::suggest(&self.stub, &*requests, at.len());
        }
        Ok(())
    }

    fn check(range: UserRange) -> Result<(), PlatformError> {
        // The stub's own range is out of reach whatever the caller checked.
        if range.is_page_aligned() && guest_range(range.start(), range.len()) { Ok(()) } else { Err(PlatformError::Host(Errno::EINVAL)) }
    }
}

/// The range from the lower to the higher end of an mremap.
fn span(args: [u64; 6]) -> Option<UserRange> {
    let to = if args[3] & MREMAP_FIXED != 0 { args[4] } else { args[0] };
    let end = (args[0].checked_add(args[1])?).max(to.checked_add(args[2])?);
    UserRange::from_bounds(args[0].min(to), end)
}

fn host_result(value: i64) -> Result<u64, PlatformError> {
    if (-4095..0).contains(&value) { Err(PlatformError::Host(Errno::from_host((-value) as i32))) } else { Ok(value as u64) }
}

struct Interrupter(Arc<Stub>);

impl Interrupt for Interrupter {
    fn interrupt(&self) {
        self.0.interrupted.store(true, Ordering::SeqCst);
        if self.0.running.load(Ordering::SeqCst) {
            self.0.process.signal(self.0.tid());
        }
    }

    fn kill(&self) {
        self.0.process.kill();
    }
}

impl GuestThread for SystrapThread {
    fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    fn run(&mut self) -> Exit {
        if let Some(exit) = self.gone {
            return Exit::Gone(exit);
        }
        let resume_wait = self.resume_wait.take();
        self.stub.running.store(true, Ordering::SeqCst);
        if self.stub.interrupted.swap(false, Ordering::SeqCst) {
            self.stub.running.store(false, Ordering::SeqCst);
            if let Some(timed) = resume_wait {
                return Exit::InterruptedWait { timed };
            }
            self.orig_rax = u64::MAX;
            self.registers.orig_rax = u64::MAX;
            return Exit::Interrupted;
        }
        self.flush_registers();
        let event = {
            let mut turn = self.stub.turn();
            turn.resume(if resume_wait.is_some() { order::RESUME_WAIT } else { order::RESUME });
            turn.wait().inspect(|_| turn.observe())
        };
        self.stub.running.store(false, Ordering::SeqCst);
        match event {
            Ok(kind) => self.take_event(kind),
            Err(Gone) => self.take_gone(),
        }
    }

    fn call(&self) -> SyscallArgs {
        self.call
    }

    fn watch_death(&self, watcher: Weak<dyn HostDeath>) {
        self.stub.watch_death(watcher);
    }

    fn is_vsyscall(&self) -> bool {
        // The address that the kernel gave with its signal; one that the guest has changed since harms nobody else.
        self.view.get(self.frame + uc::SI_ADDR) & !0xfff == VSYSCALL_PAGE
    }

    fn set_result(&mut self, value: u64) {
        if self.loaded {
            self.registers.rax = value;
        } else {
            self.view.put(self.frame + uc::RAX, value);
        }
    }

    fn registers(&mut self) -> &mut Registers {
        self.load_registers();
        &mut self.registers
    }

    fn fp_state(&mut self) -> Vec<u8> {
        let fp = self.stub.process.container.fp;
        let address = self.stub.address();
        let mut image = vec![0; fp.size + 4];
        let found = frame::fp_offset(&self.view, address, self.frame, &fp).and_then(|at| self.view.read(at, &mut image));
        // A stub that hides its vector state gets a fresh one.
        found.and_then(|()| fp.checked(&image).ok()).unwrap_or_else(|| fp.fresh())
    }

    fn set_fp_state(&mut self, image: &[u8]) -> Result<(), Errno> {
        let fp = self.stub.process.container.fp;
        let image = fp.checked(image)?;
        let address = self.stub.address();
        if let Some(at) = frame::fp_offset(&self.view, address, self.frame, &fp) {
            let _ = self.view.write(at, &image);
        }
        Ok(())
    }

    fn reset_fp_state(&mut self) {
        let fresh = self.stub.process.container.fp.fresh();
        // A fresh image is always accepted.
        let _ = self.set_fp_state(&fresh);
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        Arc::new(Interrupter(self.stub.clone()))
    }

    fn resume_native(&mut self) {
        self.resume_wait = Some(self.timed);
    }

    fn spawn(&mut self, kind: SpawnKind, start: &Registers) -> Result<Box<dyn GuestThread>, PlatformError> {
        if self.gone.is_some() {
            return Err(PlatformError::Gone);
        }
        let image = self.fp_state();
        let child = spawn::spawn(&mut self.stub.turn(), kind, start, &image)?;
        Ok(Box::new(SystrapThread::new(&child)))
    }

    fn map(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        self.map_with(MAP_FIXED, at, source, share, prot)
    }

    fn map_fresh(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        self.map_with(MAP_FIXED_NOREPLACE, at, source, share, prot)
    }

    fn unmap(&mut self, range: UserRange) -> Result<(), PlatformError> {
        SystrapThread::check(range)?;
        self.memory_call(NR_MUNMAP, [range.start(), range.len(), 0, 0, 0, 0], None).map(drop)
    }

    fn protect(&mut self, range: UserRange, prot: Prot) -> Result<(), PlatformError> {
        SystrapThread::check(range)?;
        self.memory_call(NR_MPROTECT, [range.start(), range.len(), u64::from(prot.bits()), 0, 0, 0], None).map(drop)
    }

    fn remap(&mut self, from: UserRange, to: UserRange, keep_old: bool) -> Result<(), PlatformError> {
        SystrapThread::check(from)?;
        SystrapThread::check(to)?;
        if from.start() == to.start() {
            // In place: the host grows or shrinks it where it is.
            return self.memory_call(NR_MREMAP, [from.start(), from.len(), to.len(), 0, 0, 0], None).map(drop);
        }
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED | if keep_old { MREMAP_DONTUNMAP } else { 0 };
        self.memory_call(NR_MREMAP, [from.start(), from.len(), to.len(), flags, to.start(), 0], None).map(drop)
    }

    fn advise(&mut self, range: UserRange, advice: i32) -> Result<(), PlatformError> {
        SystrapThread::check(range)?;
        if !direct::native_advice(advice) {
            return Err(PlatformError::Host(Errno::EINVAL));
        }
        self.memory_call(NR_MADVISE, [range.start(), range.len(), advice as u32 as u64, 0, 0, 0], None).map(drop)
    }

    fn membarrier(&mut self, command: i32, flags: u32) -> Result<u64, PlatformError> {
        self.memory_call(NR_MEMBARRIER, [command as u32 as u64, u64::from(flags), 0, 0, 0, 0], None)
    }

    fn futex_wake(&mut self, at: UserAddr, count: u32, share: Share) -> Result<u32, PlatformError> {
        if self.gone.is_some() {
            return Err(PlatformError::Gone);
        }
        let op = FUTEX_WAKE | if share == Share::Private { FUTEX_PRIVATE } else { 0 };
        let count = count.min(i32::MAX as u32);
        let result = self.stub.turn().order(order::SYSCALL, &[at.0, op, u64::from(count), 0, 0, 0, NR_FUTEX])?;
        host_result(result).map(|n| n as u32)
    }

    fn cpu_time(&mut self) -> Duration {
        if self.gone.is_some() || self.stub.turn().order(order::CPU_CLOCK, &[CLOCK_THREAD_CPUTIME]) != Ok(0) {
            return Duration::ZERO;
        }
        let (seconds, nanos) = (self.view.get(BUFFER), self.view.get(BUFFER + 8));
        // The guest can write these: keep them in range.
        Duration::new(seconds.min(u64::from(u32::MAX)), nanos.min(999_999_999) as u32)
    }

    fn exit(mut self: Box<Self>, clear_tid: Option<UserAddr>) {
        self.left = true;
        self.stub.left.store(true, Ordering::Release);
        if self.gone.is_none() {
            let mut turn = self.stub.turn();
            turn.post(order::EXIT, &[clear_tid.map_or(0, |a| a.0)]);
            turn.end();
        }
    }

    /// 0 until a new thread has said hello.
    fn host_tid(&self) -> i32 {
        self.stub.tid()
    }
}

impl Drop for SystrapThread {
    fn drop(&mut self) {
        let stub = &self.stub;
        stub.left.store(true, Ordering::Release);
        if !self.left
            && let Some(mut turn) = stub.try_turn()
        {
            turn.end();
        }
        if !self.left && self.gone.is_none() {
            stub.process.kill();
        }
        stub.process.container.remove_thread(stub);
        stub.process.mm.retire_slot(stub.slot);
    }
}
