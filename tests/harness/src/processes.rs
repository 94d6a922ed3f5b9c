//! The host's processes, as /proc shows them. Only descendants of this process are ever killed, one by one, by their ids.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Makes this process the parent of orphaned descendants, so that nothing that a test starts is lost from sight.
pub fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("becoming a subreaper")
}

/// One process from outside.
#[derive(Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub state: char,
    /// Its name in the kernel.
    pub name: String,
    /// Its arguments; empty for stubs that have none.
    pub arguments: Vec<String>,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = stat.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = line.split(|b| *b == 0).filter(|a| !a.is_empty()).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        Some(Self { pid, parent, state, name: head.split_once('(')?.1.to_string(), arguments })
    }

    /// A field of /proc/PID/status.
    pub fn status(&self, field: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let prefix = format!("{field}:");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).map(|value| value.trim().to_string())
    }

    /// What a link in /proc/PID says.
    pub fn link(&self, name: &str) -> Option<String> {
        std::fs::read_link(format!("/proc/{}/{name}", self.pid)).ok().map(|to| to.to_string_lossy().into_owned())
    }

    /// Proportional memory in KiB.
    pub fn pss_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// A short description for messages.
    pub fn shown(&self) -> String {
        format!("{} {} {:?}", self.pid, self.name, self.arguments.join(" "))
    }
}

/// All descendants of a process, zombies included, parents first.
pub fn descendants(of: i32) -> Vec<Process> {
    let mut children: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Process::read) {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).into_iter().flatten() {
            open.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// Live descendants of this process.
pub fn alive() -> Vec<Process> {
    descendants(getpid().as_raw()).into_iter().filter(|process| process.state != 'Z').collect()
}

/// Takes the status of adopted children that have ended, but for the one that a `Child` still waits for.
pub fn reap(but: Option<i32>) {
    for process in descendants(getpid().as_raw()) {
        if process.state == 'Z' && process.parent == getpid().as_raw() && Some(process.pid) != but {
            let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Sends a signal to one process; whether it was there.
pub fn signal(pid: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid), signal) != Err(Errno::ESRCH)
}

/// Waits until no descendant is alive, or gives those that are.
pub fn await_none(patience: Duration) -> Vec<Process> {
    let end = Instant::now() + patience;
    loop {
        reap(None);
        let left = alive();
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Kills every descendant by its id; those that were there.
pub fn kill_all() -> Vec<Process> {
    let victims = alive();
    for _ in 0..50 {
        let left = alive();
        if left.is_empty() {
            break;
        }
        for process in left {
            signal(process.pid, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
        reap(None);
    }
    victims
}
