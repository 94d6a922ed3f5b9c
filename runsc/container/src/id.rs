//! Container ids.

use std::fmt;
use std::str::FromStr;

/// 1–128 characters of `[A-Za-z0-9_+.-]`, not `.` and not `..`; so it is a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ContainerId(String);

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid container id {0:?}: 1 to 128 characters of A-Z a-z 0-9 _ + . - are allowed")]
pub struct BadId(String);

impl ContainerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let good = |c: char| c.is_ascii_alphanumeric() || "_+.-".contains(c);
        let valid = (1..=128).contains(&text.len()) && text.chars().all(good) && text != "." && text != "..";
        if valid { Ok(Self(text.to_owned())) } else { Err(BadId(text.chars().take(160).collect())) }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerId;

    #[test]
    fn ids() {
        for good in ["a", "A-b_c.d+9", "...", &"x".repeat(128)] {
            assert!(good.parse::<ContainerId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é", "a\0", &"x".repeat(129)] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad}");
        }
    }
}
