//! Memory files that the gofer hands out ahead of need.
//!
//! A sentry without /proc cannot open a memfd again for reading only, and a mapping of a description that was opened for writing keeps the right
//! to write (LAWS 1.11). The gofer can: each file comes as two descriptions. They are fetched by a thread of their own, since a file is needed
//! under locks, over which nothing may wait for an answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::{self, Thread};

use gofer_proto as proto;
use sentry_abi::{Errno, Result};
use sentry_memory::{FileSource, MemfdSource, Pair};
use sentry_sync::{Level, Mutex};

use crate::GoferClient;

/// Files that are fetched at a time, and kept ready: twice as many at most.
const BATCH: usize = proto::MAX_MEMORY_FILES;

impl GoferClient {
    /// `count` memory files, each with its two descriptions.
    pub fn memory_files(&self, count: usize) -> Result<Vec<Pair>> {
        let count = u32::try_from(count).map_err(|_| Errno::EINVAL)?;
        let (_, files) = self.exchange(&proto::MemoryFiles { count })?;
        let mut files = files.into_iter();
        let mut pairs = Vec::new();
        while let (Some(write), Some(read)) = (files.next(), files.next()) {
            pairs.push(Pair { write, read });
        }
        Ok(pairs)
    }
}

/// The gofer's memory files as a [`FileSource`].
pub struct MemoryFiles {
    ready: Arc<Mutex<VecDeque<Pair>>>,
    fetcher: Thread,
}

impl MemoryFiles {
    /// Fetches the first files, and starts the thread that fetches more.
    pub fn start(client: &Arc<GoferClient>) -> std::io::Result<Arc<MemoryFiles>> {
        let first = client.memory_files(BATCH).map_err(|e| std::io::Error::from_raw_os_error(e.raw()))?;
        let ready = Arc::new(Mutex::new(Level::Leaf, VecDeque::from(first)));
        let (client, queue) = (client.clone(), ready.clone());
        let thread = thread::Builder::new().name("memory-files".into()).stack_size(128 << 10).spawn(move || fetch(&client, &queue))?;
        Ok(Arc::new(MemoryFiles { ready, fetcher: thread.thread().clone() }))
    }
}

fn fetch(client: &GoferClient, ready: &Mutex<VecDeque<Pair>>) {
    loop {
        thread::park();
        while ready.lock().len() <= BATCH {
            match client.memory_files(BATCH) {
                Ok(files) if !files.is_empty() => ready.lock().extend(files),
                // Out of descriptors, or the gofer is gone: memfds serve meanwhile.
                _ => break,
            }
        }
    }
}

impl FileSource for MemoryFiles {
    /// A burst that outruns the fetcher gets memfds, whose second description is no weaker than the first; the checks in `mm` hold without it.
    fn new_pair(&self) -> Result<Pair> {
        let (pair, low) = {
            let mut ready = self.ready.lock();
            (ready.pop_front(), ready.len() < BATCH)
        };
        if low {
            self.fetcher.unpark();
        }
        pair.map_or_else(|| MemfdSource.new_pair(), Ok)
    }
}
