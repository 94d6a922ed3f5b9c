//! Packets: how one message, with its descriptors, crosses a socket.
//!
//! A packet is a header of 12 bytes and up to [`PACKET_DATA`] bytes. Header, little endian: magic `u16`, tag `u16`, total length of the message
//! `u32`, offset of this packet's data `u32`.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::IpcError;

/// Largest message, in bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Most descriptors with one message (the kernel's own limit is 253; in flight they count against the user's limit).
pub const MAX_FDS: usize = 64;

const MAGIC: u16 = 0x6353;
const HEADER: usize = 12;
/// Small enough for the default send buffer of a socket (208 KiB), large enough that most messages are one packet.
pub(crate) const PACKET_DATA: usize = 64 << 10;

/// A connected pair of sockets, close-on-exec.
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A whole message as it came.
pub(crate) struct Incoming {
    pub tag: u16,
    pub data: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// Sends one message. On error the stream of packets may be torn: the caller must not use the socket again.
pub(crate) fn send(socket: BorrowedFd<'_>, tag: u16, data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), IpcError> {
    if data.len() > MAX_MESSAGE {
        return Err(IpcError::TooLarge(data.len()));
    }
    if fds.len() > MAX_FDS {
        return Err(IpcError::TooManyFds(fds.len()));
    }
    let mut offset = 0;
    loop {
        let end = data.len().min(offset + PACKET_DATA);
        let header = encode_header(tag, data.len(), offset);
        send_packet(socket, &header, &data[offset..end], if offset == 0 { fds } else { &[] })?;
        offset = end;
        if offset == data.len() {
            return Ok(());
        }
    }
}

fn send_packet(socket: BorrowedFd<'_>, header: &[u8], data: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), IpcError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(IpcError::TooManyFds(fds.len()));
    }
    let parts = [IoSlice::new(header), IoSlice::new(data)];
    loop {
        match sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => return Err(IpcError::Closed),
            Err(errno) => return Err(IpcError::Io(errno.into())),
        }
    }
}

/// Receives one message into pieces of our own; `packet` is scratch space that the caller keeps.
pub(crate) fn receive(socket: BorrowedFd<'_>, packet: &mut Vec<u8>) -> Result<Incoming, IpcError> {
    packet.resize(HEADER + PACKET_DATA, 0);
    let mut fds = Vec::new();
    let got = receive_packet(socket, packet, &mut fds)?;
    let (tag, total, offset) = decode_header(&packet[..got])?;
    if offset != 0 {
        return Err(IpcError::Framing("message starts in its middle"));
    }
    let mut data = Vec::with_capacity(total);
    data.extend_from_slice(&packet[HEADER..got]);
    if data.len() > total {
        return Err(IpcError::Framing("packet longer than its message"));
    }
    while data.len() < total {
        let mut more = Vec::new();
        let got = receive_packet(socket, packet, &mut more)?;
        let (next_tag, next_total, offset) = decode_header(&packet[..got])?;
        let piece = &packet[HEADER..got];
        if !more.is_empty() || next_tag != tag || next_total != total || offset != data.len() || piece.is_empty() {
            return Err(IpcError::Framing("packet does not continue its message"));
        }
        if piece.len() > total - data.len() {
            return Err(IpcError::Framing("packet longer than its message"));
        }
        data.extend_from_slice(piece);
    }
    Ok(Incoming { tag, data, fds })
}

fn receive_packet(socket: BorrowedFd<'_>, packet: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, IpcError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(got) => break got,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::CONNRESET) => return Err(IpcError::Closed),
            Err(errno) => return Err(IpcError::Io(errno.into())),
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.bytes == 0 {
        return Err(IpcError::Closed);
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(IpcError::Framing("packet too long"));
    }
    if got.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MAX_FDS {
        return Err(IpcError::Framing("too many descriptors"));
    }
    Ok(got.bytes)
}

fn encode_header(tag: u16, total: usize, offset: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[0..2].copy_from_slice(&MAGIC.to_le_bytes());
    header[2..4].copy_from_slice(&tag.to_le_bytes());
    // Both are at most MAX_MESSAGE, checked by `send`.
    header[4..8].copy_from_slice(&(total as u32).to_le_bytes());
    header[8..12].copy_from_slice(&(offset as u32).to_le_bytes());
    header
}

fn decode_header(packet: &[u8]) -> Result<(u16, usize, usize), IpcError> {
    let header: &[u8; HEADER] = packet.first_chunk().ok_or(IpcError::Framing("packet without header"))?;
    let [m0, m1, t0, t1, l0, l1, l2, l3, o0, o1, o2, o3] = *header;
    if u16::from_le_bytes([m0, m1]) != MAGIC {
        return Err(IpcError::Framing("bad magic"));
    }
    let total = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if total > MAX_MESSAGE {
        return Err(IpcError::TooLarge(total));
    }
    Ok((u16::from_le_bytes([t0, t1]), total, u32::from_le_bytes([o0, o1, o2, o3]) as usize))
}
