//! The gofer's process: opens its trees, locks itself up, serves the sentry. Linked into runsc as `runsc gofer`.
//!
//! It was started in a mount namespace that holds nothing but the trees, as an unprivileged user of its own with the right to read any file of
//! theirs (`runsc-launch`). It ends when the sentry has closed its channels.
#![forbid(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::process;

use anyhow::Context as _;
use gofer_proto::Rights;
use gofer_server::{Submounts, TreeConfig};
use runsc_control::{BOOT_FD, GoferBoot, GoferTree};
use rustix::fs::{Mode, OFlags};
use sentry_confine::{MEMORY, Profile};

/// Runs the gofer; never returns.
pub fn boot() -> ! {
    match serve() {
        Ok(()) => process::exit(0),
        Err(error) => {
            eprintln!("gofer: {error:#}");
            process::exit(1)
        }
    }
}

fn serve() -> anyhow::Result<()> {
    sentry_confine::hide("runsc-gofer")?;
    let boot = GoferBoot::read(sentry_confine::take(BOOT_FD)?)?;
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(io::stderr).with_ansi(false).init();
    let profile = Profile::gofer()?;
    let channels = boot.channels.iter().map(|fd| sentry_confine::take(*fd)).collect::<Result<Vec<_>, _>>()?;
    let trees = boot.trees.iter().enumerate().map(|(index, tree)| open_tree(index, tree)).collect::<anyhow::Result<Vec<_>>>()?;
    let memory = rustix::fs::open(MEMORY, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .context("open the memory file system")?;
    gofer_server::serve(channels, trees, memory, || sentry_confine::lock_down(&profile).map_err(io::Error::other))?;
    Ok(())
}

fn open_tree(index: usize, tree: &GoferTree) -> anyhow::Result<TreeConfig> {
    let path = format!("/{index}");
    let open = |flags: OFlags| -> anyhow::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        rustix::fs::open(&path, flags, Mode::empty()).with_context(|| format!("open tree {index}"))
    };
    let (root, writable_file) = match (tree.directory, tree.writable) {
        (true, _) => (open(OFlags::PATH | OFlags::DIRECTORY)?, None),
        (false, false) => (open(OFlags::RDONLY)?, None),
        (false, true) => (open(OFlags::RDONLY)?, Some(open(OFlags::RDWR)?)),
    };
    let rights = if tree.writable { Rights::ReadWrite } else { Rights::ReadOnly };
    Ok(TreeConfig { root, writable_file, rights, submounts: Submounts::Enter })
}
