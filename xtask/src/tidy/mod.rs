//! `cargo xtask tidy`: the rules of layout and layers that the compiler does not check.
//!
//! Data: `xtask/tidy/unsafe.txt` (a ratchet: `CRATE COUNT`) and `xtask/tidy/exceptions.txt` (`RULE PATH DATE REASON…`, may only
//! shrink). `cargo xtask tidy` prints every offence and how many there were.

mod layers;
mod manifest;
mod source;
mod unsafe_code;

use anyhow::{Context, Result};
use manifest::Manifest;
use source::SourceFile;
use std::path::Path;

/// One broken rule.
pub struct Offence(pub String);

/// What every rule looks at.
struct Tree {
    manifests: Vec<Manifest>,
    files: Vec<SourceFile>,
    exceptions: Vec<Exception>,
}

/// A listed exception.
struct Exception {
    rule: String,
    path: String,
}

impl Tree {
    fn excepted(&self, rule: &str, path: &str) -> bool {
        self.exceptions.iter().any(|e| e.rule == rule && e.path == path)
    }

    /// The crate that a file belongs to: the one with the longest path before it.
    fn owner(&self, file: &SourceFile) -> Option<&Manifest> {
        self.manifests.iter().filter(|m| file.path.starts_with(&format!("{}/", m.folder))).max_by_key(|m| m.folder.len())
    }
}

/// Runs all rules; whether all held.
pub fn tidy() -> Result<bool> {
    let root = crate::tree::root();
    let tree = Tree {
        manifests: manifest::read_all(&root)?,
        files: source::read_all(&root)?,
        exceptions: read_exceptions(&root.join("xtask/tidy/exceptions.txt"))?,
    };
    let mut offences = top_level(&root)?;
    offences.extend(layers::check(&tree));
    offences.extend(source::check(&tree));
    offences.extend(unsafe_code::check(&tree, &root.join("xtask/tidy/unsafe.txt"))?);
    for Offence(what) in &offences {
        println!("tidy: {what}");
    }
    println!("tidy: {} crates, {} source files, {} offences", tree.manifests.len(), tree.files.len(), offences.len());
    Ok(offences.is_empty())
}

const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "sentry", "gofer", "netstack", "runsc", "shim", "xtask", "tests", "README.md", "target"];

fn top_level(root: &Path) -> Result<Vec<Offence>> {
    let mut offences = Vec::new();
    for entry in std::fs::read_dir(root).context("listing the work tree")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            offences.push(Offence(format!("{name}: the top level is fixed")));
        }
    }
    Ok(offences)
}

fn read_exceptions(path: &Path) -> Result<Vec<Exception>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let mut exceptions = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [rule, path, date, _reason, ..] = words.as_slice() else {
            anyhow::bail!("exception without RULE PATH DATE REASON: {line}");
        };
        anyhow::ensure!(date.len() == 10 && date.matches('-').count() == 2, "exception without a date: {line}");
        exceptions.push(Exception { rule: rule.to_string(), path: path.to_string() });
    }
    Ok(exceptions)
}
