//! [`GuestThread`] on a traced thread.
//!
//! Until its first `run` a thread belongs to no sentry thread: each operation seizes it and lets it go again.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sentry_abi::{Errno, UserAddr, UserRange};
use sentry_platform::{
    AddressSpace, Exit, FaultInfo, GuestThread, Interrupt, MapSource, PlatformError, Prot, Registers, Share, SpawnKind, SyscallArgs,
};

use crate::futex::{self, NR_FUTEX, Plan, Wait};
use crate::host::{self, Gone, Stop};
use crate::space::{Memory, Space, guest_range};
use crate::tracee::{Injected, Tracee};

const MAP_POPULATE: u64 = 0x8000;
const NR_CLOSE: u64 = 3;
const NR_MMAP: u64 = 9;
const NR_MPROTECT: u64 = 10;
const NR_MUNMAP: u64 = 11;
const NR_SCHED_YIELD: u64 = 24;
const NR_MREMAP: u64 = 25;
const NR_MADVISE: u64 = 28;
const NR_RECVMSG: u64 = 47;
const NR_CLONE: u64 = 56;
const NR_EXIT: u64 = 60;
const NR_CLOCK_GETTIME: u64 = 228;
const NR_MEMBARRIER: u64 = 324;
const ARCH_X86_64: u32 = 0xc000_003e;
const MAP_FIXED: u64 = 0x10;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MAP_NORESERVE: u64 = 0x4000;
const HUGE: u64 = 1 << 30;
/// CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM
const THREAD: u64 = 0x5_0f00;
/// CLONE_VM | CLONE_PARENT | SIGCHLD
const SHARED_SPACE: u64 = 0x8111;
/// CLONE_PARENT | SIGCHLD
const PROCESS: u64 = 0x8011;
/// Offset of the software bytes in an XSAVE image, and their magic numbers in a signal frame.
const SW_BYTES: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

struct Signals {
    space: Arc<Space>,
    tid: i32,
    running: AtomicBool,
    pending: AtomicBool,
}

impl Interrupt for Signals {
    fn interrupt(&self) {
        self.pending.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) {
            self.space.interrupt(self.tid);
        }
    }

    fn kill(&self) {
        self.space.kill();
    }
}

pub struct PtraceThread {
    tracee: Tracee,
    owner: Arc<Space>,
    space: Arc<dyn AddressSpace>,
    signals: Arc<Signals>,
    scratch: u64,
    /// The guest's registers; the tracee's own are anything while it is stopped here.
    registers: Registers,
    /// The sentry thread that has seized it for good.
    seized: bool,
    call: SyscallArgs,
    wait: Option<Wait>,
    resume_wait: bool,
    left: bool,
    /// Vector state to be set once it is seized.
    fresh_vectors: bool,
}

impl PtraceThread {
    pub fn new(space: &Arc<Space>, tid: i32, start: &Registers, fresh_vectors: bool) -> PtraceThread {
        let signals = Arc::new(Signals { space: space.clone(), tid, running: AtomicBool::new(false), pending: AtomicBool::new(false) });
        PtraceThread {
            tracee: Tracee::new(tid),
            owner: space.clone(),
            space: space.clone(),
            signals,
            scratch: space.memory.scratch(&space.container),
            registers: *start,
            seized: false,
            call: SyscallArgs::default(),
            wait: None,
            resume_wait: false,
            left: false,
            fresh_vectors,
        }
    }

    /// Runs `act` on the stopped thread, whatever sentry thread this is if guest code has not run yet.
    fn with<R>(&mut self, act: impl FnOnce(&mut Self) -> Result<R, Gone>) -> Result<R, PlatformError> {
        if self.tracee.ended.is_some() {
            return Err(PlatformError::Gone);
        }
        if self.seized {
            return act(self).map_err(|Gone| PlatformError::Gone);
        }
        self.tracee.seize().map_err(|Gone| PlatformError::Gone)?;
        let own = host::registers(self.tracee.tid).map_err(|Gone| PlatformError::Gone)?;
        let result = act(self);
        // Back to its sleep.
        let _ = host::set_registers(self.tracee.tid, &own);
        host::detach(self.tracee.tid);
        result.map_err(|Gone| PlatformError::Gone)
    }

    fn inject(&mut self, nr: u64, args: [u64; 6]) -> Result<u64, PlatformError> {
        let value = self.with(|t| t.tracee.inject(&t.owner.container, nr, args))?;
        host_result(value)
    }

