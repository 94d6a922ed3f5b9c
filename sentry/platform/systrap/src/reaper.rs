//! Collects the sentry's children. Every stub is one (CLONE_PARENT, and the zygote's maker is gone).
//!
//! A child is first looked at, then its process is told, and only then its id is given back to the host: so whoever holds the life lock of
//! a process may use its pid.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use sentry_platform::HostExit;
use sentry_sync::{Level, Mutex};

use crate::process::Process;
use crate::sys;

/// Dead children that nobody has claimed: a stub killed between clone and its hello.
const UNKNOWN_KEPT: usize = 1024;

/// One a sentry process; no other code of the sentry may wait for children.
pub struct Reaper {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<i32, Weak<Process>>,
    unknown: VecDeque<(i32, HostExit)>,
    /// Told of every unknown death.
    watchers: Vec<Weak<Process>>,
}

impl Reaper {
    /// Starts the reaping thread.
    pub fn start() -> io::Result<Arc<Reaper>> {
        let reaper = Arc::new(Reaper { state: Mutex::new(Level::PlatformTable, State::default()) });
        let own = reaper.clone();
        thread::Builder::new().name("reaper".into()).stack_size(128 << 10).spawn(move || {
            loop {
                match sys::wait_any() {
                    Some((pid, exit)) => own.ended(pid, exit),
                    // No child yet, or none left.
                    None => thread::sleep(Duration::from_millis(20)),
                }
            }
        })?;
        Ok(reaper)
    }

    fn ended(&self, pid: i32, exit: HostExit) {
        let process = {
            let mut state = self.state.lock();
            let process = state.known.remove(&pid).and_then(|p| p.upgrade());
            if process.is_none() {
                if state.unknown.len() == UNKNOWN_KEPT {
                    state.unknown.pop_front();
                }
                state.unknown.push_back((pid, exit));
            }
            process
        };
        match process {
            Some(process) => process.set_dead(exit),
            None => {
                let mut watchers: Vec<_> = Vec::new();
                {
                    let mut state = self.state.lock();
                    state.watchers.retain(|w| w.strong_count() > 0);
                    watchers.extend(state.watchers.iter().filter_map(Weak::upgrade));
                }
                for process in watchers {
                    process.poke();
                }
            }
        }
        sys::reap(pid);
    }

    /// From now on the death of `pid` is `process`'s. It may have died already, unclaimed.
    pub fn claim(&self, pid: i32, process: &Arc<Process>) {
        let exit = {
            let mut state = self.state.lock();
            match state.unknown.iter().position(|(p, _)| *p == pid) {
                Some(at) => state.unknown.remove(at).map(|(_, exit)| exit),
                None => {
                    state.known.insert(pid, Arc::downgrade(process));
                    None
                }
            }
        };
        if let Some(exit) = exit {
            process.set_dead(exit);
        }
    }

    /// Takes the death of a child that nobody claimed.
    pub fn take_unknown(&self, pid: i32) -> Option<HostExit> {
        let mut state = self.state.lock();
        let at = state.unknown.iter().position(|(p, _)| *p == pid)?;
        state.unknown.remove(at).map(|(_, exit)| exit)
    }

    /// `process` is waiting for a birth, and wants to hear of unknown deaths until it is dropped or [`Self::unwatch`].
    pub fn watch(&self, process: &Arc<Process>) {
        self.state.lock().watchers.push(Arc::downgrade(process));
    }

    pub fn unwatch(&self, process: &Arc<Process>) {
        let mut state = self.state.lock();
        if let Some(at) = state.watchers.iter().position(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(process))) {
            state.watchers.swap_remove(at);
        }
    }
}
