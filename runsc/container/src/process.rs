//! Host processes that are named in a record: a number alone could have been given to another process since.

use std::fs;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process by number and start time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    pub pid: i32,
    /// Clock ticks since boot, as /proc/PID/stat has it.
    pub start_time: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        let (_, start_time) = stat(pid)?;
        Some(Self { pid, start_time })
    }

    /// It exists and is not a zombie.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, start)| start == self.start_time && !matches!(state, 'Z' | 'X'))
    }
}

/// State letter and start time.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything; what follows its closing bracket is plain.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Kills the processes and waits until all have ended. Returns those that have not in time.
pub fn kill_and_wait(processes: &[ProcessId], at_most: Duration) -> Vec<ProcessId> {
    let deadline = Instant::now() + at_most;
    let mut waiting = Vec::new();
    for process in processes {
        let Some(pidfd) = Pid::from_raw(process.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { continue };
        // Looked at after opening: now the number cannot be reused unseen.
        if !process.is_alive() {
            continue;
        }
        // Fails only when it has just ended.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
        waiting.push((*process, pidfd));
    }
    waiting
        .into_iter()
        .filter(|(process, pidfd)| {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout));
            process.is_alive()
        })
        .map(|(process, _)| process)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{ProcessId, kill_and_wait};
    use std::time::Duration;

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = ProcessId::of(std::process::id() as i32).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.is_alive());
    }

    #[test]
    fn killing_waits_for_the_end() {
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let id = ProcessId::of(child.id() as i32).unwrap();
        assert_eq!(kill_and_wait(&[id], Duration::from_secs(5)), []);
        assert!(!id.is_alive());
        child.wait().unwrap();
    }
}
