//! Seccomp profiles: which host calls a role may make, each rule with its reason. The same in debug and release.

use serde::Deserialize;

use crate::program::{self, Action, Condition, Instruction, Rule};

/// The profiles of our roles.
const SENTRY: &str = include_str!("../profiles/sentry.json");
/// What the ptrace platform needs beyond it.
const SENTRY_PTRACE: &str = include_str!("../profiles/sentry-ptrace.json");
const GOFER: &str = include_str!("../profiles/gofer.json");
const NETSTACK: &str = include_str!("../profiles/netstack.json");

/// One parsed profile.
#[derive(Clone, Debug)]
pub struct Profile {
    name: String,
    rules: Vec<Rule>,
    reasons: Vec<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("malformed profile: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("{profile}: unknown call {call}")]
    UnknownCall { profile: String, call: String },
    #[error("{profile}: {call}: bad condition")]
    BadCondition { profile: String, call: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    rules: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    call: String,
    #[serde(default)]
    args: Vec<FileCondition>,
    #[serde(default)]
    errno: Option<u16>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCondition {
    index: u8,
    #[serde(default)]
    mask: Option<Number>,
    any_of: Vec<Number>,
}

/// JSON has no hexadecimal numbers, so a string is one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(u64),
    Text(String),
}

impl Number {
    fn value(&self) -> Option<u64> {
        match self {
            Number::Plain(number) => Some(*number),
            Number::Text(text) => u64::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        }
    }
}

impl Profile {
    pub fn sentry() -> Result<Self, ProfileError> {
        Self::parse(SENTRY)
    }

    /// For a sentry that runs guests by ptrace.
    pub fn sentry_ptrace() -> Result<Self, ProfileError> {
        let mut profile = Self::sentry()?;
        let more = Self::parse(SENTRY_PTRACE)?;
        profile.name = more.name;
        profile.rules.extend(more.rules);
        profile.reasons.extend(more.reasons);
        Ok(profile)
    }

    pub fn gofer() -> Result<Self, ProfileError> {
        Self::parse(GOFER)
    }

    pub fn netstack() -> Result<Self, ProfileError> {
        Self::parse(NETSTACK)
    }

    fn parse(text: &str) -> Result<Self, ProfileError> {
        let file: File = serde_json::from_str(text)?;
        let mut rules = Vec::with_capacity(file.rules.len());
        let mut reasons = Vec::with_capacity(file.rules.len());
        for rule in file.rules {
            let number = sentry_abi::nr::number(&rule.call.to_ascii_uppercase())
                .ok_or_else(|| ProfileError::UnknownCall { profile: file.name.clone(), call: rule.call.clone() })?;
            let conditions = rule.args.iter().map(condition).collect::<Option<Vec<_>>>();
            let conditions =
                conditions.ok_or_else(|| ProfileError::BadCondition { profile: file.name.clone(), call: rule.call.clone() })?;
            rules.push(Rule { number, conditions, action: rule.errno.map_or(Action::Allow, Action::Errno) });
            reasons.push((rule.call, rule.why));
        }
        Ok(Self { name: file.name, rules, reasons })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Rules as (call, reason), in order.
    pub fn reasons(&self) -> &[(String, String)] {
        &self.reasons
    }

    pub fn compile(&self) -> Result<Vec<Instruction>, ProfileError> {
        Ok(program::assemble(&self.rules, Action::KillProcess))
    }

    /// How many different calls can succeed.
    pub fn allowed_calls(&self) -> usize {
        let mut numbers: Vec<u32> = self.rules.iter().filter(|rule| rule.action == Action::Allow).map(|rule| rule.number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }
}

fn condition(file: &FileCondition) -> Option<Condition> {
    let mask = match &file.mask {
        Some(mask) => mask.value()?,
        None => u64::MAX,
    };
    let values = file.any_of.iter().map(Number::value).collect::<Option<Vec<_>>>()?;
    let sound = file.index < 6 && !values.is_empty() && values.iter().all(|value| value & !mask == 0);
    sound.then_some(Condition { index: file.index, mask, values })
}

#[cfg(test)]
mod tests {
    use super::Profile;
    use crate::program::Action;

    /// The budget of DESIGN §1. A call more has to be argued for here, a call less is welcome.
    #[test]
    fn profiles_stay_within_their_budget() {
        let profiles = [(Profile::sentry(), 45), (Profile::gofer(), 40), (Profile::netstack(), 30)];
        for (profile, budget) in profiles {
            let profile = profile.unwrap();
            assert!(profile.allowed_calls() <= budget, "{}: {} calls", profile.name(), profile.allowed_calls());
            assert!(profile.compile().unwrap().len() < 4096);
            for (call, why) in profile.reasons() {
                assert!(why.len() > 3, "{}: {call} has no reason", profile.name());
            }
        }
    }

    #[test]
    fn no_profile_has_what_none_may_have() {
        let forbidden = [
            "open",
            "openat",
            "socket",
            "setns",
            "unshare",
            "ptrace",
            "pidfd_getfd",
            "execve",
            "execveat",
            "mount",
            "io_uring_setup",
            "bpf",
        ];
        for profile in [Profile::sentry().unwrap(), Profile::gofer().unwrap(), Profile::netstack().unwrap()] {
            for rule in profile.rules.iter().filter(|rule| rule.action == Action::Allow) {
                let name = sentry_abi::nr::upper_name(rule.number).unwrap().to_ascii_lowercase();
                assert!(!forbidden.contains(&name.as_str()), "{}: {name}", profile.name());
            }
        }
    }
}
