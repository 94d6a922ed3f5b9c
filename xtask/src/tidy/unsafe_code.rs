//! Unsafe code: forbidden by the crate itself where its manifest says so, counted elsewhere, and the counts may only fall.

use super::source::SourceFile;
use super::{Offence, Tree};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

pub fn check(tree: &Tree, ratchet: &Path) -> Result<Vec<Offence>> {
    let mut offences = Vec::new();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &tree.files {
        let Some(owner) = tree.owner(file) else { continue };
        let root = [format!("{}/src/lib.rs", owner.folder), format!("{}/src/main.rs", owner.folder)];
        if !owner.allows_unsafe && root.contains(&file.path) && !file.text.contains("#![forbid(unsafe_code)]") {
            offences.push(Offence(format!("{}: no #![forbid(unsafe_code)], though its manifest says unsafe = false", file.path)));
        }
        if owner.allows_unsafe {
            *counts.entry(owner.name.as_str()).or_default() += count(file);
        }
    }
    if std::env::args().any(|arg| arg == "--update") {
        let lines: String = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
        std::fs::write(ratchet, lines).with_context(|| format!("writing {}", ratchet.display()))?;
        return Ok(offences);
    }
    let text = std::fs::read_to_string(ratchet).with_context(|| format!("reading {}", ratchet.display()))?;
    let allowed: BTreeMap<&str, usize> =
        text.lines().filter_map(|line| line.split_once(' ')).filter_map(|(name, n)| Some((name, n.parse().ok()?))).collect();
    for (name, count) in counts {
        let limit = allowed.get(name).copied().unwrap_or(0);
        if count > limit {
            offences.push(Offence(format!("{name}: {count} unsafe blocks, functions and impls, {limit} in xtask/tidy/unsafe.txt")));
        } else if count < limit {
            println!("tidy: {name} has {count} unsafe of {limit} listed: lower it with `cargo xtask tidy --update`");
        }
    }
    Ok(offences)
}

fn count(file: &SourceFile) -> usize {
    let forms = ["unsafe {", "unsafe fn ", "unsafe impl", "unsafe extern", "unsafe trait"];
    file.code().map(|code| forms.iter().map(|form| code.matches(form).count()).sum::<usize>()).sum()
}
