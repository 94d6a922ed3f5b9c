//! The operation ticket: tree update and host execution of one memory operation are one turn (LAWS 1.14).

use std::sync::Arc;

use sentry_memory::Mapping;
use sentry_sync::Parker;

use crate::mm::{Mm, Tree};

/// Held for the duration of one memory operation of an address space, or of its fork. Only threads of that address space wait for it.
pub struct Operation<'a> {
    mm: &'a Mm,
}

impl Mm {
    /// Waits until no other memory operation of this address space runs. Not reentrant; hold no lock while calling. Every holder only waits for
    /// its own guest thread, which ends when that thread is killed.
    pub fn begin_operation(&self) -> Operation<'_> {
        let mut taken = self.tree.write().take_ticket(None);
        if taken.is_none() {
            let me = Arc::new(Parker::current());
            while taken.is_none() {
                taken = self.tree.write().take_ticket(Some(&me));
                if taken.is_none() {
                    Parker::park(None);
                }
            }
        }
        // The tree is not locked any more.
        drop(taken);
        Operation { mm: self }
    }
}

impl Tree {
    /// Takes the ticket if it is free, and the files that direct requests left to be dropped; else `me` is entered in the queue.
    fn take_ticket(&mut self, me: Option<&Arc<Parker>>) -> Option<Vec<Mapping>> {
        if self.busy {
            if let Some(me) = me
                && !self.waiting.iter().any(|w| Arc::ptr_eq(w, me))
            {
                self.waiting.push_back(me.clone());
            }
            return None;
        }
        if let Some(me) = me {
            self.waiting.retain(|w| !Arc::ptr_eq(w, me));
        }
        self.busy = true;
        Some(std::mem::take(&mut self.left))
    }
}

impl Operation<'_> {
    pub(crate) fn is_of(&self, mm: &Mm) -> bool {
        std::ptr::eq(self.mm, mm)
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        let next = {
            let mut tree = self.mm.tree.write();
            tree.busy = false;
            tree.waiting.pop_front()
        };
        // One at a time: whoever comes first takes it, and the woken one enters the queue again.
        if let Some(next) = next {
            next.unpark();
        }
    }
}
