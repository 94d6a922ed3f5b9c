//! Sending: sendto(2), and what all sending calls share.

use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::{CurrentTask, Stop, SysResult};
use sentry_mm::{IoVec, MAX_RW_COUNT};
use sentry_net::{Control, FsNames, MsgFlags, Outgoing, Socket, SocketKind};
use sentry_vfs::FileDescription;

use super::address;
use super::wait::{Patience, find, wait};
use crate::args::Flags;
use crate::file::buffer::{Buffer, KEPT_SIZE};

/// A longer message fits into no socket's buffer.
const MESSAGE_MAX: u64 = 1 << 20;

/// [sendto(2)](https://man7.org/linux/man-pages/man2/sendto.2.html).
pub fn sendto(task: &mut CurrentTask, sockfd: i32, buf: UserAddr, len: u64, flags: Flags, dest_addr: UserAddr, addrlen: i32) -> SysResult {
    let vector = [task.mm().single_iovec(buf, len.min(MAX_RW_COUNT))?];
    let (file, socket) = find(task, sockfd)?;
    let name = if dest_addr.is_null() { None } else { Some(address::read(task, dest_addr, addrlen)?) };
    let flags = MsgFlags::from_bits_retain(flags.0);
    send(task, &file, socket.as_ref(), &vector, name.as_deref(), Vec::new(), flags).map(|n| n as u64)
}

/// Sends the guest's buffers: a stream in pieces, all of them if it may block; a message at once.
pub fn send(
    task: &CurrentTask,
    file: &FileDescription,
    socket: &dyn Socket,
    vector: &[IoVec],
    name: Option<&[u8]>,
    control: Vec<Control>,
    flags: MsgFlags,
) -> Result<usize, Stop> {
    let total = IoVec::total(vector);
    let stream = socket.kind() == SocketKind::Stream;
    if !stream && total > MESSAGE_MAX {
        return Err(Errno::EMSGSIZE.into());
    }
    let cx = task.fs_context();
    let names = FsNames { context: &cx };
    let patience = Patience::writing(file, socket, flags.contains(MsgFlags::DONTWAIT));
    let piece = if stream { total.min(KEPT_SIZE as u64) } else { total } as usize;
    let mut buffer = Buffer::new(task, piece);
    let mut control = Some(control);
    let mut done = 0;
    loop {
        let want = ((total - done as u64) as usize).min(piece);
        let src = &mut buffer.bytes()[..want];
        let copied = match task.mm().read_vectored(vector, done as u64, src) {
            Ok(n) if n == want || (stream && n > 0) => n,
            Ok(_) | Err(_) if done > 0 => return Ok(done),
            Ok(_) => return Err(Errno::EFAULT.into()),
            Err(errno) => return Err(errno.into()),
        };
        let mut sent = 0;
        while sent < copied || (sent == 0 && copied == 0) {
            // Only a call that sends nothing at all raises SIGPIPE.
            let quiet = if done + sent > 0 { MsgFlags::NOSIGNAL } else { MsgFlags::empty() };
            let result = wait(task, socket, patience, || {
                let control = control.as_deref().map(copy).unwrap_or_default();
                socket.send(task, &names, Outgoing { data: &src[sent..copied], address: name, control, flags: flags | quiet })
            });
            match result {
                Ok(n) => sent += n,
                Err(_) if done + sent > 0 => return Ok(done + sent),
                Err(stop) => return Err(stop),
            }
            // With the first bytes only.
            control = None;
            if !stream || copied == 0 {
                return Ok(sent);
            }
        }
        done += sent;
        if done as u64 >= total || copied < want {
            return Ok(done);
        }
    }
}

/// A socket that answers EAGAIN may have looked at the control messages: each attempt gets its own.
fn copy(control: &[Control]) -> Vec<Control> {
    let one = |item: &Control| match item {
        Control::Rights(files) => Control::Rights(files.clone()),
        Control::Credentials(who) => Control::Credentials(*who),
    };
    control.iter().map(one).collect()
}
