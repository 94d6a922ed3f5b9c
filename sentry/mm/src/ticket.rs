//! The operation ticket: tree update and host execution of one memory operation are one turn (LAWS 1.14).

use std::sync::Arc;

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
        if self.tree.write().take_ticket(None) {
            return Operation { mm: self };
        }
        let me = Arc::new(Parker::current());
        while !self.tree.write().take_ticket(Some(&me)) {
            Parker::park(None);
        }
        Operation { mm: self }
    }
}

impl Tree {
    /// Takes the ticket if it is free; else `me` is entered in the queue.
    fn take_ticket(&mut self, me: Option<&Arc<Parker>>) -> bool {
        if self.busy {
            if let Some(me) = me
                && !self.waiting.iter().any(|w| Arc::ptr_eq(w, me))
            {
                self.waiting.push_back(me.clone());
            }
            return false;
        }
        if let Some(me) = me {
            self.waiting.retain(|w| !Arc::ptr_eq(w, me));
        }
        self.busy = true;
        true
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
