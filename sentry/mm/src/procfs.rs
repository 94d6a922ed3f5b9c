//! What /proc shows of an address space. Formats follow Linux's fs/proc/task_mmu.c output to the byte.

use std::io::Write;

use sentry_abi::PAGE_SIZE;
use sentry_platform::{Prot, Share};

use crate::exec::ExecLayout;
use crate::mm::{Mm, special_vmas};
use crate::vma::{Vma, VmaFlags, VmaName};

/// Column at which names start.
const NAME_COLUMN: usize = 73;
/// Bytes of a stack that count as used; it is mapped in full (LAWS 13.8).
const STACK_ESTIMATE: u64 = 132 << 10;
const VSYSCALL: &[u8] = b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

/// Sizes in bytes, for statm, status and stat. Residency is an estimate: the host knows it, the tree does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// VmSize.
    pub total: u64,
    pub resident: u64,
    pub shared: u64,
    /// VmExe: the program's own text.
    pub text: u64,
    /// VmData.
    pub data: u64,
    /// VmStk.
    pub stack: u64,
    /// All executable mappings (VmExe + VmLib).
    pub exec: u64,
    /// VmLck.
    pub locked: u64,
    pub ranges: u64,
}

impl Mm {
    /// The text of /proc/pid/maps.
    pub fn maps(&self) -> Vec<u8> {
        let (vmas, exec) = self.shown();
        let mut text = Vec::with_capacity(vmas.len() * 96);
        for vma in &vmas {
            line(&mut text, vma, &exec);
        }
        text.extend_from_slice(VSYSCALL);
        text
    }

    /// The text of /proc/pid/smaps; every present page is counted as the process's own.
    pub fn smaps(&self) -> Vec<u8> {
        let (vmas, exec) = self.shown();
        let mut text = Vec::new();
        for vma in &vmas {
            line(&mut text, vma, &exec);
            details(&mut text, vma);
        }
        text.extend_from_slice(VSYSCALL);
        text
    }

    /// The ranges as /proc shows them, with vdso and vvar wherever they lie. Names are asked for later, without the lock.
    fn shown(&self) -> (Vec<Vma>, ExecLayout) {
        let (mut vmas, exec) = {
            let tree = self.tree.read();
            (tree.vmas.iter().cloned().collect::<Vec<Vma>>(), tree.exec.clone())
        };
        if let Some(vdso) = self.vdso.filter(|v| !self.guest.contains(v.range.start())) {
            vmas.extend(special_vmas(vdso));
            vmas.sort_by_key(|v| v.start);
        }
        (vmas, exec)
    }

    pub fn usage(&self) -> Usage {
        let tree = self.tree.read();
        let totals = tree.vmas.totals();
        let stack = totals.stack.min(STACK_ESTIMATE);
        let mut usage = Usage {
            total: totals.all - totals.stack + stack,
            text: tree.exec.end_code.saturating_sub(tree.exec.start_code),
            data: totals.data,
            stack,
            exec: totals.exec,
            locked: totals.locked,
            ranges: tree.vmas.len() as u64,
            ..Usage::default()
        };
        for vma in tree.vmas.iter() {
            let present = present(vma);
            usage.resident += present;
            usage.shared += if vma.mapping.is_some() { present } else { 0 };
        }
        usage
    }

    /// The text of /proc/pid/statm.
    pub fn statm(&self) -> Vec<u8> {
        let usage = self.usage();
        let pages = |bytes: u64| bytes.div_ceil(PAGE_SIZE);
        let (total, resident, shared) = (pages(usage.total), pages(usage.resident), pages(usage.shared));
        format!("{total} {resident} {shared} {} 0 {} 0\n", pages(usage.text), pages(usage.data + usage.stack)).into_bytes()
    }
}

/// An estimate of what is in memory.
fn present(vma: &Vma) -> u64 {
    if vma.prot.is_empty() {
        0
    } else if vma.flags.contains(VmaFlags::GROWSDOWN) {
        vma.len().min(STACK_ESTIMATE)
    } else {
        vma.len()
    }
}

fn line(text: &mut Vec<u8>, vma: &Vma, exec: &ExecLayout) {
    let right = |bit: Prot, letter: char| if vma.prot.contains(bit) { letter } else { '-' };
    let share = if vma.share == Share::Shared { 's' } else { 'p' };
    let (dev, ino) = vma.mapping.as_ref().map_or((0, 0), |m| m.label.id());
    let start = text.len();
    let head = format!(
        "{:08x}-{:08x} {}{}{}{share} {:08x} {:02x}:{:02x} {ino} ",
        vma.start,
        vma.end,
        right(Prot::READ, 'r'),
        right(Prot::WRITE, 'w'),
        right(Prot::EXEC, 'x'),
        if vma.mapping.is_some() { vma.offset } else { 0 },
        major(dev),
        minor(dev),
    );
    text.extend_from_slice(head.as_bytes());
    if let Some(name) = name(vma, exec) {
        while text.len() - start < NAME_COLUMN {
            text.push(b' ');
        }
        for byte in name {
            match byte {
                b'\n' => text.extend_from_slice(b"\\012"),
                byte => text.push(byte),
            }
        }
    }
    text.push(b'\n');
}

