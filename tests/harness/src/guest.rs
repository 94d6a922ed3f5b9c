//! Conformance programs: tests/guest/*.c on the host and in the sandbox must say the same.
//!
//! A program prints `ok NAME`, `skip NAME why`, `FAIL NAME where what` and lines `   NAME: text` that are compared as they stand.
//! `tests/guest/known.txt` lists differences that are known: `PROGRAM/TEST REASON…`.

use crate::compile::{self, Link};
use crate::options::{Options, root};
use crate::report::Report;
use crate::run::{self, Outcome};
use crate::volume;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// For all tests of one program on the host; each has a shorter one of its own.
const LIMIT: Duration = Duration::from_secs(100);
/// In the sandbox: so long, and ten times what the host took.
const PATIENCE: Duration = Duration::from_secs(45);
/// Also built against the shared libraries.
const DYNAMIC_TOO: &[&str] = &["exec", "memory", "signals", "threads", "futex"];

/// Also run on a folder of the host that others may change too, in place of a root file system that is ours alone.
const VOLUME_TOO: &[&str] = &["attributes", "copies", "dirs", "exec", "files", "inotify", "links", "locks", "unix"];

/// What lies at /tmp.
#[derive(Clone, Copy)]
enum Place {
    /// The root file system of `runsc do`, with its overlay.
    Root,
    /// A bind mount.
    Volume,
}

/// What a program said about one test.
#[derive(Default, Clone, PartialEq)]
struct Said {
    verdict: Option<Verdict>,
    lines: Vec<String>,
}

#[derive(Clone, PartialEq)]
enum Verdict {
    Ok,
    Skip(String),
    Fail(String),
}

/// Runs tests/guest or a folder below it.
pub fn run(options: &Options, folder: &str, report: &mut Report) -> Result<()> {
    let known = known_differences()?;
    let place = if folder.is_empty() { "guest".to_string() } else { format!("guest/{folder}") };
    for source in compile::sources(&place)? {
        let stem = source.file_stem().and_then(|s| s.to_str()).context("a source has a name")?.to_string();
        for (variant, link, place_inside, has) in [
            ("", Link::Static, Place::Root, true),
            ("-dynamic", Link::Dynamic, Place::Root, DYNAMIC_TOO.contains(&stem.as_str())),
            ("-volume", Link::Static, Place::Volume, VOLUME_TOO.contains(&stem.as_str()) && !options.native),
        ] {
            let name = format!("{stem}{variant}");
            let wanted = options.names.is_empty() || options.names.iter().any(|n| n.split('/').next() == Some(name.as_str()));
            if !wanted || !has {
                continue;
            }
            if report.out_of_time(&name) {
                continue;
            }
            let program = compile::program(&source, &place, link)?;
            one_program(options, &name, (&program, place_inside), &known, report)?;
        }
    }
    Ok(())
}

fn one_program(
    options: &Options,
    name: &str,
    (program, place): (&Path, Place),
    known: &BTreeMap<String, String>,
    report: &mut Report,
) -> Result<()> {
    let tests: Vec<&str> = options.names.iter().filter_map(|n| n.split_once('/')).filter(|(p, _)| *p == name).map(|(_, t)| t).collect();
    let native = run::run(Command::new(program).args(&tests).env("T_SANDBOX", "0"), LIMIT)?;
    let host = said(&native);
    if options.native {
        judge(name, &host, &host, known, report);
        trouble(name, &native, report);
        return Ok(());
    }
    let mut sandbox = Command::new(&options.runsc);
    sandbox.args(options.flags()).env("T_SANDBOX", "1");
    // Kept until the program has ended.
    let _bundle = match place {
        Place::Root => {
            sandbox.arg("do").arg(program).args(&tests);
            None
        }
        Place::Volume => {
            let bundle = volume::bundle(program, &tests)?;
            sandbox.arg("run").arg("--bundle").arg(&bundle.folder).arg(format!("volume-{}", std::process::id()));
            Some(bundle)
        }
    };
    let inside = run::run(&mut sandbox, PATIENCE + native.took * 10)?;
    let guest = said(&inside);
    let failed_before = report_count(&host, &guest, name, known, report);
    if failed_before && !inside.stderr.trim().is_empty() {
        println!("     standard error of {name}: {}", tail(&inside.stderr));
    }
    println!("{name}: host {:.1?}, sandbox {:.1?}", native.took, inside.took);
    trouble(name, &inside, report);
    Ok(())
}

