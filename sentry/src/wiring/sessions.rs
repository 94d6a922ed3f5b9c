//! Between terminals and the process tree, which do not know each other.

use std::sync::{Arc, OnceLock, Weak};

use sentry_abi::Signal;
use sentry_fs_hostfd::HostFs;
use sentry_fs_tty::{Groups, Terminals};
use sentry_kernel::{Kernel, Terminals as KernelTerminals};

pub(crate) struct Sessions {
    kernel: Arc<OnceLock<Arc<Kernel>>>,
    terminals: OnceLock<Weak<Terminals>>,
    host: OnceLock<Weak<HostFs>>,
}

impl Sessions {
    pub fn new(kernel: Arc<OnceLock<Arc<Kernel>>>) -> Sessions {
        Sessions { kernel, terminals: OnceLock::new(), host: OnceLock::new() }
    }

    pub fn set_terminals(&self, terminals: &Arc<Terminals>) {
        // Called once, by the wiring.
        let _ = self.terminals.set(Arc::downgrade(terminals));
    }

    pub fn set_host(&self, host: &Arc<HostFs>) {
        // Called once, by the wiring.
        let _ = self.host.set(Arc::downgrade(host));
    }

    fn host_terminal(&self, key: u64) -> Option<Arc<sentry_fs_hostfd::Terminal>> {
        self.host.get()?.upgrade()?.terminal(key)
    }

    fn terminal(&self, key: u64) -> Option<Arc<sentry_fs_tty::Terminal>> {
        self.terminals.get()?.upgrade()?.get(key)
    }
}

impl Groups for Sessions {
    fn signal_group(&self, group: i32, signal: Signal) {
        if let Some(kernel) = self.kernel.get() {
            kernel.signal_process_group(group, signal);
        }
    }

    fn hang_up_session(&self, session: i32, foreground: i32) {
        let Some(kernel) = self.kernel.get() else { return };
        kernel.processes.set_controlling_terminal(session, None);
        for signal in [Signal::SIGHUP, Signal::SIGCONT] {
            kernel.signal_process(session, signal);
            if foreground > 0 && foreground != session {
                kernel.signal_process_group(foreground, signal);
            }
        }
    }

    fn take_terminal_from(&self, session: i32) {
        if let Some(kernel) = self.kernel.get() {
            kernel.processes.set_controlling_terminal(session, None);
        }
    }
}

impl KernelTerminals for Sessions {
    fn session_leader_ended(&self, key: u64, session: i32) {
        if let Some(terminal) = self.terminal(key) {
            terminal.release_session(session);
        }
        if let Some(terminal) = self.host_terminal(key) {
            terminal.detach(session);
        }
    }

    fn device(&self, terminal: u64) -> u64 {
        self.terminal(terminal).map_or(0, |t| sentry_abi::stat::make_dev(sentry_fs_tty::PTS_MAJOR, t.number()))
    }

    fn foreground(&self, terminal: u64) -> i32 {
        match self.terminal(terminal) {
            Some(terminal) => terminal.foreground_group(),
            None => self.host_terminal(terminal).and_then(|t| t.foreground()).unwrap_or(-1),
        }
    }
}
