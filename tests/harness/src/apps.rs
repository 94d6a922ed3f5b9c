//! Real programs: tests/apps/*.sh on the host and in the sandbox must print the same and end the same.
//!
//! Lines at the head of a script: `# exits: N` (its status on the host, 0), `# seconds: N` (time limit, 60), `# needs: PATH…` (skipped where one is missing),
//! `# may-differ: WHY` (only the exit status is compared). The sandbox goes first, in an empty folder that must still be empty
//! afterwards: nothing that it writes may reach the host.

use crate::options::{Options, root};
use crate::report::Report;
use crate::run::{self, Outcome};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

struct Script {
    name: String,
    path: PathBuf,
    limit: Duration,
    needs: Vec<String>,
    exits: i32,
    status_only: bool,
}

/// Runs all scripts or those named.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    for script in scripts()? {
        if !options.wants(&script.name) {
            continue;
        }
        let name = format!("apps/{}", script.name);
        if let Some(missing) = script.needs.iter().find(|path| !Path::new(path).exists()) {
            report.skip(&name, &format!("{missing} is not there"));
            continue;
        }
        if report.out_of_time(&name) {
            continue;
        }
        let outcome = compare(options, &script);
        report.check(&name, outcome);
    }
    Ok(())
}

fn scripts() -> Result<Vec<Script>> {
    let folder = root().join("tests/apps");
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "sh") {
            scripts.push(read(path)?);
        }
    }
    scripts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scripts)
}

fn read(path: PathBuf) -> Result<Script> {
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let header = |key: &str| text.lines().find_map(|line| line.strip_prefix(&format!("# {key}: ")).map(str::to_string));
    let seconds = header("seconds").map(|s| s.parse()).transpose().with_context(|| format!("{}: seconds", path.display()))?;
    Ok(Script {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        limit: Duration::from_secs(seconds.unwrap_or(60)),
        needs: header("needs").map(|n| n.split_whitespace().map(str::to_string).collect()).unwrap_or_default(),
        exits: header("exits").map(|s| s.parse()).transpose().with_context(|| format!("{}: exits", path.display()))?.unwrap_or(0),
        status_only: header("may-differ").is_some(),
        path,
    })
}

fn compare(options: &Options, script: &Script) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("app-test.{}.{}", std::process::id(), script.name));
    let _ = std::fs::remove_dir_all(&folder);
    let fresh = || std::fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()));
    let clean = || std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()));
    let inside = if options.native {
        None
    } else {
        fresh()?;
        let mut command = Command::new(&options.runsc);
        command.args(options.flags()).arg("do").arg("/bin/bash").arg(&script.path);
        let outcome = run::run(at(&mut command, &folder), script.limit)?;
        let written = std::fs::read_dir(&folder)?.count();
        clean()?;
        if written > 0 {
            bail!("{written} files of the sandbox reached the host's folder");
        }
        Some(outcome)
    };
    fresh()?;
    let native = run::run(at(Command::new("/bin/bash").arg(&script.path), &folder), script.limit)?;
    clean()?;
    if let Some(trouble) = native.trouble() {
        bail!("on the host: {trouble}");
    }
    if native.code() != script.exits {
        bail!("exit {} on the host\n{}\n{}", native.code(), tail(&native.stdout), tail(&native.stderr));
    }
    match inside {
        Some(inside) => agree(script, &native, &inside),
        None => {
            println!("{}: host {:.1?}", script.name, native.took);
            Ok(())
        }
    }
}

fn at<'a>(command: &'a mut Command, folder: &Path) -> &'a mut Command {
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", folder)
        .env("LANG", "C.UTF-8")
        .env("TERM", "dumb")
}

fn agree(script: &Script, native: &Outcome, inside: &Outcome) -> Result<()> {
    let mut wrong = inside.trouble().unwrap_or_default();
    if native.code() != inside.code() {
        wrong.push_str(&format!("exit {} on the host, {} in the sandbox\n", native.code(), inside.code()));
    }
    if !script.status_only && native.stdout != inside.stdout {
        wrong.push_str(&first_difference(&native.stdout, &inside.stdout));
    }
    println!("{}: host {:.1?}, sandbox {:.1?}", script.name, native.took, inside.took);
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{wrong}standard error in the sandbox:\n{}\nlast output in the sandbox:\n{}", tail(&inside.stderr), tail(&inside.stdout))
}

fn first_difference(host: &str, sandbox: &str) -> String {
    let (mut a, mut b) = (host.lines(), sandbox.lines());
    let mut number = 0;
    loop {
        number += 1;
        match (a.next(), b.next()) {
            (None, None) => return "outputs differ in their last newline\n".to_string(),
            (x, y) if x == y => {}
            (x, y) => {
                let shown = |line: Option<&str>| line.map_or("(nothing)".to_string(), |l| l.chars().take(300).collect());
                return format!("line {number}: host: {}\nline {number}: sandbox: {}\n", shown(x), shown(y));
            }
        }
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
