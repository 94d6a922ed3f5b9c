//! A small assembler for seccomp programs.

/// One BPF instruction, laid out as the kernel's `sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// What happens to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Allow,
    Errno(u16),
    KillProcess,
}

impl Action {
    fn value(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::KillProcess => 0x8000_0000,
        }
    }
}

/// One argument test: the value, masked, is one of `values`. All are 64 bits wide.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    pub index: u8,
    pub mask: u64,
    pub values: Vec<u64>,
}

/// A call and what must hold for the action to be taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub number: u32,
    pub conditions: Vec<Condition>,
    pub action: Action,
}

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;
const ARCH_X86_64: u32 = 0xc000_003e;

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, jt: 0, jf: 0, k: offset }
}

fn give(action: Action) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: action.value() }
}

/// The program: architecture first, then one block per rule, in order; what no rule takes gets `default`. A call number that no rule names never
/// matches, so the numbers of the x32 ABI fall through too. Rules of one call are tried one after the other.
///
/// Rules without conditions come out as two instructions; the kernel answers those from a bitmap without running the program.
pub fn assemble(rules: &[Rule], default: Action) -> Vec<Instruction> {
    let mut out = vec![
        load(OFFSET_ARCH),
        Instruction { code: JUMP_EQUAL, jt: 1, jf: 0, k: ARCH_X86_64 },
        give(Action::KillProcess),
        load(OFFSET_NUMBER),
    ];
    for rule in rules {
        let block = block(rule);
        // Over the block when the number is another. A long block needs an unconditional jump, whose offset is 32 bits.
        match u8::try_from(block.len()) {
            Ok(len) => out.push(Instruction { code: JUMP_EQUAL, jt: 0, jf: len, k: rule.number }),
            Err(_) => {
                out.push(Instruction { code: JUMP_EQUAL, jt: 1, jf: 0, k: rule.number });
                out.push(Instruction { code: JUMP, jt: 0, jf: 0, k: block.len() as u32 });
            }
        }
        out.extend(block);
    }
    out.push(give(default));
    out
}

/// What runs when the number is the rule's: falls out of its end, with the number loaded again, when a condition does not hold.
fn block(rule: &Rule) -> Vec<Instruction> {
    if rule.conditions.is_empty() {
        return vec![give(rule.action)];
    }
    // Built from the end: each condition jumps to `miss`, the final reload, which is `distance` away.
    let mut tail = vec![give(rule.action), load(OFFSET_NUMBER)];
    for condition in rule.conditions.iter().rev() {
        let mut next = test(condition, tail.len() - 1);
        next.extend(tail);
        tail = next;
    }
    tail
}

