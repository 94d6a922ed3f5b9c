//! From register values to typed arguments.

use sentry_abi::UserAddr;

/// A type that a system call takes in one register. Narrow types take the low bits, as the kernel does.
pub trait FromArg {
    fn from_arg(value: u64) -> Self;
    /// How strace shows it.
    fn show(value: u64) -> String;
}

macro_rules! numbers {
    ($($ty:ty),*) => {$(
        impl FromArg for $ty {
            fn from_arg(value: u64) -> $ty {
                value as $ty
            }
            fn show(value: u64) -> String {
                format!("{}", value as $ty)
            }
        }
    )*};
}
numbers!(i32, u32, i64, u64);

impl FromArg for UserAddr {
    fn from_arg(value: u64) -> UserAddr {
        UserAddr(value)
    }
    fn show(value: u64) -> String {
        if value == 0 { "NULL".into() } else { format!("{value:#x}") }
    }
}

/// Flags and modes, which strace shows in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flags(pub u32);

impl FromArg for Flags {
    fn from_arg(value: u64) -> Flags {
        Flags(value as u32)
    }
    fn show(value: u64) -> String {
        format!("{:#x}", value as u32)
    }
}

/// A path: the address of a NUL-terminated string. Read by the handler, since the order of errors matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathArg(pub UserAddr);

impl FromArg for PathArg {
    fn from_arg(value: u64) -> PathArg {
        PathArg(UserAddr(value))
    }
    fn show(value: u64) -> String {
        UserAddr::show(value)
    }
}
