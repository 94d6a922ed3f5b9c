//! Scripts: `#! interpreter [argument]`. execve(2), fs/binfmt_script.c.

use sentry_abi::{Errno, Result};

pub struct Line {
    pub interpreter: Vec<u8>,
    argument: Option<Vec<u8>>,
}

fn is_blank(byte: &u8) -> bool {
    *byte == b' ' || *byte == b'\t'
}

/// The first line of a script, `None` for what is not one. `ENOEXEC` for a line without interpreter or one that is cut off.
pub fn parse(head: &[u8]) -> Result<Option<Line>> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let (line, complete) = match rest.iter().position(|b| *b == b'\n' || *b == 0) {
        Some(end) => (&rest[..end], true),
        None => (rest, head.len() < super::HEAD),
    };
    let start = line.iter().position(|b| !is_blank(b)).ok_or(Errno::ENOEXEC)?;
    let line = &line[start..];
    let end = line.iter().position(is_blank);
    // Without a blank behind it, the interpreter's name itself may be cut off.
    if !complete && end.is_none() {
        return Err(Errno::ENOEXEC);
    }
    let (interpreter, rest) = line.split_at(end.unwrap_or(line.len()));
    let argument: Vec<u8> = {
        let from = rest.iter().position(|b| !is_blank(b)).unwrap_or(rest.len());
        let to = rest.iter().rposition(|b| !is_blank(b)).map_or(from, |i| i + 1);
        rest[from..to.max(from)].to_vec()
    };
    Ok(Some(Line { interpreter: interpreter.to_vec(), argument: (!argument.is_empty()).then_some(argument) }))
}

impl Line {
    /// Interpreter, its argument, the script's name, and the arguments but the first.
    pub fn arguments(&self, script: &[u8], argv: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut new = vec![self.interpreter.clone()];
        new.extend(self.argument.clone());
        new.push(script.to_vec());
        new.extend(argv.into_iter().skip(1));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(head: &[u8]) -> Vec<String> {
        let line = parse(head).unwrap().unwrap();
        line.arguments(b"s", vec![b"a0".to_vec(), b"a1".to_vec()]).iter().map(|a| String::from_utf8_lossy(a).into_owned()).collect()
    }

    #[test]
    fn one_argument_with_its_inner_blanks() {
        assert_eq!(args(b"#! /bin/sh\t-e  x \nrest"), ["/bin/sh", "-e  x", "s", "a1"]);
        assert_eq!(args(b"#!/bin/sh"), ["/bin/sh", "s", "a1"]);
    }

    #[test]
    fn what_is_no_script() {
        assert!(parse(b"\x7fELF").unwrap().is_none());
        assert_eq!(parse(b"#!  \n").err(), Some(Errno::ENOEXEC));
        assert_eq!(parse(&[b"#!/".as_slice(), &[b'a'; 253]].concat()).err(), Some(Errno::ENOEXEC));
    }
}
