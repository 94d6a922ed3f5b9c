//! Editing of the line being typed: erase, word erase, kill, reprint.

use super::{Discipline, Echo, latin1};
use crate::termios::{LocalFlags, cc};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Erasure {
    Char,
    Word,
    Line,
}

impl Discipline {
    pub(super) fn erase(&mut self, c: u8) {
        if self.edit.is_empty() {
            return;
        }
        let local = self.termios.local;
        let kind = if self.termios.is(c, cc::ERASE) {
            Erasure::Char
        } else if self.termios.is_extended(c, cc::WERASE) {
            Erasure::Word
        } else {
            if !local.contains(LocalFlags::ECHO | LocalFlags::ECHOK | LocalFlags::ECHOKE | LocalFlags::ECHOE) {
                self.kill_plainly(c);
                return;
            }
            Erasure::Line
        };
        let mut seen_word = false;
        while let Some(first) = self.last_first() {
            if kind == Erasure::Word {
                let in_word = latin1::is_alphanumeric(first) || first == b'_';
                if !in_word && seen_word {
                    break;
                }
                seen_word |= in_word;
            }
            let taken = self.take_last();
            if local.contains(LocalFlags::ECHO) {
                self.echo_erased(c, first, &taken, kind);
            }
            if kind == Erasure::Char {
                break;
            }
        }
        if self.edit.is_empty() && local.contains(LocalFlags::ECHO) {
            self.finish_erasing();
        }
    }

    /// KILL without visual erasure: the line goes, the character shows.
    fn kill_plainly(&mut self, c: u8) {
        self.edit.clear();
        if !self.termios.local.contains(LocalFlags::ECHO) {
            return;
        }
        self.finish_erasing();
        self.echo_char(c);
        if self.termios.local.contains(LocalFlags::ECHOK) {
            self.push_echo(Echo::Cooked(b'\n'));
        }
    }

    /// First byte of the last character; `None` when there is none, or only the end of one.
    fn last_first(&self) -> Option<u8> {
        if self.edit.is_empty() {
            return None;
        }
        let first = self.edit[self.edit.len() - self.last_len()];
        (!self.continues(first)).then_some(first)
    }

    /// Bytes of the last character.
    fn last_len(&self) -> usize {
        let trailing = self.edit.iter().rev().take_while(|c| self.continues(**c)).count();
        (trailing + 1).min(self.edit.len())
    }

    fn take_last(&mut self) -> Vec<u8> {
        self.edit.split_off(self.edit.len() - self.last_len())
    }

    fn echo_erased(&mut self, key: u8, first: u8, taken: &[u8], kind: Erasure) {
        let local = self.termios.local;
        if local.contains(LocalFlags::ECHOPRT) {
            if !self.erasing {
                self.push_echo(Echo::Cooked(b'\\'));
                self.erasing = true;
            }
            for c in taken {
                self.echo_char(*c);
            }
        } else if kind == Erasure::Char && !local.contains(LocalFlags::ECHOE) {
            self.echo_char(key);
        } else if first == b'\t' {
            let (columns, after_tab) = self.columns_of_edit();
            self.push_echo(Echo::EraseTab { columns, after_tab });
        } else {
            let control = first.is_ascii_control();
            if control && local.contains(LocalFlags::ECHOCTL) {
                self.echo_rubout();
            }
            if !control || local.contains(LocalFlags::ECHOCTL) {
                self.echo_rubout();
            }
        }
    }

    fn echo_rubout(&mut self) {
        for c in [b'\x08', b' ', b'\x08'] {
            self.push_echo(Echo::Cooked(c));
        }
    }

    /// Columns that the end of the line takes, back to a tab or to its start.
    fn columns_of_edit(&self) -> (u32, bool) {
        let mut columns = 0;
        for c in self.edit.iter().rev() {
            if *c == b'\t' {
                return (columns, true);
            }
            if c.is_ascii_control() {
                columns += if self.termios.local.contains(LocalFlags::ECHOCTL) { 2 } else { 0 };
            } else if !self.continues(*c) {
                columns += 1;
            }
        }
        (columns, false)
    }

    /// Ends an ECHOPRT erasure.
    pub(super) fn finish_erasing(&mut self) {
        if std::mem::take(&mut self.erasing) {
            self.push_echo(Echo::Cooked(b'/'));
        }
    }

    pub(super) fn reprint(&mut self, c: u8) {
        self.finish_erasing();
        self.echo_char(c);
        self.push_echo(Echo::Cooked(b'\n'));
        for index in 0..self.edit.len() {
            self.echo_char(self.edit[index]);
        }
    }
}
