//! What the AF_UNIX sockets of a network namespace share: abstract names, and the descriptors that are on their way between them.
//!
//! Descriptors of sockets in queues of sockets can form rings that nobody can reach any more; [`UnixSpace::collect`] finds and breaks them
//! (unix_gc() of net/unix/garbage.c, after an idea of the kind "count who refers from inside").

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use sentry_abi::{Errno, Result};
use sentry_sync::{Level, Mutex};
use sentry_vfs::FileDescription;

use super::UnixSocket;
use crate::family::{SocketKind, socket_of};

/// Descriptors on their way at once.
const MAX_IN_FLIGHT: usize = 16384;
/// At this many sockets on their way, rings are looked for; then again when they have doubled.
const COLLECT_AT: usize = 64;

/// A socket's descriptor on its way.
struct Traveller {
    file: Weak<FileDescription>,
    /// In how many messages.
    times: usize,
}

#[derive(Default)]
struct InFlight {
    files: usize,
    sockets: HashMap<u64, Traveller>,
    collect_at: usize,
}

#[derive(Default)]
struct Graves {
    files: Vec<Arc<FileDescription>>,
    digging: bool,
}

/// A name is one for each kind of socket.
type Names = HashMap<(SocketKind, Vec<u8>), Weak<UnixSocket>>;

pub(crate) struct UnixSpace {
    names: Mutex<Names>,
    next_automatic: AtomicU32,
    in_flight: Mutex<InFlight>,
    graves: Mutex<Graves>,
}

impl UnixSpace {
    pub fn new() -> Arc<UnixSpace> {
        Arc::new(UnixSpace {
            names: Mutex::new(Level::Leaf, HashMap::new()),
            next_automatic: AtomicU32::new(0),
            in_flight: Mutex::new(Level::Leaf, InFlight { collect_at: COLLECT_AT, ..InFlight::default() }),
            graves: Mutex::new(Level::Leaf, Graves::default()),
        })
    }

    /// `EADDRINUSE`.
    pub fn bind(&self, socket: &UnixSocket, name: &[u8]) -> Result<()> {
        let mut names = self.names.lock();
        let key = (socket.kind, name.to_vec());
        if names.get(&key).is_some_and(|s| s.strong_count() != 0) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(key, socket.me.clone());
        Ok(())
    }

