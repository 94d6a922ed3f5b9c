//! Results: a line per test that did not pass, counts at the end.

use crate::options::Options;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Counts of one suite.
pub struct Report {
    suite: String,
    file: Option<PathBuf>,
    passed: u64,
    failed: Vec<String>,
    skipped: u64,
    end: Instant,
}

/// How long a suite may go on starting tests, so that a full run ends in time even if everything hangs.
fn budget(suite: &str) -> Duration {
    Duration::from_secs(match suite {
        "guest" => 600,
        "apps" => 900,
        "escape" | "faults" => 300,
        "oci" => 200,
        "torture" => 300,
        _ => 120,
    })
}

impl Report {
    pub fn new(options: &Options) -> Self {
        Self {
            suite: options.suite.clone(),
            file: options.report.clone(),
            passed: 0,
            failed: Vec::new(),
            skipped: 0,
            end: Instant::now() + budget(&options.suite),
        }
    }

    /// The test held.
    pub fn pass(&mut self, _name: &str) {
        self.passed += 1;
    }

    /// Whether the suite's time is over; the test then counts as failed.
    pub fn out_of_time(&mut self, name: &str) -> bool {
        let over = Instant::now() > self.end;
        if over {
            self.fail(name, "not run: the suite's time was over");
        }
        over
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
            let mut numbers = format!("{} {} {}\n", self.passed, self.failed.len(), self.skipped);
            for name in &self.failed {
                numbers.push_str(name);
                numbers.push('\n');
            }
            std::fs::write(file, numbers).with_context(|| format!("writing {}", file.display()))?;
        }
        Ok(self.failed.is_empty())
    }
}
