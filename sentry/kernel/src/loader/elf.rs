//! ELF images: hostile input. elf(5), fs/binfmt_elf.c.

use std::sync::Arc;

use sentry_abi::user::{page_down, page_up};
use sentry_abi::{Errno, PAGE_SIZE, Result, UserAddr, UserRange};
use sentry_memory::Mapping;
use sentry_mm::Mm;
use sentry_platform::{GuestThread, Prot};
use sentry_vfs::{Caller, FileDescription, Path};
use zerocopy::{FromBytes, Immutable, KnownLayout};

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;
/// As the kernel: the table of program headers is at most 64 KiB.
const MAX_HEADERS: usize = 65536 / size_of::<ProgramHeader>();
const PATH_MAX: u64 = 4096;

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
}

/// The headers of an image, checked.
pub struct Image {
    header: Header,
    segments: Vec<ProgramHeader>,
}

/// An image in memory.
pub struct Loaded {
    /// Address of what the file has at address 0.
    pub base: u64,
    pub entry: u64,
    /// Address of the program headers in memory, their size and number.
    pub phdr: u64,
    pub phent: u64,
    pub phnum: u64,
    /// First byte behind bss.
    pub end: u64,
}

impl Image {
    /// `ENOEXEC` for what is not an x86-64 program.
    pub fn read(caller: &dyn Caller, file: &FileDescription) -> Result<Image> {
        let mut bytes = [0u8; size_of::<Header>()];
        if super::read_full(caller, file, 0, &mut bytes)? != bytes.len() {
            return Err(Errno::ENOEXEC);
        }
        let header = Header::read_from_bytes(&bytes).map_err(|_| Errno::ENOEXEC)?;
        let class_64_little = [0x7f, b'E', b'L', b'F', 2, 1];
        if header.ident[..6] != class_64_little || !matches!(header.kind, ET_EXEC | ET_DYN) || header.machine != EM_X86_64 {
            return Err(Errno::ENOEXEC);
        }
        let count = header.phnum as usize;
        if header.phentsize as usize != size_of::<ProgramHeader>() || count == 0 || count > MAX_HEADERS {
            return Err(Errno::ENOEXEC);
        }
        let mut table = vec![0u8; count * size_of::<ProgramHeader>()];
        if super::read_full(caller, file, header.phoff, &mut table)? != table.len() {
            return Err(Errno::ENOEXEC);
        }
        let segments: Vec<ProgramHeader> =
            table.chunks_exact(size_of::<ProgramHeader>()).filter_map(|c| ProgramHeader::read_from_bytes(c).ok()).collect();
        let image = Image { header, segments };
        image.check()?;
        Ok(image)
    }

    fn check(&self) -> Result<()> {
        let mut last = 0;
        for s in self.loads() {
            let end = s.vaddr.checked_add(s.memsz).ok_or(Errno::ENOEXEC)?;
            s.offset.checked_add(s.filesz).ok_or(Errno::ENOEXEC)?;
            if s.filesz > s.memsz || UserRange::new(UserAddr(s.vaddr), s.memsz).is_none() {
                return Err(Errno::ENOEXEC);
            }
            // The same page offset in file and memory, and in rising order: else nothing can be mapped.
            if s.vaddr % PAGE_SIZE != s.offset % PAGE_SIZE || page_down(s.vaddr) < page_down(last) {
                return Err(Errno::ENOEXEC);
            }
            last = end;
        }
        if self.loads().next().is_none() { Err(Errno::ENOEXEC) } else { Ok(()) }
    }

    fn loads(&self) -> impl Iterator<Item = &ProgramHeader> {
        self.segments.iter().filter(|s| s.kind == PT_LOAD && s.memsz != 0)
    }

    /// The path in PT_INTERP. `ENOEXEC` when it is malformed.
    pub fn interpreter(&self, caller: &dyn Caller, file: &FileDescription) -> Result<Option<Vec<u8>>> {
        let Some(s) = self.segments.iter().find(|s| s.kind == PT_INTERP) else { return Ok(None) };
        if s.filesz < 2 || s.filesz > PATH_MAX {
            return Err(Errno::ENOEXEC);
        }
        let mut path = vec![0u8; s.filesz as usize];
        if super::read_full(caller, file, s.offset, &mut path)? != path.len() || path.pop() != Some(0) {
            return Err(Errno::ENOEXEC);
        }
        let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
        path.truncate(end);
        Ok(Some(path))
    }

    /// PT_GNU_STACK decides whether the stack may be executed; without it x86-64 says no.
    pub fn stack_prot(&self) -> Prot {
        let executable = self.segments.iter().any(|s| s.kind == PT_GNU_STACK && s.flags & PF_X != 0);
        if executable { Prot::READ | Prot::WRITE | Prot::EXEC } else { Prot::READ | Prot::WRITE }
    }

    /// Page-aligned extent of all segments.
    fn extent(&self) -> Result<(u64, u64)> {
        let first = self.loads().map(|s| page_down(s.vaddr)).min().ok_or(Errno::ENOEXEC)?;
        let last = self.loads().map(|s| s.vaddr + s.memsz).max().ok_or(Errno::ENOEXEC)?;
        Ok((first, page_up(last).ok_or(Errno::ENOEXEC)?))
    }

