//! The line discipline N_TTY as a state machine: bytes from the master become lines and echo, bytes from the slave become output.
//! drivers/tty/n_tty.c.
//!
//! No locks, no waiting, no tasks: what is to happen outside comes back in an [`Outcome`].
//! Differs: EXTPROC is kept and told, but changes nothing; breaks and parity errors do not occur on a pseudo-terminal.

mod edit;
mod latin1;
mod output;

use std::collections::VecDeque;

use sentry_abi::Signal;

use crate::termios::{InputFlags, LocalFlags, Termios, cc};

/// Input that is kept for the reader (N_TTY_BUF_SIZE).
pub const INPUT_LIMIT: usize = 4096;
/// Output that is kept for the master.
pub const OUTPUT_LIMIT: usize = 16384;
/// What is left of unread output when it is flushed: so much has reached the master's reader.
const DELIVERED_OUTPUT: usize = 4095;
const ECHO_LIMIT: usize = 4096;

/// What happened that others must hear of.
#[derive(Default, Debug)]
pub struct Outcome {
    /// For the foreground process group.
    pub signals: Vec<Signal>,
    pub flushed_input: bool,
    pub flushed_output: bool,
    pub stopped: bool,
    pub started: bool,
}

/// A line that is ready to be read.
#[derive(Debug)]
struct Line {
    bytes: VecDeque<u8>,
    /// Ended by EOF, which takes the room of a byte and is not read.
    eof: bool,
}

/// How a byte is echoed.
#[derive(Clone, Copy)]
enum Echo {
    /// As output of the slave would be.
    Cooked(u8),
    /// As ^X, whatever the output flags say.
    Control(u8),
    /// To the master as it is.
    Raw(u8),
    /// The line being typed begins here.
    LineStart,
    /// Back over a tab, before which there are so many columns since the line's start, or since the tab before.
    EraseTab { columns: u32, after_tab: bool },
}

#[derive(Default)]
pub struct Discipline {
    pub termios: Termios,
    /// Canonical input, complete.
    lines: VecDeque<Line>,
    /// Room that `lines` take.
    lines_len: usize,
    /// The line being typed.
    edit: Vec<u8>,
    /// Input of non-canonical mode.
    raw: VecDeque<u8>,
    /// VLNEXT was typed.
    literal_next: bool,
    /// Within an ECHOPRT erasure.
    erasing: bool,
    column: u32,
    /// Column where the line being typed began.
    line_column: u32,
    /// For the master to read.
    output: VecDeque<u8>,
    echo: VecDeque<Echo>,
    /// How much of `echo` is shown when output starts again; the rest is shown when all that came at once has been processed.
    echo_marked: usize,
    /// Output that was there before what is being received: that much has reached the master's reader.
    output_before: Option<usize>,
    /// ^S was typed.
    stopped: bool,
    /// TCXONC stopped it.
    held: bool,
}

impl Discipline {
    /// Takes bytes that the master wrote; returns how many. It stops where the reader must read first.
    pub fn receive(&mut self, src: &[u8], outcome: &mut Outcome) -> usize {
        self.output_before = Some(self.output.len());
        let mut done = 0;
        for c in src {
            if self.input_len() >= INPUT_LIMIT - 1 && (!self.termios.canonical() || !self.lines.is_empty()) {
                break;
            }
            self.receive_char(*c, outcome);
            done += 1;
        }
        self.output_before = None;
        self.mark_echo();
        self.flush_echo();
        done
    }

    /// Bytes kept for the reader, whether it may read them yet or not.
    pub fn input_len(&self) -> usize {
        self.lines_len + self.edit.len() + self.raw.len()
    }

    /// What FIONREAD tells the slave.
    pub fn readable_len(&self) -> usize {
        if self.termios.canonical() { self.lines.iter().map(|l| l.bytes.len()).sum() } else { self.raw.len() }
    }

    pub fn has_line(&self) -> bool {
        !self.lines.is_empty()
    }

    fn receive_char(&mut self, c: u8, outcome: &mut Outcome) {
        let input = self.termios.input;
        let mut c = c;
        let typed = c;
        if input.contains(InputFlags::ISTRIP) {
            c &= 0x7f;
        }
        if input.contains(InputFlags::IUCLC) && self.termios.local.contains(LocalFlags::IEXTEN) {
            c = latin1::to_lower(c);
        }
        if std::mem::take(&mut self.literal_next) {
            self.ordinary_char(c, false);
            return;
        }
        if self.flow_char(c, outcome) || self.signal_char(c, outcome) {
            return;
        }
        match c {
            b'\r' if input.contains(InputFlags::IGNCR) => return,
            b'\r' if input.contains(InputFlags::ICRNL) => c = b'\n',
            b'\n' if input.contains(InputFlags::INLCR) => c = b'\r',
            _ => {}
        }
        if self.termios.canonical() && self.canonical_char(c) {
            return;
        }
        self.ordinary_char(c, typed == b'\r');
    }

