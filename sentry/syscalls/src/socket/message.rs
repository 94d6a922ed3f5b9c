//! sendmsg(2), recvmsg(2) and their many-message forms.

use std::time::Instant;

use sentry_abi::message::{MMsgHdr, MsgHdr};
use sentry_abi::{Errno, Result, Timespec, UserAddr};
use sentry_kernel::{CurrentTask, Stop, SysResult};
use sentry_mm::{IoVec, MAX_IOVECS};
use sentry_net::{MAX_ADDRESS, MsgFlags, decode_control, encode_control};

use super::receive::{Message, receive};
use super::send::send;
use super::{address, wait};
use crate::args::Flags;

/// net.core.optmem_max.
const CONTROL_MAX: u64 = 128 << 10;

fn read_header(task: &CurrentTask, at: UserAddr) -> Result<MsgHdr> {
    let header: MsgHdr = task.mm().read_obj(at)?;
    if header.name_len < 0 {
        return Err(Errno::EINVAL);
    }
    if header.iov_len > MAX_IOVECS {
        return Err(Errno::EMSGSIZE);
    }
    Ok(header)
}

fn import(task: &CurrentTask, header: &MsgHdr) -> Result<Vec<IoVec>> {
    task.mm().read_iovecs(UserAddr(header.iov), header.iov_len)
}

/// [sendmsg(2)](https://man7.org/linux/man-pages/man2/sendmsg.2.html).
pub fn sendmsg(task: &mut CurrentTask, sockfd: i32, msg: UserAddr, flags: Flags) -> SysResult {
    send_message(task, sockfd, msg, MsgFlags::from_bits_retain(flags.0)).map(|n| n as u64)
}

fn send_message(task: &CurrentTask, sockfd: i32, msg: UserAddr, flags: MsgFlags) -> Result<usize, Stop> {
    let (file, socket) = wait::find(task, sockfd)?;
    let header = read_header(task, msg)?;
    let name = if header.name == 0 || header.name_len == 0 {
        None
    } else {
        // Longer than any address can be: cut, as copy_msghdr_from_user() does.
        Some(address::read(task, UserAddr(header.name), header.name_len.min(MAX_ADDRESS as i32))?)
    };
    let vector = import(task, &header)?;
    let control = if header.control_len == 0 || header.control == 0 {
        Vec::new()
    } else {
        if header.control_len > CONTROL_MAX {
            return Err(Errno::ENOBUFS.into());
        }
        let bytes = task.mm().read_vec(UserAddr(header.control), header.control_len as usize)?;
        let files = task.files();
        decode_control(&bytes, task, &|fd| files.get(fd))?
    };
    send(task, &file, socket.as_ref(), &vector, name.as_deref(), control, flags)
}

/// [sendmmsg(2)](https://man7.org/linux/man-pages/man2/sendmmsg.2.html).
pub fn sendmmsg(task: &mut CurrentTask, sockfd: i32, msgvec: UserAddr, vlen: u32, flags: Flags) -> SysResult {
    wait::find(task, sockfd)?;
    let flags = MsgFlags::from_bits_retain(flags.0);
    let mut done = 0;
    for index in 0..u64::from(vlen).min(MAX_IOVECS) {
        let at = msgvec.offset(index * MMsgHdr::SIZE)?;
        let sent = send_message(task, sockfd, at, flags).and_then(|n| {
            task.mm().write_obj(at.offset(MMsgHdr::LEN_AT)?, &(n as u32))?;
            Ok(())
        });
        match sent {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(stop) => return Err(stop),
        }
    }
    Ok(done)
}

/// [recvmsg(2)](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
pub fn recvmsg(task: &mut CurrentTask, sockfd: i32, msg: UserAddr, flags: Flags) -> SysResult {
    receive_message(task, sockfd, msg, MsgFlags::from_bits_retain(flags.0)).map(|n| n as u64)
}

fn receive_message(task: &CurrentTask, sockfd: i32, msg: UserAddr, flags: MsgFlags) -> Result<usize, Stop> {
    let (file, socket) = wait::find(task, sockfd)?;
    let header = read_header(task, msg)?;
    let vector = import(task, &header)?;
    let message = receive(task, &file, socket.as_ref(), &vector, flags)?;
    Ok(tell(task, msg, &header, message, flags)?)
}

/// Writes what came with the data: the sender's name, control messages, flags.
fn tell(task: &CurrentTask, at: UserAddr, header: &MsgHdr, message: Message, asked: MsgFlags) -> Result<usize> {
    let close_on_exec = asked.contains(MsgFlags::CMSG_CLOEXEC);
    if header.name != 0 {
        let name = message.address.unwrap_or_default();
        let room = (header.name_len as usize).min(MAX_ADDRESS);
        task.mm().write(UserAddr(header.name), &name[..name.len().min(room)])?;
        task.mm().write_obj(at.offset(MsgHdr::NAME_LEN_AT)?, &(name.len() as i32))?;
    }
    let room = if header.control == 0 { 0 } else { header.control_len.min(CONTROL_MAX) as usize };
    let mut install = |file| task.install(file, close_on_exec);
    let (bytes, cut) = encode_control(message.control, room, &mut install);
    let mut flags = message.flags | cut;
    flags |= asked & MsgFlags::CMSG_CLOEXEC;
    task.mm().write_obj(at.offset(MsgHdr::FLAGS_AT)?, &flags.bits())?;
    task.mm().write(UserAddr(header.control), &bytes)?;
    task.mm().write_obj(at.offset(MsgHdr::CONTROL_LEN_AT)?, &(bytes.len() as u64))?;
    Ok(message.bytes)
}

/// [recvmmsg(2)](https://man7.org/linux/man-pages/man2/recvmmsg.2.html). As in Linux the time limit is looked at between messages only.
pub fn recvmmsg(task: &mut CurrentTask, sockfd: i32, msgvec: UserAddr, vlen: u32, flags: Flags, timeout: UserAddr) -> SysResult {
    let limit = if timeout.is_null() { None } else { Some(task.mm().read_obj::<Timespec>(timeout)?.duration()?) };
    // Beyond the clock is never.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    wait::find(task, sockfd)?;
    let mut flags = MsgFlags::from_bits_retain(flags.0);
    let wait_for_one = flags.contains(MsgFlags::WAITFORONE);
    flags -= MsgFlags::WAITFORONE;
    let mut done = 0;
    for index in 0..u64::from(vlen).min(MAX_IOVECS) {
        let at = msgvec.offset(index * MMsgHdr::SIZE)?;
        let received = receive_message(task, sockfd, at, flags).and_then(|n| {
            task.mm().write_obj(at.offset(MMsgHdr::LEN_AT)?, &(n as u32))?;
            Ok(())
        });
        match received {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(stop) => return Err(stop),
        }
        if wait_for_one {
            flags |= MsgFlags::DONTWAIT;
        }
        if deadline.is_some_and(|at| Instant::now() >= at) {
            break;
        }
    }
    if let Some(at) = deadline {
        let left = at.saturating_duration_since(Instant::now());
        task.mm().write_obj(timeout, &Timespec::from_duration(left))?;
    }
    Ok(done)
}
