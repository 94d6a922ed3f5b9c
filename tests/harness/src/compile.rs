//! Builds the C programs of the suites with gcc, as needed.

use crate::options::{built, root};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a program is linked.
#[derive(Clone, Copy, PartialEq)]
pub enum Link {
    Static,
    Dynamic,
}

/// Builds `source` into the test folder `folder`, unless it is newer than its source and header; answers the program's path.
pub fn program(source: &Path, folder: &str, link: Link) -> Result<PathBuf> {
    let name = source.file_stem().and_then(|stem| stem.to_str()).context("a source has a name")?;
    let out = built(folder);
    std::fs::create_dir_all(&out).with_context(|| format!("creating {}", out.display()))?;
    let target = out.join(if link == Link::Dynamic { format!("{name}-dynamic") } else { name.to_string() });
    let header = root().join("tests/guest/t.h");
    if newer(&target, source) && newer(&target, &header) {
        return Ok(target);
    }
    let mut gcc = Command::new("gcc");
    gcc.args(["-std=gnu11", "-O1", "-g", "-w", "-pthread"]).arg("-I").arg(root().join("tests/guest"));
    if link == Link::Static {
        gcc.arg("-static");
    }
    let output = gcc.arg("-o").arg(&target).arg(source).arg("-lutil").output().context("starting gcc")?;
    if !output.status.success() {
        bail!("compiling {}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(target)
}

fn newer(target: &Path, source: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    matches!((time(target), time(source)), (Some(t), Some(s)) if t > s)
}

/// The C sources of a folder below tests, by name.
pub fn sources(folder: &str) -> Result<Vec<PathBuf>> {
    let path = root().join("tests").join(folder);
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(&path).with_context(|| format!("listing {}", path.display()))? {
        let file = entry?.path();
        if file.extension().is_some_and(|e| e == "c") {
            sources.push(file);
        }
    }
    sources.sort();
    Ok(sources)
}
