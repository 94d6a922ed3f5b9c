//! The table: number, name and arguments as in the manual page, handler, how much of it is there. One part a file.

#[macro_use]
mod define;

mod file;
mod process;
mod socket;

use sentry_kernel::{CurrentTask, SysResult};

/// How much of a call there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    Full,
    Partial(&'static str),
    /// Answers an error on purpose, as a kernel without the feature.
    Refused(&'static str),
}

pub struct Argument {
    pub name: &'static str,
    pub show: fn(u64) -> String,
    pub is_path: bool,
}

pub struct Entry {
    pub number: u32,
    pub name: &'static str,
    pub arguments: &'static [Argument],
    pub support: Support,
    pub(crate) handler: fn(&mut CurrentTask, &[u64; 6]) -> SysResult,
}

const PARTS: [&[Entry]; 3] = [file::ENTRIES, process::ENTRIES, socket::ENTRIES];

/// Numbers end here.
const NUMBERS: usize = 512;

/// (part, position) by number; `None` where no call is.
static INDEX: [Option<(u8, u16)>; NUMBERS] = index();

const fn index() -> [Option<(u8, u16)>; NUMBERS] {
    let mut index = [None; NUMBERS];
    let mut part = 0;
    while part < PARTS.len() {
        let mut i = 0;
        while i < PARTS[part].len() {
            let number = PARTS[part][i].number as usize;
            assert!(index[number].is_none(), "a number twice in the table");
            index[number] = Some((part as u8, i as u16));
            i += 1;
        }
        part += 1;
    }
    index
}

pub fn entry(number: u32) -> Option<&'static Entry> {
    let (part, position) = (*INDEX.get(number as usize)?)?;
    PARTS.get(part as usize)?.get(position as usize)
}

/// All calls, for `runsc syscalls` and the documentation.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    PARTS.into_iter().flatten()
}
