//! Guest programs under fire: SIGSTOP and SIGCONT, and the interrupt signal, at random at all stubs. No hang, no leak, no wrong result.

use crate::compile::{self, Link};
use crate::options::{Options, root};
use crate::processes;
use crate::report::Report;
use crate::roles::{self, Role};
use crate::run;
use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// Programs that do not measure short times.
const PROGRAMS: &[&str] = &["threads", "process", "futex", "pipes", "signals", "lives"];

/// What is thrown at the stubs.
#[derive(Clone, Copy)]
enum Fire {
    StopAndContinue,
    /// What a stub's thread gets when the sentry wants its attention; harmless by its contract.
    Interrupt,
}

/// Runs the programs under each kind of fire, and random kills of stubs.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    if options.native {
        return Ok(());
    }
    for (name, fire) in [("stop_and_continue", Fire::StopAndContinue), ("interrupt", Fire::Interrupt)] {
        for program in PROGRAMS {
            let shown = format!("torture/{name}/{program}");
            if (options.wants(name) || options.wants(program)) && !report.out_of_time(&shown) {
                report.check(&shown, under_fire(options, program, fire));
            }
        }
    }
    if options.wants("kills") {
        report.check("torture/kills", random_kills(options));
    }
    Ok(())
}

fn under_fire(options: &Options, program: &str, fire: Fire) -> Result<()> {
    let source = root().join(format!("tests/guest/{program}.c"));
    let built = compile::program(&source, "guest", Link::Static)?;
    let mut command = Command::new(&options.runsc);
    command.args(options.flags()).arg("do").arg(&built);
    let over = Arc::new(AtomicBool::new(false));
    let gunner = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut random = Random(0x9e37_79b9_7f4a_7c15);
            while !over.load(Ordering::Relaxed) {
                shoot(fire, &mut random);
                std::thread::sleep(Duration::from_millis(1 + random.below(15)));
            }
        }
    });
    let outcome = run::run(&mut command, LIMIT);
    over.store(true, Ordering::Relaxed);
    let _ = gunner.join();
    let outcome = outcome?;
    let failed: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
    if let Some(trouble) = outcome.trouble() {
        bail!("{trouble}{}", failed.join("\n"));
    }
    ensure!(failed.is_empty() && outcome.code() == 0, "exit {}\n{}\n{}", outcome.code(), failed.join("\n"), outcome.stderr);
    Ok(())
}

fn shoot(fire: Fire, random: &mut Random) {
    let stubs = roles::of(Role::Stub);
    if stubs.is_empty() {
        return;
    }
    let count = u64::try_from(stubs.len()).unwrap_or(1);
    let target = &stubs[usize::try_from(random.below(count)).unwrap_or(0)];
    match fire {
        Fire::StopAndContinue => {
            processes::signal(target.pid, Signal::SIGSTOP);
            std::thread::sleep(Duration::from_millis(random.below(5)));
            processes::signal(target.pid, Signal::SIGCONT);
        }
        Fire::Interrupt => {
            processes::signal(target.pid, Signal::SIGUSR1);
        }
    }
}

/// A shell that forks all the time loses random processes; it and the sandbox go on to the end.
fn random_kills(options: &Options) -> Result<()> {
    let script = "i=0; while [ $i -lt 300 ]; do /bin/true; (exit 3); echo x | cat > /dev/null; i=$((i + 1)); done; echo end";
    for round in 0..3_u64 {
        let mut command = Command::new(&options.runsc);
        command.args(options.flags()).args(["do", "/bin/sh", "-c", script]);
        let over = Arc::new(AtomicBool::new(false));
        let killer = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let mut random = Random(round + 1);
                let mut known: Vec<i32> = Vec::new();
                std::thread::sleep(Duration::from_millis(300));
                while !over.load(Ordering::Relaxed) {
                    let mut stubs: Vec<i32> = roles::of(Role::Stub).iter().map(|process| process.pid).collect();
                    stubs.sort_unstable();
                    if known.is_empty() {
                        known.clone_from(&stubs); // the zygote and the shell are among the first
                    }
                    stubs.retain(|pid| !known.contains(pid));
                    if let Some(pid) = stubs.last() {
                        processes::signal(*pid, Signal::SIGKILL);
                    }
                    std::thread::sleep(Duration::from_millis(2 + random.below(20)));
                }
            }
        });
        let outcome = run::run(&mut command, LIMIT);
        over.store(true, Ordering::Relaxed);
        let _ = killer.join();
        let outcome = outcome?;
        if let Some(trouble) = outcome.trouble() {
            bail!("{trouble}");
        }
        ensure!(outcome.stdout == "end\n" && outcome.code() == 0, "exit {}: {:?} {}", outcome.code(), outcome.stdout, outcome.stderr);
    }
    Ok(())
}

/// A small generator: the same shots in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}
