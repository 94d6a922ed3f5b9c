//! Files, directories, descriptors, polling.

use sentry_abi::UserAddr;

use crate::args::{Flags, PathArg};
use crate::file;

syscalls! {
    0 read(fd: i32, buf: UserAddr, count: u64) => file::rw::read, full;
}
