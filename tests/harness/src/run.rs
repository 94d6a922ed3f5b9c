//! Runs one command to its end, or to the end of its time.

use crate::processes::{self, Process};
use anyhow::{Context, Result};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long the processes of a sandbox may outlive the command.
const GRACE: Duration = Duration::from_millis(1500);
/// More output than this is cut off.
const OUTPUT_LIMIT: u64 = 16 << 20;

/// What came of it.
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// None when the time was up.
    pub status: Option<ExitStatus>,
    pub took: Duration,
    /// Processes that were alive after the command, and were killed.
    pub left: Vec<Process>,
}

impl Outcome {
    /// The exit code as a shell tells it; -1 when the time was up.
    pub fn code(&self) -> i32 {
        match self.status {
            Some(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            None => -1,
        }
    }

    /// What is wrong with any run, whatever it was to do.
    pub fn trouble(&self) -> Option<String> {
        let mut trouble = String::new();
        if self.status.is_none() {
            trouble.push_str(&format!("timed out after {:.1?}\n", self.took));
        }
        if !self.left.is_empty() {
            trouble.push_str("left behind:\n");
            for process in &self.left {
                trouble.push_str(&format!("  {}\n", process.shown()));
            }
        }
        (!trouble.is_empty()).then_some(trouble)
    }
}

/// Runs it with no input.
pub fn run(command: &mut Command, limit: Duration) -> Result<Outcome> {
    command.stdin(Stdio::null());
    run_with_input(command, limit)
}

/// Runs it with the input that the command was given.
pub fn run_with_input(command: &mut Command, limit: Duration) -> Result<Outcome> {
    let begin = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, limit)?;
    let mut left = processes::await_none(if status.is_some() { GRACE } else { Duration::ZERO });
    if !left.is_empty() {
        processes::kill_all();
    }
    if status.is_none() {
        let _ = child.wait();
        left.clear(); // the time limit says it already
    }
    let took = begin.elapsed();
    Ok(Outcome { stdout: received(&stdout), stderr: received(&stderr), status, took, left })
}

/// Waits for the child; on time-out kills it and all that came of it.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    let pid = i32::try_from(child.id()).context("a process id is an i32")?;
    let mut nap = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > end {
            processes::signal(pid, nix::sys::signal::Signal::SIGKILL);
            let _ = child.wait();
            processes::kill_all();
            return Ok(None);
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(10));
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes);
        }
        let _ = send.send(bytes);
    });
    receive
}

fn received(from: &Receiver<Vec<u8>>) -> String {
    let bytes = from.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
