//! Benches: ratios to the host taken in one interleaved run, start-up beside runc, memory of an idle sandbox.
//!
//! Nothing is asserted: the table says which bars are met.

use crate::bundle::{Bundle, StateFolder};
use crate::compile::{self, Link};
use crate::options::{Options, root};
use crate::processes::{self, Process};
use crate::run;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// All of micro.c's names, with the bar where there is one.
const NAMES: &[(&str, Option<f64>)] = &[
    ("getppid", Some(45.0)),
    ("clock_gettime", Some(1.1)),
    ("read_zero_1", None),
    ("write_zero_1", None),
    ("pread_1", None),
    ("pread_4k", None),
    ("pread_64k", None),
    ("pwrite_1", None),
    ("pwrite_4k", None),
    ("lseek", None),
    ("fstat", None),
    ("stat", None),
    ("stat_missing", None),
    ("open_close", None),
    ("create_unlink", None),
    ("getdents_1000", None),
    ("fault_anon_4k", Some(1.2)),
    ("fault_file_4k", Some(1.2)),
    ("mmap_touch_munmap", Some(5.0)),
    ("mprotect", None),
    ("pipe_self", None),
    ("pipe_pingpong", None),
    ("unix_pingpong", None),
    ("pipe_bw_64k", None),
    ("futex_pingpong", None),
    ("futex_wake_none", None),
    ("eventfd_epoll", None),
    ("signal_self", None),
    ("sigprocmask", None),
    ("sched_yield", None),
    ("thread_create_join", Some(7.0)),
    ("fork_wait", Some(4.0)),
    ("fork_wait_64m", Some(1.5)),
    ("fork_exec_wait", Some(4.0)),
    ("vfork_exec_wait", None),
];
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);
const LIVES: usize = 15;

/// Prints the table.
pub fn run(options: &Options) -> Result<()> {
    let source = root().join("tests/bench/micro.c");
    let micro = compile::program(&source, "bench", Link::Static)?;
    println!("{:<22} {:>12} {:>12} {:>8} {:>6}", "name", "host ns", "sandbox ns", "ratio", "bar");
    for (name, bar) in NAMES {
        if options.wants(name) {
            interleaved(options, &micro, name, *bar)?;
        }
    }
    if options.wants("life") {
        lives(options)?;
    }
    if options.wants("idle") {
        idle(options)?;
    }
    Ok(())
}

fn interleaved(options: &Options, micro: &Path, name: &str, bar: Option<f64>) -> Result<()> {
    let (mut host, mut sandbox): (Option<f64>, Option<f64>) = (None, None);
    let mut trouble = String::new();
    for _ in 0..ROUNDS {
        let outcome = run::run(Command::new(micro).arg(name), LIMIT)?;
        keep_least(&mut host, figure(&outcome.stdout, name));
        let mut command = Command::new(&options.runsc);
        let outcome = run::run(command.args(options.flags()).arg("do").arg(micro).arg(name), LIMIT)?;
        match figure(&outcome.stdout, name) {
            Some(ns) => keep_least(&mut sandbox, Some(ns)),
            None => {
                trouble = format!("exit {} {}", outcome.code(), outcome.stderr.lines().last().unwrap_or(""));
                break;
            }
        }
    }
    row(name, host, sandbox, bar, &trouble);
    Ok(())
}

fn figure(output: &str, name: &str) -> Option<f64> {
    output.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn keep_least(kept: &mut Option<f64>, new: Option<f64>) {
    *kept = match (*kept, new) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn row(name: &str, host: Option<f64>, sandbox: Option<f64>, bar: Option<f64>, trouble: &str) {
    let shown = |value: Option<f64>| value.map_or("-".to_string(), |v| format!("{v:.1}"));
    let ratio = host.zip(sandbox).map(|(h, s)| s / h);
    let verdict = match (ratio, bar) {
        (Some(ratio), Some(bar)) if ratio <= bar => "met",
        (Some(_), Some(_)) => "OVER",
        _ => "",
    };
    let ratio = ratio.map_or("-".to_string(), |r| format!("{r:.2}"));
    let bar = bar.map_or(String::new(), |b| format!("{b}"));
    println!("{name:<22} {:>12} {:>12} {ratio:>8} {bar:>6} {verdict} {trouble}", shown(host), shown(sandbox));
}

/// The whole life of `true` in a bundle, beside runc's with the same bundle.
fn lives(options: &Options) -> Result<()> {
    let bundle = Bundle::new(&["/bin/true"])?;
    let (ours, theirs) = (StateFolder::new("ours")?, StateFolder::new("runc")?);
    let runc = PathBuf::from("/usr/sbin/runc");
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    for i in 0..LIVES {
        let id = format!("life-{}-{i}", std::process::id());
        let flags = options.flags();
        if let Some(took) = life(&options.runsc, &flags, ours.path(), &bundle, &id)? {
            fast.push(took);
        }
        if runc.exists()
            && let Some(took) = life(&runc, &[], theirs.path(), &bundle, &id)?
        {
            slow.push(took);
        }
    }
    fast.sort_by(f64::total_cmp);
    slow.sort_by(f64::total_cmp);
    let median = |times: &[f64]| times.get(times.len() / 2).copied();
    println!("(life: median of {LIVES}; the first column is runc's)");
    row("life_of_true", median(&slow), median(&fast), Some(2.0), "");
    row("life_of_true_least", slow.first().copied(), fast.first().copied(), None, "");
    Ok(())
}

fn life(runtime: &Path, flags: &[String], state: &Path, bundle: &Bundle, id: &str) -> Result<Option<f64>> {
    let mut command = Command::new(runtime);
    command.args(flags).arg("--root").arg(state).arg("run").arg("--bundle").arg(&bundle.folder).arg(id);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| format!("starting {}", runtime.display()))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begin.elapsed() > LIMIT {
            processes::kill_all();
            break None;
        }
        std::thread::sleep(Duration::from_micros(100)); // finer than run::wait: this is what is measured
    };
    let took = begin.elapsed();
    processes::await_none(Duration::from_secs(2));
    #[expect(clippy::cast_precision_loss, reason = "a time in nanoseconds, for show")]
    Ok(status.is_some_and(|s| s.success()).then_some(took.as_nanos() as f64))
}

/// Proportional memory of a sandbox with one sleeping busybox.
fn idle(options: &Options) -> Result<()> {
    let mut command = Command::new(&options.runsc);
    command.args(options.flags()).args(["do", "/bin/busybox", "sleep", "60"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("starting runsc")?;
    std::thread::sleep(Duration::from_secs(3));
    let front = i32::try_from(child.id()).context("a process id is an i32")?;
    let mut total = 0;
    for process in processes::alive() {
        let kib = process.pss_kib();
        println!("idle: {kib:>7} KiB  {}", process.shown());
        if process.pid != front {
            total += kib;
        }
    }
    println!("idle: {total} KiB proportional without the front end, at most 10240 wanted: {}", if total <= 10240 { "met" } else { "OVER" });
    let left: Vec<Process> = processes::kill_all();
    let _ = child.wait();
    println!("idle: {} processes", left.len());
    Ok(())
}
