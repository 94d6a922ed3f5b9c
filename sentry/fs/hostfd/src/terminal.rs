//! A terminal of the host: its modes and size are the host's, its session and foreground group the sandbox's own.
//!
//! tty_ioctl(4), ioctl_tty(2). The host's job control does not apply to us (the sentry has no controlling terminal), so the guest's is done here.

use std::os::fd::BorrowedFd;

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector, SpecialCodeIndex, Termios, Winsize,
};
use sentry_abi::{Errno, Result, Signal, UserAddr};
use sentry_auth::Caps;
use sentry_sync::{Level, Mutex};
use sentry_vfs::Caller;

use crate::host;

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
pub(crate) const FIONREAD: u32 = 0x541b;
const TIOCNOTTY: u32 = 0x5422;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;

/// `struct termios` and `struct termios2` of the kernel.
const TERMIOS: usize = 36;
const TERMIOS2: usize = 44;
/// Where `c_cc` begins.
const CODES: usize = 17;

const CODE_INDICES: [SpecialCodeIndex; 17] = [
    SpecialCodeIndex::VINTR,
    SpecialCodeIndex::VQUIT,
    SpecialCodeIndex::VERASE,
    SpecialCodeIndex::VKILL,
    SpecialCodeIndex::VEOF,
    SpecialCodeIndex::VTIME,
    SpecialCodeIndex::VMIN,
    SpecialCodeIndex::VSWTC,
    SpecialCodeIndex::VSTART,
    SpecialCodeIndex::VSTOP,
    SpecialCodeIndex::VSUSP,
    SpecialCodeIndex::VEOL,
    SpecialCodeIndex::VREPRINT,
    SpecialCodeIndex::VDISCARD,
    SpecialCodeIndex::VWERASE,
    SpecialCodeIndex::VLNEXT,
    SpecialCodeIndex::VEOL2,
];

/// `CBAUD | CBAUDEX | CIBAUD`: the host's speeds stay.
const SPEED_BITS: u32 = 0o10017 | 0o10017 << 16;

#[derive(Clone, Copy, Default)]
struct Control {
    /// 0: nobody's.
    session: i32,
    foreground: i32,
}

/// The sandbox's side of a host terminal.
pub struct Terminal {
    key: u64,
    control: Mutex<Control>,
}

/// Keys of terminals are compared with those of the sandbox's own; these are told apart by their top bit.
const KEY_BIT: u64 = 1 << 63;

impl Terminal {
    pub(crate) fn new(key: u64) -> Terminal {
        Terminal { key: key | KEY_BIT, control: Mutex::new(Level::Tty, Control::default()) }
    }

    /// To compare with a session's controlling terminal.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The process group that keys typed at the terminal are for, as a kernel-global id.
    pub fn foreground(&self) -> Option<i32> {
        let control = *self.control.lock();
        (control.foreground != 0).then_some(control.foreground)
    }

    /// Makes it the controlling terminal of a session from outside: for the container's first process.
    pub fn attach(&self, session: i32, foreground: i32) {
        *self.control.lock() = Control { session, foreground };
    }

    /// The session has ended or given it up.
    pub fn detach(&self, session: i32) {
        let mut control = self.control.lock();
        if control.session == session {
            *control = Control::default();
        }
    }

    /// Is it the caller's controlling terminal, with the caller in the background?
    fn in_background(&self, caller: &dyn Caller) -> bool {
        let jobs = caller.job_control();
        if jobs.controlling_terminal() != Some(self.key) {
            return false;
        }
        let control = *self.control.lock();
        control.session == jobs.session() && control.foreground != 0 && control.foreground != jobs.process_group()
    }

    /// A background process is stopped, not served. `EIO` where that cannot be.
    pub(crate) fn may_read(&self, caller: &dyn Caller) -> Result<()> {
        if !self.in_background(caller) {
            return Ok(());
        }
        let jobs = caller.job_control();
        if jobs.ignores(Signal::SIGTTIN) || jobs.group_is_orphaned() {
            return Err(Errno::EIO);
        }
        jobs.signal_group(jobs.process_group(), Signal::SIGTTIN);
        Err(Errno::ERESTART)
    }