    /// ^S and ^Q; any character starts again with IXANY.
    fn flow_char(&mut self, c: u8, outcome: &mut Outcome) -> bool {
        if !self.termios.input.contains(InputFlags::IXON) {
            return false;
        }
        if self.termios.is(c, cc::START) {
            self.start(outcome);
            return true;
        }
        if self.termios.is(c, cc::STOP) {
            self.stop(outcome);
            return true;
        }
        let signals =
            self.termios.local.contains(LocalFlags::ISIG) && [cc::INTR, cc::QUIT, cc::SUSP].iter().any(|i| self.termios.is(c, *i));
        if self.stopped && self.termios.input.contains(InputFlags::IXANY) && !signals {
            self.start(outcome);
        }
        false
    }

    fn signal_char(&mut self, c: u8, outcome: &mut Outcome) -> bool {
        if !self.termios.local.contains(LocalFlags::ISIG) {
            return false;
        }
        let signals = [(cc::INTR, Signal::SIGINT), (cc::QUIT, Signal::SIGQUIT), (cc::SUSP, Signal::SIGTSTP)];
        let Some((_, signal)) = signals.iter().find(|(index, _)| self.termios.is(c, *index)) else { return false };
        if !self.termios.local.contains(LocalFlags::NOFLSH) {
            self.flush_input(outcome);
            self.flush_output(outcome);
            self.echo.clear();
            self.echo_marked = 0;
        }
        outcome.signals.push(*signal);
        if self.termios.input.contains(InputFlags::IXON) {
            self.release(outcome);
        }
        if self.termios.local.contains(LocalFlags::ECHO) {
            self.echo_char(c);
            self.mark_echo();
        } else {
            self.flush_echo();
        }
        true
    }

    /// Editing and line ends. False for what is an ordinary character.
    fn canonical_char(&mut self, c: u8) -> bool {
        let local = self.termios.local;
        if self.termios.is(c, cc::ERASE) || self.termios.is(c, cc::KILL) || self.termios.is_extended(c, cc::WERASE) {
            self.erase(c);
            self.mark_echo();
            return true;
        }
        if self.termios.is_extended(c, cc::LNEXT) {
            self.literal_next = true;
            if local.contains(LocalFlags::ECHO) {
                self.finish_erasing();
                if local.contains(LocalFlags::ECHOCTL) {
                    self.push_echo(Echo::Cooked(b'^'));
                    self.push_echo(Echo::Cooked(b'\x08'));
                    self.mark_echo();
                }
            }
            return true;
        }
        if self.termios.is_extended(c, cc::REPRINT) && local.contains(LocalFlags::ECHO) {
            self.reprint(c);
            self.mark_echo();
            return true;
        }
        if c == b'\n' {
            if local.intersects(LocalFlags::ECHO | LocalFlags::ECHONL) {
                self.push_echo(Echo::Cooked(b'\n'));
                self.mark_echo();
            }
            self.end_line(Some(c));
            return true;
        }
        if self.termios.is(c, cc::EOF) {
            self.end_line(None);
            return true;
        }
        if self.termios.is(c, cc::EOL) || self.termios.is_extended(c, cc::EOL2) {
            if local.contains(LocalFlags::ECHO) {
                self.begin_line_column();
                self.echo_char(c);
                self.mark_echo();
            }
            if self.doubles(c) {
                self.edit.push(c);
            }
            self.end_line(Some(c));
            return true;
        }
        false
    }

    /// `from_return`: a newline that was typed as a carriage return shows as one; any other as ^J.
    fn ordinary_char(&mut self, c: u8, from_return: bool) {
        if self.termios.local.contains(LocalFlags::ECHO) {
            self.finish_erasing();
            if c == b'\n' && from_return {
                self.push_echo(Echo::Cooked(c));
            } else {
                self.begin_line_column();
                self.echo_char(c);
            }
            self.mark_echo();
        }
        self.put_doubled(c);
    }

    fn put_doubled(&mut self, c: u8) {
        if self.doubles(c) {
            self.put(c);
        }
        self.put(c);
    }

