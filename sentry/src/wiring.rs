//! Puts the crates of the kernel together. For now a container whose process ends at once, so that everything around it can be tried.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::Context as _;
use runsc_control::{ExitStatus, SentryBoot, SignalTarget, StartFailed, StateReply, Status};

use crate::boot::{Created, Handles};
use crate::control::SandboxControl;

pub(crate) fn wire(boot: SentryBoot, handles: Handles) -> anyhow::Result<Created> {
    let zygote = receive_zygote(&handles.zygote).context("take over the zygote")?;
    let sleeps = boot.process.args.first().is_some_and(|arg| arg == b"sleep");
    let control = Arc::new(Trivial {
        sleeps,
        state: Mutex::new(None),
        ended: Condvar::new(),
        started: Mutex::new(false),
        _handles: Mutex::new(handles),
    });
    Ok(Created { control, zygote })
}

fn receive_zygote(socket: &OwnedFd) -> anyhow::Result<Option<OwnedFd>> {
    Ok(Some(sentry_platform_systrap::zygote::receive(socket.as_fd())?.pidfd))
}

struct Trivial {
    sleeps: bool,
    state: Mutex<Option<ExitStatus>>,
    ended: Condvar,
    started: Mutex<bool>,
    _handles: Mutex<Handles>,
}

impl Trivial {
    fn end(&self, status: ExitStatus) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        self.ended.notify_all();
    }
}

impl SandboxControl for Trivial {
    fn start(&self) -> Result<(), StartFailed> {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = true;
        if !self.sleeps {
            self.end(ExitStatus::Code(42));
        }
        Ok(())
    }

    fn state(&self) -> StateReply {
        let exit = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let status = match (exit, started) {
            (Some(_), _) => Status::Stopped,
            (None, true) => Status::Running,
            (None, false) => Status::Created,
        };
        StateReply { status, exit }
    }

    fn signal(&self, signal: u8, _target: SignalTarget) -> Result<(), u16> {
        self.end(ExitStatus::Signal(signal));
        Ok(())
    }

    fn wait(&self) -> ExitStatus {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *state {
                Some(status) => return status,
                None => state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn resize_terminal(&self, _rows: u16, _columns: u16) -> Result<(), u16> {
        Err(25)
    }

    fn pids(&self) -> Vec<i32> {
        vec![1]
    }
}
