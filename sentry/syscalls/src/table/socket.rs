//! Sockets.

use sentry_abi::UserAddr;

use crate::args::Flags;
use crate::socket;

syscalls! {
}
