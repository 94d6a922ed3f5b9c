//! Signals: dispositions, queues, sending, delivery. signal(7), kernel/signal.c.

mod action;
mod deliver;
mod frame;
mod pending;
mod send;

pub use action::{Disposition, Handlers, SigAction, sa};
pub use frame::{AltStack, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, UserStack};
pub use pending::Pending;
pub use send::signal_argument;