    fn gone(&mut self) -> Exit {
        let exit = self.tracee.collect();
        if self.tracee.tid == self.owner.pid {
            self.owner.set_collected();
        }
        self.owner.forget(self.tracee.tid);
        Exit::Gone(exit)
    }

    fn end_run(&mut self, exit: Exit) -> Exit {
        self.signals.running.store(false, Ordering::SeqCst);
        match exit {
            Exit::Interrupted | Exit::InterruptedWait { .. } => {
                self.signals.pending.store(false, Ordering::SeqCst);
                self.tracee.interrupted = false;
            }
            _ => {}
        }
        exit
    }

    /// Runs guest code until something is for the sentry.
    fn advance(&mut self) -> Result<Exit, Gone> {
        if let Some(wait) = self.wait.take().filter(|_| std::mem::take(&mut self.resume_wait))
            && let Some(exit) = self.native_wait(wait)?
        {
            return Ok(exit);
        }
        loop {
            if self.tracee.interrupted || self.signals.pending.load(Ordering::SeqCst) {
                self.registers.orig_rax = u64::MAX;
                return Ok(Exit::Interrupted);
            }
            host::set_registers(self.tracee.tid, &Registers { orig_rax: u64::MAX, ..self.registers })?;
            host::emulate(self.tracee.tid)?;
            let stop = self.tracee.wait();
            if let Stop::Gone(_) = stop {
                return Err(Gone);
            }
            self.registers = host::registers(self.tracee.tid)?;
            let exit = match stop {
                Stop::Syscall => self.syscall_stop()?,
                Stop::Signal(signal) => self.signal_stop(signal)?,
                _ => None,
            };
            if let Some(exit) = exit {
                return Ok(exit);
            }
        }
    }

