//! A sandbox that is up.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use runsc_control::{ExitStatus, STATUS, StatusFailed, StatusReady};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sentry_confine::{Child, StartError};
use sentry_ipc::{Call as _, Request, Server};

use crate::LaunchError;

/// The processes of a sandbox. Dropping it kills them, unless it was detached.
pub struct Sandbox {
    sentry: Child,
    gofer: Option<Child>,
    netstack: Option<Child>,
    /// The sentry's call that waits for [`Sandbox::detach`].
    status: Option<(Server, Request)>,
    zygote: Option<i32>,
    detached: bool,
}

/// Host process ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pids {
    pub sentry: i32,
    pub gofer: Option<i32>,
    pub netstack: Option<i32>,
    /// The container's pid for the outside world.
    pub zygote: Option<i32>,
}

impl Sandbox {
    pub(crate) fn new(sentry: Child) -> Self {
        Self { sentry, gofer: None, netstack: None, status: None, zygote: None, detached: false }
    }

    pub(crate) fn sentry(&self) -> &Child {
        &self.sentry
    }

    pub(crate) fn set_gofer(&mut self, gofer: Child) {
        self.gofer = Some(gofer);
    }

    pub(crate) fn set_netstack(&mut self, netstack: Child) {
        self.netstack = Some(netstack);
    }

    /// Listens to the sentry until the container is created. `made` is how the making of the zygote ended: where both failed, it is the cause.
    pub(crate) fn await_created(&mut self, status: OwnedFd, made: Result<(), StartError>) -> Result<(), LaunchError> {
        // First: a sentry without a zygote waits for it, even when its maker died with a half-made one that holds the socket open.
        made?;
        let mut server = Server::new(status);
        let heard = server.greet(STATUS).and_then(|()| server.next_request());
        let request = heard.map_err(|error| LaunchError::SentryDied(error.to_string()))?;
        match request.tag() {
            StatusReady::TAG => {
                self.zygote = request.fds().first().and_then(|pidfd| pid_of(pidfd.as_fd()));
                self.status = Some((server, request));
                Ok(())
            }
            StatusFailed::TAG => {
                let mut causes = Vec::new();
                let _ = request.answer(|failed: StatusFailed, _| causes = failed.causes);
                Err(LaunchError::Sentry(causes))
            }
            _ => Err(LaunchError::SentryDied("it sent an unknown status".to_owned())),
        }
    }

    pub fn pids(&self) -> Pids {
        let pid = |child: &Option<Child>| child.as_ref().map(|child| child.pid);
        Pids { sentry: self.sentry.pid, gofer: pid(&self.gofer), netstack: pid(&self.netstack), zygote: self.zygote }
    }

    /// From now on the sandbox lives without this process.
    pub fn detach(mut self) -> Result<(), LaunchError> {
        let died = |error: sentry_ipc::IpcError| LaunchError::SentryDied(error.to_string());
        if let Some((mut server, request)) = self.status.take() {
            let answer = request.answer(|StatusReady, _| ()).map_err(died)?;
            server.send(&answer).map_err(died)?;
        }
        self.detached = true;
        Ok(())
    }

    /// Waits for the sentry's end, and how it ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        loop {
            match waitid(WaitId::PidFd(self.sentry.pidfd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    let number = |value: i32| u8::try_from(value).ok();
                    let code = status.exit_status().and_then(number).map(ExitStatus::Code);
                    return code.or_else(|| status.terminating_signal().and_then(number).map(ExitStatus::Signal));
                }
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        // The sentry takes all stubs along.
        let children = [Some(&self.sentry), self.gofer.as_ref(), self.netstack.as_ref()];
        // All first, so that they die at the same time.
        children.into_iter().flatten().for_each(Child::kill);
        children.into_iter().flatten().for_each(Child::reap);
    }
}

/// The process behind a pidfd, as our /proc counts.
fn pid_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok().filter(|pid| *pid > 0)
}
