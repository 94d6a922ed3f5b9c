//! What a process does with each signal: sigaction(2).

use sentry_abi::signal::DefaultAction;
use sentry_abi::{SigSet, Signal};
use sentry_sync::{Level, Mutex};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SA_*`.
pub mod sa {
    pub const NOCLDSTOP: u64 = 1;
    pub const NOCLDWAIT: u64 = 2;
    pub const SIGINFO: u64 = 4;
    pub const RESTORER: u64 = 0x0400_0000;
    pub const ONSTACK: u64 = 0x0800_0000;
    pub const RESTART: u64 = 0x1000_0000;
    pub const NODEFER: u64 = 0x4000_0000;
    pub const RESETHAND: u64 = 0x8000_0000;
}

/// `struct kernel_sigaction` of x86-64: 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigAction {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: SigSet,
}

const SIG_DFL: u64 = 0;
const SIG_IGN: u64 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    Default,
    Ignore,
    Handler,
}

impl SigAction {
    pub fn disposition(&self) -> Disposition {
        match self.handler {
            SIG_DFL => Disposition::Default,
            SIG_IGN => Disposition::Ignore,
            _ => Disposition::Handler,
        }
    }

    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }
}

/// The table, shared by tasks that were cloned with CLONE_SIGHAND.
pub struct Handlers(Mutex<[SigAction; 64]>);

impl Default for Handlers {
    fn default() -> Handlers {
        Handlers(Mutex::new(Level::Leaf, [SigAction::default(); 64]))
    }
}

impl Handlers {
    pub fn get(&self, signal: Signal) -> SigAction {
        self.0.lock()[signal.number() as usize - 1]
    }

    /// Returns the old one.
    pub fn set(&self, signal: Signal, action: SigAction) -> SigAction {
        std::mem::replace(&mut self.0.lock()[signal.number() as usize - 1], action)
    }

    pub fn copy(&self) -> Handlers {
        Handlers(Mutex::new(Level::Leaf, *self.0.lock()))
    }

    /// execve(2): handlers become defaults, ignored signals stay ignored.
    pub fn after_exec(&self) -> Handlers {
        let mut table = *self.0.lock();
        for action in &mut table {
            let handler = if action.disposition() == Disposition::Ignore { action.handler } else { SIG_DFL };
            *action = SigAction { handler, ..SigAction::default() };
        }
        Handlers(Mutex::new(Level::Leaf, table))
    }

    /// clone(2) with CLONE_CLEAR_SIGHAND: handlers become defaults, ignored ones stay.
    pub fn cleared(&self) -> Handlers {
        self.after_exec()
    }

    /// Would the signal be thrown away if it were not blocked?
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.get(signal).disposition() {
            Disposition::Ignore => true,
            // SIGCONT has done its work when it is sent.
            Disposition::Default => matches!(signal.default_action(), DefaultAction::Ignore | DefaultAction::Continue),
            Disposition::Handler => false,
        }
    }

    /// Signals that are ignored, and those that have a handler (/proc/pid/status).
    pub fn summary(&self) -> (SigSet, SigSet) {
        let (mut ignored, mut caught) = (SigSet::EMPTY, SigSet::EMPTY);
        for (index, action) in self.0.lock().iter().enumerate() {
            match action.disposition() {
                Disposition::Ignore => ignored.0 |= 1 << index,
                Disposition::Handler => caught.0 |= 1 << index,
                Disposition::Default => {}
            }
        }
        (ignored, caught)
    }
}