/// Judges and says whether anything failed.
fn report_count(
    host: &BTreeMap<String, Said>,
    guest: &BTreeMap<String, Said>,
    name: &str,
    known: &BTreeMap<String, String>,
    report: &mut Report,
) -> bool {
    judge(name, host, guest, known, report) > 0
}

fn trouble(name: &str, outcome: &Outcome, report: &mut Report) {
    if let Some(trouble) = outcome.trouble() {
        report.fail(&format!("{name}/the-run-itself"), &format!("{trouble}{}", tail(&outcome.stderr)));
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n     ")
}

/// Compares test by test; how many failed.
fn judge(
    program: &str,
    host: &BTreeMap<String, Said>,
    guest: &BTreeMap<String, Said>,
    known: &BTreeMap<String, String>,
    report: &mut Report,
) -> usize {
    let mut failed = 0;
    if host.is_empty() {
        report.fail(program, "said nothing on the host");
        return 1;
    }
    for (test, on_host) in host {
        let name = format!("{program}/{test}");
        let listed = known.get(&name).or_else(|| known.get(&name.replacen("-dynamic/", "/", 1).replacen("-volume/", "/", 1)));
        let inside = guest.get(test).cloned().unwrap_or_default();
        match (difference(on_host, &inside), listed) {
            (None, None) => match &inside.verdict {
                Some(Verdict::Skip(why)) => report.skip(&name, why),
                _ => report.pass(&name),
            },
            (None, Some(_)) => {
                println!("note: {name} is listed as a known difference, but agrees");
                report.pass(&name);
            }
            (Some(_), Some(reason)) => report.skip(&name, &format!("known difference: {reason}")),
            (Some(what), None) => {
                report.fail(&name, &what);
                failed += 1;
            }
        }
    }
    failed
}

fn difference(host: &Said, guest: &Said) -> Option<String> {
    match (&host.verdict, &guest.verdict) {
        (Some(Verdict::Fail(why)), _) => return Some(format!("on the host itself: {why}")),
        (None, _) => return Some("no verdict on the host".to_string()),
        (_, None) => return Some("no verdict in the sandbox".to_string()),
        (_, Some(Verdict::Fail(why))) => return Some(why.clone()),
        _ => {}
    }
    let differing: Vec<String> = (0..host.lines.len().max(guest.lines.len()))
        .filter(|i| host.lines.get(*i) != guest.lines.get(*i))
        .take(12)
        .map(|i| {
            let side = |lines: &[String]| lines.get(i).cloned().unwrap_or_else(|| "nothing".to_string());
            format!("host: {}\nsandbox: {}", side(&host.lines), side(&guest.lines))
        })
        .collect();
    (!differing.is_empty()).then(|| differing.join("\n"))
}

fn said(outcome: &Outcome) -> BTreeMap<String, Said> {
    let mut tests: BTreeMap<String, Said> = BTreeMap::new();
    for line in outcome.stdout.lines() {
        let mut words = line.splitn(3, ' ');
        let (kind, name, rest) = (words.next().unwrap_or(""), words.next().unwrap_or("").to_string(), words.next().unwrap_or(""));
        match kind {
            // A failure stays one, whatever is said later.
            "ok" => {
                tests.entry(name).or_default().verdict.get_or_insert(Verdict::Ok);
            }
            "skip" => {
                tests.entry(name).or_default().verdict.get_or_insert(Verdict::Skip(rest.to_string()));
            }
            "FAIL" => tests.entry(name).or_default().verdict = Some(Verdict::Fail(rest.to_string())),
            _ => {
                if let Some((test, text)) = line.strip_prefix("   ").and_then(|l| l.split_once(": ")) {
                    tests.entry(test.to_string()).or_default().lines.push(text.to_string());
                }
            }
        }
    }
    tests
}

fn known_differences() -> Result<BTreeMap<String, String>> {
    let path = root().join("tests/guest/known.txt");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let entries = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    Ok(entries.filter_map(|line| line.split_once(' ')).map(|(name, why)| (name.to_string(), why.trim().to_string())).collect())
}
