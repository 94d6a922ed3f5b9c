//! The container as runsc steers it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runsc_control::{ExitStatus, Process, SentryBoot, SignalTarget, StartFailed, StateReply, Status};
use sentry_abi::{Errno, FileKind, Signal};
use sentry_auth::{Caps, Credentials};
use sentry_ipc::Channel;
use sentry_kernel::{ExitStatus as KernelStatus, FdTable, InitProcess, Kernel, Limit, Limits, Places, Resource};
use sentry_vfs::{FileDescription, Follow, FsContext, MountNamespace, Path, Walk, resolve};

use super::terminal::ConsoleTerminal;
use crate::control::SandboxControl;

/// Where a program without a slash is looked for when PATH is not set.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first process's id, which is also its session's and its process group's.
const INIT: i32 = 1;
/// How long the screen of a container that has ended is waited for.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

pub(crate) struct Container {
    kernel: Arc<Kernel>,
    namespace: Arc<MountNamespace>,
    boot: SentryBoot,
    stdio: Mutex<Option<Vec<Arc<FileDescription>>>>,
    started: Mutex<bool>,
    terminal: Option<ConsoleTerminal>,
    /// Held open for the sandbox's life: its closing would end it.
    _netstack: Channel,
}

impl Container {
    pub fn new(
        kernel: Arc<Kernel>,
        namespace: Arc<MountNamespace>,
        boot: SentryBoot,
        stdio: Vec<Arc<FileDescription>>,
        terminal: Option<ConsoleTerminal>,
        netstack: Channel,
    ) -> Container {
        Container { kernel, namespace, boot, stdio: Mutex::new(Some(stdio)), started: Mutex::new(false), terminal, _netstack: netstack }
    }

    fn context(&self, credentials: Credentials) -> FsContext {
        let root = self.namespace.root();
        FsContext {
            credentials: Arc::new(credentials),
            namespace: self.namespace.clone(),
            root: root.clone(),
            cwd: root,
            umask: self.boot.process.umask as u16,
            special: self.kernel.special.clone(),
        }
    }

    fn prepare(&self) -> Result<sentry_kernel::PreparedInit, StartFailed> {
        let process = &self.boot.process;
        let credentials = credentials(process);
        let mut cx = self.context(credentials.clone());
        cx.cwd = directory(&cx, &process.cwd)?;
        let name = process.args.first().ok_or_else(|| failed("no arguments", 128, None))?;
        let (path, name) = find_program(&cx, process, name)?;
        let files = FdTable::default();
        let limits = limits(process);
        let stdio = self.stdio.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        for file in stdio {
            files.install(file, false, 0, u64::MAX).map_err(|e| failed("standard files", 128, Some(e)))?;
        }
        let places = Places { namespace: cx.namespace.clone(), root: cx.root.clone(), cwd: cx.cwd.clone(), umask: cx.umask };
        let shown = String::from_utf8_lossy(&name).into_owned();
        if let Some(terminal) = &self.terminal {
            terminal.attach(INIT);
        }
        self.kernel
            .prepare_init(InitProcess {
                argv: process.args.clone(),
                env: process.env.clone(),
                path,
                name,
                places,
                files,
                credentials,
                limits,
                terminal: self.terminal.as_ref().map(ConsoleTerminal::key),
                is_protected: process.is_protected,
            })
            .map_err(|errno| failed(&format!("exec {shown}"), exec_code(errno), Some(errno)))
    }
}

fn exec_code(errno: Errno) -> u8 {
    if errno == Errno::ENOENT { 127 } else { 126 }
}

fn failed(what: &str, exit_code: u8, errno: Option<Errno>) -> StartFailed {
    let message = match errno {
        Some(errno) => format!("{what}: {errno}"),
        None => what.into(),
    };
    StartFailed { message, exit_code }
}

/// The working directory; runc makes a missing one, a read-only or foreign place is an error.
fn directory(cx: &FsContext, cwd: &[u8]) -> Result<Path, StartFailed> {
    let shown = String::from_utf8_lossy(cwd).into_owned();
    let found = resolve(cx, &cx.root, cwd, Follow::Yes, Walk::empty());
    let found = match found {
        Err(Errno::ENOENT) => {
            let mut maker = cx.clone();
            maker.credentials = Arc::new(Credentials::new(0, 0, &[], Caps::all()));
            make_all(&maker, cwd).and_then(|()| resolve(cx, &cx.root, cwd, Follow::Yes, Walk::empty()))
        }
        other => other,
    };
    match found {
        Ok(path) if path.inode().kind() == FileKind::Directory => Ok(path),
        Ok(_) => Err(failed(&format!("working directory {shown}"), 128, Some(Errno::ENOTDIR))),
        Err(errno) => Err(failed(&format!("working directory {shown}"), 128, Some(errno))),
    }
}

