//! The operation ticket: tree update and host execution of one memory operation are one turn (LAWS 1.14).

use std::sync::Arc;

use sentry_sync::{Events, Parker, Waiter};

use crate::mm::Mm;

/// Held for the duration of one memory operation of an address space, or of its fork. Only threads of that address space wait for it.
pub struct Operation<'a> {
    mm: &'a Mm,
}

impl Mm {
    /// Waits until no other memory operation of this address space runs. Not reentrant; hold no lock while calling. Every holder only waits for
    /// its own guest thread, which ends when that thread is killed.
    pub fn begin_operation(&self) -> Operation<'_> {
        if self.try_begin() {
            return Operation { mm: self };
        }
        let waiter = Waiter::new(Arc::new(Parker::current()), Events::IN);
        self.turn.add(&waiter);
        while !self.try_begin() {
            Parker::park(None);
        }
        Operation { mm: self }
    }

    fn try_begin(&self) -> bool {
        let mut tree = self.tree.write();
        !std::mem::replace(&mut tree.busy, true)
    }
}

impl Operation<'_> {
    pub(crate) fn is_of(&self, mm: &Mm) -> bool {
        std::ptr::eq(self.mm, mm)
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.mm.tree.write().busy = false;
        self.mm.turn.wake(Events::IN);
    }
}
