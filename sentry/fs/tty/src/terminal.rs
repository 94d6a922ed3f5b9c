//! A pseudo-terminal: the discipline between its two ends, who has it open, and whose controlling terminal it is. drivers/tty/pty.c, tty_io.c.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result, Signal};
use sentry_sync::{Events, Level, Mutex, WaitQueue};
use sentry_vfs::{Caller, FileOps};

use crate::devpts::DevPts;
use crate::discipline::{Discipline, Outcome};
use crate::slave::SlaveFile;
use crate::terminals::Terminals;

/// What the master may write ahead of the slave's reading.
const PENDING_LIMIT: usize = 16384;

/// Status bits of packet mode (tty_ioctl(4), TIOCPKT).
pub(crate) mod packet {
    pub const FLUSHREAD: u8 = 1;
    pub const FLUSHWRITE: u8 = 2;
    pub const STOP: u8 = 4;
    pub const START: u8 = 8;
    pub const NOSTOP: u8 = 16;
    pub const DOSTOP: u8 = 32;
    pub const IOCTL: u8 = 64;
}

/// `struct winsize`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}

impl WindowSize {
    pub fn encode(self) -> [u8; 8] {
        let words = [self.rows, self.columns, self.x_pixels, self.y_pixels];
        let mut out = [0; 8];
        for (slot, word) in out.chunks_exact_mut(2).zip(words) {
            slot.copy_from_slice(&word.to_ne_bytes());
        }
        out
    }

    pub fn decode(bytes: [u8; 8]) -> WindowSize {
        let word = |i: usize| u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]);
        WindowSize { rows: word(0), columns: word(1), x_pixels: word(2), y_pixels: word(3) }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub discipline: Discipline,
    /// Written by the master, not yet taken by the discipline.
    pub pending: VecDeque<u8>,
    pub window: WindowSize,
    /// Session and foreground process group; 0 for none.
    pub session: i32,
    pub foreground: i32,
    pub slaves: usize,
    /// The last slave was closed, and none opened since.
    pub slaves_gone: bool,
    /// The master is closed, or the terminal was hung up.
    pub hung_up: bool,
    pub master_closed: bool,
    pub locked: bool,
    pub exclusive: bool,
    pub packet_mode: bool,
    pub packet_status: u8,
}

/// What to do once the state is unlocked.
#[derive(Default)]
pub(crate) struct Effects {
    pub outcome: Outcome,
    /// More signals, with their groups.
    pub signals: Vec<(i32, Signal)>,
    /// Session and foreground group that lose their terminal.
    pub hangup: Option<(i32, i32)>,
    pub wake_master: Events,
    pub wake_slave: Events,
}

pub struct Terminal {
    /// Identity, never reused ([`FileOps::terminal_key`]).
    key: u64,
    number: u32,
    pub(crate) state: Mutex<State>,
    pub(crate) master_queue: WaitQueue,
    pub(crate) slave_queue: WaitQueue,
    pub(crate) terminals: Arc<Terminals>,
    pub(crate) devpts: Weak<DevPts>,
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

impl Terminal {
    pub(crate) fn new(number: u32, terminals: &Arc<Terminals>, devpts: Weak<DevPts>) -> Arc<Terminal> {
        let terminal = Arc::new(Terminal {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            number,
            state: Mutex::new(Level::Tty, State { locked: true, ..State::default() }),
            master_queue: WaitQueue::new(),
            slave_queue: WaitQueue::new(),
            terminals: terminals.clone(),
            devpts,
        });
        terminals.add(&terminal);
        terminal
    }

    pub fn key(&self) -> u64 {
        self.key
    }

    /// The name in devpts.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Foreground process group and session, kernel-global ids, 0 for none (/proc/pid/stat).
    pub fn foreground_group(&self) -> i32 {
        self.state.lock().foreground
    }

    /// Makes it the controlling terminal of a session from outside: for the container's first process.
    pub fn attach(&self, session: i32, foreground: i32) {
        let mut state = self.state.lock();
        (state.session, state.foreground) = (session, foreground);
    }

    /// TIOCSWINSZ: the foreground group hears of a change by SIGWINCH.
    pub fn resize(&self, window: WindowSize) {
        self.change(|state, effects| {
            if std::mem::replace(&mut state.window, window) != window {
                effects.outcome.signals.push(Signal::SIGWINCH);
            }
        });
    }

    /// A new open file of the slave. `EIO` when locked or hung up, `EBUSY` when exclusive.
    pub fn open_slave(self: &Arc<Terminal>, nonblocking: bool, caller: &dyn Caller) -> Result<Arc<dyn FileOps>> {
        {
            let state = self.state.lock();
            if state.locked || state.hung_up {
                return Err(Errno::EIO);
            }
            if state.exclusive && !caller.credentials().has(sentry_auth::Caps::SYS_ADMIN) {
                return Err(Errno::EBUSY);
            }
        }
        Ok(self.new_slave(nonblocking))
    }

