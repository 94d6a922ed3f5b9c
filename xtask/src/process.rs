//! Commands of other programs: each is printed before it runs.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// A command in the work tree's root.
pub fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(crate::tree::root());
    command
}

/// Prints the command as a shell would take it.
pub fn show(command: &Command) {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            line.push_str(&format!("{}={} ", name.to_string_lossy(), quoted(&value.to_string_lossy())));
        }
    }
    line.push_str(&quoted(&command.get_program().to_string_lossy()));
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(&arg.to_string_lossy()));
    }
    eprintln!("$ {line}");
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_string() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Runs the command; whether it succeeded.
pub fn succeeds(command: &mut Command) -> Result<bool> {
    show(command);
    let status = command.status().with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    Ok(status.success())
}

/// Runs the command; its failure is ours.
pub fn run(command: &mut Command) -> Result<()> {
    if succeeds(command)? {
        return Ok(());
    }
    anyhow::bail!("{} failed", command.get_program().to_string_lossy())
}

/// Runs the command, lets its standard output through and shows each line of it to `each_line`; whether it succeeded.
pub fn watched(command: &mut Command, mut each_line: impl FnMut(&str)) -> Result<bool> {
    show(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    let pipe = child.stdout.take().context("the child's output is a pipe")?;
    for line in BufReader::new(pipe).lines() {
        let line = line.unwrap_or_default();
        println!("{line}");
        each_line(&line);
    }
    std::io::stdout().flush()?;
    Ok(child.wait()?.success())
}
