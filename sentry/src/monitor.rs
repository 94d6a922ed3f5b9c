//! Watches the sandbox's other processes: none of them can be replaced, so the sentry ends with the first that dies, and as pid 1 takes the stubs
//! along; gofer and netstack end with their channels.

use std::os::fd::{AsFd, OwnedFd};
use std::process;
use std::thread;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};

/// What is watched, with names for the log.
#[derive(Default)]
pub(crate) struct Watched {
    entries: Vec<(&'static str, OwnedFd, PollFlags)>,
}

impl Watched {
    /// A socket whose peer's death hangs it up.
    pub fn add_peer(&mut self, name: &'static str, socket: &impl AsFd) -> anyhow::Result<()> {
        self.add(name, socket, PollFlags::empty())
    }

    /// A pidfd, which becomes readable when its process ends.
    pub fn add_process(&mut self, name: &'static str, pidfd: &impl AsFd) -> anyhow::Result<()> {
        self.add(name, pidfd, PollFlags::IN)
    }

    fn add(&mut self, name: &'static str, fd: &impl AsFd, events: PollFlags) -> anyhow::Result<()> {
        let copy = fd.as_fd().try_clone_to_owned().with_context(|| format!("copy the descriptor of {name}"))?;
        self.entries.push((name, copy, events));
        Ok(())
    }

    /// Watches in a thread of its own from now on.
    pub fn start(self) -> anyhow::Result<()> {
        thread::Builder::new().name("monitor".into()).stack_size(128 << 10).spawn(move || self.watch()).context("start a thread")?;
        Ok(())
    }

    fn watch(self) {
        let mut fds: Vec<PollFd<'_>> = self.entries.iter().map(|(_, fd, events)| PollFd::new(fd, *events)).collect();
        loop {
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => end(&format!("cannot watch: {error}")),
            }
            for (fd, (name, ..)) in fds.iter().zip(&self.entries) {
                if !fd.revents().is_empty() {
                    end(&format!("{name} is gone"));
                }
            }
        }
    }
}

/// Ends the sandbox.
pub(crate) fn end(cause: &str) -> ! {
    tracing::error!("sandbox ends: {cause}");
    process::exit(1)
}
