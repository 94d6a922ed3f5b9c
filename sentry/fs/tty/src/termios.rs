//! Terminal settings: termios(3), and the layouts in which ioctls carry them (include/uapi/asm-generic/termbits.h, x86-64).

use bitflags::bitflags;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct InputFlags: u32 {
        const IGNBRK = 0x1;
        const BRKINT = 0x2;
        const IGNPAR = 0x4;
        const PARMRK = 0x8;
        const INPCK = 0x10;
        const ISTRIP = 0x20;
        const INLCR = 0x40;
        const IGNCR = 0x80;
        const ICRNL = 0x100;
        const IUCLC = 0x200;
        const IXON = 0x400;
        const IXANY = 0x800;
        const IXOFF = 0x1000;
        const IMAXBEL = 0x2000;
        const IUTF8 = 0x4000;
        const _ = !0;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct OutputFlags: u32 {
        const OPOST = 0x1;
        const OLCUC = 0x2;
        const ONLCR = 0x4;
        const OCRNL = 0x8;
        const ONOCR = 0x10;
        const ONLRET = 0x20;
        /// Tabs become spaces (XTABS), the only delay that means something.
        const TABDLY = 0x1800;
        const _ = !0;
    }

    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct LocalFlags: u32 {
        const ISIG = 0x1;
        const ICANON = 0x2;
        const XCASE = 0x4;
        const ECHO = 0x8;
        const ECHOE = 0x10;
        const ECHOK = 0x20;
        const ECHONL = 0x40;
        const NOFLSH = 0x80;
        const TOSTOP = 0x100;
        const ECHOCTL = 0x200;
        const ECHOPRT = 0x400;
        const ECHOKE = 0x800;
        const FLUSHO = 0x1000;
        const PENDIN = 0x4000;
        const IEXTEN = 0x8000;
        const EXTPROC = 0x10000;
        const _ = !0;
    }
}

/// Indices of control characters.
pub mod cc {
    pub const INTR: usize = 0;
    pub const QUIT: usize = 1;
    pub const ERASE: usize = 2;
    pub const KILL: usize = 3;
    pub const EOF: usize = 4;
    pub const TIME: usize = 5;
    pub const MIN: usize = 6;
    pub const START: usize = 8;
    pub const STOP: usize = 9;
    pub const SUSP: usize = 10;
    pub const EOL: usize = 11;
    pub const REPRINT: usize = 12;
    pub const WERASE: usize = 14;
    pub const LNEXT: usize = 15;
    pub const EOL2: usize = 16;
}

const CONTROL_CHARS: usize = 19;
/// What termio, the old layout, has of them.
const OLD_CONTROL_CHARS: usize = 8;

const CS8: u32 = 0x30;
const CSIZE: u32 = 0x30;
const CREAD: u32 = 0x80;
const PARENB: u32 = 0x100;
const CBAUD: u32 = 0x100f;
const BOTHER: u32 = 0x1000;
const CIBAUD_SHIFT: u32 = 16;
const B38400: u32 = 0xf;

/// Speeds of B0… and of B57600….
const SPEEDS: [u32; 16] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
const HIGH_SPEEDS: [u32; 16] =
    [0, 57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000, 3500000, 4000000];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Termios {
    pub input: InputFlags,
    pub output: OutputFlags,
    pub control: u32,
    pub local: LocalFlags,
    pub line: u8,
    pub chars: [u8; CONTROL_CHARS],
    pub input_speed: u32,
    pub output_speed: u32,
}

impl Default for Termios {
    /// Of a fresh pseudo-terminal (tty_std_termios).
    fn default() -> Termios {
        let mut chars = [0; CONTROL_CHARS];
        let set = [
            (cc::INTR, 3),
            (cc::QUIT, 0x1c),
            (cc::ERASE, 0x7f),
            (cc::KILL, 0x15),
            (cc::EOF, 4),
            (cc::MIN, 1),
            (cc::START, 0x11),
            (cc::STOP, 0x13),
            (cc::SUSP, 0x1a),
            (cc::REPRINT, 0x12),
            (13, 0x0f),
            (cc::WERASE, 0x17),
            (cc::LNEXT, 0x16),
        ];
        for (index, value) in set {
            chars[index] = value;
        }
        Termios {
            input: InputFlags::ICRNL | InputFlags::IXON,
            output: OutputFlags::OPOST | OutputFlags::ONLCR,
            control: B38400 | CS8 | CREAD,
            local: LocalFlags::ISIG
                | LocalFlags::ICANON
                | LocalFlags::ECHO
                | LocalFlags::ECHOE
                | LocalFlags::ECHOK
                | LocalFlags::ECHOCTL
                | LocalFlags::ECHOKE
                | LocalFlags::IEXTEN,
            line: 0,
            chars,
            input_speed: 38400,
            output_speed: 38400,
        }
    }
}

/// How an ioctl carries the settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// `struct termio` (TCGETA).
    Old,
    /// The kernel's `struct termios` (TCGETS).
    Plain,
    /// `struct termios2` (TCGETS2).
    WithSpeeds,
}

