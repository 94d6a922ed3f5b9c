//! The initial stack: strings, environment, arguments, auxiliary vector. fs/binfmt_elf.c `create_elf_tables`, getauxval(3).

use std::sync::Arc;

use sentry_abi::{Errno, Result, UserAddr};
use sentry_mm::Mm;
use sentry_platform::{GuestThread, Prot};

use super::AuxIds;
use super::elf::Loaded;

const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_BASE: u64 = 7;
const AT_FLAGS: u64 = 8;
const AT_ENTRY: u64 = 9;
const AT_UID: u64 = 11;
const AT_EUID: u64 = 12;
const AT_GID: u64 = 13;
const AT_EGID: u64 = 14;
const AT_PLATFORM: u64 = 15;
const AT_HWCAP: u64 = 16;
const AT_CLKTCK: u64 = 17;
const AT_SECURE: u64 = 23;
const AT_RANDOM: u64 = 25;
const AT_HWCAP2: u64 = 26;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO_EHDR: u64 = 33;
const AT_MINSIGSTKSZ: u64 = 51;

/// Strings may take a quarter of the stack, at most 6 MiB, and one string 128 KiB (execve(2), MAX_ARG_STRLEN).
const MAX_STRING: usize = 128 * 1024;
const MAX_STRINGS: usize = 6 << 20;

pub struct StackContents<'a> {
    pub argv: &'a [Vec<u8>],
    pub env: &'a [Vec<u8>],
    pub name: &'a [u8],
    pub ids: &'a AuxIds,
    pub loaded: &'a Loaded,
    pub interpreter_base: u64,
}

/// Checks the sizes of argument strings: `E2BIG`.
pub fn check_strings(strings: &[Vec<u8>], stack_limit: u64) -> Result<()> {
    let limit = usize::try_from(stack_limit / 4).unwrap_or(usize::MAX).clamp(MAX_STRING, MAX_STRINGS);
    let total: usize = strings.iter().map(|s| s.len() + 1 + size_of::<u64>()).sum();
    if total > limit || strings.iter().any(|s| s.len() >= MAX_STRING) { Err(Errno::E2BIG) } else { Ok(()) }
}

/// Maps the stack and fills it; returns the stack pointer.
pub fn build(mm: &Arc<Mm>, thread: &mut dyn GuestThread, prot: Prot, contents: &StackContents<'_>) -> Result<u64> {
    let area = mm.map_stack(thread, prot)?;
    let mut strings = Strings::new(area.top.0);
    // From the top down: a null word, the file's name, environment, arguments.
    let name_at = strings.push(contents.name);
    let env_at = strings.push_all(contents.env);
    let argv_at = strings.push_all(contents.argv);
    let platform_at = strings.push(b"x86_64");
    let random_at = strings.push_raw(&random_bytes()?);
    let vector = auxiliary(mm, contents, [random_at, name_at, platform_at]);
    let words = table(&argv_at, &env_at, &vector);
    let at = (strings.at - words.len() as u64) & !15;
    if at < area.bottom.0 {
        return Err(Errno::E2BIG);
    }
    mm.write(UserAddr(strings.at), &strings.bytes())?;
    mm.write(UserAddr(at), &words)?;
    let aux_bytes: Vec<u8> = vector.iter().flat_map(|(k, v)| [k.to_le_bytes(), v.to_le_bytes()].concat()).collect();
    let end_of = |list: &[u64], strings: &[Vec<u8>], none: u64| match (list.last(), strings.last()) {
        (Some(at), Some(s)) => at + s.len() as u64 + 1,
        _ => none,
    };
    let arg_start = argv_at.first().copied().unwrap_or(at);
    let arg_end = end_of(&argv_at, contents.argv, arg_start);
    mm.update_exec_layout(|l| {
        l.start_stack = at;
        l.arg_start = arg_start;
        l.arg_end = arg_end;
        l.env_start = env_at.first().copied().unwrap_or(arg_end);
        l.env_end = end_of(&env_at, contents.env, arg_end);
        l.auxv = aux_bytes.into();
    });
    Ok(at)
}

/// argc, argv, 0, envp, 0, auxv.
fn table(argv: &[u64], env: &[u64], vector: &[(u64, u64)]) -> Vec<u8> {
    let mut words = vec![argv.len() as u64];
    words.extend(argv);
    words.push(0);
    words.extend(env);
    words.push(0);
    words.extend(vector.iter().flat_map(|(k, v)| [*k, *v]));
    // The table ends at a 16-byte boundary, so that rsp has one too.
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn auxiliary(mm: &Mm, c: &StackContents<'_>, [random, name, platform]: [u64; 3]) -> Vec<(u64, u64)> {
    let cpu = &c.ids.cpu;
    let mut vector = Vec::new();
    if let Some(header) = mm.vdso_header() {
        vector.push((AT_SYSINFO_EHDR, header.0));
    }
    vector.extend([
        (AT_MINSIGSTKSZ, cpu.min_signal_stack),
        (AT_HWCAP, cpu.hwcap),
        (AT_PAGESZ, sentry_abi::PAGE_SIZE),
        (AT_CLKTCK, 100),
        (AT_PHDR, c.loaded.phdr),
        (AT_PHENT, c.loaded.phent),
        (AT_PHNUM, c.loaded.phnum),
        (AT_BASE, c.interpreter_base),
        (AT_FLAGS, 0),
        (AT_ENTRY, c.loaded.entry),
        (AT_UID, c.ids.uid as u64),
        (AT_EUID, c.ids.euid as u64),
        (AT_GID, c.ids.gid as u64),
        (AT_EGID, c.ids.egid as u64),
        (AT_SECURE, c.ids.secure as u64),
        (AT_RANDOM, random),
        (AT_HWCAP2, cpu.hwcap2),
        (AT_EXECFN, name),
        (AT_PLATFORM, platform),
        (AT_NULL, 0),
    ]);
    vector
}

fn random_bytes() -> Result<[u8; 16]> {
    let mut bytes = [0u8; 16];
    crate::random::fill(&mut bytes)?;
    Ok(bytes)
}

/// Bytes that grow downwards from an address.
struct Strings {
    at: u64,
    /// Last pushed first.
    pieces: Vec<Vec<u8>>,
}

impl Strings {
    fn new(top: u64) -> Strings {
        // The topmost word stays 0, as on Linux.
        Strings { at: top - 8, pieces: vec![vec![0; 8]] }
    }

    fn push_raw(&mut self, bytes: &[u8]) -> u64 {
        self.at -= bytes.len() as u64;
        self.pieces.push(bytes.to_vec());
        self.at
    }

    fn push(&mut self, string: &[u8]) -> u64 {
        let mut bytes = string.to_vec();
        bytes.push(0);
        self.push_raw(&bytes)
    }

    /// The first string lies lowest. Addresses in the order of the strings.
    fn push_all(&mut self, strings: &[Vec<u8>]) -> Vec<u64> {
        let mut at: Vec<u64> = strings.iter().rev().map(|s| self.push(s)).collect();
        at.reverse();
        at
    }

    fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().rev().flatten().copied().collect()
    }
}
