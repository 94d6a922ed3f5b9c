//! Sockets: net/socket.c.
//!
//! [`wait`] is how these calls block; [`address`] moves `struct sockaddr` in and out; data goes through bounded buffers of the sentry.

mod address;
pub(crate) mod create;
pub(crate) mod message;
pub(crate) mod option;
pub(crate) mod receive;
pub(crate) mod send;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod wait;