    fn syscall_stop(&mut self) -> Result<Option<Exit>, Gone> {
        let r = &mut self.registers;
        let number = r.orig_rax as i32 as i64 as u64;
        r.rax = number;
        if host::call_arch(self.tracee.tid) != ARCH_X86_64 {
            return Ok(Some(self.compat_call()));
        }
        self.call = SyscallArgs { number, args: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] };
        r.orig_rax = number;
        if number == NR_SCHED_YIELD {
            self.registers.rax = self.tracee.inject(&self.owner.container, NR_SCHED_YIELD, [0; 6])? as u64;
            return Ok(None);
        }
        if number != NR_FUTEX {
            return Ok(Some(Exit::Syscall));
        }
        match futex::plan(&self.owner, &self.call) {
            Plan::HandOver => Ok(Some(Exit::Syscall)),
            Plan::Answer(value) => {
                self.registers.rax = value as u64;
                Ok(None)
            }
            Plan::Inject(args) => {
                self.registers.rax = self.tracee.inject(&self.owner.container, NR_FUTEX, args)? as u64;
                Ok(None)
            }
            Plan::Wait(wait) => self.native_wait(wait),
        }
    }

    fn native_wait(&mut self, wait: Wait) -> Result<Option<Exit>, Gone> {
        loop {
            if !self.signals.pending.load(Ordering::SeqCst)
                && let Injected::Done(value) = futex::wait(&mut self.tracee, &self.owner, self.scratch, &wait)?
            {
                self.registers.rax = value as u64;
                return Ok(None);
            }
            if self.signals.pending.load(Ordering::SeqCst) || self.tracee.interrupted {
                self.wait = Some(wait);
                return Ok(Some(Exit::InterruptedWait { timed: wait.timed() }));
            }
        }
    }

    /// `int 0x80`: as on a kernel without 32-bit calls.
    fn compat_call(&mut self) -> Exit {
        let mut bytes = [0; 2];
        let at = self.registers.rip.wrapping_sub(2);
        let known = self.owner.read(UserAddr(at), &mut bytes).is_ok() && bytes == [0xcd, 0x80];
        if known {
            self.registers.rip = at;
        }
        self.registers.orig_rax = u64::MAX;
        Exit::Fault(FaultInfo { signo: libc::SIGSEGV, code: 0x80, addr: 0, trapno: 13, err: if known { 0x402 } else { 0 }, cr2: 0 })
    }

    fn signal_stop(&mut self, signo: i32) -> Result<Option<Exit>, Gone> {
        self.registers.orig_rax = u64::MAX;
        let signal = host::signal(self.tracee.tid)?;
        match signo {
            // A call through the vsyscall page, which is emulated past the tracer.
            libc::SIGSYS if signal.code == 1 && signal.arch == ARCH_X86_64 => {
                let r = &self.registers;
                self.call = SyscallArgs { number: signal.call, args: [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9] };
                self.registers.orig_rax = signal.call;
                Ok(Some(Exit::Syscall))
            }
            libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGFPE | libc::SIGTRAP if signal.code > 0 => {
                let page_fault = signo == libc::SIGSEGV && signal.code != 0x80;
                let (trapno, cr2) = match signo {
                    libc::SIGSEGV if page_fault => (14, signal.address),
                    libc::SIGSEGV => (13, 0),
                    libc::SIGILL => (6, 0),
                    libc::SIGTRAP => (3, 0),
                    _ => (0, 0),
                };
                Ok(Some(Exit::Fault(FaultInfo { signo, code: signal.code, addr: signal.address, trapno, err: 0, cr2 })))
            }
            libc::SIGUSR1 => Ok(Some(Exit::Interrupted)),
            // Other signals from the host's side are swallowed.
            _ => Ok(None),
        }
    }

    fn map_with(&mut self, how: u64, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        check(at)?;
        let mut flags = how | if share == Share::Shared { 1 } else { 2 };
        if prot.is_empty() || at.len() >= HUGE {
            flags |= MAP_NORESERVE;
        }
        let prot = u64::from(prot.bits());
        let got = match source {
            MapSource::Anonymous => self.inject(NR_MMAP, [at.start(), at.len(), prot, flags | 0x20, u64::MAX, 0])?,
            MapSource::File { fd, offset, populate } => {
                let flags = flags | if populate { MAP_POPULATE } else { 0 };
                let number = self.give(fd)?;
                let got = self.inject(NR_MMAP, [at.start(), at.len(), prot, flags, number, offset]);
                self.inject(NR_CLOSE, [number, 0, 0, 0, 0, 0])?;
                got?
            }
        };
        if got == at.start() { Ok(()) } else { Err(PlatformError::Host(Errno::ENOMEM)) }
    }

    /// Brings a file into the process; its number there. A message for a process that died meanwhile would be the next one's: the lock is held
    /// until it has been received, and the death of a receiver in between is the one case where files of a container may be mixed up.
    fn give(&mut self, file: BorrowedFd<'_>) -> Result<u64, PlatformError> {
        let scratch = self.scratch;
        let container = self.owner.container.clone();
        let socket = container.socket.lock();
        host::send_file(socket.as_fd(), file).map_err(|_| PlatformError::Host(Errno::ENFILE))?;
        let number = self.with(|t| {
            // msghdr at 0, iovec at 64, control at 96, one byte at 128.
            let mut bytes = [0u8; 136];
            let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            put(16, scratch + 64);
            put(24, 1);
            put(32, scratch + 96);
            put(40, 24);
            put(64, scratch + 128);
            put(72, 1);
            if host::write(t.tracee.tid, scratch, &bytes).ok() != Some(bytes.len()) {
                return Ok(None);
            }
            // MSG_CMSG_CLOEXEC
            if t.tracee.inject(&t.owner.container, NR_RECVMSG, [0, scratch, 0x4000_0000, 0, 0, 0])? != 1 {
                return Ok(None);
            }
            let mut number = [0; 4];
            let read = host::read(t.tracee.tid, scratch + 112, &mut number).ok();
            Ok((read == Some(4)).then(|| u64::from(u32::from_le_bytes(number))))
        })?;
        number.ok_or(PlatformError::Host(Errno::EMFILE))
    }
}

fn host_result(value: i64) -> Result<u64, PlatformError> {
    if (-4095..0).contains(&value) { Err(PlatformError::Host(Errno::from_host((-value) as i32))) } else { Ok(value as u64) }
}

fn check(range: UserRange) -> Result<(), PlatformError> {
    let good = range.is_page_aligned() && guest_range(range.start(), range.len());
    if good { Ok(()) } else { Err(PlatformError::Host(Errno::EINVAL)) }
}

/// Makes a child from a stopped thread; its id.
pub fn clone_from(tracee: &mut Tracee, space: &Space, flags: u64) -> Result<i32, PlatformError> {
    let site = space.container.clone_site;
    loop {
        let result = tracee.try_inject(&space.container, site, NR_CLONE, [flags, 0, 0, 0, 0, 0], false);
        if let Injected::Done(value) = result.map_err(|Gone| PlatformError::Gone)? {
            return host_result(value).map(|tid| tid as i32);
        }
    }
}

