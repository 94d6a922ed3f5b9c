//! Structures of the socket calls: sendmsg(2), sendmmsg(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct msghdr` of x86-64, 56 bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MsgHdr {
    pub name: u64,
    pub name_len: i32,
    pub pad0: u32,
    pub iov: u64,
    pub iov_len: u64,
    pub control: u64,
    pub control_len: u64,
    pub flags: u32,
    pub pad1: u32,
}

impl MsgHdr {
    pub const NAME_LEN_AT: u64 = 8;
    pub const CONTROL_LEN_AT: u64 = 40;
    pub const FLAGS_AT: u64 = 48;
}

/// `struct mmsghdr`: a message and the bytes that went.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MMsgHdr {
    pub message: MsgHdr,
    pub len: u32,
    pub pad: u32,
}

impl MMsgHdr {
    pub const SIZE: u64 = 64;
    pub const LEN_AT: u64 = 56;
}
