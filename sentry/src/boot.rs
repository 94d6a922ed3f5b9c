//! From exec to a created container.
//!
//! Order: undumpable, boot message, seccomp (while there is one thread), wiring, control server, report to runsc. The process ends with the
//! container's first process, or at once when runsc (until it detaches), the gofer, netstack or the zygote dies.

use std::os::fd::OwnedFd;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use runsc_control::{BOOT_FD, PlatformKind, STATUS, SentryBoot, StatusFailed, StatusReady};
use sentry_confine::Profile;
use sentry_fs_hostfd::Poller;
use sentry_ipc::{Channel, ChannelPool};
use sentry_kernel::cpu::Features;

use crate::control::{ControlServer, SandboxControl};
use crate::{monitor, wiring};

/// What the wiring gets to work with.
pub(crate) struct Handles {
    /// The guest's standard input, output and error; empty when it has a terminal of its own.
    pub stdio: Vec<OwnedFd>,
    /// The raw host side of the guest's own terminal.
    pub terminal: Option<OwnedFd>,
    /// Not yet greeted.
    pub gofer: ChannelPool,
    /// Not yet greeted.
    pub netstack: Channel,
    /// For `sentry_platform_systrap::zygote::receive`.
    pub zygote: OwnedFd,
    /// Made before the filter forbids it.
    pub poller: Arc<Poller>,
    /// Asked before the filter forbids it.
    pub cpu: Features,
}

/// What the wiring makes: a created container.
pub(crate) struct Created {
    pub control: Arc<dyn SandboxControl>,
    /// Watched: its death ends the sandbox. Also tells runsc the container's host pid.
    pub zygote: Option<OwnedFd>,
}

/// Runs the sentry; never returns.
pub fn boot() -> ! {
    match prepare() {
        Ok((status, boot)) => match bring_up(boot, &status) {
            Ok(never) => match never {},
            Err(error) => {
                tracing::error!("cannot start: {error:#}");
                let causes = error.chain().map(ToString::to_string).collect();
                // runsc may be gone, in which case nobody wants to know.
                let _ = status.hello(STATUS).and_then(|()| status.call(&StatusFailed { causes }));
            }
        },
        Err(error) => eprintln!("sentry: {error:#}"),
    }
    process::exit(1)
}

/// The boot message and the channel on which errors can be told.
fn prepare() -> anyhow::Result<(Arc<Channel>, SentryBoot)> {
    sentry_confine::hide("runsc-sentry")?;
    let boot = SentryBoot::read(sentry_confine::take(BOOT_FD)?)?;
    let status = Arc::new(Channel::new(sentry_confine::take(boot.fds.status)?));
    let level = if boot.config.debug { tracing::Level::DEBUG } else { tracing::Level::ERROR };
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(false).init();
    Ok((status, boot))
}

fn bring_up(boot: SentryBoot, status: &Arc<Channel>) -> anyhow::Result<std::convert::Infallible> {
    // glibc sets signal handlers of its own with the first thread, which the filter forbids.
    std::thread::spawn(|| {}).join().map_err(|_| anyhow::anyhow!("cannot start a thread"))?;
    let cpu = sentry_kernel::cpu::features();
    let poller = Poller::new().context("prepare to wait for host files")?;
    let profile = match boot.config.platform {
        PlatformKind::Systrap => Profile::sentry()?,
        PlatformKind::Ptrace => Profile::sentry_ptrace()?,
    };
    sentry_confine::lock_down(&profile)?;
    let (handles, control_socket) = take_handles(&boot, poller, cpu)?;
    // Copies: their peers' death shows on them, whoever uses the originals.
    let mut watched = monitor::Watched::default();
    for channel in handles.gofer.channels() {
        watched.add_peer("gofer", channel)?;
    }
    watched.add_peer("netstack", &handles.netstack)?;
    let control_uid = boot.control_uid;
    let created = wiring::wire(boot, handles).context("create the container")?;
    if let Some(zygote) = &created.zygote {
        watched.add_process("zygote", zygote)?;
    }
    watched.start()?;
    let server = ControlServer::start(control_socket, control_uid, Arc::clone(&created.control)).context("serve the control socket")?;
    let detached = Arc::new(AtomicBool::new(false));
    report_ready(Arc::clone(status), created.zygote, Arc::clone(&detached))?;
    let exit = created.control.wait();
    tracing::debug!(?exit, "container ended");
    server.drain(|| !detached.load(Ordering::Acquire), Duration::from_secs(1));
    process::exit(0)
}

fn take_handles(boot: &SentryBoot, poller: Arc<Poller>, cpu: Features) -> anyhow::Result<(Handles, OwnedFd)> {
    let take = |fd: i32| sentry_confine::take(fd);
    let fds = &boot.fds;
    let handles = Handles {
        stdio: fds.stdio.iter().map(|fd| take(*fd)).collect::<Result<_, _>>()?,
        terminal: fds.terminal.map(take).transpose()?,
        gofer: ChannelPool::new(fds.gofer.iter().map(|fd| take(*fd)).collect::<Result<_, _>>()?),
        netstack: Channel::new(take(fds.netstack)?),
        zygote: take(fds.zygote)?,
        poller,
        cpu,
    };
    Ok((handles, take(fds.control)?))
}

/// Tells runsc, and ends the sandbox when runsc dies before it has said that the sandbox may live without it.
fn report_ready(status: Arc<Channel>, zygote: Option<OwnedFd>, detached: Arc<AtomicBool>) -> anyhow::Result<()> {
    let wait = move || {
        let fds: Vec<_> = zygote.iter().map(std::os::fd::AsFd::as_fd).collect();
        // Greeted only now: before, runsc makes the other processes and does not listen.
        match status.hello(STATUS).and_then(|()| status.call_with_fds(&StatusReady, &fds)) {
            Ok(_) => detached.store(true, Ordering::Release),
            Err(error) => monitor::end(&format!("runsc is gone: {error}")),
        }
    };
    std::thread::Builder::new().name("status".into()).stack_size(128 << 10).spawn(wait).context("start a thread")?;
    Ok(())
}