fn name(vma: &Vma, exec: &ExecLayout) -> Option<Vec<u8>> {
    if let Some(mapping) = &vma.mapping {
        return mapping.label.path();
    }
    match &vma.name {
        VmaName::Vvar => return Some(b"[vvar]".to_vec()),
        VmaName::Vdso => return Some(b"[vdso]".to_vec()),
        VmaName::None | VmaName::Anon(_) => {}
    }
    if exec.start_brk < exec.brk && vma.start < exec.brk && vma.end > exec.start_brk {
        return Some(b"[heap]".to_vec());
    }
    if exec.start_stack != 0 && vma.start <= exec.start_stack && vma.end > exec.start_stack {
        return Some(b"[stack]".to_vec());
    }
    match &vma.name {
        VmaName::Anon(name) => Some([b"[anon:", &name[..], b"]"].concat()),
        _ => None,
    }
}

fn details(text: &mut Vec<u8>, vma: &Vma) {
    let (size, rss) = (vma.len() >> 10, present(vma) >> 10);
    let anonymous = if vma.mapping.is_none() { rss } else { 0 };
    let (clean, dirty) = if vma.mapping.is_some() { (rss, 0) } else { (0, rss) };
    let locked = if vma.flags.contains(VmaFlags::LOCKED) { rss } else { 0 };
    let rows: [(&str, u64); 20] = [
        ("Size", size),
        ("KernelPageSize", 4),
        ("MMUPageSize", 4),
        ("Rss", rss),
        ("Pss", rss),
        ("Pss_Dirty", dirty),
        ("Shared_Clean", 0),
        ("Shared_Dirty", 0),
        ("Private_Clean", clean),
        ("Private_Dirty", dirty),
        ("Referenced", rss),
        ("Anonymous", anonymous),
        ("LazyFree", 0),
        ("AnonHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FilePmdMapped", 0),
        ("Shared_Hugetlb", 0),
        ("Private_Hugetlb", 0),
        ("Swap", 0),
        ("SwapPss", 0),
    ];
    for (label, value) in rows {
        row(text, label, value);
    }
    row(text, "Locked", locked);
    // Writing to a Vec cannot fail.
    let _ = writeln!(text, "THPeligible:           0");
    text.extend_from_slice(b"VmFlags: ");
    for (set, letters) in vm_flags(vma) {
        if set {
            text.extend_from_slice(letters.as_bytes());
            text.push(b' ');
        }
    }
    text.push(b'\n');
}

fn row(text: &mut Vec<u8>, label: &str, value: u64) {
    let label = format!("{label}:");
    // Writing to a Vec cannot fail.
    let _ = writeln!(text, "{label:<16}{value:>8} kB");
}

fn vm_flags(vma: &Vma) -> [(bool, &'static str); 18] {
    let shared = vma.share == Share::Shared;
    let flag = |bit| vma.flags.contains(bit);
    [
        (vma.prot.contains(Prot::READ), "rd"),
        (vma.prot.contains(Prot::WRITE), "wr"),
        (vma.prot.contains(Prot::EXEC), "ex"),
        (shared, "sh"),
        (vma.max_prot.contains(Prot::READ), "mr"),
        (vma.max_prot.contains(Prot::WRITE), "mw"),
        (vma.max_prot.contains(Prot::EXEC), "me"),
        (shared, "ms"),
        (flag(VmaFlags::GROWSDOWN), "gd"),
        (flag(VmaFlags::LOCKED), "lo"),
        (flag(VmaFlags::SEQ_READ), "sr"),
        (flag(VmaFlags::RAND_READ), "rr"),
        (flag(VmaFlags::DONTFORK), "dc"),
        (flag(VmaFlags::NORESERVE), "nr"),
        (flag(VmaFlags::WIPEONFORK), "wf"),
        (flag(VmaFlags::DONTDUMP), "dd"),
        (flag(VmaFlags::HUGEPAGE), "hg"),
        (flag(VmaFlags::NOHUGEPAGE), "nh"),
    ]
}

/// As in the kernel's user encoding of device numbers.
fn major(dev: u64) -> u64 {
    ((dev >> 8) & 0xfff) | ((dev >> 32) & !0xfff)
}

fn minor(dev: u64) -> u64 {
    (dev & 0xff) | ((dev >> 12) & !0xff)
}
