//! An open file of a master: the terminal emulator's end. Closing it hangs the terminal up.

use std::any::Any;
use std::sync::Arc;

use sentry_abi::{Errno, Result};
use sentry_sync::{Events, Waiter};
use sentry_vfs::{Caller, FileOps};

use crate::ioctl;
use crate::terminal::{State, Terminal};

pub struct MasterFile {
    terminal: Arc<Terminal>,
}

impl MasterFile {
    pub(crate) fn new(terminal: Arc<Terminal>) -> MasterFile {
        MasterFile { terminal }
    }

    pub fn terminal(&self) -> &Arc<Terminal> {
        &self.terminal
    }

    /// What the slave's side has written. `EAGAIN`: nothing yet; `EIO`: nothing more, the last slave is closed.
    pub fn take_output(&self, dst: &mut [u8]) -> Result<usize> {
        self.terminal.change(|state, effects| {
            let status = state.packet_mode && state.packet_status != 0;
            if state.discipline.output_len() == 0 && !status {
                return Err(if state.slaves_gone || state.hung_up { Errno::EIO } else { Errno::EAGAIN });
            }
            effects.wake_slave |= Events::WRITE;
            Ok(if state.packet_mode { read_packet(state, dst) } else { state.discipline.read_output(dst) })
        })
    }

    /// Types. Returns how many bytes there was room for; `EAGAIN`: none, `EIO`: hung up.
    pub fn give_input(&self, src: &[u8]) -> Result<usize> {
        self.terminal.change(|state, effects| {
            if state.hung_up {
                return Err(Errno::EIO);
            }
            let done = state.take_input(src, effects);
            if done == 0 && !src.is_empty() { Err(Errno::EAGAIN) } else { Ok(done) }
        })
    }

    /// Whether all that was written has been taken.
    pub fn output_is_taken(&self) -> bool {
        self.terminal.state.lock().discipline.output_len() == 0
    }
}

/// Packet mode: a byte of status, or 0 and data.
fn read_packet(state: &mut State, dst: &mut [u8]) -> usize {
    let Some((first, rest)) = dst.split_first_mut() else { return 0 };
    if state.packet_status != 0 {
        *first = std::mem::take(&mut state.packet_status);
        return 1;
    }
    *first = 0;
    1 + state.discipline.read_output(rest)
}

impl FileOps for MasterFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _: &dyn Caller, _: u64, dst: &mut [u8]) -> Result<usize> {
        if dst.is_empty() { Ok(0) } else { self.take_output(dst) }
    }

    fn write(&self, _: &dyn Caller, _: u64, src: &[u8]) -> Result<usize> {
        self.give_input(src)
    }

    fn ready(&self, want: Events, waiter: Option<&Waiter>) -> Events {
        if let Some(waiter) = waiter {
            self.terminal.master_queue.add(waiter);
        }
        let state = self.terminal.state.lock();
        let mut now = Events::empty();
        if state.discipline.output_len() > 0 {
            now |= Events::READ;
        }
        if state.packet_mode && state.packet_status != 0 {
            now |= Events::READ | Events::PRI;
        }
        if state.slaves_gone || state.hung_up {
            now |= Events::HUP;
        } else if state.has_input_room() {
            now |= Events::WRITE;
        }
        now & (want | Events::HUP)
    }

    fn ioctl(&self, caller: &dyn Caller, command: u32, argument: u64) -> Result<u64> {
        ioctl::master(&self.terminal, caller, command, argument)
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.terminal.master_closed();
    }
}
