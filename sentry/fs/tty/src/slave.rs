//! An open file of a slave: what shells and programs read and write. Job control for background processes, VMIN and VTIME.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result, Signal};
use sentry_sync::{Events, Level, Mutex, Waiter};
use sentry_time::{ClockId, Timer};
use sentry_vfs::{Caller, FileOps, StatusFlags};

use crate::ioctl;
use crate::job;
use crate::terminal::{State, Terminal};
use crate::termios::{LocalFlags, cc};

const DECISECOND_NS: u64 = 100_000_000;

/// A read's timeout (VTIME). Of the open file, not of the read: FileOps never blocks, so a read that waits comes again.
#[derive(Default)]
struct Timeout {
    timer: Option<Timer>,
    /// How many bytes were there when it was armed, so that more of them arm it anew.
    armed_with: Option<usize>,
    expired: bool,
}

pub struct SlaveFile {
    terminal: Arc<Terminal>,
    nonblocking: AtomicBool,
    timeout: Arc<Mutex<Timeout>>,
}

impl SlaveFile {
    pub(crate) fn new(terminal: Arc<Terminal>, nonblocking: bool) -> SlaveFile {
        let timeout = Arc::new(Mutex::new(Level::Epoll, Timeout::default()));
        SlaveFile { terminal, nonblocking: AtomicBool::new(nonblocking), timeout }
    }

    pub fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }

    fn read_now(&self, dst: &mut [u8]) -> Result<usize> {
        self.terminal.change(|state, effects| {
            if state.hung_up {
                return Ok(0);
            }
            let termios = state.discipline.termios;
            if !termios.canonical() && !self.may_read_raw(state, dst.len()) {
                return Err(Errno::EAGAIN);
            }
            let read = state.discipline.read(dst);
            if read.is_some() {
                state.feed(effects);
                effects.wake_master |= Events::WRITE;
                self.forget_timeout();
            }
            match read {
                Some(n) => Ok(n),
                None if !termios.canonical() && self.take_expiry(termios.chars[cc::MIN], termios.chars[cc::TIME]) => Ok(0),
                None => Err(Errno::EAGAIN),
            }
        })
    }

    /// Non-canonical mode: are there as many bytes as VMIN asks for, or has VTIME passed (termios(3), "noncanonical mode")?
    fn may_read_raw(&self, state: &State, wanted: usize) -> bool {
        let (min, time) = (state.discipline.termios.chars[cc::MIN] as usize, state.discipline.termios.chars[cc::TIME]);
        let there = state.discipline.readable_len();
        if there >= min.min(wanted).max(1) || (there > 0 && self.nonblocking.load(Ordering::Relaxed)) {
            return true;
        }
        let mut timeout = self.timeout.lock();
        if timeout.expired {
            return true;
        }
        // With VMIN, the time runs between bytes; without, from the start of the read.
        let runs = time > 0 && (min == 0 || there > 0) && !self.nonblocking.load(Ordering::Relaxed);
        if runs && timeout.armed_with != Some(there) {
            timeout.armed_with = Some(there);
            let timer = timeout.timer.get_or_insert_with(|| self.make_timer());
            timer.arm_in(time as u64 * DECISECOND_NS, 0);
        }
        min == 0 && time == 0
    }

    fn make_timer(&self) -> Timer {
        let (timeout, terminal): (Weak<Mutex<Timeout>>, Weak<Terminal>) = (Arc::downgrade(&self.timeout), Arc::downgrade(&self.terminal));
        let callback = move |_| {
            if let (Some(timeout), Some(terminal)) = (timeout.upgrade(), terminal.upgrade()) {
                {
                    let mut timeout = timeout.lock();
                    timeout.expired = timeout.armed_with.is_some();
                }
                terminal.slave_queue.wake(Events::READ);
            }
        };
        Timer::new(self.terminal.terminals.timers(), ClockId::Monotonic, Arc::new(callback))
    }

    fn forget_timeout(&self) {
        let mut timeout = self.timeout.lock();
        timeout.expired = false;
        if timeout.armed_with.take().is_some()
            && let Some(timer) = &timeout.timer
        {
            timer.disarm();
        }
    }

    /// A read without bytes ends with 0 when nothing is to be waited for, or the time is over.
    fn take_expiry(&self, min: u8, time: u8) -> bool {
        let expired = self.timeout.lock().expired;
        self.forget_timeout();
        expired || (min == 0 && time == 0)
    }
}

impl FileOps for SlaveFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    /// `ERESTART` from a background process: the group has been sent SIGTTIN, the call is to be made again after signals.
    fn read(&self, caller: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        job::check(&self.terminal, caller, Signal::SIGTTIN)?;
        if dst.is_empty() {
            return Ok(0);
        }
        self.read_now(dst)
    }

    fn write(&self, caller: &dyn Caller, _: u64, src: &[u8]) -> Result<usize> {
        let (stops, hung_up) = {
            let state = self.terminal.state.lock();
            (state.discipline.termios.local.contains(LocalFlags::TOSTOP), state.hung_up)
        };
        if hung_up {
            return Err(Errno::EIO);
        }
        if stops {
            job::check(&self.terminal, caller, Signal::SIGTTOU)?;
        }
        self.terminal.change(|state, effects| {
            let done = state.discipline.write(src);
            if done == 0 && !src.is_empty() {
                return Err(Errno::EAGAIN);
            }
            effects.wake_master |= Events::READ;
            Ok(done)
        })
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.terminal.slave_queue.add(waiter);
        }
        let state = self.terminal.state.lock();
        if state.hung_up {
            return want & (Events::READ | Events::WRITE) | Events::ERR | Events::HUP;
        }
        let mut now = Events::empty();
        let termios = &state.discipline.termios;
        let readable = if termios.canonical() {
            state.discipline.has_line()
        } else {
            let (min, time) = (termios.chars[cc::MIN] as usize, termios.chars[cc::TIME]);
            let wanted = if time == 0 { min.max(1) } else { 1 };
            state.discipline.readable_len() >= wanted
        };
        if readable {
            now |= Events::READ;
        }
        if state.discipline.can_write() {
            now |= Events::WRITE;
        }
        now & want
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        ioctl::slave(&self.terminal, caller, command, argument)
    }

    fn terminal_key(&self) -> Option<u64> {
        Some(self.terminal.key())
    }

    fn status_changed(&self, flags: StatusFlags) {
        self.nonblocking.store(flags.contains(StatusFlags::NONBLOCK), Ordering::Relaxed);
    }

    fn claim_terminal(&self, caller: &dyn Caller, readable: bool) {
        if readable {
            job::claim_at_open(&self.terminal, caller);
        }
    }
}

impl Drop for SlaveFile {
    fn drop(&mut self) {
        self.terminal.slave_closed();
    }
}
