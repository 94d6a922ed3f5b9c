//! Mount options (tmpfs(5)).

use sentry_abi::{Errno, Mode, Result};

const PAGE: u64 = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpFsOptions {
    /// Bytes; `None` is no limit.
    pub size: Option<u64>,
    pub nr_inodes: Option<u64>,
    /// Of the root directory.
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
}

impl Default for TmpFsOptions {
    /// No limits, a root directory for everybody (1777).
    fn default() -> TmpFsOptions {
        TmpFsOptions { size: None, nr_inodes: None, mode: Mode(0o1777), uid: 0, gid: 0 }
    }
}

impl TmpFsOptions {
    /// mount(2)'s data: "size=64m,mode=755". `memory` is the machine's memory in bytes: half of it is the default size, and percents are of it.
    /// `EINVAL` for what tmpfs does not know.
    pub fn parse(data: &[u8], memory: u64) -> Result<TmpFsOptions> {
        let half = TmpFsOptions {
            size: Some(memory / 2 / PAGE * PAGE),
            nr_inodes: Some((memory / 2 / PAGE).max(1024)),
            ..TmpFsOptions::default()
        };
        half.changed(data, memory)
    }

    /// These options with those of `data` changed (a remount).
    pub fn changed(mut self, data: &[u8], memory: u64) -> Result<TmpFsOptions> {
        let text = str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',').filter(|o| !o.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "size" => {
                    let bytes = match value.strip_suffix('%') {
                        Some(percent) => memory / 100 * percent.parse::<u64>().map_err(|_| Errno::EINVAL)?.min(100_000),
                        None => with_suffix(value)?,
                    };
                    self.size = limit(bytes.div_ceil(PAGE).saturating_mul(PAGE));
                }
                "nr_blocks" => self.size = limit(with_suffix(value)?.saturating_mul(PAGE)),
                "nr_inodes" => self.nr_inodes = limit(with_suffix(value)?),
                "mode" => {
                    let bits = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    self.mode = Mode::new(bits);
                }
                "uid" => self.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => self.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                // Placement and number width: nothing to do here.
                "huge" | "mpol" | "inode32" | "inode64" | "noswap" | "rw" | "ro" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(self)
    }
}

/// 0 is tmpfs's way of saying "no limit".
fn limit(value: u64) -> Option<u64> {
    (value != 0).then_some(value)
}

/// A number with k, m, g, t behind it (memparse).
fn with_suffix(value: &str) -> Result<u64> {
    let (digits, shift) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (&value[..value.len() - 1], 10),
        Some(b'm' | b'M') => (&value[..value.len() - 1], 20),
        Some(b'g' | b'G') => (&value[..value.len() - 1], 30),
        Some(b't' | b'T') => (&value[..value.len() - 1], 40),
        _ => (value, 0),
    };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let memory = 8 << 30;
        let o = TmpFsOptions::parse(b"size=64m,mode=755,uid=3,gid=4,nr_inodes=2k", memory).unwrap();
        assert_eq!(o, TmpFsOptions { size: Some(64 << 20), nr_inodes: Some(2048), mode: Mode(0o755), uid: 3, gid: 4 });
        assert_eq!(TmpFsOptions::parse(b"", memory).unwrap().size, Some(4 << 30));
        assert_eq!(TmpFsOptions::parse(b"size=0", memory).unwrap().size, None);
        assert_eq!(TmpFsOptions::parse(b"size=10%", memory).unwrap().size, Some((memory / 100 * 10).div_ceil(4096) * 4096));
        for bad in ["size=", "size=x", "what=1", "mode=9", "uid=-1", "size=99999999999999999999", "size=18446744073709551615t"] {
            assert_eq!(TmpFsOptions::parse(bad.as_bytes(), memory), Err(Errno::EINVAL), "{bad}");
        }
    }
}
