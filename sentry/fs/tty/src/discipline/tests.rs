use super::{Discipline, INPUT_LIMIT, OUTPUT_LIMIT, Outcome};
use crate::termios::{InputFlags, LocalFlags, OutputFlags, Termios, cc};
use sentry_abi::Signal;

struct Rig {
    discipline: Discipline,
    outcome: Outcome,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Termios)) -> Rig {
        let mut discipline = Discipline::default();
        change(&mut discipline.termios);
        Rig { discipline, outcome: Outcome::default() }
    }

    fn type_in(&mut self, bytes: &[u8]) -> usize {
        self.discipline.receive(bytes, &mut self.outcome)
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        let mut buf = [0; INPUT_LIMIT];
        self.discipline.read(&mut buf).map(|n| buf[..n].to_vec())
    }

    fn shown(&mut self) -> Vec<u8> {
        let mut buf = [0; OUTPUT_LIMIT];
        let n = self.discipline.read_output(&mut buf);
        buf[..n].to_vec()
    }
}

/// What is typed, what a reader gets first, what shows.
fn check(change: impl FnOnce(&mut Termios), typed: &[u8], read: Option<&[u8]>, shown: &[u8]) {
    let mut rig = Rig::new(change);
    assert_eq!(rig.type_in(typed), typed.len());
    assert_eq!(rig.read().as_deref(), read, "typed {:?}", typed.escape_ascii().to_string());
    assert_eq!(rig.shown().escape_ascii().to_string(), shown.escape_ascii().to_string());
}

fn without(local: LocalFlags) -> impl Fn(&mut Termios) {
    move |t| t.local -= local
}

#[test]
fn canonical_lines_and_editing() {
    let plain = |_: &mut Termios| {};
    check(plain, b"abc", None, b"abc");
    check(plain, b"abc\r", Some(b"abc\n"), b"abc\r\n");
    check(plain, b"abd\x7fc\n", Some(b"abc\n"), b"abd\x08 \x08c\r\n");
    check(plain, b"\x7f\x7fa\n", Some(b"a\n"), b"a\r\n");
    check(plain, b"one two  \x17x\n", Some(b"one x\n"), &[b"one two  ".as_slice(), &b"\x08 \x08".repeat(5), b"x\r\n"].concat());
    check(plain, b"ab\x15c\n", Some(b"c\n"), b"ab\x08 \x08\x08 \x08c\r\n");
    check(plain, b"a\x16\x03b\n", Some(b"a\x03b\n"), b"a^\x08^Cb\r\n");
    check(plain, b"a\x16\x03\x7fb\n", Some(b"ab\n"), b"a^\x08^C\x08 \x08\x08 \x08b\r\n");
    check(plain, b"ab\x12\n", Some(b"ab\n"), b"ab^R\r\nab\r\n");
    check(plain, b"a\tb\x7f\x7fc\n", Some(b"ac\n"), b"a\tb\x08 \x08\x08\x08\x08\x08\x08\x08\x08c\r\n");
    check(without(LocalFlags::ECHOE), b"ab\x7f\n", Some(b"a\n"), b"ab^?\r\n");
    check(without(LocalFlags::ECHOKE), b"ab\x15c\n", Some(b"c\n"), b"ab^U\r\nc\r\n");
    check(without(LocalFlags::ECHO), b"ab\x7fc\n", Some(b"ac\n"), b"");
    check(without(LocalFlags::IEXTEN), b"ab\x17\n", Some(b"ab\x17\n"), b"ab^W\r\n");
    check(|t| t.local |= LocalFlags::ECHOPRT, b"abc\x7f\x7fd\n", Some(b"ad\n"), b"abc\\cb/d\r\n");
    check(|t| t.input |= InputFlags::IUTF8, "a\u{e9}\x7fb\n".as_bytes(), Some(b"ab\n"), b"a\xc3\xa9\x08 \x08b\r\n");
}

#[test]
fn end_of_file() {
    let mut rig = Rig::new(|_| {});
    rig.type_in(b"\x04abc\x04def\n");
    assert_eq!(rig.read(), Some(vec![]));
    let mut three = [0; 3];
    assert_eq!(rig.discipline.read(&mut three), Some(3));
    assert_eq!(rig.read(), Some(b"def\n".to_vec()));
    assert_eq!(rig.read(), None);
    assert_eq!(rig.discipline.input_len(), 0);
}

#[test]
fn line_ends() {
    check(|t| t.chars[cc::EOL] = b';', b"ab;c\n", Some(b"ab;"), b"ab;c\r\n");
    check(|t| t.chars[cc::EOL2] = b';', b"ab;c\n", Some(b"ab;"), b"ab;c\r\n");
}

