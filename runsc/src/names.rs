//! Names of signals, capabilities, limits and mount options, as configurations spell them.

/// A signal by number or by name, with or without `SIG`.
pub(crate) fn signal(text: &str) -> Option<u8> {
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((base, sign, offset)) = ["RTMIN", "RTMAX"].iter().find_map(|base| {
        let rest = name.strip_prefix(base)?;
        let (sign, digits) = if rest.is_empty() { ("+", "0") } else { rest.split_at_checked(1)? };
        Some((*base, sign.to_owned(), digits.parse::<u8>().ok()?))
    }) {
        let number = match (base, sign.as_str()) {
            ("RTMIN", "+") => 34u8.checked_add(offset),
            ("RTMAX", "-") | ("RTMAX", "+") if base == "RTMAX" && (sign == "-" || offset == 0) => 64u8.checked_sub(offset),
            _ => None,
        };
        return number.filter(|number| (34..=64).contains(number));
    }
    const NAMES: [(&str, u8); 34] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("IOT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("STKFLT", 16),
        ("CHLD", 17),
        ("CLD", 17),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("TTIN", 21),
        ("TTOU", 22),
        ("URG", 23),
        ("XCPU", 24),
        ("XFSZ", 25),
        ("VTALRM", 26),
        ("PROF", 27),
        ("WINCH", 28),
        ("IO", 29),
        ("POLL", 29),
        ("PWR", 30),
        ("SYS", 31),
    ];
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// In the order of their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Every capability.
pub(crate) const ALL_CAPABILITIES: u64 = (1 << CAPABILITIES.len()) - 1;

/// The bit of a capability, named with or without `CAP_`.
pub(crate) fn capability(text: &str) -> Option<u64> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    CAPABILITIES.iter().position(|known| *known == name).map(|bit| 1 << bit)
}

/// In the order of their numbers.
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// The number of `RLIMIT_…`.
pub(crate) fn rlimit(text: &str) -> Option<u32> {
    let name = text.strip_prefix("RLIMIT_")?;
    RLIMITS.iter().position(|known| *known == name).and_then(|number| u32::try_from(number).ok())
}

/// What a mount option means.
pub(crate) enum MountOption {
    Set(u64),
    Clear(u64),
    Bind,
    /// Known, but nothing to do inside a sandbox.
    Ignore,
    /// Goes to the file system.
    Data,
}

const MS_RDONLY: u64 = 1;
const MS_NOSUID: u64 = 2;
const MS_NODEV: u64 = 4;
const MS_NOEXEC: u64 = 8;
const MS_SYNCHRONOUS: u64 = 16;
const MS_DIRSYNC: u64 = 128;
const MS_NOATIME: u64 = 1024;
const MS_NODIRATIME: u64 = 2048;
const MS_RELATIME: u64 = 1 << 21;
const MS_STRICTATIME: u64 = 1 << 24;
/// Tells a mount that cannot be written.
pub(crate) const READ_ONLY: u64 = MS_RDONLY;

pub(crate) fn mount_option(text: &str) -> MountOption {
    match text {
        "ro" | "rro" => MountOption::Set(MS_RDONLY),
        "rw" => MountOption::Clear(MS_RDONLY),
        "nosuid" => MountOption::Set(MS_NOSUID),
        "suid" => MountOption::Clear(MS_NOSUID),
        "nodev" => MountOption::Set(MS_NODEV),
        "dev" => MountOption::Clear(MS_NODEV),
        "noexec" => MountOption::Set(MS_NOEXEC),
        "exec" => MountOption::Clear(MS_NOEXEC),
        "sync" => MountOption::Set(MS_SYNCHRONOUS),
        "async" => MountOption::Clear(MS_SYNCHRONOUS),
        "dirsync" => MountOption::Set(MS_DIRSYNC),
        "noatime" => MountOption::Set(MS_NOATIME),
        "atime" => MountOption::Clear(MS_NOATIME),
        "nodiratime" => MountOption::Set(MS_NODIRATIME),
        "diratime" => MountOption::Clear(MS_NODIRATIME),
        "relatime" => MountOption::Set(MS_RELATIME),
        "norelatime" => MountOption::Clear(MS_RELATIME),
        "strictatime" => MountOption::Set(MS_STRICTATIME),
        "nostrictatime" => MountOption::Clear(MS_STRICTATIME),
        "bind" | "rbind" => MountOption::Bind,
        "defaults" | "remount" | "mand" | "nomand" | "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" | "unbindable"
        | "runbindable" | "tmpcopyup" | "silent" | "loud" | "acl" | "noacl" => MountOption::Ignore,
        _ => MountOption::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL_CAPABILITIES, capability, rlimit, signal};

    #[test]
    fn names() {
        let signals = [
            ("TERM", Some(15)),
            ("SIGTERM", Some(15)),
            ("sigkill", Some(9)),
            ("15", Some(15)),
            ("0", None),
            ("65", None),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMAX", Some(64)),
            ("RTMIN-1", None),
            ("RTMIN+99", None),
            ("", None),
            ("NOPE", None),
        ];
        for (text, expected) in signals {
            assert_eq!(signal(text), expected, "{text}");
        }
        assert_eq!(capability("CAP_CHOWN"), Some(1));
        assert_eq!(capability("SYS_ADMIN"), Some(1 << 21));
        assert_eq!(capability("CAP_CHECKPOINT_RESTORE"), Some(1 << 40));
        assert_eq!(capability("CAP_NOPE"), None);
        assert_eq!(ALL_CAPABILITIES, 0x1ff_ffff_ffff);
        assert_eq!(rlimit("RLIMIT_NOFILE"), Some(7));
        assert_eq!(rlimit("NOFILE"), None);
    }
}
