//! The control socket: what runsc may ask of a running sandbox.
//!
//! [`SandboxControl`] is what the wiring implements on the kernel. One thread accepts, one serves each connection, since `Wait` blocks.
//! Connections are accepted from one user only (SO_PEERCRED), and no more than [`MAX_CONNECTIONS`] at a time.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use runsc_control::{CONTROL, ExitStatus, Pids, ResizeTerminal, SendSignal, SignalTarget, Start, StartFailed, State, StateReply, Wait};
use rustix::net::{SocketFlags, accept_with};
use sentry_ipc::{Answer, Call as _, IpcError, Request, Server};

/// More than runsc and a shim ever have.
const MAX_CONNECTIONS: usize = 64;

/// The container as runsc sees it. Called from several threads at once; errors of `u16` are Linux error numbers.
pub(crate) trait SandboxControl: Send + Sync {
    /// Executes the created container's process; called once (a second call fails).
    fn start(&self) -> Result<(), StartFailed>;
    fn state(&self) -> StateReply;
    fn signal(&self, signal: u8, target: SignalTarget) -> Result<(), u16>;
    /// Blocks until the container's first process has ended.
    fn wait(&self) -> ExitStatus;
    fn resize_terminal(&self, rows: u16, columns: u16) -> Result<(), u16>;
    fn pids(&self) -> Vec<i32>;
}

/// The running server.
pub(crate) struct ControlServer {
    shared: Arc<Shared>,
}

struct Shared {
    control: Arc<dyn SandboxControl>,
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    /// Calls whose answer is not yet sent.
    unanswered: usize,
    /// Waits whose answer was sent.
    told: usize,
}

impl ControlServer {
    pub fn start(listener: OwnedFd, uid: u32, control: Arc<dyn SandboxControl>) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared { control, counts: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("control".into())
            .stack_size(128 << 10)
            .spawn(move || accept_all(&listener, uid, &accepting))
            .context("start a thread")?;
        Ok(Self { shared })
    }

    /// After the container's end: waits until every call that came in is answered, `at_most` that long. In the foreground there is somebody
    /// who wants to know, even if the question has not arrived yet, and his death ends this process anyhow.
    pub fn drain(&self, foreground: impl Fn() -> bool, at_most: Duration) {
        let mut counts = self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + at_most;
        while counts.unanswered > 0 || (counts.told == 0 && foreground()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !foreground() {
                return;
            }
            counts =
                self.shared.changed.wait_timeout(counts, left.max(Duration::from_millis(50))).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

fn accept_all(listener: &OwnedFd, uid: u32, shared: &Arc<Shared>) {
    loop {
        let socket = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
            Err(error) => {
                // Out of descriptors: others will be closed.
                tracing::warn!("control socket: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        // Not by rustix: its type for the peer's pid cannot hold 0, which is what a process outside our pid namespace has.
        match getsockopt(&socket, PeerCredentials) {
            Ok(peer) if peer.uid() == uid => {}
            Ok(peer) => {
                tracing::warn!(uid = peer.uid(), "control connection refused");
                continue;
            }
            Err(_) => continue,
        }
        let mut admitted = false;
        shared.count(|counts| {
            admitted = counts.connections < MAX_CONNECTIONS;
            counts.connections += usize::from(admitted);
        });
        if !admitted {
            continue;
        }
        let serving = Arc::clone(shared);
        let serve = move || {
            if let Err(error) = serve(Server::new(socket), &serving) {
                tracing::debug!("control connection: {error}");
            }
            serving.count(|counts| counts.connections -= 1);
        };
        if thread::Builder::new().name("control".into()).stack_size(256 << 10).spawn(serve).is_err() {
            shared.count(|counts| counts.connections -= 1);
        }
    }
}

fn serve(mut server: Server, shared: &Shared) -> Result<(), IpcError> {
    server.greet(CONTROL)?;
    loop {
        let request = match server.next_request() {
            Ok(request) => request,
            Err(IpcError::Closed) => return Ok(()),
            Err(error) => return Err(error),
        };
        let waits = request.tag() == Wait::TAG;
        shared.count(|counts| counts.unanswered += 1);
        let sent = answer(request, &*shared.control).and_then(|answer| server.send(&answer));
        shared.count(|counts| {
            counts.unanswered -= 1;
            counts.told += usize::from(waits && sent.is_ok());
        });
        sent?;
    }
}

fn answer(request: Request, control: &dyn SandboxControl) -> Result<Answer, IpcError> {
    match request.tag() {
        Start::TAG => request.answer(|Start, _| control.start()),
        State::TAG => request.answer(|State, _| control.state()),
        SendSignal::TAG => request.answer(|call: SendSignal, _| match call.signal {
            1..=64 => control.signal(call.signal, call.target),
            _ => Err(22),
        }),
        Wait::TAG => request.answer(|Wait, _| control.wait()),
        ResizeTerminal::TAG => request.answer(|call: ResizeTerminal, _| control.resize_terminal(call.rows, call.columns)),
        Pids::TAG => request.answer(|Pids, _| control.pids()),
        _ => Err(request.unknown()),
    }
}
