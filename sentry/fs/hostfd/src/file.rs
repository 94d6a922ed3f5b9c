//! Reading, writing and waiting.

use std::any::Any;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags};
use sentry_abi::{Errno, Result, Signal};
use sentry_memory::{MapLabel, Mapping};
use sentry_platform::Prot;
use sentry_sync::{Events, Waiter};
use sentry_vfs::{Caller, FileOps, Seek};

use crate::host;
use crate::inode::{Channel, HostInode};

/// How much is written at a time where the host has no call that never blocks: poll(2) promises this much room in a pipe (`PIPE_BUF`).
const PIPE_CHUNK: usize = 4096;
/// The same for a terminal, whose promise is smaller.
const TERMINAL_CHUNK: usize = 512;

/// A host description that the guest has open.
pub(crate) struct HostFile {
    inode: Arc<HostInode>,
}

impl HostFile {
    pub fn new(inode: Arc<HostInode>) -> HostFile {
        HostFile { inode }
    }

    pub fn inode(&self) -> &Arc<HostInode> {
        &self.inode
    }

    fn fd(&self) -> &OwnedFd {
        self.inode.fd()
    }

    /// Reads where the guest's offset is. As long as that is where the host's is, the host's moves along, for those outside who share it.
    fn read_offset(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        let mut position = self.inode.position.lock();
        if *position == offset {
            let n = rustix::io::retry_on_intr(|| rustix::io::read(self.fd(), &mut *dst)).map_err(host)?;
            *position = offset.saturating_add(n as u64);
            return Ok(n);
        }
        drop(position);
        rustix::io::retry_on_intr(|| rustix::io::pread(self.fd(), &mut *dst, offset)).map_err(host)
    }

    fn write_offset(&self, offset: u64, src: &[u8]) -> Result<usize> {
        let mut position = self.inode.position.lock();
        if *position == offset {
            let n = rustix::io::retry_on_intr(|| rustix::io::write(self.fd(), src)).map_err(host)?;
            *position = offset.saturating_add(n as u64);
            return Ok(n);
        }
        drop(position);
        rustix::io::retry_on_intr(|| rustix::io::pwrite(self.fd(), src, offset)).map_err(host)
    }

    fn read_stream(&self, dst: &mut [u8]) -> Result<usize> {
        if !self.inode.poll(Events::READ).intersects(Events::READ | Events::HUP | Events::ERR) {
            return Err(Errno::EAGAIN);
        }
        rustix::io::read(self.fd(), dst).map_err(host)
    }

    fn write_stream(&self, src: &[u8]) -> Result<usize> {
        let chunk = if self.inode.channel == Channel::Terminal { TERMINAL_CHUNK } else { PIPE_CHUNK };
        let mut done = 0;
        for piece in src.chunks(chunk) {
            if !self.inode.poll(Events::WRITE).intersects(Events::WRITE | Events::ERR | Events::HUP) {
                break;
            }
            match rustix::io::write(self.fd(), piece) {
                Ok(n) => {
                    done += n;
                    if n < piece.len() {
                        break;
                    }
                }
                Err(_) if done != 0 => break,
                Err(errno) => return Err(host(errno)),
            }
        }
        if done == 0 && !src.is_empty() { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn write_any(&self, offset: u64, src: &[u8]) -> Result<usize> {
        match self.inode.channel {
            Channel::Regular => self.write_offset(offset, src),
            Channel::Plain => rustix::io::retry_on_intr(|| rustix::io::write(self.fd(), src)).map_err(host),
            Channel::Socket => send(self.fd(), src).map_err(host),
            Channel::Pipe | Channel::Terminal => self.write_stream(src),
        }
    }
}

fn send(fd: &OwnedFd, src: &[u8]) -> rustix::io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(fd, &[IoSlice::new(src)], &mut SendAncillaryBuffer::default(), flags)
}

/// Descriptors that come along are not taken.
fn receive(fd: &OwnedFd, dst: &mut [u8]) -> rustix::io::Result<usize> {
    Ok(rustix::net::recvmsg(fd, &mut [IoSliceMut::new(dst)], &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT)?.bytes)
}

/// EPIPE comes with SIGPIPE, for the guest as for anybody.
fn tell_broken_pipe<T>(caller: &dyn Caller, result: Result<T>) -> Result<T> {
    if matches!(result, Err(Errno::EPIPE)) {
        caller.signal_self(Signal::SIGPIPE);
    }
    result
}

struct Label(Arc<HostInode>);

impl MapLabel for Label {
    fn path(&self) -> Option<Vec<u8>> {
        None
    }