    /// PARMRK: a real 0xff is told from a mark by a second one.
    fn doubles(&self, c: u8) -> bool {
        c == 0xff && self.termios.input.contains(InputFlags::PARMRK)
    }

    /// Room for the line end is always kept; a canonical line that is too long loses its excess.
    fn put(&mut self, c: u8) {
        if self.termios.canonical() {
            if self.input_len() < INPUT_LIMIT - 1 {
                self.edit.push(c);
            }
        } else if self.input_len() < INPUT_LIMIT {
            self.raw.push_back(c);
        }
    }

    fn end_line(&mut self, end: Option<u8>) {
        let mut bytes: VecDeque<u8> = std::mem::take(&mut self.edit).into();
        bytes.extend(end);
        self.push_line(Line { bytes, eof: end.is_none() });
    }

    fn push_line(&mut self, line: Line) {
        self.lines_len += line.bytes.len() + line.eof as usize;
        self.lines.push_back(line);
    }

    /// Reads what there is: in canonical mode (the rest of) one line. `None` when there is nothing; 0 bytes for an end of file.
    pub fn read(&mut self, dst: &mut [u8]) -> Option<usize> {
        if !self.termios.canonical() {
            let n = drain(&mut self.raw, dst);
            return (n > 0).then_some(n);
        }
        let line = self.lines.front_mut()?;
        let n = drain(&mut line.bytes, dst);
        self.lines_len -= n;
        if line.bytes.is_empty() {
            self.lines_len -= line.eof as usize;
            self.lines.pop_front();
        }
        Some(n)
    }

    /// Reads output, for the master.
    pub fn read_output(&mut self, dst: &mut [u8]) -> usize {
        let n = drain(&mut self.output, dst);
        self.flush_echo();
        n
    }

    pub fn output_len(&self) -> usize {
        self.output.len()
    }

    pub fn set_termios(&mut self, new: Termios, outcome: &mut Outcome) {
        let old = std::mem::replace(&mut self.termios, new);
        if old.canonical() != new.canonical() {
            self.literal_next = false;
            self.erasing = false;
            let mut bytes = std::mem::take(&mut self.raw);
            for line in self.lines.drain(..) {
                bytes.extend(line.bytes);
            }
            self.lines_len = 0;
            bytes.extend(self.edit.drain(..));
            if !new.canonical() {
                self.raw = bytes;
            } else if !bytes.is_empty() {
                self.push_line(Line { bytes, eof: true });
            }
        }
        if self.stopped && old.input.contains(InputFlags::IXON) && !new.input.contains(InputFlags::IXON) {
            self.start(outcome);
        }
    }

    pub fn flush_input(&mut self, outcome: &mut Outcome) {
        self.lines.clear();
        self.lines_len = 0;
        self.edit.clear();
        self.raw.clear();
        self.literal_next = false;
        self.erasing = false;
        outcome.flushed_input = true;
    }

    /// Drops what has not reached the master's reader yet.
    pub fn flush_output(&mut self, outcome: &mut Outcome) {
        self.output.truncate(self.output_before.unwrap_or(DELIVERED_OUTPUT).min(DELIVERED_OUTPUT));
        outcome.flushed_output = true;
    }

    /// Drops what the master has not read.
    pub fn flush_all_output(&mut self) {
        self.output.clear();
        self.flush_echo();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped || self.held
    }

    fn stop(&mut self, outcome: &mut Outcome) {
        if !self.stopped {
            self.stopped = true;
            (outcome.stopped, outcome.started) = (true, false);
        }
    }

    fn start(&mut self, outcome: &mut Outcome) {
        self.release(outcome);
        self.flush_echo();
    }

    fn release(&mut self, outcome: &mut Outcome) {
        if std::mem::take(&mut self.stopped) {
            (outcome.started, outcome.stopped) = (true, false);
        }
    }

    /// TCXONC with TCOOFF or TCOON.
    pub fn hold(&mut self, held: bool, outcome: &mut Outcome) {
        if held != self.held {
            self.held = held;
            (outcome.stopped, outcome.started) = (held, !held);
        }
        if !held {
            self.start(outcome);
        }
    }
}

fn drain(from: &mut VecDeque<u8>, dst: &mut [u8]) -> usize {
    let n = from.len().min(dst.len());
    for (slot, byte) in dst.iter_mut().zip(from.drain(..n)) {
        *slot = byte;
    }
    n
}

#[cfg(test)]
mod tests;
