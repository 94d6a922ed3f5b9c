//! An open end of a pipe.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sentry_abi::{Errno, Result, Signal, UserAddr};
use sentry_sync::{Events, Waiter};
use sentry_vfs::{Caller, FileOps, Seek, StatusFlags};

use crate::pipe::{PIPE_BUF, Pipe};

const FIONREAD: u32 = 0x541b;
/// Bytes that one step of a splice moves.
const SPLICE_STEP: usize = 65536;

/// What the opening of a FIFO waits for: that the other side's count has passed this.
#[derive(Clone, Copy)]
enum Meeting {
    None,
    Writer { seen: u64 },
    Reader { seen: u64 },
}

pub struct PipeEnd {
    pipe: Arc<Pipe>,
    read: bool,
    write: bool,
    packets: AtomicBool,
    meeting: Meeting,
    /// A FIFO's reader without any writer yet sees no hang-up: writers that had come when it opened do not count.
    writers_before: Option<u64>,
}

impl PipeEnd {
    /// An end of a pipe(2) pair.
    pub(crate) fn of_pair(pipe: Arc<Pipe>, write: bool, packets: bool) -> PipeEnd {
        pipe.enter(!write, write);
        PipeEnd { pipe, read: !write, write, packets: AtomicBool::new(packets), meeting: Meeting::None, writers_before: None }
    }

    /// A pipe(2)'s opening again, through /proc/pid/fd: it waits for nobody and fails for want of nobody.
    pub(crate) fn of_pipe(pipe: Arc<Pipe>, read: bool, write: bool) -> PipeEnd {
        pipe.enter(read, write);
        PipeEnd { pipe, read, write, packets: AtomicBool::new(false), meeting: Meeting::None, writers_before: None }
    }

    /// A FIFO's opening (fifo(7)). `ENXIO` for a non-blocking writer without reader.
    pub(crate) fn of_fifo(pipe: Arc<Pipe>, read: bool, write: bool, nonblocking: bool) -> Result<PipeEnd> {
        let (meeting, writers_before) = {
            let state = pipe.state();
            if write && !read && nonblocking && state.readers == 0 {
                return Err(Errno::ENXIO);
            }
            let meeting = match (read, write) {
                (true, false) if state.writers == 0 && !nonblocking => Meeting::Writer { seen: state.writers_ever },
                (false, true) if state.readers == 0 => Meeting::Reader { seen: state.readers_ever },
                _ => Meeting::None,
            };
            (meeting, (state.writers == 0 && nonblocking).then_some(state.writers_ever))
        };
        pipe.enter(read, write);
        Ok(PipeEnd { pipe, read, write, packets: AtomicBool::new(false), meeting, writers_before })
    }

    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    pub fn is_reader(&self) -> bool {
        self.read
    }

    pub fn is_writer(&self) -> bool {
        self.write
    }

    /// Moves up to `most` bytes out of the pipe into `sink`, which says how many it took (splice(2), sendfile(2) from a pipe). The rest stays in the
    /// pipe. `EAGAIN` when the pipe is empty and has writers, 0 at its end. `sink` is called without a lock.
    pub fn read_into(&self, most: usize, sink: &mut dyn FnMut(&[u8]) -> Result<usize>) -> Result<usize> {
        let mut done = 0;
        while done < most {
            let mut chunk = vec![0; (most - done).min(SPLICE_STEP)];
            let packet = {
                let mut state = self.pipe.state();
                let Some((first, packet)) = state.buffer.first() else {
                    let at_end = state.writers == 0;
                    return if done > 0 || at_end { Ok(done) } else { Err(Errno::EAGAIN) };
                };
                chunk.truncate(first);
                let n = state.buffer.pop(&mut chunk);
                chunk.truncate(n);
                packet
            };
            let result = sink(&chunk);
            let took = *result.as_ref().unwrap_or(&0);
            let took = took.min(chunk.len());
            if took < chunk.len() {
                self.pipe.state().buffer.push_front(&chunk[took..], packet);
                self.pipe.queue.wake(Events::READ);
            }
            if took > 0 {
                self.pipe.queue.wake(Events::WRITE);
            }
            done += took;
            match result {
                Err(e) if done == 0 => return Err(e),
                Err(_) => return Ok(done),
                Ok(_) if took < chunk.len() || packet => return Ok(done),
                Ok(_) => {}
            }
        }
        Ok(done)
    }

    /// Fills the pipe with up to `most` bytes from `source`, which fills a buffer and says how far (0 at its end). `EAGAIN` when the pipe is full,
    /// `EPIPE` (and SIGPIPE for `caller`) without readers. `source` is called without a lock and never for more than fits.
    pub fn write_from(&self, caller: &dyn Caller, most: usize, source: &mut dyn FnMut(&mut [u8]) -> Result<usize>) -> Result<usize> {
        let mut done = 0;
        while done < most {
            let room = {
                let state = self.pipe.state();
                if state.readers == 0 {
                    drop(state);
                    return self.broken(caller, done);
                }
                state.room()
            };
            if room == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            let mut chunk = vec![0; room.min(most - done).min(SPLICE_STEP)];
            let n = match source(&mut chunk) {
                Ok(0) => return Ok(done),
                Ok(n) => n.min(chunk.len()),
                Err(_) if done > 0 => return Ok(done),
                Err(e) => return Err(e),
            };
            // Another writer may have filled the room meanwhile: what has been taken from the source must not be lost, so it may exceed the capacity.
            self.pipe.state().buffer.push(&chunk[..n], false);
            self.pipe.queue.wake(Events::READ);
            done += n;
            if n < chunk.len() {
                return Ok(done);
            }
        }
        Ok(done)
    }

