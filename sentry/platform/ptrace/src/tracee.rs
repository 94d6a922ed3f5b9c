//! A traced thread, and calls injected into it. All of it is bound to the sentry thread that has seized it.

use sentry_platform::{HostExit, Registers};

use crate::host::{self, Gone, Stop};
use crate::space::Container;

/// What an injected call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    Done(i64),
    /// A signal interrupted it before its end (only for calls that wait).
    Interrupted,
}

pub struct Tracee {
    pub tid: i32,
    /// Set when it has ended and been collected.
    pub ended: Option<HostExit>,
    /// An interrupt signal was seen that nobody has reported.
    pub interrupted: bool,
}

const INT3_LEN: u64 = 3;
/// A selector of 64-bit user code.
const USER_CS: u64 = 0x33;
const USER_SS: u64 = 0x2b;

impl Tracee {
    pub fn new(tid: i32) -> Tracee {
        Tracee { tid, ended: None, interrupted: false }
    }

    pub fn seize(&mut self) -> Result<(), Gone> {
        if self.ended.is_some() {
            return Err(Gone);
        }
        if host::seize(self.tid).is_err() {
            return self.end();
        }
        loop {
            match host::wait(self.tid) {
                Stop::Other => return Ok(()),
                Stop::Gone(exit) => {
                    self.ended = Some(exit);
                    return Err(Gone);
                }
                // A signal that came first; the interruption follows.
                _ => host::cont(self.tid)?,
            }
        }
    }

    /// It cannot be traced: it is dead, or about to be.
    fn end<T>(&mut self) -> Result<T, Gone> {
        host::kill(self.tid, libc::SIGKILL);
        if let Stop::Gone(exit) = host::wait(self.tid) {
            self.ended = Some(exit);
        }
        Err(Gone)
    }

    pub fn wait(&mut self) -> Stop {
        let stop = host::wait(self.tid);
        if let Stop::Gone(exit) = stop {
            self.ended = Some(exit);
        }
        stop
    }

    /// Waits for the end of a thread that has been killed or told to leave.
    pub fn collect(&mut self) -> HostExit {
        loop {
            if let Some(exit) = self.ended {
                return exit;
            }
            if !matches!(self.wait(), Stop::Gone(_)) {
                let _ = host::cont(self.tid);
            }
        }
    }

    /// Executes a call in the guest's process. The registers are the caller's to restore; vector state is not touched.
    pub fn inject(&mut self, container: &Container, nr: u64, args: [u64; 6]) -> Result<i64, Gone> {
        loop {
            if let Injected::Done(value) = self.try_inject(container, container.call_site, nr, args, false)? {
                return Ok(value);
            }
        }
    }

    pub fn try_inject(&mut self, container: &Container, site: u64, nr: u64, args: [u64; 6], waits: bool) -> Result<Injected, Gone> {
        if self.ended.is_some() {
            return Err(Gone);
        }
        let registers = Registers {
            rax: nr,
            rdi: args[0],
            rsi: args[1],
            rdx: args[2],
            r10: args[3],
            r8: args[4],
            r9: args[5],
            rip: site,
            rsp: container.base + sentry_stub::layout::SCRATCH_OFFSET,
            cs: USER_CS,
            ss: USER_SS,
            eflags: 0x202,
            orig_rax: u64::MAX,
            ..host::registers(self.tid)?
        };
        host::set_registers(self.tid, &registers)?;
        loop {
            host::cont(self.tid)?;
            match self.wait() {
                Stop::Gone(_) => return Err(Gone),
                Stop::Signal(libc::SIGTRAP) => {
                    let after = host::registers(self.tid)?;
                    // The int3 behind the call, or behind the test that follows a clone.
                    if after.rip.wrapping_sub(site) >= INT3_LEN && after.rip.wrapping_sub(site) <= 16 {
                        return Ok(Injected::Done(after.rax as i64));
                    }
                }
                Stop::Signal(libc::SIGUSR1) => {
                    self.interrupted = true;
                    if waits {
                        return Ok(Injected::Interrupted);
                    }
                }
                // A fault of the stub's own text cannot be; leave no loop.
                Stop::Signal(libc::SIGSEGV | libc::SIGBUS | libc::SIGILL | libc::SIGSYS) => return self.end(),
                // Permission is given to what we inject; other signals are swallowed.
                _ => {}
            }
        }
    }
}