    pub(crate) fn may_write(&self, caller: &dyn Caller, fd: BorrowedFd<'_>) -> Result<()> {
        if !self.in_background(caller) {
            return Ok(());
        }
        let stops = rustix::termios::tcgetattr(fd).is_ok_and(|modes| modes.local_modes.contains(LocalModes::TOSTOP));
        if stops { self.may_change(caller) } else { Ok(()) }
    }

    /// tty_check_change(): changing the terminal from the background.
    fn may_change(&self, caller: &dyn Caller) -> Result<()> {
        if !self.in_background(caller) {
            return Ok(());
        }
        let jobs = caller.job_control();
        if jobs.ignores(Signal::SIGTTOU) {
            return Ok(());
        }
        if jobs.group_is_orphaned() {
            return Err(Errno::EIO);
        }
        jobs.signal_group(jobs.process_group(), Signal::SIGTTOU);
        Err(Errno::ERESTART)
    }

    pub(crate) fn ioctl(&self, caller: &dyn Caller, fd: BorrowedFd<'_>, command: u32, argument: u64) -> Result<u64> {
        let at = UserAddr(argument);
        match command {
            TCGETS | TCGETS2 => {
                let modes = rustix::termios::tcgetattr(fd).map_err(host)?;
                let bytes = encode(&modes);
                caller.copy_out(at, &bytes[..if command == TCGETS { TERMIOS } else { TERMIOS2 }])?;
            }
            TCSETS | TCSETSW | TCSETSF | TCSETS2 | TCSETSW2 | TCSETSF2 => {
                self.may_change(caller)?;
                let mut bytes = [0; TERMIOS];
                caller.copy_in(at, &mut bytes)?;
                if matches!(command, TCSETSF | TCSETSF2) {
                    rustix::termios::tcflush(fd, QueueSelector::IFlush).map_err(host)?;
                }
                // Waiting for output to drain could block on a stopped terminal; what was written keeps its order anyway.
                let modes = decode(rustix::termios::tcgetattr(fd).map_err(host)?, &bytes);
                rustix::termios::tcsetattr(fd, OptionalActions::Now, &modes).map_err(host)?;
            }
            TIOCGWINSZ => {
                let size = rustix::termios::tcgetwinsize(fd).map_err(host)?;
                let mut bytes = [0; 8];
                for (slot, word) in bytes.chunks_exact_mut(2).zip([size.ws_row, size.ws_col, size.ws_xpixel, size.ws_ypixel]) {
                    slot.copy_from_slice(&word.to_ne_bytes());
                }
                caller.copy_out(at, &bytes)?;
            }
            TIOCSWINSZ => {
                let mut bytes = [0; 8];
                caller.copy_in(at, &mut bytes)?;
                let [a, b, c, d, e, f, g, h] = bytes;
                let word = |low, high| u16::from_ne_bytes([low, high]);
                let size = Winsize { ws_row: word(a, b), ws_col: word(c, d), ws_xpixel: word(e, f), ws_ypixel: word(g, h) };
                rustix::termios::tcsetwinsize(fd, size).map_err(host)?;
            }
            TCFLSH => {
                self.may_change(caller)?;
                let queue = match argument {
                    0 => QueueSelector::IFlush,
                    1 => QueueSelector::OFlush,
                    2 => QueueSelector::IOFlush,
                    _ => return Err(Errno::EINVAL),
                };
                rustix::termios::tcflush(fd, queue).map_err(host)?;
            }
            // Sending breaks and stopping the host's output are not the guest's affair; waiting for it to drain could block.
            TCSBRK | TCSBRKP | TCXONC => self.may_change(caller)?,
            FIONREAD => return bytes_waiting(caller, fd, argument),
            _ => return self.control_ioctl(caller, command, argument),
        }
        Ok(0)
    }