    /// A name of five hexadecimal digits (unix(7), "Autobind feature"). `ENOSPC` when all are taken.
    pub fn bind_automatically(&self, socket: &UnixSocket) -> Result<Vec<u8>> {
        for _ in 0..0x10_0000 {
            let number = self.next_automatic.fetch_add(1, Ordering::Relaxed) & 0xf_ffff;
            let name = format!("{number:05x}").into_bytes();
            if self.bind(socket, &name).is_ok() {
                return Ok(name);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Called when `socket` is dropped. A name that another socket took meanwhile stays.
    pub fn unbind(&self, kind: SocketKind, name: &[u8]) {
        let mut names = self.names.lock();
        let key = (kind, name.to_vec());
        if names.get(&key).is_some_and(|s| s.strong_count() == 0) {
            names.remove(&key);
        }
    }

    /// The socket of that kind and name. `ECONNREFUSED`.
    pub fn find(&self, kind: SocketKind, name: &[u8]) -> Result<Arc<UnixSocket>> {
        let found = self.names.lock().get(&(kind, name.to_vec())).and_then(Weak::upgrade);
        found.ok_or(Errno::ECONNREFUSED)
    }

    /// Counts descriptors that are about to travel. `ETOOMANYREFS`.
    pub fn depart(&self, files: &[Arc<FileDescription>]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let collect = {
            let mut flight = self.in_flight.lock();
            if flight.files + files.len() > MAX_IN_FLIGHT {
                return Err(Errno::ETOOMANYREFS);
            }
            flight.files += files.len();
            for file in files.iter().filter(|f| unix_socket(f).is_some()) {
                let traveller = flight.sockets.entry(file.id).or_insert_with(|| Traveller { file: Arc::downgrade(file), times: 0 });
                traveller.times += 1;
            }
            flight.sockets.len() >= flight.collect_at
        };
        if collect {
            self.collect();
        }
        Ok(())
    }

    /// Descriptors have arrived, or their message is gone.
    pub fn arrive(&self, files: &[Arc<FileDescription>]) {
        if files.is_empty() {
            return;
        }
        let mut flight = self.in_flight.lock();
        flight.files = flight.files.saturating_sub(files.len());
        for file in files {
            if let Some(traveller) = flight.sockets.get_mut(&file.id) {
                traveller.times -= 1;
                if traveller.times == 0 {
                    flight.sockets.remove(&file.id);
                }
            }
        }
    }

    /// Closes files one after the other, however deep they contain each other.
    pub fn bury(&self, files: Vec<Arc<FileDescription>>) {
        {
            let mut graves = self.graves.lock();
            graves.files.extend(files);
            if std::mem::replace(&mut graves.digging, true) {
                return;
            }
        }
        loop {
            let next = {
                let mut graves = self.graves.lock();
                let next = graves.files.pop();
                graves.digging = next.is_some();
                next
            };
            match next {
                Some(file) => drop(file),
                None => return,
            }
        }
    }

    /// Breaks rings of sockets that are referred to by nothing but messages in each other's queues.
    ///
    /// A travelling socket all of whose references are messages is suspected. Suspects that a message in the queue of an innocent socket leads
    /// to are innocent too; the others can be reached by nobody, and their queues are emptied.
    fn collect(&self) {
        let travellers: Vec<(Arc<FileDescription>, usize)> = {
            let flight = self.in_flight.lock();
            flight.sockets.values().filter_map(|t| t.file.upgrade().map(|f| (f, t.times))).collect()
        };
        // One reference is our own.
        let mut suspects: HashMap<u64, (&Arc<FileDescription>, usize)> = HashMap::new();
        for (file, times) in &travellers {
            if Arc::strong_count(file) == times + 1 {
                suspects.insert(file.id, (file, *times));
            }
        }
        // References to suspects from the queues of suspects; a suspect that has others is reached from outside.
        let mut inside: HashMap<u64, usize> = HashMap::new();
        let mut leads_to: HashMap<u64, Vec<u64>> = HashMap::new();
        for (id, (file, _)) in &suspects {
            let inner: Vec<u64> = contents(file).into_iter().filter(|inner| suspects.contains_key(inner)).collect();
            for inner_id in &inner {
                *inside.entry(*inner_id).or_default() += 1;
            }
            leads_to.insert(*id, inner);
        }
        let mut reached: Vec<u64> = Vec::new();
        for (id, (_, times)) in &suspects {
            if inside.get(id).copied().unwrap_or(0) < *times {
                reached.push(*id);
            }
        }
        while let Some(id) = reached.pop() {
            if suspects.remove(&id).is_some() {
                reached.extend(leads_to.remove(&id).unwrap_or_default());
            }
        }
        let garbage: Vec<Arc<FileDescription>> = suspects.values().map(|(file, _)| (*file).clone()).collect();
        for file in &garbage {
            if let Some(socket) = unix_socket(file) {
                socket.empty();
            }
        }
        drop(garbage);
        drop(travellers);
        let mut flight = self.in_flight.lock();
        flight.collect_at = (flight.sockets.len() * 2).max(COLLECT_AT);
    }
}

fn unix_socket(file: &FileDescription) -> Option<&UnixSocket> {
    socket_of(file).ok()?.as_any().downcast_ref::<UnixSocket>()
}

/// Ids of the files in a socket's queue, and in those of connections that wait to be accepted.
fn contents(file: &FileDescription) -> Vec<u64> {
    let Some(socket) = unix_socket(file) else { return Vec::new() };
    let mut ids = Vec::new();
    for queue in socket.queues() {
        let state = queue.state.lock();
        for message in &state.inbox {
            ids.extend(message.rights.files().iter().map(|f| f.id));
        }
    }
    ids
}

impl UnixSocket {
    /// The sockets whose queues die with this one.
    fn queues(&self) -> Vec<Arc<UnixSocket>> {
        let mut out: Vec<Arc<UnixSocket>> = self.state.lock().pending.iter().cloned().collect();
        out.extend(self.me.upgrade());
        out
    }

    /// Lets go of everything that waits in its queues.
    fn empty(&self) {
        for socket in self.queues() {
            let inbox = std::mem::take(&mut socket.state.lock().inbox);
            drop(inbox);
        }
    }

    #[cfg(test)]
    pub(super) fn collect_now(&self) -> usize {
        self.space.collect();
        self.space.in_flight.lock().sockets.len()
    }
}
