//! Signals.

pub mod action;
pub mod send;
pub mod wait;
