//! What the suites need from Debian, by the file that shows that it is there.

use crate::process;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

const NEEDED: &[(&str, &str)] = &[
    ("busybox-static", "/bin/busybox"),
    ("default-jdk-headless", "/usr/bin/javac"),
    ("findutils", "/usr/bin/find"),
    ("gcc", "/usr/bin/gcc"),
    ("git", "/usr/bin/git"),
    ("golang-go", "/usr/bin/go"),
    ("libc6-dev", "/usr/lib/x86_64-linux-gnu/libc.a"),
    ("libpython3-stdlib", "/usr/lib/python3.11/sqlite3/__init__.py"),
    ("make", "/usr/bin/make"),
    ("nodejs", "/usr/bin/node"),
    ("perl", "/usr/bin/perl"),
    ("php-cli", "/usr/bin/php"),
    ("python3", "/usr/bin/python3"),
    ("ruby", "/usr/bin/ruby"),
    ("runc", "/usr/sbin/runc"),
    ("sqlite3", "/usr/bin/sqlite3"),
    ("stress-ng", "/usr/bin/stress-ng"),
    ("xz-utils", "/usr/bin/xz"),
];

/// Installs what is missing; without root it only says so.
pub fn install() -> Result<()> {
    let missing: Vec<&str> = NEEDED.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        eprintln!("xtask: not root, so these packages stay missing and their tests are skipped: {}", missing.join(" "));
        return Ok(());
    }
    process::run(&mut process::command("apt-get", &["update", "-qq"]))?;
    let mut install = process::command("apt-get", &["install", "-y", "-qq", "--no-install-recommends"]);
    process::run(install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.trim_ascii() == b"0")
}
