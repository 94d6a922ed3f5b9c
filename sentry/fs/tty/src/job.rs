//! Job control: who may read, write and set, and whose controlling terminal it is. drivers/tty/tty_jobctrl.c.

use sentry_abi::{Errno, Result, Signal, UserAddr};
use sentry_auth::Caps;
use sentry_vfs::Caller;

use crate::terminal::Terminal;

/// tty_check_change(): a background process of the terminal's session is stopped by `signal` (SIGTTIN or SIGTTOU) and its call restarted:
/// `ERESTART`. `EIO` where stopping is no use.
pub fn check(terminal: &Terminal, caller: &dyn Caller, signal: Signal) -> Result<()> {
    let jobs = caller.job_control();
    if jobs.controlling_terminal() != Some(terminal.key()) {
        return Ok(());
    }
    let foreground = terminal.foreground_group();
    let group = jobs.process_group();
    if foreground == 0 || foreground == group {
        return Ok(());
    }
    if jobs.ignores(signal) {
        return if signal == Signal::SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
    }
    if jobs.group_is_orphaned() {
        return Err(Errno::EIO);
    }
    jobs.signal_group(group, signal);
    Err(Errno::ERESTART)
}

/// What open(2) without O_NOCTTY does.
pub fn claim_at_open(terminal: &Terminal, caller: &dyn Caller) {
    let jobs = caller.job_control();
    if jobs.is_session_leader() && jobs.controlling_terminal().is_none() && terminal.state.lock().session == 0 {
        // A refusal leaves the session without a terminal, and the open good.
        let _ = take(terminal, caller);
    }
}

fn take(terminal: &Terminal, caller: &dyn Caller) -> Result<()> {
    let jobs = caller.job_control();
    jobs.set_controlling_terminal(Some(terminal.key()))?;
    // Asked before the terminal is locked: the process tree's lock comes first.
    let owners = (jobs.session(), jobs.process_group());
    let mut state = terminal.state.lock();
    (state.session, state.foreground) = owners;
    Ok(())
}

/// TIOCSCTTY.
pub fn set_controlling(terminal: &Terminal, caller: &dyn Caller, steal: u64) -> Result<u64> {
    let jobs = caller.job_control();
    let owner = terminal.state.lock().session;
    if jobs.is_session_leader() && owner != 0 && owner == jobs.session() {
        return Ok(0);
    }
    if !jobs.is_session_leader() || jobs.controlling_terminal().is_some() {
        return Err(Errno::EPERM);
    }
    if owner != 0 {
        if steal != 1 || !caller.credentials().has(Caps::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        terminal.terminals.groups().take_terminal_from(owner);
    }
    take(terminal, caller)?;
    Ok(0)
}

/// TIOCNOTTY.
pub fn give_up(terminal: &Terminal, caller: &dyn Caller) -> Result<u64> {
    let jobs = caller.job_control();
    if jobs.controlling_terminal() != Some(terminal.key()) {
        return Err(Errno::ENOTTY);
    }
    if jobs.is_session_leader() {
        terminal.release_session(jobs.session());
    }
    jobs.set_controlling_terminal(None)?;
    Ok(0)
}

/// Which end an ioctl came from. Through the master, the caller's own controlling terminal does not matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Master,
    Slave,
}

fn require_own(terminal: &Terminal, caller: &dyn Caller, end: End) -> Result<()> {
    let own = caller.job_control().controlling_terminal() == Some(terminal.key());
    if end == End::Slave && !own { Err(Errno::ENOTTY) } else { Ok(()) }
}

/// TIOCGPGRP.
pub fn get_group(terminal: &Terminal, caller: &dyn Caller, argument: u64, end: End) -> Result<u64> {
    require_own(terminal, caller, end)?;
    put_id(caller, argument, terminal.foreground_group())
}

/// TIOCGSID.
pub fn get_session(terminal: &Terminal, caller: &dyn Caller, argument: u64, end: End) -> Result<u64> {
    require_own(terminal, caller, end)?;
    let session = terminal.state.lock().session;
    if session == 0 {
        return Err(Errno::ENOTTY);
    }
    put_id(caller, argument, session)
}

fn put_id(caller: &dyn Caller, argument: u64, id: i32) -> Result<u64> {
    let shown = if id == 0 { 0 } else { caller.job_control().to_user(id) };
    caller.copy_out(UserAddr(argument), &shown.to_ne_bytes())?;
    Ok(0)
}

/// TIOCSPGRP.
pub fn set_group(terminal: &Terminal, caller: &dyn Caller, argument: u64) -> Result<u64> {
    match check(terminal, caller, Signal::SIGTTOU) {
        Err(Errno::EIO) => return Err(Errno::ENOTTY),
        other => other?,
    }
    let jobs = caller.job_control();
    let session = terminal.state.lock().session;
    if jobs.controlling_terminal() != Some(terminal.key()) || session != jobs.session() {
        return Err(Errno::ENOTTY);
    }
    let mut bytes = [0; 4];
    caller.copy_in(UserAddr(argument), &mut bytes)?;
    let group = i32::from_ne_bytes(bytes);
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let group = jobs.from_user(group).ok_or(Errno::ESRCH)?;
    if !jobs.group_in_session(group) {
        return Err(Errno::EPERM);
    }
    terminal.state.lock().foreground = group;
    Ok(0)
}