#[test]
fn input_flags() {
    check(|t| t.input -= InputFlags::ICRNL, b"a\rb\n", Some(b"a\rb\n"), b"a^Mb\r\n");
    check(|t| t.input |= InputFlags::IGNCR, b"a\rb\n", Some(b"ab\n"), b"ab\r\n");
    check(
        |t| {
            t.input -= InputFlags::ICRNL;
            t.input |= InputFlags::INLCR;
            t.local -= LocalFlags::ICANON;
        },
        b"a\n",
        Some(b"a\r"),
        b"a^M",
    );
    check(|t| t.input |= InputFlags::ISTRIP, b"\xe1\n", Some(b"a\n"), b"a\r\n");
    check(|t| t.input |= InputFlags::IUCLC, b"AB\n", Some(b"ab\n"), b"ab\r\n");
    check(
        |t| {
            t.input |= InputFlags::PARMRK;
            t.local -= LocalFlags::ICANON;
        },
        b"\xff",
        Some(b"\xff\xff"),
        b"\xff",
    );
}

#[test]
fn raw_mode_and_switching() {
    let mut rig = Rig::new(without(LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::ECHO));
    rig.type_in(b"ab\x03\x7f");
    assert_eq!(rig.discipline.readable_len(), 4);
    let canonical = Termios::default();
    let raw = rig.discipline.termios;
    rig.discipline.set_termios(canonical, &mut Outcome::default());
    assert_eq!(rig.read(), Some(b"ab\x03\x7f".to_vec()));
    assert_eq!(rig.read(), None);
    rig.type_in(b"xy\nz");
    rig.discipline.set_termios(raw, &mut Outcome::default());
    assert_eq!(rig.read(), Some(b"xy\nz".to_vec()));
}

#[test]
fn signals_flush_unless_told_not_to() {
    let mut rig = Rig::new(|_| {});
    rig.type_in(b"old\nab");
    // What is echoed in the same go as a signal is lost with the rest.
    rig.type_in(b"x\x03c\n");
    assert_eq!(rig.outcome.signals, [Signal::SIGINT]);
    assert!(rig.outcome.flushed_input && rig.outcome.flushed_output);
    assert_eq!(rig.read(), Some(b"c\n".to_vec()));
    assert_eq!(rig.shown(), b"old\r\nab^Cc\r\n");
    let mut rig = Rig::new(|t| t.local |= LocalFlags::NOFLSH);
    rig.type_in(b"ab\x1c\x1ac\n");
    assert_eq!(rig.outcome.signals, [Signal::SIGQUIT, Signal::SIGTSTP]);
    assert_eq!(rig.read(), Some(b"abc\n".to_vec()));
}

#[test]
fn flow_control() {
    let mut rig = Rig::new(|_| {});
    rig.type_in(b"\x13");
    assert!(rig.outcome.stopped);
    assert_eq!(rig.discipline.write(b"x"), 0);
    rig.type_in(b"ab");
    assert_eq!(rig.shown(), b"");
    rig.type_in(b"\x11");
    assert!(rig.outcome.started);
    assert_eq!(rig.shown(), b"ab");
    rig.type_in(b"\x13");
    let mut raw = rig.discipline.termios;
    raw.input -= InputFlags::IXON;
    rig.discipline.set_termios(raw, &mut rig.outcome);
    assert_eq!(rig.discipline.write(b"x"), 1);
    let mut any = Rig::new(|t| t.input |= InputFlags::IXANY);
    any.type_in(b"\x13q");
    assert!(!any.discipline.is_stopped());
}

fn check_output(output: OutputFlags, written: &[u8], shown: &[u8]) {
    let mut rig = Rig::new(|t| t.output = output);
    assert_eq!(rig.discipline.write(written), written.len());
    assert_eq!(rig.shown().escape_ascii().to_string(), shown.escape_ascii().to_string());
}

#[test]
fn output_processing() {
    let post = OutputFlags::OPOST;
    check_output(OutputFlags::ONLCR, b"a\n\tb", b"a\n\tb");
    check_output(post | OutputFlags::ONLCR, b"a\nb\n", b"a\r\nb\r\n");
    check_output(post | OutputFlags::OCRNL, b"a\rb", b"a\nb");
    check_output(post | OutputFlags::ONOCR, b"\ra\r\r", b"a\r");
    check_output(post | OutputFlags::OLCUC, b"aB", b"AB");
    check_output(post | OutputFlags::TABDLY, b"ab\tc\t", b"ab      c       ");
    check_output(post | OutputFlags::ONLRET | OutputFlags::TABDLY, b"ab\n\t", b"ab\n        ");
}

#[test]
fn limits() {
    let mut rig = Rig::new(without(LocalFlags::ECHO));
    assert_eq!(rig.type_in(&[b'y'; 6000]), 6000);
    assert_eq!(rig.read(), None);
    rig.type_in(b"\n");
    assert_eq!(rig.type_in(b"more\n"), 0);
    let line = rig.read().unwrap();
    assert_eq!((line.len(), line[4095]), (4096, b'\n'));
    let mut raw = Rig::new(without(LocalFlags::ICANON | LocalFlags::ECHO));
    assert_eq!(raw.type_in(&[b'y'; 6000]), 4095);
    let mut out = Rig::new(|_| {});
    let n = out.discipline.write(&[b'x'; 30000]);
    assert!(n > OUTPUT_LIMIT - 16 && n <= OUTPUT_LIMIT);
    out.type_in(&[b'e'; 3000]);
    out.shown();
    assert_eq!(out.shown().len(), 3000);
}
