//! The host side of the gofer: answers the calls of `gofer-proto` below the trees it was started with.
//!
//! Key types: [`TreeConfig`], [`Gofer`]. `node` keeps what the client holds ids of, `host` is the only place that opens anything, `walk`, `file`,
//! `dir`, `create`, `attr`, `xattr` hold the handlers, `dispatch` pairs them with their calls.
//!
//! Invariants (LAWS 11.1–11.7): the client is hostile. Nothing is opened but by `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
//! RESOLVE_NO_MAGICLINKS)` of one component from a directory that was reached the same way; only regular files and directories are opened, never
//! blocking, and looked at after opening; only regular files are donated, with exactly the access mode asked for. New files are made with
//! `O_EXCL` and mode 0, then get their owner, then their mode. A node without a descriptor is found again by parent and name, and must then be
//! the same file, else `ESTALE`. Live nodes and open descriptors are bounded.
//! Deliberately absent: any use of /proc, opening of devices, FIFOs and sockets, changing the mode of the latter two (needs fchmodat2).
#![forbid(unsafe_code)]

mod attr;
mod create;
mod dir;
mod dispatch;
mod file;
mod host;
mod memory;
mod node;
mod walk;
mod xattr;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Barrier};
use std::{io, thread};

use gofer_proto::Rights;
use sentry_ipc::IpcError;
use sentry_sync::{Level, Mutex};

pub use host::Submounts;
use node::{NodeTable, Tree};

/// One tree that the client may attach to, by its index.
pub struct TreeConfig {
    /// A directory (`O_PATH` is enough), or a regular file opened for reading.
    pub root: OwnedFd,
    /// For a `root` that is a regular file of a writable tree: the same file opened for reading and writing.
    pub writable_file: Option<OwnedFd>,
    pub rights: Rights,
    pub submounts: Submounts,
}

impl TreeConfig {
    /// A read-only directory with everything mounted below it.
    pub fn read_only(root: OwnedFd) -> TreeConfig {
        TreeConfig { root, writable_file: None, rights: Rights::ReadOnly, submounts: Submounts::Enter }
    }
}

/// Why a gofer could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot use tree {index}")]
    Tree {
        index: usize,
        #[source]
        cause: io::Error,
    },
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("cannot confine the gofer")]
    Confine(#[source] io::Error),
    #[error("the sentry broke the protocol")]
    Peer(#[source] IpcError),
}

/// A gofer's state, shared by the threads that serve its channels.
pub struct Gofer {
    trees: Vec<Tree>,
    nodes: NodeTable,
    memory: Option<memory::Memory>,
    /// Held over a rename and the bookkeeping that follows it, so that the places of nodes never form a ring.
    renames: Mutex<()>,
}

impl Gofer {
    /// `open_files` is the number of descriptors that the process may have (RLIMIT_NOFILE).
    pub fn new(trees: Vec<TreeConfig>, open_files: u64) -> Result<Gofer, ServeError> {
        let nodes = NodeTable::new(open_files);
        let trees = trees
            .into_iter()
            .enumerate()
            .map(|(index, config)| Tree::new(config, index, &nodes).map_err(|cause| ServeError::Tree { index, cause: cause.into() }))
            .collect::<Result<_, _>>()?;
        Ok(Gofer { trees, nodes, memory: None, renames: Mutex::new(Level::Rename, ()) })
    }

    /// Files without names are made in this directory, which nobody else uses.
    pub fn with_memory(mut self, dir: OwnedFd) -> Gofer {
        self.memory = Some(memory::Memory::new(dir));
        self
    }
}

/// Answers on all `channels`, each with a thread of its own (the last on the calling thread), until the sentry has closed them all.
///
/// `memory` is a directory of a memory file system of the gofer's own, for [`Gofer::with_memory`]. `confine` runs once all threads exist and before the first message is read: the place for a system call filter that covers all threads.
pub fn serve(
    channels: Vec<OwnedFd>,
    trees: Vec<TreeConfig>,
    memory: OwnedFd,
    confine: impl FnOnce() -> io::Result<()>,
) -> Result<(), ServeError> {
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
    rustix::process::umask(rustix::fs::Mode::empty());
    let gofer = Gofer::new(trees, open_files)?.with_memory(memory);
    let start = Arc::new(Barrier::new(channels.len().max(1)));
    let mut channels = channels;
    let Some(last) = channels.pop() else { return Ok(()) };
    thread::scope(|scope| {
        let mut workers = Vec::new();
        for channel in channels {
            let (gofer, start) = (&gofer, Arc::clone(&start));
            let worker = move || {
                start.wait();
                gofer.serve_channel(channel)
            };
            match thread::Builder::new().name("gofer".into()).stack_size(256 << 10).spawn_scoped(scope, worker) {
                Ok(handle) => workers.push(handle),
                // The threads that wait at the barrier would wait for ever; the caller has to exit, so do it here.
                Err(error) => {
                    tracing::error!(%error, "cannot start a thread");
                    std::process::exit(1);
                }
            }
        }
        if let Err(error) = confine() {
            tracing::error!(%error, "cannot confine the gofer");
            std::process::exit(1);
        }
        start.wait();
        let mut result = gofer.serve_channel(last);
        for worker in workers {
            if let Ok(other) = worker.join() {
                result = result.and(other);
            }
        }
        result.map_err(ServeError::Peer)
    })
}
