//! Signals: numbers, sets, default actions, siginfo. signal(7), include/uapi/asm-generic/{signal,siginfo}.h.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A signal number, 1–64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Signal(u8);

macro_rules! signals {
    ($($name:ident = $n:literal;)*) => {
        impl Signal { $(pub const $name: Signal = Signal($n);)* }
        const NAMES: &[&str] = &["", $(stringify!($name),)*];
    };
}
signals! {
    SIGHUP = 1; SIGINT = 2; SIGQUIT = 3; SIGILL = 4; SIGTRAP = 5; SIGABRT = 6; SIGBUS = 7; SIGFPE = 8; SIGKILL = 9;
    SIGUSR1 = 10; SIGSEGV = 11; SIGUSR2 = 12; SIGPIPE = 13; SIGALRM = 14; SIGTERM = 15; SIGSTKFLT = 16; SIGCHLD = 17;
    SIGCONT = 18; SIGSTOP = 19; SIGTSTP = 20; SIGTTIN = 21; SIGTTOU = 22; SIGURG = 23; SIGXCPU = 24; SIGXFSZ = 25;
    SIGVTALRM = 26; SIGPROF = 27; SIGWINCH = 28; SIGIO = 29; SIGPWR = 30; SIGSYS = 31;
}

/// What the kernel does with a signal that has no handler (signal(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefaultAction {
    Terminate,
    Core,
    Stop,
    Continue,
    Ignore,
}

impl Signal {
    pub const MAX: u8 = 64;
    pub const RT_MIN: u8 = 32;

    /// `None` for 0 and for numbers above 64.
    pub const fn new(number: u64) -> Option<Signal> {
        if number >= 1 && number <= Signal::MAX as u64 { Some(Signal(number as u8)) } else { None }
    }

    pub const fn number(self) -> u8 {
        self.0
    }

    pub const fn is_realtime(self) -> bool {
        self.0 >= Signal::RT_MIN
    }

    /// `SIGxxx` for a standard signal, `None` for a real-time one.
    pub fn name(self) -> Option<&'static str> {
        NAMES.get(self.0 as usize).copied()
    }

    /// By name with or without `SIG`, any case is the caller's affair.
    pub fn from_name(name: &str) -> Option<Signal> {
        let index = NAMES.iter().skip(1).position(|n| *n == name || n.strip_prefix("SIG") == Some(name))?;
        Some(Signal(index as u8 + 1))
    }

    pub const fn default_action(self) -> DefaultAction {
        match self {
            Signal::SIGQUIT
            | Signal::SIGILL
            | Signal::SIGTRAP
            | Signal::SIGABRT
            | Signal::SIGBUS
            | Signal::SIGFPE
            | Signal::SIGSEGV
            | Signal::SIGXCPU
            | Signal::SIGXFSZ
            | Signal::SIGSYS => DefaultAction::Core,
            Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => DefaultAction::Stop,
            Signal::SIGCONT => DefaultAction::Continue,
            Signal::SIGCHLD | Signal::SIGURG | Signal::SIGWINCH => DefaultAction::Ignore,
            _ => DefaultAction::Terminate,
        }
    }
}

/// A set of signals as the kernel lays it out: bit n−1 for signal n.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct SigSet(pub u64);

impl SigSet {
    pub const EMPTY: SigSet = SigSet(0);
    pub const ALL: SigSet = SigSet(!0);
    /// SIGKILL and SIGSTOP, which can be neither blocked nor caught.
    pub const UNBLOCKABLE: SigSet = SigSet(1 << 8 | 1 << 18);
    /// Signals raised by the thread's own instructions.
    pub const SYNCHRONOUS: SigSet = SigSet(1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 30);
    /// SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU.
    pub const STOPS: SigSet = SigSet(1 << 18 | 1 << 19 | 1 << 20 | 1 << 21);

    pub const fn of(signal: Signal) -> SigSet {
        SigSet(1 << (signal.0 - 1))
    }

    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & SigSet::of(signal).0 != 0
    }

    pub const fn union(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }

    pub const fn without(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }

    pub const fn intersect(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest signal of the set.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8 + 1)) }
    }

    pub fn iter(self) -> impl Iterator<Item = Signal> {
        (1..=64u8).map(Signal).filter(move |s| self.contains(*s))
    }
}

/// `siginfo_t`: 128 bytes, of which the first three words are common and the rest depends on the code (sigaction(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SigInfo {
    pub signo: i32,
    pub errno: i32,
    pub code: i32,
    pub pad: i32,
    /// The union, as 64-bit words in little-endian order.
    pub fields: [u64; 14],
}

pub const SI_USER: i32 = 0;
pub const SI_KERNEL: i32 = 0x80;
pub const SI_QUEUE: i32 = -1;
pub const SI_TIMER: i32 = -2;
pub const SI_MESGQ: i32 = -3;
pub const SI_ASYNCIO: i32 = -4;
pub const SI_SIGIO: i32 = -5;
pub const SI_TKILL: i32 = -6;
pub const SEGV_MAPERR: i32 = 1;
pub const SEGV_ACCERR: i32 = 2;
pub const BUS_ADRERR: i32 = 2;
pub const CLD_EXITED: i32 = 1;
pub const CLD_KILLED: i32 = 2;
pub const CLD_DUMPED: i32 = 3;
pub const CLD_TRAPPED: i32 = 4;
pub const CLD_STOPPED: i32 = 5;
pub const CLD_CONTINUED: i32 = 6;

impl SigInfo {
    pub const SIZE: usize = 128;

    pub const fn new(signal: Signal, code: i32) -> SigInfo {
        SigInfo { signo: signal.0 as i32, errno: 0, code, pad: 0, fields: [0; 14] }
    }

    /// kill(2), tgkill(2), sigqueue(3): who sent it.
    pub const fn from_sender(signal: Signal, code: i32, pid: i32, uid: u32) -> SigInfo {
        let mut info = SigInfo::new(signal, code);
        info.fields[0] = pid as u32 as u64 | (uid as u64) << 32;
        info
    }

    /// sigqueue(3): with a value.
    pub const fn with_value(mut self, value: u64) -> SigInfo {
        self.fields[1] = value;
        self
    }

    /// SIGCHLD.
    pub const fn child(code: i32, pid: i32, uid: u32, status: i32, utime: i64, stime: i64) -> SigInfo {
        let mut info = SigInfo::from_sender(Signal::SIGCHLD, code, pid, uid);
        info.fields[1] = status as u32 as u64;
        info.fields[2] = utime as u64;
        info.fields[3] = stime as u64;
        info
    }

    /// SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP.
    pub const fn fault(signal: Signal, code: i32, addr: u64) -> SigInfo {
        let mut info = SigInfo::new(signal, code);
        info.fields[0] = addr;
        info
    }

    /// POSIX timer: id, overruns, value.
    pub const fn timer(signal: Signal, id: i32, overrun: i32, value: u64) -> SigInfo {
        let mut info = SigInfo::new(signal, SI_TIMER);
        info.fields[0] = id as u32 as u64 | (overrun as u32 as u64) << 32;
        info.fields[1] = value;
        info
    }

    pub const fn pid(&self) -> i32 {
        self.fields[0] as i32
    }

    pub const fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }
}
