//! A container in the foreground: start it, pass signals on, return its status.

use std::process;
use std::sync::Arc;
use std::thread;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use runsc_control::{ExitStatus, ResizeTerminal, SendSignal, SignalTarget, Start, Wait as WaitForEnd};
use runsc_launch::Wait;
use sentry_ipc::Channel;

use crate::console::RawTerminal;
use crate::create::Created;
use crate::report::Failure;

/// Signals that are meant for the container.
const FORWARDED: [Signal; 7] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGCONT];

/// Blocks the signals that are passed on, so that none is lost or kills us before the container runs. Children reset their mask.
pub(crate) fn hold_signals() -> anyhow::Result<()> {
    let mut set: SigSet = FORWARDED.into_iter().collect();
    set.add(Signal::SIGWINCH);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("block signals")
}

/// Runs the created container to its end and forgets it. Returns its status as a shell shows it.
pub(crate) fn run(mut created: Created, terminal: Option<RawTerminal>) -> Result<u8, Failure> {
    let directory = created.directory();
    // Waited for from before the start, so that the end cannot be missed.
    let waiting = runsc_launch::connect(&directory, Wait::ForEver);
    let control = runsc_launch::connect(&directory, Wait::Bounded);
    let (waiting, control) = match (waiting, control) {
        (Ok(waiting), Ok(control)) => (waiting, Arc::new(control)),
        (Err(error), _) | (_, Err(error)) => {
            created.discard();
            return Err(Failure::from(anyhow::Error::new(error).context("connect to the sandbox")).with_code(128));
        }
    };
    let terminal = terminal.map(Arc::new);
    forward_signals(Arc::clone(&control), terminal.clone());
    let ended = thread::spawn(move || waiting.call(&WaitForEnd));
    let started = start(&control);
    created.unlock();
    let result = started.and_then(|()| match ended.join() {
        Ok(Ok(status)) => Ok(status.shell_code()),
        _ => Err(Failure::from(anyhow::anyhow!("the sandbox died: {}", death(&created))).with_code(128)),
    });
    created.discard();
    if let Some(terminal) = terminal {
        terminal.restore();
    }
    result
}

/// Starts the container's process.
pub(crate) fn start(control: &Channel) -> Result<(), Failure> {
    match control.call(&Start) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failed)) => Err(Failure::from(anyhow::anyhow!(failed.message)).with_code(failed.exit_code)),
        Err(error) => Err(Failure::from(anyhow::Error::new(error).context("start the container")).with_code(128)),
    }
}

/// How the sentry ended, for the message.
fn death(created: &Created) -> String {
    match created.sandbox.exit_status() {
        Some(ExitStatus::Signal(31)) => "its kernel made a forbidden system call".to_owned(),
        Some(ExitStatus::Signal(signal)) => format!("its kernel was killed by signal {signal}"),
        Some(ExitStatus::Code(code)) => format!("its kernel exited with code {code}"),
        None => "cause unknown".to_owned(),
    }
}

fn forward_signals(control: Arc<Channel>, terminal: Option<Arc<RawTerminal>>) {
    let mut set: SigSet = FORWARDED.into_iter().collect();
    set.add(Signal::SIGWINCH);
    thread::spawn(move || {
        loop {
            let Ok(signal) = set.wait() else { process::exit(128) };
            // An error means that the container is about to be gone, which the waiting thread learns by itself.
            let _ = match (signal, &terminal) {
                (Signal::SIGWINCH, Some(terminal)) => match terminal.size() {
                    Some(size) => control.call(&ResizeTerminal { rows: size.rows, columns: size.columns }),
                    None => Ok(Ok(())),
                },
                (Signal::SIGWINCH, None) => control.call(&SendSignal { signal: signal as u8, target: SignalTarget::Foreground }),
                (Signal::SIGINT | Signal::SIGQUIT, None) => {
                    control.call(&SendSignal { signal: signal as u8, target: SignalTarget::Foreground })
                }
                _ => control.call(&SendSignal { signal: signal as u8, target: SignalTarget::Init }),
            };
        }
    });
}
