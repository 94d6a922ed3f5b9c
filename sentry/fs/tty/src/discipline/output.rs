//! What goes to the master: output of the slave and echo, processed as OPOST says.

use super::{Discipline, ECHO_LIMIT, Echo, OUTPUT_LIMIT, latin1};
use crate::termios::{InputFlags, LocalFlags, OutputFlags};

/// The most that one byte becomes: a tab.
const EXPANSION: usize = 8;

impl Discipline {
    /// Takes bytes that the slave wrote; returns how many there was room for.
    pub fn write(&mut self, src: &[u8]) -> usize {
        self.flush_echo();
        let mut done = 0;
        while done < src.len() && self.can_write() {
            self.process(src[done]);
            done += 1;
        }
        done
    }

    /// A flow control character for the master, past what is stopped.
    pub fn send_to_master(&mut self, c: u8) {
        if self.output.len() < OUTPUT_LIMIT {
            self.output.push_back(c);
        }
    }

    pub fn can_write(&self) -> bool {
        !self.is_stopped() && self.output.len() + EXPANSION <= OUTPUT_LIMIT
    }

    fn process(&mut self, c: u8) {
        let flags = self.termios.output;
        if !flags.contains(OutputFlags::OPOST) {
            self.output.push_back(c);
            return;
        }
        match c {
            b'\n' => self.process_newline(flags),
            b'\r' => self.process_return(flags),
            b'\t' => {
                let spaces = 8 - self.column % 8;
                self.column = self.column.wrapping_add(spaces);
                if flags.contains(OutputFlags::TABDLY) {
                    self.output.extend(std::iter::repeat_n(b' ', spaces as usize));
                } else {
                    self.output.push_back(c);
                }
            }
            b'\x08' => {
                self.column = self.column.saturating_sub(1);
                self.output.push_back(c);
            }
            _ => {
                let mut c = c;
                if !c.is_ascii_control() {
                    if flags.contains(OutputFlags::OLCUC) {
                        c = latin1::to_upper(c);
                    }
                    if !self.continues(c) {
                        self.column = self.column.wrapping_add(1);
                    }
                }
                self.output.push_back(c);
            }
        }
    }

    fn process_newline(&mut self, flags: OutputFlags) {
        if flags.contains(OutputFlags::ONLRET) {
            self.column = 0;
        }
        if flags.contains(OutputFlags::ONLCR) {
            self.column = 0;
            self.output.push_back(b'\r');
        }
        self.line_column = self.column;
        self.output.push_back(b'\n');
    }

    fn process_return(&mut self, flags: OutputFlags) {
        if flags.contains(OutputFlags::ONOCR) && self.column == 0 {
            return;
        }
        if flags.contains(OutputFlags::OCRNL) {
            if flags.contains(OutputFlags::ONLRET) {
                (self.column, self.line_column) = (0, 0);
            }
            self.output.push_back(b'\n');
            return;
        }
        (self.column, self.line_column) = (0, 0);
        self.output.push_back(b'\r');
    }

    /// Is `c` a continuation byte of UTF-8, which has no width of its own?
    pub(super) fn continues(&self, c: u8) -> bool {
        self.termios.input.contains(InputFlags::IUTF8) && c & 0xc0 == 0x80
    }

    /// Echo that does not fit is lost, as in Linux.
    pub(super) fn push_echo(&mut self, echo: Echo) {
        if self.echo.len() < ECHO_LIMIT {
            self.echo.push_back(echo);
        }
    }

    pub(super) fn mark_echo(&mut self) {
        self.echo_marked = self.echo.len();
    }

    /// Control characters as ^X if ECHOCTL is set.
    pub(super) fn echo_char(&mut self, c: u8) {
        self.push_echo(if self.termios.local.contains(LocalFlags::ECHOCTL) && c.is_ascii_control() && c != b'\t' {
            Echo::Control(c)
        } else if c == 0xff {
            Echo::Raw(c)
        } else {
            Echo::Cooked(c)
        });
    }

    /// Moves marked echo to the output while there is room.
    pub(super) fn flush_echo(&mut self) {
        while self.echo_marked > 0 && self.can_write() {
            self.echo_marked -= 1;
            match self.echo.pop_front() {
                None => return,
                Some(Echo::Cooked(c)) => self.process(c),
                Some(Echo::Control(c)) => {
                    self.output.extend([b'^', c ^ 0x40]);
                    self.column = self.column.wrapping_add(2);
                }
                Some(Echo::LineStart) => self.line_column = self.column,
                Some(Echo::EraseTab { columns, after_tab }) => {
                    let before = if after_tab { columns } else { columns.wrapping_add(self.line_column) };
                    let back = 8 - before % 8;
                    self.output.extend(std::iter::repeat_n(b'\x08', back as usize));
                    self.column = self.column.saturating_sub(back);
                }
                Some(Echo::Raw(c)) => {
                    self.output.push_back(c);
                    self.column = self.column.wrapping_add(1);
                }
            }
        }
    }

    /// Remembers where the line begins, at its first character.
    pub(super) fn begin_line_column(&mut self) {
        if self.edit.is_empty() {
            self.push_echo(Echo::LineStart);
        }
    }
}