/// A new process from the zygote.
pub fn process_from(tracee: &mut Tracee, space: &Space) -> Result<i32, PlatformError> {
    clone_from(tracee, space, PROCESS)
}

impl GuestThread for PtraceThread {
    fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    fn run(&mut self) -> Exit {
        if self.tracee.ended.is_some() {
            return self.gone();
        }
        if !self.seized {
            if self.tracee.seize().is_err() {
                return self.gone();
            }
            self.seized = true;
            if std::mem::take(&mut self.fresh_vectors) {
                self.reset_fp_state();
            }
        }
        self.signals.running.store(true, Ordering::SeqCst);
        let exit = match self.advance() {
            Ok(exit) => exit,
            Err(Gone) => {
                self.owner.kill();
                self.gone()
            }
        };
        self.end_run(exit)
    }

    fn call(&self) -> SyscallArgs {
        self.call
    }

    fn set_result(&mut self, value: u64) {
        self.registers.rax = value;
    }

    fn registers(&mut self) -> &mut Registers {
        &mut self.registers
    }

    fn fp_state(&mut self) -> Vec<u8> {
        let Ok(mut image) = self.with(|t| host::vector_state(t.tracee.tid)) else { return Vec::new() };
        let size = image.len() as u32;
        // The host leaves XCR0 where a signal frame has magic, sizes and features.
        let mut features = [0; 8];
        if let Some(found) = image.get(SW_BYTES..SW_BYTES + 8) {
            features.copy_from_slice(found);
        }
        let mut put = |at: usize, value: &[u8]| {
            if let Some(to) = image.get_mut(at..at + value.len()) {
                to.copy_from_slice(value);
            }
        };
        put(SW_BYTES, &MAGIC1.to_le_bytes());
        put(SW_BYTES + 4, &(size + 4).to_le_bytes());
        put(SW_BYTES + 8, &features);
        put(SW_BYTES + 16, &size.to_le_bytes());
        image.extend_from_slice(&MAGIC2.to_le_bytes());
        image
    }

    fn set_fp_state(&mut self, image: &[u8]) -> Result<(), Errno> {
        let taken = self.with(|t| {
            let mut new = host::vector_state(t.tracee.tid)?;
            let len = new.len();
            let extended = image.len() >= len && image.get(SW_BYTES..SW_BYTES + 4) == Some(&MAGIC1.to_le_bytes()[..]);
            let used = if extended { len } else { 512 };
            let Some(given) = image.get(..used) else { return Ok(false) };
            new.fill(0);
            if let Some(to) = new.get_mut(..used) {
                to.copy_from_slice(given);
            }
            if !extended && let Some(present) = new.get_mut(512) {
                *present = 3;
            }
            if let Some(software) = new.get_mut(SW_BYTES..512) {
                software.fill(0);
            }
            Ok(host::set_vector_state(t.tracee.tid, &new))
        });
        match taken {
            Ok(true) | Err(_) => Ok(()),
            Ok(false) => Err(Errno::EINVAL),
        }
    }

