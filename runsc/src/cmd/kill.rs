//! `runsc kill`.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use runsc_container::kill_and_wait;
use runsc_control::{SendSignal, SignalTarget};
use runsc_launch::Wait;

use super::state::{self, Shown};
use crate::cli::{Global, Kill};
use crate::create::state_root;
use crate::names;
use crate::report::Failure;

const SIGKILL: u8 = 9;

pub(crate) fn run(global: &Global, arguments: &Kill) -> Result<u8, Failure> {
    let id = &arguments.id;
    let signal = names::signal(&arguments.signal).with_context(|| format!("unknown signal {:?}", arguments.signal))?;
    let root = state_root(global)?;
    let (container, record) = root.lock(id)?;
    match state::status(&record, container.directory()) {
        Shown::Stopped => return Err(anyhow!("container {id} is not running").into()),
        // There is no process yet that a signal could reach.
        Shown::Created if signal == SIGKILL => {
            kill_and_wait(&record.processes(), Duration::from_secs(10));
            return Ok(0);
        }
        Shown::Created | Shown::Running => {}
    }
    let control = runsc_launch::connect(container.directory(), Wait::Bounded).context("connect to the sandbox")?;
    let target = if arguments.all { SignalTarget::All } else { SignalTarget::Init };
    match control.call(&SendSignal { signal, target }) {
        Ok(Ok(())) => Ok(0),
        Ok(Err(errno)) => {
            let error = std::io::Error::from_raw_os_error(i32::from(errno));
            Err(anyhow::Error::new(error).context(format!("signal container {id}")).into())
        }
        // It died of it.
        Err(_) if !record.sentry.is_alive() => Ok(0),
        Err(error) => Err(anyhow::Error::new(error).context(format!("signal container {id}")).into()),
    }
}
