//! The command line.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// What to run, against what.
pub struct Options {
    pub suite: String,
    pub runsc: PathBuf,
    /// Where the three numbers go.
    pub report: Option<PathBuf>,
    /// Only on the host.
    pub native: bool,
    pub platform: Option<String>,
    /// The tests to run; all, when empty.
    pub names: Vec<String>,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            suite: args.next().context("no suite named")?,
            runsc: root().join("target/dist/runsc"),
            report: None,
            native: false,
            platform: None,
            names: Vec::new(),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--runsc" => options.runsc = args.next().context("--runsc needs a path")?.into(),
                "--report" => options.report = Some(args.next().context("--report needs a path")?.into()),
                "--platform" => options.platform = Some(args.next().context("--platform needs a name")?),
                "--native" => options.native = true,
                flag if flag.starts_with("--") => bail!("unknown flag {flag}"),
                name => options.names.push(name.to_string()),
            }
        }
        Ok(options)
    }

    /// Whether a test of this name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| name == wanted || name.starts_with(&format!("{wanted}/")))
    }

    /// Runsc's global flags.
    pub fn flags(&self) -> Vec<String> {
        let mut flags: Vec<String> = self.platform.iter().map(|platform| format!("--platform={platform}")).collect();
        if let Ok(more) = std::env::var("RUNSC_FLAGS") {
            flags.extend(more.split_whitespace().map(str::to_string));
        }
        flags
    }
}

/// The work tree's root.
pub fn root() -> PathBuf {
    let harness = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    harness.ancestors().nth(2).expect("the harness lies two levels below the root").to_path_buf()
}

/// Where built test programs go: beside cargo's output.
pub fn built(folder: &str) -> PathBuf {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    };
    target.join("tests").join(folder)
}