    /// tee(2): copies up to `most` bytes to the writing end `other` of another pipe, without taking them. `EINVAL` for the same pipe.
    pub fn tee(&self, caller: &dyn Caller, other: &PipeEnd, most: usize) -> Result<usize> {
        if Arc::ptr_eq(&self.pipe, &other.pipe) {
            return Err(Errno::EINVAL);
        }
        let room = {
            let state = other.pipe.state();
            if state.readers == 0 {
                drop(state);
                return other.broken(caller, 0);
            }
            state.room()
        };
        let copied = {
            let state = self.pipe.state();
            if state.buffer.is_empty() {
                return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            let mut chunk = vec![0; state.buffer.len().min(room).min(most)];
            let n = state.buffer.peek(0, &mut chunk);
            chunk.truncate(n);
            chunk
        };
        if copied.is_empty() {
            return if most == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        other.pipe.state().buffer.push(&copied, false);
        other.pipe.queue.wake(Events::READ);
        Ok(copied.len())
    }

    fn broken(&self, caller: &dyn Caller, done: usize) -> Result<usize> {
        caller.signal_self(Signal::SIGPIPE);
        if done > 0 { Ok(done) } else { Err(Errno::EPIPE) }
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        self.pipe.leave(self.read, self.write);
    }
}

impl FileOps for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> Seek {
        Seek::Stream
    }

    fn read(&self, _: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        if !self.read {
            return Err(Errno::EBADF);
        }
        if dst.is_empty() {
            return Ok(0);
        }
        let n = {
            let mut state = self.pipe.state();
            if state.buffer.is_empty() {
                return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
            }
            state.buffer.pop(dst)
        };
        self.pipe.queue.wake(Events::WRITE);
        Ok(n)
    }

    fn write(&self, caller: &dyn Caller, _: u64, src: &[u8]) -> Result<usize> {
        if !self.write {
            return Err(Errno::EBADF);
        }
        if src.is_empty() {
            return Ok(0);
        }
        let packets = self.packets.load(Ordering::Relaxed);
        let n = {
            let mut state = self.pipe.state();
            if state.readers == 0 {
                drop(state);
                return self.broken(caller, 0);
            }
            let room = state.room();
            let n = src.len().min(room);
            if n == 0 || (n < src.len() && src.len() <= PIPE_BUF) {
                return Err(Errno::EAGAIN);
            }
            if packets {
                let mut left = state.capacity / PIPE_BUF - state.buffer.packets();
                let mut done = 0;
                // A packet is a page at most; more becomes several. Never a part of one for want of room.
                for packet in src.chunks(PIPE_BUF) {
                    if left == 0 || done + packet.len() > room {
                        break;
                    }
                    state.buffer.push(packet, true);
                    left -= 1;
                    done += packet.len();
                }
                if done == 0 {
                    return Err(Errno::EAGAIN);
                }
                done
            } else {
                state.buffer.push(&src[..n], false);
                n
            }
        };
        self.pipe.queue.wake(Events::READ);
        Ok(n)
    }

    fn append(&self, caller: &dyn Caller, src: &[u8]) -> Result<(usize, u64)> {
        self.write(caller, 0, src).map(|n| (n, 0))
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.pipe.queue.add(waiter);
        }
        let state = self.pipe.state();
        let mut now = Events::empty();
        if self.read {
            if !state.buffer.is_empty() {
                now |= Events::READ;
            }
            if state.writers == 0 && self.writers_before != Some(state.writers_ever) {
                now |= Events::HUP;
            }
        }
        if self.write {
            if !state.is_full() {
                now |= Events::WRITE;
            }
            if state.readers == 0 {
                now |= Events::ERR;
            }
        }
        now & (want | Events::ERR | Events::HUP)
    }

    fn opened(&self, waiter: Option<&Waiter>) -> bool {
        if matches!(self.meeting, Meeting::None) {
            return true;
        }
        if let Some(waiter) = waiter {
            self.pipe.queue.add(waiter);
        }
        let state = self.pipe.state();
        match self.meeting {
            Meeting::None => true,
            Meeting::Writer { seen } => state.writers_ever != seen,
            Meeting::Reader { seen } => state.readers_ever != seen,
        }
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        match command {
            FIONREAD => {
                let pending = i32::try_from(self.pipe.pending()).unwrap_or(i32::MAX);
                caller.copy_out(UserAddr(argument), &pending.to_ne_bytes())?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn status_changed(&self, flags: StatusFlags) {
        self.packets.store(flags.contains(StatusFlags::DIRECT), Ordering::Relaxed);
    }
}