    fn id(&self) -> (u64, u64) {
        self.0.identity()
    }
}

impl FileOps for HostFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        match self.inode.channel {
            Channel::Regular => Seek::Offset,
            Channel::Plain => Seek::Ignored,
            Channel::Pipe | Channel::Terminal | Channel::Socket => Seek::Stream,
        }
    }

    fn read(&self, caller: &dyn Caller, offset: u64, dst: &mut [u8]) -> Result<usize> {
        if let Some(terminal) = self.inode.terminal() {
            terminal.may_read(caller)?;
        }
        if dst.is_empty() {
            return Ok(0);
        }
        match self.inode.channel {
            Channel::Regular => self.read_offset(offset, dst),
            Channel::Plain => rustix::io::retry_on_intr(|| rustix::io::read(self.fd(), &mut *dst)).map_err(host),
            Channel::Socket => receive(self.fd(), dst).map_err(host),
            Channel::Pipe => self.read_stream(dst),
            Channel::Terminal => match self.read_stream(dst) {
                // A hung-up terminal is at its end.
                Err(Errno::EIO) => Ok(0),
                result => result,
            },
        }
    }

    fn write(&self, caller: &dyn Caller, offset: u64, src: &[u8]) -> Result<usize> {
        if let Some(terminal) = self.inode.terminal() {
            terminal.may_write(caller, self.inode.as_fd())?;
        }
        tell_broken_pipe(caller, self.write_any(offset, src))
    }

    fn append(&self, caller: &dyn Caller, src: &[u8]) -> Result<(usize, u64)> {
        if self.inode.channel != Channel::Regular {
            return Ok((self.write(caller, 0, src)?, 0));
        }
        let end = u64::try_from(rustix::fs::fstat(self.fd()).map_err(host)?.st_size).unwrap_or(0);
        // A description that appends by itself puts it at the end whatever the offset is.
        let n = rustix::io::retry_on_intr(|| rustix::io::pwrite(self.fd(), src, end)).map_err(host)?;
        Ok((n, end.saturating_add(n as u64)))
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter
            && self.pollable()
        {
            self.inode.wait(waiter);
        }
        self.inode.poll(want)
    }

    fn pollable(&self) -> bool {
        !matches!(self.inode.channel, Channel::Regular | Channel::Plain)
    }

    fn truncate(&self, len: u64) -> Result<()> {
        if self.inode.channel != Channel::Regular {
            return Err(Errno::EINVAL);
        }
        rustix::fs::ftruncate(self.fd(), len).map_err(host)
    }

    fn allocate(&self, mode: i32, offset: u64, len: u64) -> Result<()> {
        match self.inode.channel {
            Channel::Regular => {
                let flags = rustix::fs::FallocateFlags::from_bits(mode.cast_unsigned()).ok_or(Errno::EOPNOTSUPP)?;
                rustix::fs::fallocate(self.fd(), flags, offset, len).map_err(host)
            }
            Channel::Plain => Err(Errno::ENODEV),
            Channel::Pipe | Channel::Terminal | Channel::Socket => Err(Errno::ESPIPE),
        }
    }

    fn sync(&self, _: bool) -> Result<()> {
        if self.inode.channel != Channel::Regular {
            return Err(Errno::EINVAL);
        }
        rustix::fs::fsync(self.fd()).map_err(host)
    }

    fn mapping(&self, write: bool) -> Result<Mapping> {
        if self.inode.channel != Channel::Regular {
            return Err(Errno::ENODEV);
        }
        let (readable, writable) = self.inode.rights();
        if !readable || (write && !writable) {
            return Err(Errno::EACCES);
        }
        let fd = Arc::new(self.fd().try_clone().map_err(|error| Errno::from_host(error.raw_os_error().unwrap_or(0)))?);
        let max_prot = if write { Prot::READ | Prot::WRITE | Prot::EXEC } else { Prot::READ | Prot::EXEC };
        Ok(Mapping { fd, max_prot, label: Arc::new(Label(self.inode.share()?)), resident: false })
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        match self.inode.terminal() {
            Some(terminal) => terminal.ioctl(caller, self.inode.as_fd(), command, argument),
            None if command == crate::terminal::FIONREAD
                && matches!(self.inode.channel, Channel::Pipe | Channel::Socket | Channel::Regular) =>
            {
                crate::terminal::bytes_waiting(caller, self.inode.as_fd(), argument)
            }
            None => Err(Errno::ENOTTY),
        }
    }

    fn terminal_key(&self) -> Option<u64> {
        self.inode.terminal().map(|terminal| terminal.key())
    }
}