/// Goes on behind itself when the condition holds, else skips `to_miss` further instructions.
fn test(condition: &Condition, to_miss: usize) -> Vec<Instruction> {
    // Alternatives, last first; each is: load low, [mask], compare, load high, [mask], compare, jump to the end.
    let mut out: Vec<Instruction> = Vec::new();
    let (mask_low, mask_high) = (condition.mask as u32, (condition.mask >> 32) as u32);
    let low = OFFSET_ARGUMENTS + 8 * u32::from(condition.index);
    for (position, value) in condition.values.iter().rev().enumerate() {
        let last = position == 0;
        let mut alternative = Vec::new();
        // Where to go when this alternative fails: behind its own end, which is the next alternative or, for the last, the jump to the miss.
        let mut pieces: Vec<Vec<Instruction>> = Vec::new();
        for (offset, mask, value) in [(low, mask_low, *value as u32), (low + 4, mask_high, (*value >> 32) as u32)] {
            if mask == 0 && value == 0 {
                continue;
            }
            let mut piece = vec![load(offset)];
            if mask != u32::MAX {
                piece.push(Instruction { code: AND, jt: 0, jf: 0, k: mask });
            }
            piece.push(Instruction { code: JUMP_EQUAL, jt: 0, jf: 0, k: value });
            pieces.push(piece);
        }
        // The alternative's success: jump over everything that follows in this test.
        let success = Instruction { code: JUMP, jt: 0, jf: 0, k: out.len() as u32 + u32::from(last) };
        let total: usize = pieces.iter().map(Vec::len).sum::<usize>() + 1;
        for piece in pieces {
            alternative.extend(piece);
            let end = alternative.len();
            if let Some(compare) = alternative.last_mut() {
                // At most 5 instructions follow.
                compare.jf = (total - end) as u8;
            }
        }
        alternative.push(success);
        if last {
            alternative.push(Instruction { code: JUMP, jt: 0, jf: 0, k: to_miss as u32 });
        }
        alternative.extend(out);
        out = alternative;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Action, Condition, Instruction, Rule, assemble};

    /// Runs a program over a `seccomp_data`.
    fn run(program: &[Instruction], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&number.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (i, argument) in arguments.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&argument.to_le_bytes());
        }
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let i = program[at];
            at += 1;
            match i.code {
                super::LOAD_WORD => {
                    let k = i.k as usize;
                    a = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
                }
                super::AND => a &= i.k,
                super::JUMP => at += i.k as usize,
                super::JUMP_EQUAL => at += usize::from(if a == i.k { i.jt } else { i.jf }),
                super::RETURN => return i.k,
                other => panic!("code {other:#x}"),
            }
        }
    }

    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;
    const X86_64: u32 = 0xc000_003e;

    #[test]
    fn rules_decide() {
        let thread = Condition { index: 0, mask: 0x10000, values: vec![0x10000] };
        let command = Condition { index: 1, mask: u64::MAX, values: vec![5, 7, 1 << 40] };
        let rules = [
            Rule { number: 1, conditions: vec![], action: Action::Allow },
            Rule { number: 56, conditions: vec![thread.clone()], action: Action::Allow },
            Rule { number: 16, conditions: vec![command.clone()], action: Action::Allow },
            Rule { number: 16, conditions: vec![Condition { index: 1, mask: 0xff, values: vec![0x99] }], action: Action::Errno(22) },
            Rule { number: 72, conditions: vec![command, thread], action: Action::Allow },
            Rule { number: 435, conditions: vec![], action: Action::Errno(38) },
        ];
        let program = assemble(&rules, Action::KillProcess);
        let cases: &[(u32, u32, [u64; 2], u32)] = &[
            (X86_64, 1, [0, 0], ALLOW),
            (0x4000_0003, 1, [0, 0], KILL),
            (X86_64, 1 | 0x4000_0000, [0, 0], KILL),
            (X86_64, 2, [0, 0], KILL),
            (X86_64, 56, [0x10f00, 0], ALLOW),
            (X86_64, 56, [0x00f00, 0], KILL),
            (X86_64, 56, [0x1_0000_0000_0000, 0], KILL),
            (X86_64, 16, [0, 5], ALLOW),
            (X86_64, 16, [0, 7], ALLOW),
            (X86_64, 16, [0, 1 << 40], ALLOW),
            (X86_64, 16, [0, 6], KILL),
            (X86_64, 16, [0, 5 | 1 << 32], KILL),
            (X86_64, 16, [0, 0], KILL),
            (X86_64, 16, [0, 0x1199], 0x0005_0016),
            (X86_64, 72, [0x10000, 7], ALLOW),
            (X86_64, 72, [0, 7], KILL),
            (X86_64, 72, [0x10000, 8], KILL),
            (X86_64, 435, [0, 0], 0x0005_0026),
            (X86_64, 436, [0, 0], KILL),
        ];
        for (arch, number, [a, b], expected) in cases {
            assert_eq!(run(&program, *arch, *number, [*a, *b, 0, 0, 0, 0]), *expected, "{number} {a:#x} {b:#x}");
        }
    }

    #[test]
    fn long_blocks_are_jumped_over() {
        let many = Condition { index: 0, mask: u64::MAX, values: (0..100).collect() };
        let rules = [
            Rule { number: 9, conditions: vec![many], action: Action::Allow },
            Rule { number: 10, conditions: vec![], action: Action::Allow },
        ];
        let program = assemble(&rules, Action::KillProcess);
        assert_eq!(run(&program, X86_64, 9, [99, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(&program, X86_64, 9, [0, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(&program, X86_64, 9, [100, 0, 0, 0, 0, 0]), KILL);
        assert_eq!(run(&program, X86_64, 10, [0, 0, 0, 0, 0, 0]), ALLOW);
    }
}
