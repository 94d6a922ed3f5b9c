//! Receiving: recvfrom(2), and what all receiving calls share.

use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::{CurrentTask, Stop, SysResult};
use sentry_mm::{IoVec, MAX_RW_COUNT};
use sentry_net::{Control, MsgFlags, Received, Socket, SocketKind};
use sentry_vfs::FileDescription;

use super::address;
use super::wait::{Patience, find, wait};
use crate::args::Flags;
use crate::file::buffer::{Buffer, KEPT_SIZE};

/// No message is longer.
const MESSAGE_MAX: u64 = 1 << 20;

/// What a receiving call got, data aside, which is in the guest's buffers already.
#[derive(Default)]
pub struct Message {
    pub bytes: usize,
    pub address: Option<Vec<u8>>,
    pub control: Vec<Control>,
    pub flags: MsgFlags,
}

/// [recvfrom(2)](https://man7.org/linux/man-pages/man2/recvfrom.2.html).
pub fn recvfrom(
    task: &mut CurrentTask,
    sockfd: i32,
    buf: UserAddr,
    len: u64,
    flags: Flags,
    src_addr: UserAddr,
    addrlen: UserAddr,
) -> SysResult {
    let vector = [task.mm().single_iovec(buf, len.min(MAX_RW_COUNT))?];
    let (file, socket) = find(task, sockfd)?;
    let message = receive(task, &file, socket.as_ref(), &vector, MsgFlags::from_bits_retain(flags.0))?;
    if !src_addr.is_null() {
        address::write(task, src_addr, addrlen, &message.address.unwrap_or_default())?;
    }
    Ok(message.bytes as u64)
}

/// Receives into the guest's buffers: one message, or of a stream what is there (with MSG_WAITALL: all).
pub fn receive(
    task: &CurrentTask,
    file: &FileDescription,
    socket: &dyn Socket,
    vector: &[IoVec],
    flags: MsgFlags,
) -> Result<Message, Stop> {
    let total = IoVec::total(vector);
    let stream = socket.kind() == SocketKind::Stream;
    let most = if stream && !flags.contains(MsgFlags::PEEK) { KEPT_SIZE as u64 } else { MESSAGE_MAX };
    let mut buffer = Buffer::new(task, total.min(most) as usize);
    let piece = buffer.len();
    let all = stream && flags.contains(MsgFlags::WAITALL) && !flags.contains(MsgFlags::PEEK);
    let mut patience = Patience::reading(file, socket, flags.contains(MsgFlags::DONTWAIT));
    let mut message = Message::default();
    loop {
        let want = ((total - message.bytes as u64) as usize).min(piece);
        let dst = &mut buffer.bytes()[..want];
        let got = match wait(task, socket, patience, || socket.receive(task, dst, flags)) {
            Ok(got) => got,
            Err(_) if message.bytes > 0 => return Ok(message),
            Err(stop) => return Err(stop),
        };
        let n = got.bytes.min(want);
        let more = stream && n > 0 && (n == want || all) && got.control.is_empty() && !flags.contains(MsgFlags::PEEK);
        if let Err(errno) = store(task, vector, message.bytes, &dst[..n]) {
            return if message.bytes > 0 { Ok(message) } else { Err(errno.into()) };
        }
        take(&mut message, got);
        if !more || message.bytes as u64 >= total {
            return Ok(message);
        }
        // What came has to be told: no more waiting, unless all was asked for.
        patience.nonblocking |= !all;
    }
}

fn store(task: &CurrentTask, vector: &[IoVec], skip: usize, bytes: &[u8]) -> Result<()> {
    let copied = task.mm().write_vectored(vector, skip as u64, bytes)?;
    if copied == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

fn take(message: &mut Message, got: Received) {
    message.bytes += got.bytes;
    if message.address.is_none() {
        message.address = got.address;
    }
    message.control.extend(got.control);
    message.flags |= got.flags;
}
