//! An OCI runtime's command line, ours or runc's.

use crate::bundle::{Bundle, StateFolder};
use crate::options::Options;
use crate::processes;
use crate::run;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::cell::Cell;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// One runtime with a state folder of its own.
pub struct Runtime {
    pub name: String,
    pub path: PathBuf,
    flags: Vec<String>,
    pub state: StateFolder,
    next: Cell<u32>,
}

/// What one call of it said.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// The call must have succeeded.
    pub fn ok(self) -> Result<Self> {
        ensure!(self.code == 0, "exit {}: {}", self.code, self.stderr.trim());
        Ok(self)
    }

    /// The call must have failed and said so.
    pub fn refused(self) -> Result<Self> {
        ensure!(self.code != 0, "it succeeded");
        ensure!(!self.stderr.trim().is_empty(), "it failed without a word");
        Ok(self)
    }
}

impl Runtime {
    /// Ours.
    pub fn ours(options: &Options) -> Result<Self> {
        Self::new("runsc", options.runsc.clone(), options.flags())
    }

    /// Ours, with one more global flag.
    pub fn ours_with(options: &Options, flag: &str) -> Result<Self> {
        let mut flags = options.flags();
        flags.push(flag.to_string());
        Self::new("runsc", options.runsc.clone(), flags)
    }

    /// Runc, if it is there.
    pub fn runc() -> Result<Option<Self>> {
        let path = PathBuf::from("/usr/sbin/runc");
        if path.exists() { Self::new("runc", path, Vec::new()).map(Some) } else { Ok(None) }
    }

    fn new(name: &str, path: PathBuf, flags: Vec<String>) -> Result<Self> {
        Ok(Self { name: name.to_string(), path, flags, state: StateFolder::new(name)?, next: Cell::new(0) })
    }

    /// Whether it is ours.
    pub fn is_ours(&self) -> bool {
        self.name == "runsc"
    }

    /// A container id that was not used before.
    pub fn new_id(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("test-{}-{}", std::process::id(), self.next.get())
    }

    /// The command with its global flags.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.flags).arg("--root").arg(self.state.path()).args(args);
        command
    }

    /// Calls it. Its output goes to files, as a container that outlives the call keeps it open.
    pub fn call(&self, args: &[&str]) -> Result<Said> {
        self.call_command(&mut self.command(args))
    }

    /// Calls a prepared command.
    pub fn call_command(&self, command: &mut Command) -> Result<Said> {
        let folder = std::env::temp_dir();
        let (out, err) = (folder.join(format!("out.{}", self.new_id())), folder.join(format!("err.{}", self.new_id())));
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
        let mut child = command.spawn().with_context(|| format!("starting {}", self.path.display()))?;
        let status = run::wait(&mut child, LIMIT)?;
        let text = |path: &PathBuf| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
        let said = Said { code: status.and_then(|s| s.code()).unwrap_or(-1), stdout: text(&out), stderr: text(&err) };
        let _ = std::fs::remove_file(out);
        let _ = std::fs::remove_file(err);
        ensure!(status.is_some(), "{:?} timed out: {}", command.get_args().collect::<Vec<_>>(), said.stderr);
        Ok(said)
    }

    /// `run` of the bundle to its end.
    pub fn run(&self, bundle: &Bundle) -> Result<Said> {
        let id = self.new_id();
        let said = self.call(&["run", "--bundle", &bundle.folder.to_string_lossy(), &id])?;
        self.nothing_left()?;
        Ok(said)
    }

    /// `create` of the bundle; its id and where its output goes.
    pub fn create(&self, bundle: &Bundle) -> Result<Created<'_>> {
        let id = self.new_id();
        let output = bundle.folder.join("output");
        let mut command = self.command(&["create", "--bundle", &bundle.folder.to_string_lossy(), &id]);
        let error = bundle.folder.join("error");
        command.stdin(Stdio::null()).stdout(File::create(&output)?).stderr(File::create(&error)?);
        let mut child = command.spawn()?;
        match run::wait(&mut child, LIMIT)? {
            Some(status) if status.success() => Ok(Created { runtime: self, id, output }),
            Some(_) => bail!("create: {}", std::fs::read_to_string(error)?.trim()),
            None => bail!("create timed out"),
        }
    }

    /// The state of a container.
    pub fn state_of(&self, id: &str) -> Result<Value> {
        let said = self.call(&["state", id])?.ok()?;
        serde_json::from_str(&said.stdout).with_context(|| format!("state said {}", said.stdout))
    }

    /// Waits until the container's status is this.
    pub fn await_status(&self, id: &str, status: &str, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            let state = self.state_of(id)?;
            if state["status"] == status {
                return Ok(());
            }
            ensure!(Instant::now() < end, "status is {} and not {status}", state["status"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// No process of it, no state.
    pub fn nothing_left(&self) -> Result<()> {
        let left = processes::await_none(Duration::from_secs(2));
        if !left.is_empty() {
            let shown: Vec<String> = left.iter().map(processes::Process::shown).collect();
            processes::kill_all();
            bail!("processes left behind: {}", shown.join(", "));
        }
        let entries = self.state.entries();
        ensure!(entries.is_empty(), "state left behind: {}", entries.join(", "));
        Ok(())
    }
}

/// A created container, deleted by force when dropped.
pub struct Created<'a> {
    runtime: &'a Runtime,
    pub id: String,
    output: PathBuf,
}

impl Created<'_> {
    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Calls a verb on it.
    pub fn call(&self, verb: &[&str], after: &[&str]) -> Result<Said> {
        let mut args = verb.to_vec();
        args.push(&self.id);
        args.extend_from_slice(after);
        self.runtime.call(&args)
    }

    /// Its status.
    pub fn status(&self) -> Result<String> {
        Ok(self.runtime.state_of(&self.id)?["status"].as_str().unwrap_or("").to_string())
    }

    /// Waits for a status.
    pub fn await_status(&self, status: &str) -> Result<()> {
        self.runtime.await_status(&self.id, status, Duration::from_secs(5))
    }

    /// Waits until it has printed this.
    pub fn await_output(&self, text: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        while !self.output().contains(text) {
            ensure!(Instant::now() < end, "it never printed {text:?} but {:?}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        let _ = self.call(&["delete", "--force"], &[]);
    }
}
