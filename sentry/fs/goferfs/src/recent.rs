//! A bounded queue of owners of something that is kept only because it may be wanted again.

use std::collections::VecDeque;
use std::sync::Weak;

use sentry_sync::{Level, Mutex};

struct Queue<T> {
    entries: VecDeque<(Weak<T>, usize)>,
    weight: usize,
}

/// First in, first out, by weight.
pub(crate) struct Recent<T> {
    queue: Mutex<Queue<T>>,
    budget: usize,
}

impl<T> Recent<T> {
    pub fn new(budget: usize) -> Recent<T> {
        Recent { queue: Mutex::new(Level::InodeState, Queue { entries: VecDeque::new(), weight: 0 }), budget }
    }

    /// Adds an owner; returns those that should let go now.
    #[must_use]
    pub fn add(&self, owner: Weak<T>, weight: usize) -> Vec<Weak<T>> {
        let mut queue = self.queue.lock();
        queue.entries.push_back((owner, weight));
        queue.weight += weight;
        let mut losers = Vec::new();
        while queue.weight > self.budget && queue.entries.len() > 1 {
            let Some((loser, weight)) = queue.entries.pop_front() else { break };
            queue.weight -= weight;
            losers.push(loser);
        }
        losers
    }
}
