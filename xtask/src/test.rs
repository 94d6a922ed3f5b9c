//! `cargo xtask test [KIND]`: the suites, and the one closing line.

use crate::{build, check, packages, process, tree};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// In the order in which a full run takes them: what is quick and basic first.
const SUITES: &[&str] = &["guest", "escape", "posture", "oci", "faults", "apps", "torture"];

/// How many tests went which way.
#[derive(Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    /// Counts one test.
    pub fn count(&mut self, name: &str, good: bool) {
        println!("{} {name}", if good { "ok" } else { "FAIL" });
        if good {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Adds another's numbers.
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
    }
}

/// Runs one kind or all; whether nothing failed.
pub fn test(args: &[String]) -> Result<bool> {
    let mut tally = Tally::default();
    match args {
        [] => {
            packages::install()?;
            tally.add(check::tallied()?);
            let runsc = build::build()?;
            for suite in SUITES {
                tally.add(harness(suite, &[], &runsc)?);
            }
        }
        [kind, ..] if kind == "unit" => tally.add(check::unit()?),
        [kind, rest @ ..] if SUITES.contains(&kind.as_str()) => {
            packages::install()?;
            let native = rest.iter().any(|arg| arg == "--native");
            let runsc = if native { tree::dist().join("runsc") } else { build::build()? };
            tally.add(harness(kind, rest, &runsc)?);
        }
        [kind, ..] => bail!("unknown kind {kind}: unit {}", SUITES.join(" ")),
    }
    println!("{tally}");
    Ok(tally.failed == 0)
}

/// Runs one suite of tests/harness. What fails is tried a second time, together with its neighbours: on a busy machine a time limit can run out.
/// A test that fails once of two is named as flaky, which is a bug to look for, but does not fail the run; one that fails twice does.
fn harness(suite: &str, args: &[String], runsc: &Path) -> Result<Tally> {
    process::run(&mut process::command("cargo", &["build", "--quiet", "--locked", "-p", "tests-harness"]))?;
    let first = run_suite(suite, args, runsc)?;
    if first.failed.is_empty() || !args.is_empty() {
        return Ok(first.tally());
    }
    println!("{suite}: {} failed; once more", first.failed.len());
    let second = run_suite(suite, &again(suite, &first.failed), runsc)?;
    let (twice, once): (Vec<String>, Vec<String>) = first.failed.into_iter().partition(|name| second.failed.contains(name));
    for name in &once {
        println!("flaky: {name}");
    }
    Ok(Tally { passed: first.passed + once.len() as u64, failed: twice.len() as u64, skipped: first.skipped })
}

/// The names that run `failed` again: a guest program runs as a whole, and so do the small suites.
fn again(suite: &str, failed: &[String]) -> Vec<String> {
    let mut names: Vec<String> = match suite {
        "guest" | "escape" => failed.iter().filter_map(|name| name.split('/').next()).map(str::to_string).collect(),
        "apps" => failed.to_vec(),
        _ => Vec::new(),
    };
    names.sort();
    names.dedup();
    names
}

/// What one run of a suite said.
struct SuiteRun {
    passed: u64,
    skipped: u64,
    failed: Vec<String>,
}

impl SuiteRun {
    fn tally(&self) -> Tally {
        Tally { passed: self.passed, failed: self.failed.len() as u64, skipped: self.skipped }
    }
}

fn run_suite(suite: &str, args: &[String], runsc: &Path) -> Result<SuiteRun> {
    let report = tree::target().join(format!("{suite}.report"));
    let _ = std::fs::remove_file(&report);
    let mut command = process::command(&tree::target().join("debug/tests-harness").to_string_lossy(), &[suite]);
    command.arg("--runsc").arg(runsc).arg("--report").arg(&report).args(args);
    let good = process::succeeds(&mut command)?;
    let mut run = match std::fs::read_to_string(&report) {
        Ok(text) => from_report(&text).with_context(|| format!("reading {}", report.display()))?,
        Err(_) => SuiteRun { passed: 0, skipped: 0, failed: vec![format!("{suite}: no report")] },
    };
    if !good && run.failed.is_empty() {
        run.failed.push(format!("{suite}: ended badly"));
    }
    Ok(run)
}

/// Passed, failed, skipped; then the names of what failed, a line each.
fn from_report(text: &str) -> Result<SuiteRun> {
    let mut lines = text.lines();
    let mut numbers = lines.next().unwrap_or_default().split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next().context("a number is missing")?.context("not a number");
    let (passed, failed, skipped) = (next()?, next()?, next()?);
    let mut names: Vec<String> = lines.map(str::to_string).collect();
    // Never fewer failures than were counted.
    names.resize(names.len().max(failed as usize), "a test without a name".into());
    Ok(SuiteRun { passed, skipped, failed: names })
}

#[cfg(test)]
mod tests {
    use super::{again, from_report};

    #[test]
    fn reports_are_read() {
        let run = from_report("12 2 1\na/b\nc/d\n").unwrap();
        assert_eq!((run.passed, run.skipped, run.failed), (12, 1, vec!["a/b".to_string(), "c/d".to_string()]));
        assert_eq!(from_report("1 1 0\n").unwrap().failed.len(), 1);
        assert!(from_report("1 1").is_err());
    }

    #[test]
    fn a_guest_program_runs_again_as_a_whole() {
        assert_eq!(again("guest", &["b/x".into(), "b/y".into(), "a/z".into()]), ["a", "b"]);
        assert!(again("oci", &["oci/runsc/kill".into()]).is_empty());
    }
}
