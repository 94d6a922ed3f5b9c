//! ioctl_tty(2) on both ends. drivers/tty/tty_ioctl.c, tty_io.c, pty.c.
//!
//! Deliberately absent: modem lines and serial ports (`ENOTTY`, as for every pseudo-terminal), TIOCCONS, TIOCLINUX, locked termios.

use std::sync::Arc;

use sentry_abi::stat::make_dev;
use sentry_abi::uapi::ioctl as nr;
use sentry_abi::{Errno, Result, Signal, UserAddr};
use sentry_auth::Caps;
use sentry_sync::Events;
use sentry_vfs::{Caller, StatusFlags};

use crate::devpts::PTS_MAJOR;
use crate::job::{self, End};
use crate::terminal::{Effects, State, Terminal, WindowSize, packet};
use crate::termios::{InputFlags, Layout, LocalFlags, Termios, cc};

const O_ACCMODE: u64 = 3;
const O_NONBLOCK: u64 = 0o4000;
const O_CLOEXEC: u64 = 0o2000000;

pub fn slave(terminal: &Arc<Terminal>, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
    if terminal.state.lock().hung_up {
        return Err(if command == nr::TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
    }
    match command {
        nr::TIOCSCTTY => job::set_controlling(terminal, caller, argument),
        nr::TIOCNOTTY => job::give_up(terminal, caller),
        nr::TIOCGPGRP => job::get_group(terminal, caller, argument, End::Slave),
        nr::TIOCGSID => job::get_session(terminal, caller, argument, End::Slave),
        nr::TIOCINQ => {
            let value = terminal.state.lock().discipline.readable_len();
            put_int(caller, argument, value)
        }
        nr::TCFLSH => {
            job::check(terminal, caller, Signal::SIGTTOU)?;
            flush(terminal, argument, End::Slave)
        }
        nr::TCXONC => {
            job::check(terminal, caller, Signal::SIGTTOU)?;
            flow(terminal, argument)
        }
        nr::TCSBRK | nr::TCSBRKP | nr::TIOCSBRK | nr::TIOCCBRK => {
            job::check(terminal, caller, Signal::SIGTTOU)?;
            Ok(0)
        }
        nr::TIOCSTI => fake_input(terminal, caller, argument),
        nr::TIOCVHANGUP => {
            caller.credentials().require(Caps::SYS_ADMIN)?;
            terminal.hang_up();
            Ok(0)
        }
        _ => either(terminal, caller, command, argument, End::Slave),
    }
}

pub fn master(terminal: &Arc<Terminal>, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
    match command {
        nr::TIOCGPTN => put_int(caller, argument, terminal.number() as usize),
        nr::TIOCSPTLCK => {
            let locked = get_int(caller, argument)? != 0;
            terminal.state.lock().locked = locked;
            Ok(0)
        }
        nr::TIOCGPTLCK => {
            let value = terminal.state.lock().locked;
            put_int(caller, argument, value as usize)
        }
        nr::TIOCPKT => {
            let on = get_int(caller, argument)? != 0;
            let mut state = terminal.state.lock();
            if on && !state.packet_mode {
                state.packet_status = 0;
            }
            state.packet_mode = on;
            Ok(0)
        }
        nr::TIOCGPKT => {
            let value = terminal.state.lock().packet_mode;
            put_int(caller, argument, value as usize)
        }
        nr::TIOCGPTPEER => open_peer(terminal, caller, argument),
        nr::TIOCSIG => {
            let signal = Signal::new(argument).ok_or(Errno::EINVAL)?;
            if ![Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP].contains(&signal) {
                return Err(Errno::EINVAL);
            }
            terminal.change(|_, effects| effects.outcome.signals.push(signal));
            Ok(0)
        }
        nr::TIOCGPGRP => job::get_group(terminal, caller, argument, End::Master),
        nr::TIOCGSID => job::get_session(terminal, caller, argument, End::Master),
        nr::TIOCINQ => {
            let value = terminal.state.lock().discipline.output_len();
            put_int(caller, argument, value)
        }
        nr::TCFLSH => flush(terminal, argument, End::Master),
        nr::TCXONC | nr::TCSBRK | nr::TCSBRKP | nr::TIOCSBRK | nr::TIOCCBRK => Ok(0),
        nr::TIOCSCTTY => Err(Errno::EPERM),
        _ => either(terminal, caller, command, argument, End::Master),
    }
}

fn either(terminal: &Arc<Terminal>, caller: &dyn Caller, command: u32, argument: u64, end: End) -> Result<u64> {
    match command {
        nr::TCGETS => get_termios(terminal, caller, argument, Layout::Plain),
        nr::TCGETS2 => get_termios(terminal, caller, argument, Layout::WithSpeeds),
        nr::TCGETA => get_termios(terminal, caller, argument, Layout::Old),
        nr::TCSETS | nr::TCSETSW => set_termios(terminal, caller, argument, Layout::Plain, false),
        nr::TCSETSF => set_termios(terminal, caller, argument, Layout::Plain, true),
        nr::TCSETS2 | nr::TCSETSW2 => set_termios(terminal, caller, argument, Layout::WithSpeeds, false),
        nr::TCSETSF2 => set_termios(terminal, caller, argument, Layout::WithSpeeds, true),
        nr::TCSETA | nr::TCSETAW => set_termios(terminal, caller, argument, Layout::Old, false),
        nr::TCSETAF => set_termios(terminal, caller, argument, Layout::Old, true),
        nr::TIOCGWINSZ => {
            let window = terminal.state.lock().window;
            caller.copy_out(UserAddr(argument), &window.encode())?;
            Ok(0)
        }
        nr::TIOCSWINSZ => {
            let mut bytes = [0; 8];
            caller.copy_in(UserAddr(argument), &mut bytes)?;
            terminal.resize(WindowSize::decode(bytes));
            Ok(0)
        }
        nr::TIOCSPGRP => job::set_group(terminal, caller, argument),
        // What is written is at once where the other end reads it.
        nr::TIOCOUTQ => put_int(caller, argument, 0),
        nr::TIOCEXCL | nr::TIOCNXCL => {
            terminal.state.lock().exclusive = command == nr::TIOCEXCL && end == End::Slave;
            Ok(0)
        }
        nr::TIOCGEXCL => {
            let value = terminal.state.lock().exclusive;
            put_int(caller, argument, value as usize)
        }
        nr::TIOCGDEV => put_int(caller, argument, make_dev(PTS_MAJOR, terminal.number()) as usize),
        nr::TIOCGETD => put_int(caller, argument, 0),
        nr::TIOCSETD => {
            if get_int(caller, argument)? == 0 {
                Ok(0)
            } else {
                Err(Errno::EINVAL)
            }
        }
        nr::TIOCGSOFTCAR => put_int(caller, argument, 0),
        _ => Err(Errno::ENOTTY),
    }
}

fn put_int(caller: &dyn Caller, argument: u64, value: usize) -> Result<u64> {
    let value = i32::try_from(value).unwrap_or(i32::MAX);
    caller.copy_out(UserAddr(argument), &value.to_ne_bytes())?;
    Ok(0)
}

fn get_int(caller: &dyn Caller, argument: u64) -> Result<i32> {
    let mut bytes = [0; 4];
    caller.copy_in(UserAddr(argument), &mut bytes)?;
    Ok(i32::from_ne_bytes(bytes))
}

fn get_termios(terminal: &Terminal, caller: &dyn Caller, argument: u64, layout: Layout) -> Result<u64> {
    let termios = terminal.state.lock().discipline.termios;
    caller.copy_out(UserAddr(argument), &termios.encode(layout))?;
    Ok(0)
}

fn set_termios(terminal: &Terminal, caller: &dyn Caller, argument: u64, layout: Layout, flush_input: bool) -> Result<u64> {
    job::check(terminal, caller, Signal::SIGTTOU)?;
    let mut bytes = vec![0; layout.size()];
    caller.copy_in(UserAddr(argument), &mut bytes)?;
    terminal.change(|state, effects| {
        if flush_input {
            drop_input(state, effects);
        }
        let old = state.discipline.termios;
        let new = old.decode(layout, &bytes);
        state.discipline.set_termios(new, &mut effects.outcome);
        note_termios(state, effects, &old, &new);
        // Another mode may make input readable or take input that waited.
        state.feed(effects);
        effects.wake_slave |= Events::READ | Events::WRITE;
    });
    Ok(0)
}

fn drop_input(state: &mut State, effects: &mut Effects) {
    state.pending.clear();
    state.discipline.flush_input(&mut effects.outcome);
    effects.wake_master |= Events::WRITE;
}

/// Tells the master, in packet mode, of settings that it may want to act on.
fn note_termios(state: &mut State, effects: &mut Effects, old: &Termios, new: &Termios) {
    let usual_flow = |t: &Termios| t.input.contains(InputFlags::IXON) && t.chars[cc::STOP] == 0x13 && t.chars[cc::START] == 0x11;
    let mut status = state.packet_status;
    if usual_flow(old) != usual_flow(new) {
        status &= !(packet::DOSTOP | packet::NOSTOP);
        status |= if usual_flow(new) { packet::DOSTOP } else { packet::NOSTOP };
    }
    let external = |t: &Termios| t.local.contains(LocalFlags::EXTPROC);
    if external(old) != external(new) || (external(new) && old != new) {
        status |= packet::IOCTL;
    }
    state.set_packet_status(status, effects);
}

/// TCFLSH: 0 input, 1 output, 2 both, seen from `end`.
fn flush(terminal: &Terminal, queues: u64, end: End) -> Result<u64> {
    let (input, output) = match queues {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    terminal.change(|state, effects| match end {
        End::Slave => {
            if input {
                drop_input(state, effects);
            }
            if output {
                state.discipline.flush_output(&mut effects.outcome);
            }
        }
        End::Master => {
            if input {
                state.discipline.flush_all_output();
                effects.wake_slave |= Events::WRITE;
            }
            if output {
                state.pending.clear();
                effects.wake_master |= Events::WRITE;
            }
        }
    });
    Ok(0)
}

/// TCXONC: stop or start output, or have the master stop or start.
fn flow(terminal: &Terminal, action: u64) -> Result<u64> {
    terminal.change(|state, effects| {
        match action {
            0 => state.discipline.hold(true, &mut effects.outcome),
            1 => state.discipline.hold(false, &mut effects.outcome),
            2 | 3 => {
                let index = if action == 2 { cc::STOP } else { cc::START };
                let c = state.discipline.termios.chars[index];
                if c != 0 {
                    state.discipline.send_to_master(c);
                    effects.wake_master |= Events::READ;
                }
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    })
}

/// TIOCSTI; only for CAP_SYS_ADMIN, as with dev.tty.legacy_tiocsti = 0.
fn fake_input(terminal: &Terminal, caller: &dyn Caller, argument: u64) -> Result<u64> {
    if !caller.credentials().has(Caps::SYS_ADMIN) {
        return Err(Errno::EIO);
    }
    let mut byte = [0];
    caller.copy_in(UserAddr(argument), &mut byte)?;
    terminal.change(|state, effects| state.take_input(&byte, effects));
    Ok(0)
}

/// TIOCGPTPEER: opens the slave, whatever its name leads to here.
fn open_peer(terminal: &Arc<Terminal>, caller: &dyn Caller, flags: u64) -> Result<u64> {
    let devpts = terminal.devpts.upgrade().ok_or(Errno::EIO)?;
    let ops = terminal.open_slave(flags & O_NONBLOCK != 0, caller)?;
    let (read, write) = match flags & O_ACCMODE {
        0 => (true, false),
        1 => (false, true),
        _ => (true, true),
    };
    let status = StatusFlags::from_bits_truncate(flags as u32) & StatusFlags::NONBLOCK;
    let file = devpts.open_file(terminal, ops, read, write, status)?;
    let fd = caller.install_file(file, flags & O_CLOEXEC != 0)?;
    Ok(fd as u64)
}