    /// Whoever may have one.
    pub(crate) fn new_slave(self: &Arc<Terminal>, nonblocking: bool) -> Arc<dyn FileOps> {
        {
            let mut state = self.state.lock();
            state.slaves += 1;
            state.slaves_gone = false;
        }
        Arc::new(SlaveFile::new(self.clone(), nonblocking))
    }

    /// Changes the state, then does what that asks for, unlocked.
    pub(crate) fn change<R>(&self, f: impl FnOnce(&mut State, &mut Effects) -> R) -> R {
        let mut effects = Effects::default();
        let (result, foreground) = {
            let mut state = self.state.lock();
            let result = f(&mut state, &mut effects);
            state.note(&mut effects);
            (result, state.foreground)
        };
        self.apply(effects, foreground);
        result
    }

    fn apply(&self, effects: Effects, foreground: i32) {
        if !effects.wake_slave.is_empty() {
            self.slave_queue.wake(effects.wake_slave);
        }
        if !effects.wake_master.is_empty() {
            self.master_queue.wake(effects.wake_master);
        }
        let groups = self.terminals.groups();
        if foreground > 0 {
            for signal in effects.outcome.signals {
                groups.signal_group(foreground, signal);
            }
        }
        for (group, signal) in effects.signals {
            groups.signal_group(group, signal);
        }
        if let Some((session, foreground)) = effects.hangup {
            groups.hang_up_session(session, foreground);
        }
    }

    /// Hangs up: open slaves are dead, the session loses its terminal and is told. vhangup(2), and what closing the master does.
    pub fn hang_up(&self) {
        self.change(|state, effects| state.hang_up(effects));
    }

    /// The session leader exits or gives its terminal up (TIOCNOTTY): the foreground group is told, the terminal is free for another session.
    /// Clearing the session's own note of it is the caller's affair.
    pub fn release_session(&self, session: i32) {
        self.change(|state, effects| {
            if session == 0 || state.session != session {
                return;
            }
            if state.foreground > 0 {
                effects.signals.push((state.foreground, Signal::SIGHUP));
                effects.signals.push((state.foreground, Signal::SIGCONT));
            }
            (state.session, state.foreground) = (0, 0);
        });
    }

    pub(crate) fn slave_closed(&self) {
        self.change(|state, effects| {
            state.slaves = state.slaves.saturating_sub(1);
            if state.slaves == 0 {
                state.slaves_gone = true;
                state.exclusive = false;
                effects.wake_master |= Events::all();
            }
        });
    }

    pub(crate) fn master_closed(&self) {
        self.change(|state, effects| {
            state.master_closed = true;
            state.hang_up(effects);
        });
        self.terminals.forget(self.key);
        if let Some(devpts) = self.devpts.upgrade() {
            devpts.remove(self.number);
        }
    }
}

impl State {
    fn hang_up(&mut self, effects: &mut Effects) {
        if self.hung_up {
            return;
        }
        self.hung_up = true;
        if self.session != 0 {
            effects.hangup = Some((self.session, self.foreground));
        }
        (self.session, self.foreground) = (0, 0);
        effects.wake_slave |= Events::all();
        effects.wake_master |= Events::all();
    }

    /// Lets the discipline take what the master wrote.
    pub fn feed(&mut self, effects: &mut Effects) {
        if self.pending.is_empty() {
            return;
        }
        let taken = self.discipline.receive(self.pending.make_contiguous(), &mut effects.outcome);
        self.pending.drain(..taken);
        if taken > 0 {
            effects.wake_slave |= Events::READ;
            effects.wake_master |= Events::READ | Events::WRITE;
        }
    }

    /// Bytes from the master; returns how many there was room for.
    pub fn take_input(&mut self, src: &[u8], effects: &mut Effects) -> usize {
        let mut done = 0;
        if self.pending.is_empty() {
            done = self.discipline.receive(src, &mut effects.outcome);
        }
        let room = PENDING_LIMIT.saturating_sub(self.pending.len());
        let rest = &src[done..];
        let kept = rest.len().min(room);
        self.pending.extend(&rest[..kept]);
        effects.wake_slave |= Events::READ;
        effects.wake_master |= Events::READ;
        done + kept
    }

    pub fn has_input_room(&self) -> bool {
        self.pending.len() < PENDING_LIMIT
    }

    /// Packet status and wake-ups that follow from what the discipline did.
    fn note(&mut self, effects: &mut Effects) {
        let outcome = &effects.outcome;
        let mut status = self.packet_status;
        if outcome.flushed_input {
            status |= packet::FLUSHREAD;
        }
        if outcome.flushed_output {
            status |= packet::FLUSHWRITE;
            effects.wake_slave |= Events::WRITE;
        }
        if outcome.stopped {
            status = status & !packet::START | packet::STOP;
        }
        if outcome.started {
            status = status & !packet::STOP | packet::START;
            effects.wake_slave |= Events::WRITE;
            effects.wake_master |= Events::READ;
        }
        self.set_packet_status(status, effects);
    }

    pub fn set_packet_status(&mut self, status: u8, effects: &mut Effects) {
        if self.packet_mode && status != self.packet_status {
            self.packet_status = status;
            effects.wake_master |= Events::READ | Events::PRI;
        }
    }
}
