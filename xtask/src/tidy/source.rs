//! Rules on single source files: size, name, what they may mention.

use super::{Offence, Tree};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;

const HARD_LINES: usize = 800;
const BAD_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// One Rust source file.
pub struct SourceFile {
    /// Below the root.
    pub path: String,
    pub text: String,
}

impl SourceFile {
    /// The lines before its unit tests.
    pub fn body(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| line.trim() != "#[cfg(test)]" || line.starts_with(' '))
    }

    /// The code of its lines, with line comments and the inside of string literals gone.
    pub fn code(&self) -> impl Iterator<Item = String> {
        self.body().map(code_of)
    }
}

fn code_of(line: &str) -> String {
    let mut out = String::new();
    let mut in_string = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => {
                chars.next();
            }
            '"' => {
                in_string = !in_string;
                out.push('"');
            }
            '/' if !in_string && chars.peek() == Some(&'/') => break,
            c if !in_string => out.push(c),
            _ => {}
        }
    }
    out
}

/// All Rust files of the tree, without cargo's output.
pub fn read_all(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for top in ["sentry", "gofer", "netstack", "runsc", "shim", "xtask", "tests"] {
        let folder = root.join(top);
        if folder.exists() {
            walk(root, &folder, &mut files)?;
        }
    }
    Ok(files)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                walk(root, &path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            files.push(SourceFile { path: path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned(), text });
        }
    }
    Ok(())
}

/// Files that only tests are made of: by name, or because their `mod` line stands under `#[cfg(test)]`.
fn of_tests(tree: &Tree) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in &tree.files {
        if file.path.ends_with("/tests.rs") || file.path.contains("/tests/") {
            found.insert(file.path.clone());
        }
        let (folder, stem) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let stem = stem.trim_end_matches(".rs");
        let below = if matches!(stem, "lib" | "main" | "mod") { folder.to_string() } else { format!("{folder}/{stem}") };
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let line = pair[1].trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
                found.insert(format!("{below}/{name}.rs"));
            }
        }
    }
    found
}

pub fn check(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    let of_tests = of_tests(tree);
    let mut found = |rule: &str, file: &SourceFile, what: String| {
        if !tree.excepted(rule, &file.path) {
            offences.push(Offence(format!("{}: {what} [{rule}]", file.path)));
        }
    };
    for file in &tree.files {
        let lines = file.body().count();
        if lines > HARD_LINES && !of_tests.contains(&file.path) {
            found("size", file, format!("{lines} lines, {HARD_LINES} at most"));
        }
        for part in file.path.trim_end_matches(".rs").split('/') {
            if BAD_NAMES.contains(&part) {
                found("name", file, format!("the name {part} says nothing"));
            }
        }
        if file.code().any(|code| code.contains("bincode")) && file.path != "sentry/ipc/src/codec.rs" && !file.path.starts_with("xtask/") {
            found("bincode", file, "bincode is named outside sentry/ipc/src/codec.rs".to_string());
        }
        if tree.owner(file).is_some_and(|owner| owner.layer < 7)
            && !of_tests.contains(&file.path)
            && let Some(line) = file.code().find(|code| has_static_state(code))
        {
            found("static", file, format!("a static with state: {}", line.trim()));
        }
    }
    offences
}

fn has_static_state(code: &str) -> bool {
    let declares = code.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
    let Some(rest) = declares.strip_prefix("static ") else { return false };
    let kind = rest.split('=').next().unwrap_or(rest);
    rest.starts_with("mut ") || ["Mutex", "RwLock", "Atomic", "Cell", "OnceLock", "LazyLock"].iter().any(|cell| kind.contains(cell))
}

#[cfg(test)]
mod tests {
    use super::{code_of, has_static_state};

    #[test]
    fn comments_and_strings_are_not_code() {
        assert_eq!(code_of(r#"let a = "x // unsafe"; // unsafe"#), r#"let a = ""; "#);
    }

    #[test]
    fn statics_with_state() {
        assert!(has_static_state("pub static N: AtomicU64 = AtomicU64::new(0);"));
        assert!(has_static_state("static mut N: u64 = 0;"));
        assert!(!has_static_state("static NAMES: &[&str] = &[];"));
    }
}