    fn reset_fp_state(&mut self) {
        let mut fresh = vec![0; 512];
        fresh[0..2].copy_from_slice(&0x37fu16.to_le_bytes());
        fresh[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        // A fresh image is always accepted.
        let _ = self.set_fp_state(&fresh);
    }

    fn interrupter(&self) -> Arc<dyn Interrupt> {
        self.signals.clone()
    }

    fn resume_native(&mut self) {
        self.resume_wait = true;
    }

    fn spawn(&mut self, kind: SpawnKind, start: &Registers) -> Result<Box<dyn GuestThread>, PlatformError> {
        let flags = match kind {
            SpawnKind::Thread => THREAD,
            SpawnKind::SharedSpace => SHARED_SPACE,
            SpawnKind::Fork => PROCESS,
        };
        let owner = self.owner.clone();
        let tid = self.with(|t| Ok(clone_from(&mut t.tracee, &owner, flags)))??;
        let space = match kind {
            SpawnKind::Thread => {
                owner.threads.lock().push(tid);
                owner
            }
            SpawnKind::SharedSpace => Space::new(&owner.container, owner.memory.clone(), tid),
            SpawnKind::Fork => Space::new(&owner.container, Memory::new(&owner.container), tid),
        };
        Ok(Box::new(PtraceThread::new(&space, tid, start, false)))
    }

    fn map(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        self.map_with(MAP_FIXED, at, source, share, prot)
    }

    fn map_fresh(&mut self, at: UserRange, source: MapSource<'_>, share: Share, prot: Prot) -> Result<(), PlatformError> {
        self.map_with(MAP_FIXED_NOREPLACE, at, source, share, prot)
    }

    fn unmap(&mut self, range: UserRange) -> Result<(), PlatformError> {
        check(range)?;
        self.inject(NR_MUNMAP, [range.start(), range.len(), 0, 0, 0, 0]).map(drop)
    }

    fn protect(&mut self, range: UserRange, prot: Prot) -> Result<(), PlatformError> {
        check(range)?;
        self.inject(NR_MPROTECT, [range.start(), range.len(), u64::from(prot.bits()), 0, 0, 0]).map(drop)
    }

    fn remap(&mut self, from: UserRange, to: UserRange, keep_old: bool) -> Result<(), PlatformError> {
        check(from)?;
        check(to)?;
        // MREMAP_MAYMOVE | MREMAP_FIXED, and MREMAP_DONTUNMAP
        let (flags, target) = if from.start() == to.start() { (0, 0) } else { (3 | if keep_old { 4 } else { 0 }, to.start()) };
        self.inject(NR_MREMAP, [from.start(), from.len(), to.len(), flags, target, 0]).map(drop)
    }

    fn advise(&mut self, range: UserRange, advice: i32) -> Result<(), PlatformError> {
        check(range)?;
        self.inject(NR_MADVISE, [range.start(), range.len(), u64::from(advice as u32), 0, 0, 0]).map(drop)
    }

    fn membarrier(&mut self, command: i32, flags: u32) -> Result<u64, PlatformError> {
        self.inject(NR_MEMBARRIER, [u64::from(command as u32), u64::from(flags), 0, 0, 0, 0])
    }

    fn futex_wake(&mut self, at: UserAddr, count: u32, share: Share) -> Result<u32, PlatformError> {
        let op = 1 | if share == Share::Private { 128 } else { 0 };
        self.inject(NR_FUTEX, [at.0, op, u64::from(count.min(i32::MAX as u32)), 0, 0, 0]).map(|n| n as u32)
    }

    fn cpu_time(&mut self) -> Duration {
        const CLOCK_THREAD_CPUTIME: u64 = 3;
        let scratch = self.scratch;
        let mut bytes = [0; 16];
        let done = self.inject(NR_CLOCK_GETTIME, [CLOCK_THREAD_CPUTIME, scratch, 0, 0, 0, 0]).is_ok();
        if !done || host::read(self.tracee.tid, scratch, &mut bytes).ok() != Some(16) {
            return Duration::ZERO;
        }
        let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        Duration::new(word(0).min(u64::from(u32::MAX)), word(8).min(999_999_999) as u32)
    }

    fn exit(mut self: Box<Self>, clear_tid: Option<UserAddr>) {
        self.left = true;
        if let Some(at) = clear_tid
            && self.owner.write(at, &[0; 4]).is_ok()
        {
            let _ = self.inject(NR_FUTEX, [at.0, 1, 1, 0, 0, 0]);
        }
        if self.tracee.ended.is_some() || (!self.seized && self.tracee.seize().is_err()) {
            return;
        }
        // Let go in front of the call, which the filter allows: nobody has to wait for the thread's end, which may come late for a leader.
        let site = self.owner.container.call_site;
        let last = Registers {
            rax: NR_EXIT,
            rdi: 0,
            rip: site,
            orig_rax: u64::MAX,
            cs: Registers::USER_CS,
            ss: Registers::USER_SS,
            ..self.registers
        };
        let _ = host::set_registers(self.tracee.tid, &last);
        host::detach(self.tracee.tid);
        self.owner.leave(self.tracee.tid);
    }

    fn host_tid(&self) -> i32 {
        self.tracee.tid
    }
}

impl Drop for PtraceThread {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        self.owner.kill();
        // A leader's end may wait for that of other threads: it is collected with the process.
        if self.tracee.ended.is_none() && self.seized && self.tracee.tid != self.owner.pid {
            self.tracee.collect();
        }
        self.owner.forget(self.tracee.tid);
    }
}