fn make_all(cx: &FsContext, path: &[u8]) -> Result<(), Errno> {
    let mut so_far = Vec::new();
    for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty()) {
        so_far.push(b'/');
        so_far.extend_from_slice(name);
        match sentry_vfs::mkdir(cx, &cx.root, &so_far, sentry_abi::Mode(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// As execvp(3): a name without a slash is looked for along PATH.
fn find_program(cx: &FsContext, process: &Process, name: &[u8]) -> Result<(Path, Vec<u8>), StartFailed> {
    let shown = String::from_utf8_lossy(name).into_owned();
    if name.contains(&b'/') {
        let path = resolve(cx, &cx.cwd, name, Follow::Yes, Walk::empty());
        return match path {
            Ok(path) => Ok((path, name.to_vec())),
            Err(errno) => Err(failed(&format!("exec {shown}"), exec_code(errno), Some(errno))),
        };
    }
    let search = process.env.iter().find_map(|e| e.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let mut worst = Errno::ENOENT;
    for dir in search.split(|b| *b == b':') {
        let candidate = if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() };
        let Ok(path) = resolve(cx, &cx.cwd, &candidate, Follow::Yes, Walk::empty()) else { continue };
        if path.inode().kind() != FileKind::Regular {
            continue;
        }
        let runnable = path.inode().attr().is_ok_and(|a| a.mode.0 & 0o111 != 0);
        if runnable {
            return Ok((path, candidate));
        }
        worst = Errno::EACCES;
    }
    Err(failed(&format!("exec {shown}: not found in PATH"), exec_code(worst), Some(worst)))
}

fn credentials(process: &Process) -> Credentials {
    let set = Caps::from_bits_truncate;
    let caps = &process.capabilities;
    Credentials {
        permitted: set(caps.permitted),
        effective: set(caps.effective),
        inheritable: set(caps.inheritable),
        bounding: set(caps.bounding),
        ambient: set(caps.ambient),
        no_new_privs: process.no_new_privileges,
        ..Credentials::new(process.uid, process.gid, &process.groups, Caps::empty())
    }
}

fn limits(process: &Process) -> Limits {
    let mut limits = Limits::default();
    for limit in &process.rlimits {
        if let Ok(resource) = Resource::from_number(limit.resource as u64) {
            limits.set(resource, Limit { soft: limit.soft, hard: limit.hard });
        }
    }
    limits
}

fn to_control(status: KernelStatus) -> ExitStatus {
    match status {
        KernelStatus::Exited(code) => ExitStatus::Code(code),
        KernelStatus::Signaled { signal, .. } => ExitStatus::Signal(signal.number()),
    }
}

impl SandboxControl for Container {
    fn start(&self) -> Result<(), StartFailed> {
        {
            let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::replace(&mut *started, true) {
                return Err(failed("the container has been started already", 128, None));
            }
        }
        self.prepare()?.start().map_err(|e| failed(&format!("start the first process: {e}"), 128, None))
    }

    fn state(&self) -> StateReply {
        let exit = self.kernel.init_status().map(to_control);
        let started = *self.started.lock().unwrap_or_else(PoisonError::into_inner);
        let status = match (started, exit) {
            (_, Some(_)) => Status::Stopped,
            (true, None) => Status::Running,
            (false, None) => Status::Created,
        };
        StateReply { status, exit }
    }

    fn signal(&self, signal: u8, target: SignalTarget) -> Result<(), u16> {
        let signal = Signal::new(signal as u64).ok_or(Errno::EINVAL.raw() as u16)?;
        if !*self.started.lock().unwrap_or_else(PoisonError::into_inner) {
            // A created container has no process yet: ending it is all that can be done to it.
            if signal == Signal::SIGKILL || signal == Signal::SIGTERM {
                self.kernel.end_before_start(signal);
            }
            return Ok(());
        }
        let result = match target {
            SignalTarget::Init => self.kernel.signal_from_outside(signal, false),
            SignalTarget::All => self.kernel.signal_from_outside(signal, true),
            SignalTarget::Foreground => match self.terminal.as_ref().and_then(ConsoleTerminal::foreground) {
                Some(group) => {
                    self.kernel.signal_process_group(group, signal);
                    Ok(())
                }
                None => self.kernel.signal_from_outside(signal, false),
            },
        };
        result.map_err(|e| e.raw() as u16)
    }

    fn wait(&self) -> ExitStatus {
        let status = self.kernel.wait_for_init();
        if let Some(terminal) = &self.terminal {
            terminal.drain(LAST_OUTPUT);
        }
        to_control(status)
    }

    fn resize_terminal(&self, rows: u16, columns: u16) -> Result<(), u16> {
        let terminal = self.terminal.as_ref().ok_or(Errno::ENOTTY.raw() as u16)?;
        terminal.resize(rows, columns).map_err(|e| e.raw() as u16)
    }

    fn pids(&self) -> Vec<i32> {
        self.kernel.processes.groups().iter().map(|g| g.id).collect()
    }
}