    fn alignment(&self) -> u64 {
        let align = self.loads().map(|s| s.align).filter(|a| a.is_power_of_two()).max().unwrap_or(PAGE_SIZE);
        align.clamp(PAGE_SIZE, 1 << 30)
    }

    /// Maps the program itself. A position-independent one without interpreter (a loader run by hand) goes where mmap would put it.
    pub fn map(
        &self,
        mm: &Arc<Mm>,
        thread: &mut dyn GuestThread,
        file: &FileDescription,
        root: &Path,
        has_interpreter: bool,
    ) -> Result<Loaded> {
        let (first, end) = self.extent()?;
        let bias = match self.header.kind {
            ET_EXEC => 0,
            _ if has_interpreter => mm.choose_pie_base(end - first, self.alignment())?.0.wrapping_sub(first),
            _ => mm.choose_mmap_base(end - first, self.alignment())?.0.wrapping_sub(first),
        };
        let loaded = self.map_at(mm, thread, file, root, bias)?;
        self.note_layout(mm, bias);
        Ok(loaded)
    }

    pub fn map_interpreter(&self, mm: &Arc<Mm>, thread: &mut dyn GuestThread, file: &FileDescription, root: &Path) -> Result<Loaded> {
        let (first, end) = self.extent()?;
        let bias = match self.header.kind {
            ET_EXEC => 0,
            _ => mm.choose_mmap_base(end - first, self.alignment())?.0.wrapping_sub(first),
        };
        self.map_at(mm, thread, file, root, bias)
    }

    fn map_at(&self, mm: &Arc<Mm>, thread: &mut dyn GuestThread, file: &FileDescription, root: &Path, bias: u64) -> Result<Loaded> {
        let mapping = file.mapping(false, root).map_err(|e| if e == Errno::ENODEV { Errno::ENOEXEC } else { e })?;
        for s in self.loads() {
            map_segment(mm, thread, &mapping, s, bias)?;
        }
        let (_, end) = self.extent()?;
        let end_of_bss = self.loads().map(|s| s.vaddr + s.memsz).max().unwrap_or(end);
        Ok(Loaded {
            base: bias,
            entry: self.header.entry.wrapping_add(bias),
            phdr: self.headers_address().wrapping_add(bias),
            phent: self.header.phentsize as u64,
            phnum: self.header.phnum as u64,
            end: end_of_bss.wrapping_add(bias),
        })
    }

    /// Where the program headers come to lie: in the segment that holds their file offset.
    fn headers_address(&self) -> u64 {
        let at = self.header.phoff;
        let holder = self.loads().find(|s| at >= s.offset && at - s.offset < s.filesz);
        holder.map_or(at, |s| at - s.offset + s.vaddr)
    }

    /// start_code and the like, for /proc/pid/stat.
    fn note_layout(&self, mm: &Arc<Mm>, bias: u64) {
        let code = || self.loads().filter(|s| s.flags & PF_X != 0);
        let start_code = code().map(|s| s.vaddr).min().unwrap_or(0);
        let end_code = code().map(|s| s.vaddr + s.filesz).max().unwrap_or(0);
        let start_data = self.loads().map(|s| s.vaddr).max().unwrap_or(0);
        let end_data = self.loads().map(|s| s.vaddr + s.filesz).max().unwrap_or(0);
        mm.update_exec_layout(|l| {
            l.start_code = start_code.wrapping_add(bias);
            l.end_code = end_code.wrapping_add(bias);
            l.start_data = start_data.wrapping_add(bias);
            l.end_data = end_data.wrapping_add(bias);
        });
    }
}

/// Maps one segment: the file's part, then anonymous memory behind it, with the rest of the last file page cleared.
fn map_segment(mm: &Arc<Mm>, thread: &mut dyn GuestThread, mapping: &Mapping, s: &ProgramHeader, bias: u64) -> Result<()> {
    let prot = [(PF_R, Prot::READ), (PF_W, Prot::WRITE), (PF_X, Prot::EXEC)]
        .into_iter()
        .filter(|(bit, _)| s.flags & bit != 0)
        .fold(Prot::empty(), |all, (_, p)| all | p);
    let start = s.vaddr.checked_add(bias).ok_or(Errno::ENOEXEC)?;
    let file_end = start.checked_add(s.filesz).ok_or(Errno::ENOEXEC)?;
    let memory_end = start.checked_add(s.memsz).ok_or(Errno::ENOEXEC)?;
    let first_page = page_down(start);
    let file_pages_end = page_up(file_end).ok_or(Errno::ENOEXEC)?;
    let memory_pages_end = page_up(memory_end).ok_or(Errno::ENOEXEC)?;
    let mut anonymous_from = first_page;
    if s.filesz != 0 {
        let range = UserRange::from_bounds(first_page, file_pages_end).ok_or(Errno::ENOEXEC)?;
        mm.map_fixed_file(thread, range, prot, mapping, page_down(s.offset))?;
        anonymous_from = file_pages_end;
        if memory_end > file_end && prot.contains(Prot::WRITE) {
            // To the end of the page, as Linux's padzero(): ld.so allocates what lies behind its own bss.
            mm.zero(UserAddr(file_end), file_pages_end - file_end)?;
        }
    }
    if memory_pages_end > anonymous_from {
        let range = UserRange::from_bounds(anonymous_from, memory_pages_end).ok_or(Errno::ENOEXEC)?;
        mm.map_anonymous_fixed(thread, range, prot)?;
    }
    Ok(())
}
