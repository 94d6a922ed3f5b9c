//! Delivering signals to the running task: what get_signal() and the restart logic of arch/x86/kernel/signal.c do.

use sentry_abi::signal::DefaultAction;
use sentry_abi::{Errno, SigInfo, SigSet, Signal};
use sentry_platform::FaultInfo;

use super::action::{Disposition, SigAction, sa};
use crate::task::current::Native;
use crate::task::{CurrentTask, Restart};
use crate::thread_group::ExitStatus;

/// Length of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

impl CurrentTask {
    /// Takes one deliverable signal and acts on it; false when there is none.
    pub(crate) fn deliver_signal(&mut self) -> bool {
        let wanted = SigSet::ALL.without(self.task.mask());
        let Some(info) = self.task.take_signal(wanted) else { return false };
        let Some(signal) = Signal::new(info.signo as u64) else { return true };
        let Some(info) = self.trace_signal(signal, info) else { return true };
        let Some(signal) = Signal::new(info.signo as u64) else { return true };
        let handlers = self.task.group.handlers();
        let action = handlers.get(signal);
        match action.disposition() {
            Disposition::Ignore => {}
            Disposition::Default => self.default_action(signal),
            Disposition::Handler => {
                if action.has(sa::RESETHAND) {
                    handlers.set(signal, SigAction { handler: 0, ..action });
                }
                self.run_handler(signal, &info, &action);
            }
        }
        true
    }

    fn default_action(&mut self, signal: Signal) {
        match signal.default_action() {
            DefaultAction::Ignore | DefaultAction::Continue => {}
            DefaultAction::Stop => {
                let kernel = &self.task.kernel;
                let orphaned = || kernel.processes.process_group(self.task.pid()).is_none_or(|g| kernel.processes.is_orphaned(g));
                if signal == Signal::SIGSTOP || !orphaned() {
                    self.begin_stop(signal);
                }
            }
            DefaultAction::Terminate | DefaultAction::Core => {
                self.end_process(ExitStatus::Signaled { signal, core: false });
            }
        }
    }

    fn run_handler(&mut self, signal: Signal, info: &SigInfo, action: &SigAction) {
        self.settle_interrupted_call(action);
        let old_mask = self.saved_mask.take().unwrap_or_else(|| self.task.mask());
        if self.push_frame(signal, info, action, old_mask).is_err() {
            // No room for the frame: SIGSEGV, by default action if it was SIGSEGV's own frame.
            if signal == Signal::SIGSEGV {
                self.task.group.handlers().set(signal, SigAction::default());
            }
            self.set_mask(old_mask);
            self.force_signal(SigInfo::new(Signal::SIGSEGV, sentry_abi::signal::SI_KERNEL), None);
            return;
        }
        let mut blocked = self.task.mask().union(action.mask);
        if !action.has(sa::NODEFER) {
            blocked = blocked.union(SigSet::of(signal));
        }
        self.set_mask(blocked);
    }

    /// A handler is about to run over an interrupted call: restart it afterwards, or let it fail.
    fn settle_interrupted_call(&mut self, action: &SigAction) {
        let Some((restart, _)) = self.interrupted.take() else { return };
        let again = match restart {
            Restart::Always => true,
            Restart::IfAllowed => action.has(sa::RESTART),
            Restart::WithoutHandler | Restart::Block => false,
        };
        let number = self.thread.call().number;
        let registers = self.thread.registers();
        if again {
            registers.rip = registers.rip.wrapping_sub(SYSCALL_LEN);
            registers.rax = number;
        } else {
            registers.rax = Errno::EINTR.as_result();
        }
        registers.orig_rax = u64::MAX;
    }

    /// No handler ran: an interrupted call starts again, in the guest, or right here if it left a restart block. True in the second case: it
    /// may have been interrupted again.
    pub(crate) fn finish_interrupted_call(&mut self) -> bool {
        let Some((restart, native)) = self.interrupted.take() else { return false };
        if native == Native::Platform {
            self.thread.resume_native();
            return false;
        }
        if restart == Restart::Block {
            let result = self.run_restart();
            self.complete(result);
            return true;
        }
        let number = self.thread.call().number;
        let registers = self.thread.registers();
        registers.rip = registers.rip.wrapping_sub(SYSCALL_LEN);
        registers.rax = number;
        false
    }

    /// A signal that cannot be blocked or ignored since an instruction of the thread raised it (force_sig_info).
    pub(crate) fn force_signal(&mut self, info: SigInfo, fault: Option<FaultInfo>) {
        let Some(signal) = Signal::new(info.signo as u64) else { return };
        self.last_fault = fault.unwrap_or_default();
        let handlers = self.task.group.handlers();
        let blocked = self.task.mask().contains(signal);
        if blocked || handlers.get(signal).disposition() == Disposition::Ignore {
            handlers.set(signal, SigAction::default());
            let mask = self.task.mask().without(SigSet::of(signal));
            self.set_mask(mask);
        }
        // A standard signal is never refused for a full queue.
        let _ = self.task.pending.lock().push(signal, info, u64::MAX);
    }
}
