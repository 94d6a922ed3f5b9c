//! The machine as a whole.

pub mod info;
pub mod random;
pub mod refused;