impl Layout {
    pub const fn size(self) -> usize {
        match self {
            Layout::Old => 18,
            Layout::Plain => 36,
            Layout::WithSpeeds => 44,
        }
    }
}

impl Termios {
    pub fn canonical(&self) -> bool {
        self.local.contains(LocalFlags::ICANON)
    }

    /// Is `c` the control character of that index? A character of 0 is disabled.
    pub fn is(&self, c: u8, index: usize) -> bool {
        c != 0 && self.chars[index] == c
    }

    /// The same for characters that need IEXTEN.
    pub fn is_extended(&self, c: u8, index: usize) -> bool {
        self.local.contains(LocalFlags::IEXTEN) && self.is(c, index)
    }

    pub fn encode(&self, layout: Layout) -> Vec<u8> {
        let words = [self.input.bits(), self.output.bits(), self.control, self.local.bits()];
        let mut out = Vec::with_capacity(layout.size());
        if layout == Layout::Old {
            for word in words {
                out.extend_from_slice(&(word as u16).to_ne_bytes());
            }
            out.push(self.line);
            out.extend_from_slice(&self.chars[..OLD_CONTROL_CHARS]);
        } else {
            for word in words {
                out.extend_from_slice(&word.to_ne_bytes());
            }
            out.push(self.line);
            out.extend_from_slice(&self.chars);
        }
        if layout == Layout::WithSpeeds {
            out.extend_from_slice(&self.input_speed.to_ne_bytes());
            out.extend_from_slice(&self.output_speed.to_ne_bytes());
        }
        out.resize(layout.size(), 0);
        out
    }

    /// The settings that `bytes` (of the layout's size) ask for, on top of these. What a pseudo-terminal cannot change stays.
    pub fn decode(&self, layout: Layout, bytes: &[u8]) -> Termios {
        let mut new = *self;
        let words: [u32; 4] = if layout == Layout::Old {
            let old = [self.input.bits(), self.output.bits(), self.control, self.local.bits()];
            std::array::from_fn(|i| old[i] & 0xffff_0000 | u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]) as u32)
        } else {
            std::array::from_fn(|i| word_at(bytes, 4 * i))
        };
        new.input = InputFlags::from_bits_retain(words[0]);
        new.output = OutputFlags::from_bits_retain(words[1]);
        new.control = words[2] & !(CSIZE | PARENB) | CS8 | CREAD;
        new.local = LocalFlags::from_bits_retain(words[3]);
        let (line_at, count) = if layout == Layout::Old { (8, OLD_CONTROL_CHARS) } else { (16, CONTROL_CHARS) };
        new.line = bytes[line_at];
        new.chars[..count].copy_from_slice(&bytes[line_at + 1..line_at + 1 + count]);
        let given = (layout == Layout::WithSpeeds).then(|| (word_at(bytes, 36), word_at(bytes, 40)));
        new.set_speeds(given);
        new
    }

    fn set_speeds(&mut self, given: Option<(u32, u32)>) {
        let output = match (self.control & CBAUD, given) {
            (BOTHER, Some((_, output))) => output,
            (BOTHER, None) => self.output_speed,
            (code, _) => speed(code),
        };
        let input = match (self.control >> CIBAUD_SHIFT & CBAUD, given) {
            (0, _) => output,
            (BOTHER, Some((input, _))) => input,
            (BOTHER, None) => self.input_speed,
            (code, _) => speed(code),
        };
        self.output_speed = output;
        self.input_speed = input;
    }
}

fn word_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn speed(code: u32) -> u32 {
    let table = if code & BOTHER != 0 { &HIGH_SPEEDS } else { &SPEEDS };
    table[(code & 0xf) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_round_trip() {
        let base = Termios::default();
        for layout in [Layout::Old, Layout::Plain, Layout::WithSpeeds] {
            let bytes = base.encode(layout);
            assert_eq!(bytes.len(), layout.size());
            assert_eq!(base.decode(layout, &bytes), base);
        }
        let bytes = base.encode(Layout::Plain);
        assert_eq!(&bytes[..17], &[0, 5, 0, 0, 5, 0, 0, 0, 0xbf, 0, 0, 0, 0x3b, 0x8a, 0, 0, 0]);
    }

    #[test]
    fn speeds_follow_the_control_flags() {
        let base = Termios::default();
        let mut wanted = base;
        wanted.control = wanted.control & !CBAUD | 0x1002;
        assert_eq!(base.decode(Layout::Plain, &wanted.encode(Layout::Plain)).output_speed, 115200);
        wanted.control = wanted.control & !CBAUD | BOTHER;
        wanted.output_speed = 12345;
        let got = base.decode(Layout::WithSpeeds, &wanted.encode(Layout::WithSpeeds));
        assert_eq!((got.output_speed, got.input_speed), (12345, 12345));
        let odd = base.decode(Layout::Plain, &Termios { control: 0, ..base }.encode(Layout::Plain));
        assert_eq!(odd.control, CS8 | CREAD);
    }
}
