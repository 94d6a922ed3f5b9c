//! Puts the crates of the kernel together: platform, file systems, kernel, and what runsc may ask of the container.

mod container;
mod devices;
mod mounts;
mod sessions;
mod terminal;

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use gofer_client::{GoferClient, MemoryFiles};
use runsc_control::{NETSTACK, PlatformKind, SentryBoot};
use sentry_fs_anonfs::AnonFs;
use sentry_fs_hostfd::HostFs;
use sentry_fs_pipefs::Pipes;
use sentry_fs_tmpfs::memfd::Memfds;
use sentry_fs_tty::{Terminals, WindowSize};
use sentry_kernel::{Kernel, KernelParts};
use sentry_memory::FileSource;
use sentry_platform::Platform;
use sentry_platform_ptrace::PtracePlatform;
use sentry_platform_systrap::{Reaper, SystrapPlatform, zygote};
use sentry_syscalls::{FileServices, System};
use sentry_time::{ClockId, TimerQueue};
use sentry_vfs::FileDescription;

use crate::boot::{Created, Handles};
use devices::{Clock, DeviceNumbers, Specials};
use sessions::Sessions;
use terminal::{Console, ConsoleTerminal};

/// Most guest threads of one sandbox.
const MAX_TASKS: u64 = 15_000;

pub(crate) fn wire(boot: SentryBoot, handles: Handles) -> anyhow::Result<Created> {
    let Handles { stdio, terminal, gofer, netstack, zygote: zygote_socket, poller, cpu } = handles;
    let handles = zygote::receive(zygote_socket.as_fd()).context("take over the zygote")?;
    let zygote_pidfd = handles.pidfd.try_clone().context("copy the zygote's descriptor")?;
    let platform = make_platform(boot.config.platform, handles, zygote_socket)?;
    let client = GoferClient::over(gofer).context("greet the gofer")?;
    let source: Arc<dyn FileSource> = MemoryFiles::start(&client).context("fetch memory files")?;
    let clock: Clock = Arc::new(|| ClockId::Realtime.now());
    let numbers = Arc::new(DeviceNumbers::default());
    let timers = TimerQueue::new();
    timers.start();
    // The kernel needs parts that need the kernel: those find it here, once it is there.
    let late: Arc<OnceLock<Arc<Kernel>>> = Arc::default();
    let sessions = Arc::new(Sessions::new(late.clone()));
    let terminals = Terminals::new(sessions.clone(), timers.clone());
    sessions.set_terminals(&terminals);
    let pipes = Arc::new(Pipes::new(numbers.next(), clock.clone()));
    let host = HostFs::new(numbers.next(), poller);
    sessions.set_host(&host);
    let specials = Arc::new(Specials::new(pipes.clone(), terminals.clone(), host.clone()));
    let memfds = Arc::new(Memfds::new(numbers.next(), source.clone(), clock.clone()).context("prepare memfds")?);
    let builder = Arc::new(mounts::Builder {
        client,
        source: source.clone(),
        clock,
        numbers: numbers.clone(),
        terminals: terminals.clone(),
        facts: boot.config.host.clone(),
        kernel: late.clone(),
        specials: specials.clone(),
        devpts: OnceLock::new(),
    });
    let files = FileServices::new(pipes, memfds, builder.clone());
    let anon = AnonFs::new(numbers.next());
    let system = Arc::new(System::new(files, sentry_net::NetNamespace::new(numbers.next())));
    system.set_trace(boot.config.strace);
    let kernel = Kernel::new(KernelParts {
        platform,
        system_calls: system,
        special: specials,
        terminals: sessions,
        file_source: source,
        anon,
        timers,
        hostname: boot.hostname.clone(),
        max_tasks: MAX_TASKS,
        memory_total: boot.config.host.memory,
        cpu,
        cpus: boot.config.host.cpus,
    });
    late.set(kernel.clone()).map_err(|_| anyhow::anyhow!("the kernel was made twice"))?;
    let namespace = builder.namespace(&boot).context("mount the container's file systems")?;
    let stdio = host.import_stdio(stdio, &boot.fds.stdio_names, &boot.fds.stdio_owners).context("take over stdio")?;
    let (stdio, terminal) = console(&builder, &boot, stdio, terminal)?;
    // Only now: it may have started later, and nothing before needs it.
    netstack.hello(NETSTACK).context("greet netstack")?;
    let control = container::Container::new(kernel, namespace, boot, stdio, terminal, netstack);
    Ok(Created { control: Arc::new(control), zygote: Some(zygote_pidfd) })
}

/// The first process's standard files and its terminal, if it has one.
fn console(
    builder: &mounts::Builder,
    boot: &SentryBoot,
    stdio: Vec<Arc<FileDescription>>,
    terminal: Option<OwnedFd>,
) -> anyhow::Result<(Vec<Arc<FileDescription>>, Option<ConsoleTerminal>)> {
    let Some(host) = terminal.filter(|_| boot.process.terminal) else {
        let terminal = stdio.iter().find_map(|file| sentry_fs_hostfd::terminal_of(file));
        return Ok((stdio, terminal.map(ConsoleTerminal::Host)));
    };
    let size = boot.process.console_size.map_or_else(WindowSize::default, |size| WindowSize {
        rows: size.rows,
        columns: size.columns,
        ..WindowSize::default()
    });
    let owner = (boot.process.uid, boot.process.gid);
    let (console, slave) = Console::start(&builder.console_devpts(), host, owner, size)?;
    Ok((vec![slave.clone(), slave.clone(), slave], Some(ConsoleTerminal::Own(console))))
}

fn make_platform(kind: PlatformKind, handles: zygote::ZygoteHandles, socket: OwnedFd) -> anyhow::Result<Arc<dyn Platform>> {
    match kind {
        PlatformKind::Systrap => {
            let reaper = Reaper::start().context("start the reaper")?;
            Ok(SystrapPlatform::adopt(handles, &reaper).context("adopt the zygote")?)
        }
        PlatformKind::Ptrace => {
            let platform = PtracePlatform::adopt(handles.pid, handles.pidfd, socket, handles.area);
            Ok(platform.context("adopt the zygote")?)
        }
    }
}
