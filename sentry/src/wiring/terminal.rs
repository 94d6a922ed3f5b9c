//! The container's terminal as its first process has it: a pseudo-terminal of the sandbox with a pump to the host's raw one, or a host terminal
//! among its standard descriptors.
//!
//! The pump is two threads, since both of its ends block: one types what the host side sends, one shows what the guest writes. A host side that
//! is gone hangs the guest's terminal up.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno as HostErrno;
use sentry_abi::Errno;
use sentry_fs_hostfd::Terminal as HostTerminal;
use sentry_fs_tty::{DevPts, MasterFile, WindowSize};
use sentry_sync::{Events, Parker, Waiter};
use sentry_vfs::{FileDescription, FileOps as _};

/// Bytes moved at a time.
const CHUNK: usize = 4096;
/// How often the end of the output is looked for when the container has ended.
const DRAIN_STEP: Duration = Duration::from_millis(2);

/// What the container's first process gets as its controlling terminal.
pub(crate) enum ConsoleTerminal {
    Own(Console),
    Host(Arc<HostTerminal>),
}

impl ConsoleTerminal {
    pub fn key(&self) -> u64 {
        match self {
            Self::Own(console) => console.master.terminal().key(),
            Self::Host(terminal) => terminal.key(),
        }
    }

    /// Gives it to a session whose only process group is its leader's.
    pub fn attach(&self, session: i32) {
        match self {
            Self::Own(console) => console.master.terminal().attach(session, session),
            Self::Host(terminal) => terminal.attach(session, session),
        }
    }

    /// The process group that typed signals are for.
    pub fn foreground(&self) -> Option<i32> {
        match self {
            Self::Own(console) => Some(console.master.terminal().foreground_group()).filter(|group| *group > 0),
            Self::Host(terminal) => terminal.foreground(),
        }
    }

    /// `ENOTTY` for a terminal of the host, which has its size already.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), Errno> {
        let Self::Own(console) = self else { return Err(Errno::ENOTTY) };
        console.master.terminal().resize(WindowSize { rows, columns, ..WindowSize::default() });
        Ok(())
    }

    /// Waits until what the guest has written is on the host's side, `at_most` that long.
    pub fn drain(&self, at_most: Duration) {
        let Self::Own(console) = self else { return };
        let deadline = Instant::now() + at_most;
        // In this order: what was taken before the first look is being written until the second.
        while (console.busy.load(Ordering::SeqCst) || !console.master.output_is_taken()) && Instant::now() < deadline {
            thread::sleep(DRAIN_STEP);
        }
    }
}

/// A pseudo-terminal whose master is pumped.
pub(crate) struct Console {
    master: Arc<MasterFile>,
    /// Taken and not yet written.
    busy: Arc<AtomicBool>,
}

impl Console {
    /// Makes it and starts the pump; returns with it the open file for standard input, output and error.
    pub fn start(
        devpts: &Arc<DevPts>,
        host: OwnedFd,
        owner: (u32, u32),
        size: WindowSize,
    ) -> anyhow::Result<(Console, Arc<FileDescription>)> {
        let now = sentry_time::ClockId::Realtime.now();
        let (master, slave) = devpts.open_console(owner.0, owner.1, now).context("make the terminal")?;
        master.terminal().resize(size);
        let (master, host, busy) = (Arc::new(master), Arc::new(host), Arc::new(AtomicBool::new(false)));
        let (typing, keyboard) = (master.clone(), host.clone());
        spawn("keyboard", move || type_all(&keyboard, &typing))?;
        let (showing, writing) = (master.clone(), busy.clone());
        spawn("screen", move || show_all(&showing, &host, &writing))?;
        Ok((Console { master, busy }, slave))
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    thread::Builder::new().name(name.into()).stack_size(128 << 10).spawn(run).context("start a thread")?;
    Ok(())
}

/// Sleeps until the master is ready for one of `events`, or hung up.
fn await_master(master: &MasterFile, events: Events) {
    let waiter = Waiter::new(Arc::new(Parker::current()), events | Events::HUP);
    // Again after the registration: what comes from now on wakes us.
    if master.ready(events, Some(&waiter)).is_empty() {
        Parker::park(None);
    }
}

/// From the host's side to the guest's, until one of them is gone.
fn type_all(host: &OwnedFd, master: &MasterFile) {
    let mut buffer = [0; CHUNK];
    loop {
        let read = match rustix::io::read(host, &mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(HostErrno::INTR) => continue,
            // The description is shared with others, who may have made it non-blocking.
            Err(HostErrno::AGAIN) if await_host(host, PollFlags::IN) => continue,
            Err(_) => break,
        };
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            match master.give_input(rest) {
                Ok(done) => rest = &rest[done..],
                Err(Errno::EAGAIN) => await_master(master, Events::WRITE),
                Err(_) => return,
            }
        }
    }
    master.terminal().hang_up();
}

/// From the guest's side to the host's. A guest that has closed its side may open it again.
fn show_all(master: &MasterFile, host: &OwnedFd, busy: &AtomicBool) {
    let mut buffer = [0; CHUNK];
    loop {
        busy.store(true, Ordering::SeqCst);
        let taken = master.take_output(&mut buffer);
        let written = taken.is_ok_and(|taken| write_all(host, &buffer[..taken]));
        busy.store(false, Ordering::SeqCst);
        match taken {
            Ok(_) if written => {}
            Ok(_) => return master.terminal().hang_up(),
            // EIO as well: there is nothing to show before the guest opens it anew, which wakes us at its first byte.
            Err(_) => await_output(master),
        }
    }
}

fn await_output(master: &MasterFile) {
    let waiter = Waiter::new(Arc::new(Parker::current()), Events::READ);
    if !master.ready(Events::READ, Some(&waiter)).contains(Events::READ) {
        Parker::park(None);
    }
}

fn write_all(host: &OwnedFd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match rustix::io::write(host, bytes) {
            Ok(done) => bytes = &bytes[done..],
            Err(HostErrno::INTR) => {}
            Err(HostErrno::AGAIN) if await_host(host, PollFlags::OUT) => {}
            Err(_) => return false,
        }
    }
    true
}

fn await_host(host: &OwnedFd, events: PollFlags) -> bool {
    match poll(&mut [PollFd::new(host, events)], None) {
        Ok(_) | Err(HostErrno::INTR) => true,
        Err(_) => false,
    }
}
