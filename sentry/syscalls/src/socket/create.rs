//! Sockets and their connections: socket(2), socketpair(2), bind(2), listen(2), accept(2), connect(2), shutdown(2), getsockname(2), getpeername(2).

use std::sync::Arc;

use sentry_abi::{Errno, Result, UserAddr};
use sentry_kernel::{CurrentTask, Stop, SysResult};
use sentry_net::{Family, FsNames, Shutdown, Socket};
use sentry_vfs::{FileDescription, StatusFlags};

use super::address;
use super::wait::{Patience, find, wait};
use crate::args::Flags;
use crate::dispatch::System;
use crate::file::fd::{O_CLOEXEC, O_NONBLOCK, install_pair};

const TYPE_MASK: i32 = 0xf;

/// SOCK_CLOEXEC and SOCK_NONBLOCK beside the type. `EINVAL` for others.
fn split_type(kind: i32) -> Result<(i32, u32)> {
    let flags = (kind & !TYPE_MASK) as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 { Err(Errno::EINVAL) } else { Ok((kind & TYPE_MASK, flags)) }
}

fn open(task: &CurrentTask, socket: Arc<dyn Socket>, flags: u32) -> Result<Arc<FileDescription>> {
    let status = StatusFlags::from_bits_truncate(flags & O_NONBLOCK);
    Ok(System::of(task)?.sockets.file(socket, task, status))
}

/// [socket(2)](https://man7.org/linux/man-pages/man2/socket.2.html).
pub fn socket(task: &mut CurrentTask, domain: i32, kind: i32, protocol: i32) -> SysResult {
    let (kind, flags) = split_type(kind)?;
    let socket = System::of(task)?.sockets.socket(domain, kind, protocol)?;
    let file = open(task, socket, flags)?;
    Ok(task.install(file, flags & O_CLOEXEC != 0)? as u64)
}

/// [socketpair(2)](https://man7.org/linux/man-pages/man2/socketpair.2.html).
pub fn socketpair(task: &mut CurrentTask, domain: i32, kind: i32, protocol: i32, sv: UserAddr) -> SysResult {
    let (kind, flags) = split_type(kind)?;
    let (a, b) = System::of(task)?.sockets.pair(task, domain, kind, protocol)?;
    let (a, b) = (open(task, a, flags)?, open(task, b, flags)?);
    install_pair(task, sv, a, b, flags & O_CLOEXEC != 0)
}

/// [bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html).
pub fn bind(task: &mut CurrentTask, sockfd: i32, addr: UserAddr, addrlen: i32) -> SysResult {
    let (_file, socket) = find(task, sockfd)?;
    let address = address::read(task, addr, addrlen)?;
    let cx = task.fs_context();
    socket.bind(task, &FsNames { context: &cx }, &address)?;
    Ok(0)
}

/// [listen(2)](https://man7.org/linux/man-pages/man2/listen.2.html).
pub fn listen(task: &mut CurrentTask, sockfd: i32, backlog: i32) -> SysResult {
    let (_file, socket) = find(task, sockfd)?;
    socket.listen(task, backlog)?;
    Ok(0)
}

/// [accept(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
pub fn accept(task: &mut CurrentTask, sockfd: i32, addr: UserAddr, addrlen: UserAddr) -> SysResult {
    accept4(task, sockfd, addr, addrlen, Flags(0))
}

/// [accept4(2)](https://man7.org/linux/man-pages/man2/accept.2.html).
pub fn accept4(task: &mut CurrentTask, sockfd: i32, addr: UserAddr, addrlen: UserAddr, flags: Flags) -> SysResult {
    if flags.0 & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let (file, socket) = find(task, sockfd)?;
    let patience = Patience::reading(&file, socket.as_ref(), false);
    let new = wait(task, socket.as_ref(), patience, || socket.accept(task))?;
    if !addr.is_null() {
        // A peer that has gone already, as far as the address is concerned.
        let peer = new.peer_address().map_err(|_| Errno::ECONNABORTED)?;
        address::write(task, addr, addrlen, &peer)?;
    }
    let file = open(task, new, flags.0)?;
    Ok(task.install(file, flags.0 & O_CLOEXEC != 0)? as u64)
}

/// [connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html).
pub fn connect(task: &mut CurrentTask, sockfd: i32, addr: UserAddr, addrlen: i32) -> SysResult {
    let (file, socket) = find(task, sockfd)?;
    let address = address::read(task, addr, addrlen)?;
    let cx = task.fs_context();
    let names = FsNames { context: &cx };
    let patience = Patience::writing(&file, socket.as_ref(), false);
    let mut begun = false;
    let result = wait(task, socket.as_ref(), patience, || match socket.connect(task, &names, &address) {
        Err(Errno::EINPROGRESS) => {
            begun = true;
            Err(if patience.nonblocking { Errno::EINPROGRESS } else { Errno::EAGAIN })
        }
        // Ours, that has been under way.
        Err(Errno::EALREADY) if begun => Err(Errno::EAGAIN),
        Err(Errno::EISCONN) if begun => Ok(()),
        other => other,
    });
    match result {
        // What a local socket says as EAGAIN (a full backlog) is a connection under way for the others.
        Err(Stop::Fail(Errno::EAGAIN)) if socket.family() != Family::Unix => Err(Errno::EINPROGRESS.into()),
        other => other.map(|()| 0),
    }
}

/// [shutdown(2)](https://man7.org/linux/man-pages/man2/shutdown.2.html).
pub fn shutdown(task: &mut CurrentTask, sockfd: i32, how: i32) -> SysResult {
    let (_file, socket) = find(task, sockfd)?;
    socket.shutdown(Shutdown::from_raw(how)?)?;
    Ok(0)
}

/// [getsockname(2)](https://man7.org/linux/man-pages/man2/getsockname.2.html).
pub fn getsockname(task: &mut CurrentTask, sockfd: i32, addr: UserAddr, addrlen: UserAddr) -> SysResult {
    let (_file, socket) = find(task, sockfd)?;
    address::write(task, addr, addrlen, &socket.local_address()?)?;
    Ok(0)
}

/// [getpeername(2)](https://man7.org/linux/man-pages/man2/getpeername.2.html).
pub fn getpeername(task: &mut CurrentTask, sockfd: i32, addr: UserAddr, addrlen: UserAddr) -> SysResult {
    let (_file, socket) = find(task, sockfd)?;
    address::write(task, addr, addrlen, &socket.peer_address()?)?;
    Ok(0)
}