    fn control_ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        let jobs = caller.job_control();
        match command {
            TIOCSCTTY => self.take(caller, argument)?,
            TIOCNOTTY => {
                if jobs.controlling_terminal() != Some(self.key) {
                    return Err(Errno::ENOTTY);
                }
                if jobs.is_session_leader() {
                    let foreground = self.control.lock().foreground;
                    self.detach(jobs.session());
                    if foreground != 0 {
                        jobs.signal_group(foreground, Signal::SIGHUP);
                        jobs.signal_group(foreground, Signal::SIGCONT);
                    }
                }
                jobs.set_controlling_terminal(None)?;
            }
            TIOCGPGRP | TIOCGSID => {
                let control = *self.control.lock();
                if jobs.controlling_terminal() != Some(self.key) || control.session == 0 {
                    return Err(Errno::ENOTTY);
                }
                let id = if command == TIOCGPGRP { control.foreground } else { control.session };
                caller.copy_out(UserAddr(argument), &jobs.to_user(id).to_ne_bytes())?;
            }
            TIOCSPGRP => {
                self.may_change(caller)?;
                if jobs.controlling_terminal() != Some(self.key) || self.control.lock().session != jobs.session() {
                    return Err(Errno::ENOTTY);
                }
                let mut bytes = [0; 4];
                caller.copy_in(UserAddr(argument), &mut bytes)?;
                let wanted = i32::from_ne_bytes(bytes);
                if wanted < 0 {
                    return Err(Errno::EINVAL);
                }
                let group = jobs.from_user(wanted).ok_or(Errno::ESRCH)?;
                if !jobs.group_in_session(group) {
                    return Err(Errno::EPERM);
                }
                self.control.lock().foreground = group;
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    /// A session leader without a terminal takes one that is nobody's.
    fn take(&self, caller: &dyn Caller, argument: u64) -> Result<()> {
        let jobs = caller.job_control();
        let session = jobs.session();
        if jobs.is_session_leader() && jobs.controlling_terminal() == Some(self.key) && self.control.lock().session == session {
            return Ok(());
        }
        if !jobs.is_session_leader() || jobs.controlling_terminal().is_some() {
            return Err(Errno::EPERM);
        }
        let owned = self.control.lock().session != 0;
        if owned && !(argument == 1 && caller.credentials().has(Caps::SYS_ADMIN)) {
            return Err(Errno::EPERM);
        }
        jobs.set_controlling_terminal(Some(self.key))?;
        self.attach(session, jobs.process_group());
        Ok(())
    }
}

pub(crate) fn bytes_waiting(caller: &dyn Caller, fd: BorrowedFd<'_>, argument: u64) -> Result<u64> {
    let count = rustix::io::ioctl_fionread(fd).map_err(host)?;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    caller.copy_out(UserAddr(argument), &count.to_ne_bytes())?;
    Ok(0)
}

fn encode(modes: &Termios) -> [u8; TERMIOS2] {
    let mut bytes = [0; TERMIOS2];
    let words = [modes.input_modes.bits(), modes.output_modes.bits(), modes.control_modes.bits(), modes.local_modes.bits()];
    for (slot, word) in bytes.chunks_exact_mut(4).zip(words) {
        slot.copy_from_slice(&word.to_ne_bytes());
    }
    bytes[16] = modes.line_discipline;
    for (slot, index) in bytes[CODES..].iter_mut().zip(CODE_INDICES) {
        *slot = modes.special_codes[index];
    }
    bytes[36..40].copy_from_slice(&modes.input_speed().to_ne_bytes());
    bytes[40..44].copy_from_slice(&modes.output_speed().to_ne_bytes());
    bytes
}

/// The guest's modes over the host's speeds and line discipline.
fn decode(mut modes: Termios, bytes: &[u8; TERMIOS]) -> Termios {
    let word = |index: usize| {
        let mut raw = [0; 4];
        raw.copy_from_slice(&bytes[index * 4..index * 4 + 4]);
        u32::from_ne_bytes(raw)
    };
    let speed = modes.control_modes.bits() & SPEED_BITS;
    modes.input_modes = InputModes::from_bits_retain(word(0));
    modes.output_modes = OutputModes::from_bits_retain(word(1));
    modes.control_modes = ControlModes::from_bits_retain(word(2) & !SPEED_BITS | speed);
    modes.local_modes = LocalModes::from_bits_retain(word(3));
    for (code, index) in bytes[CODES..].iter().zip(CODE_INDICES) {
        modes.special_codes[index] = *code;
    }
    modes
}
