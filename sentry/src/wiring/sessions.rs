//! Between terminals and the process tree, which do not know each other.

use std::sync::{Arc, OnceLock, Weak};

use sentry_abi::Signal;
use sentry_fs_tty::{Groups, Terminals};
use sentry_kernel::{Kernel, Terminals as KernelTerminals};

pub(crate) struct Sessions {
    kernel: Arc<OnceLock<Arc<Kernel>>>,
    terminals: OnceLock<Weak<Terminals>>,
}

impl Sessions {
    pub fn new(kernel: Arc<OnceLock<Arc<Kernel>>>) -> Sessions {
        Sessions { kernel, terminals: OnceLock::new() }
    }

    pub fn set_terminals(&self, terminals: &Arc<Terminals>) {
        // Called once, by the wiring.
        let _ = self.terminals.set(Arc::downgrade(terminals));
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
    fn session_leader_ended(&self, terminal: u64, session: i32) {
        if let Some(terminal) = self.terminal(terminal) {
            terminal.release_session(session);
        }
    }

    fn device(&self, terminal: u64) -> u64 {
        self.terminal(terminal).map_or(0, |t| sentry_abi::stat::make_dev(sentry_fs_tty::PTS_MAJOR, t.number()))
    }

    fn foreground(&self, terminal: u64) -> i32 {
        self.terminal(terminal).map_or(-1, |t| t.foreground_group())
    }
}
