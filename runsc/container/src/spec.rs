//! config.json: the parts of the OCI runtime specification that are acted on. Unknown fields are passed over, as the specification says; what is
//! known is checked, with limits (LAWS 12), before anybody uses it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Largest config.json.
const MAX_CONFIG: u64 = 4 << 20;
/// Deepest nesting of JSON values.
const MAX_DEPTH: usize = 64;
const MAX_MOUNTS: usize = 1024;
const MAX_ENV: usize = 64 << 10;
const MAX_ARGS: usize = 64 << 10;
const MAX_GROUPS: usize = 64 << 10;
const NAMESPACES: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];
/// Longest path, as Linux has it.
const MAX_PATH: usize = 4095;

#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {MAX_CONFIG} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep { path: PathBuf },
    #[error("{path} is malformed")]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("{path}: {field}: {problem}")]
    Invalid { path: PathBuf, field: String, problem: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub oci_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub solaris: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    #[serde(default)]
    pub terminal: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    #[serde(default)]
    pub user: User,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    #[serde(default)]
    pub cwd: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    #[serde(default)]
    pub no_new_privileges: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ConsoleSize {
    pub height: u16,
    pub width: u16,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    #[serde(default)]
    pub uid: u32,
    #[serde(default)]
    pub gid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// Names as `CAP_CHOWN`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Capabilities {
    #[serde(default)]
    pub bounding: Vec<String>,
    #[serde(default)]
    pub effective: Vec<String>,
    #[serde(default)]
    pub permitted: Vec<String>,
    #[serde(default)]
    pub inheritable: Vec<String>,
    #[serde(default)]
    pub ambient: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rlimit {
    #[serde(rename = "type")]
    pub kind: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root {
    pub path: String,
    #[serde(default)]
    pub readonly: bool,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Mount {
    pub destination: String,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Spec {
    /// Reads and checks the configuration of a bundle.
    pub fn load(bundle: &Path) -> Result<Self, SpecError> {
        let path = bundle.join("config.json");
        let read = |source| SpecError::Read { path: path.clone(), source };
        let mut text = Vec::new();
        let file = File::open(&path).map_err(read)?;
        if !file.metadata().map_err(read)?.is_file() {
            return Err(read(io::Error::other("not a regular file")));
        }
        file.take(MAX_CONFIG + 1).read_to_end(&mut text).map_err(read)?;
        Self::parse(&text, &path)
    }

    fn parse(text: &[u8], path: &Path) -> Result<Self, SpecError> {
        let path = || path.to_path_buf();
        if text.len() as u64 > MAX_CONFIG {
            return Err(SpecError::TooLarge { path: path() });
        }
        if depth(text) > MAX_DEPTH {
            return Err(SpecError::TooDeep { path: path() });
        }
        let spec: Self = serde_json::from_slice(text).map_err(|source| SpecError::Malformed { path: path(), source })?;
        spec.check().map_err(|(field, problem)| SpecError::Invalid { path: path(), field, problem })?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), (String, String)> {
        let invalid = |field: &str, problem: &str| Err((field.to_owned(), problem.to_owned()));
        if !self.oci_version.starts_with("1.") {
            return invalid("ociVersion", &format!("{:?} is not supported, 1.x is", self.oci_version));
        }
        if self.windows.is_some() || self.solaris.is_some() {
            return invalid("windows, solaris", "not supported");
        }
        let Some(root) = &self.root else { return invalid("root", "is missing") };
        check_path("root.path", &root.path)?;
        let Some(process) = &self.process else { return invalid("process", "is missing") };
        check_process(process)?;
        if self.mounts.len() > MAX_MOUNTS {
            return invalid("mounts", &format!("more than {MAX_MOUNTS}"));
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            check_path(&format!("mounts[{index}].destination"), &mount.destination)?;
            if let Some(source) = &mount.source {
                check_text(&format!("mounts[{index}].source"), source)?;
            }
            for option in &mount.options {
                check_text(&format!("mounts[{index}].options"), option)?;
            }
        }
        for (field, name) in [("hostname", &self.hostname), ("domainname", &self.domainname)] {
            if let Some(name) = name {
                check_text(field, name)?;
                if name.len() > 64 {
                    return invalid(field, "longer than 64 bytes");
                }
            }
        }
        let namespaces = self.linux.iter().flat_map(|linux| &linux.namespaces);
        for (index, namespace) in namespaces.enumerate() {
            if !NAMESPACES.contains(&namespace.kind.as_str()) {
                return invalid(&format!("linux.namespaces[{index}].type"), &format!("{:?} is unknown", namespace.kind));
            }
        }
        let linux = self.linux.iter();
        for path in linux.flat_map(|linux| linux.masked_paths.iter().chain(&linux.readonly_paths)) {
            check_path("linux.maskedPaths, linux.readonlyPaths", path)?;
        }
        Ok(())
    }
}

fn check_process(process: &Process) -> Result<(), (String, String)> {
    let invalid = |field: &str, problem: &str| Err((format!("process.{field}"), problem.to_owned()));
    if process.args.first().is_none_or(String::is_empty) {
        return invalid("args", "names no program");
    }
    if process.args.len() > MAX_ARGS || process.env.len() > MAX_ENV || process.user.additional_gids.len() > MAX_GROUPS {
        return invalid("args, env, user.additionalGids", "too many");
    }
    for argument in &process.args {
        if argument.contains('\0') {
            return invalid("args", "holds a NUL byte");
        }
    }
    for variable in &process.env {
        if variable.contains('\0') {
            return invalid("env", "holds a NUL byte");
        }
    }
    if !process.cwd.starts_with('/') {
        return invalid("cwd", &format!("{:?} is not an absolute path", process.cwd));
    }
    check_path("process.cwd", &process.cwd)?;
    if process.user.umask.is_some_and(|umask| umask > 0o777) {
        return invalid("user.umask", "is above 0777");
    }
    if process.user.uid == u32::MAX || process.user.gid == u32::MAX || process.user.additional_gids.contains(&u32::MAX) {
        return invalid("user", "4294967295 is no id");
    }
    let mut seen: Vec<&str> = Vec::new();
    for limit in &process.rlimits {
        if seen.contains(&limit.kind.as_str()) {
            return invalid("rlimits", &format!("{} is given twice", limit.kind));
        }
        if limit.soft > limit.hard {
            return invalid("rlimits", &format!("{}: the soft limit is above the hard one", limit.kind));
        }
        seen.push(&limit.kind);
    }
    Ok(())
}

fn check_text(field: &str, text: &str) -> Result<(), (String, String)> {
    if text.chars().any(|c| c.is_control()) {
        return Err((field.to_owned(), "holds a control character".to_owned()));
    }
    Ok(())
}

fn check_path(field: &str, path: &str) -> Result<(), (String, String)> {
    check_text(field, path)?;
    let problem = match path.len() {
        0 => "is empty",
        1..=MAX_PATH => return Ok(()),
        _ => "is too long",
    };
    Err((field.to_owned(), problem.to_owned()))
}

/// How deep arrays and objects are nested. For text that is no JSON the result means nothing.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Spec;

    fn parse(text: &str) -> Result<Spec, String> {
        Spec::parse(text.as_bytes(), Path::new("c.json")).map_err(|error| error.to_string())
    }

    fn with_process(process: &str) -> String {
        format!(r#"{{"ociVersion":"1.0.2","root":{{"path":"r"}},"process":{process}}}"#)
    }

    #[test]
    fn a_minimal_configuration() {
        let spec = parse(&with_process(r#"{"args":["/bin/true"],"cwd":"/","unknown":{"a":[1]}}"#)).unwrap();
        assert_eq!(spec.process.unwrap().args, ["/bin/true"]);
    }

    #[test]
    fn problems_are_named() {
        let cases = [
            ("{", "malformed"),
            (r#"{"ociVersion":"2.0"}"#, "ociVersion"),
            (r#"{"ociVersion":"1.0"}"#, "root: is missing"),
            (r#"{"ociVersion":"1.0","root":{"path":""}}"#, "root.path: is empty"),
            (r#"{"ociVersion":"1.0","root":{"path":"a"}}"#, "process: is missing"),
            (r#"{"ociVersion":"1.0","windows":{}}"#, "windows"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let processes = [
            (r#"{"cwd":"/"}"#, "args"),
            (r#"{"args":[""],"cwd":"/"}"#, "args"),
            (r#"{"args":["a\u0000"],"cwd":"/"}"#, "NUL"),
            (r#"{"args":["a"],"cwd":"x"}"#, "absolute"),
            (r#"{"args":["a"],"cwd":"/\n"}"#, "control"),
            (r#"{"args":["a"],"cwd":"/","user":{"uid":-1}}"#, "malformed"),
            (r#"{"args":["a"],"cwd":"/","user":{"uid":4294967295}}"#, "no id"),
            (r#"{"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_CPU","soft":2,"hard":1}]}"#, "above"),
            (r#"{"args":["a"],"cwd":"/","rlimits":[{"type":"X","soft":1,"hard":1},{"type":"X","soft":1,"hard":1}]}"#, "twice"),
        ];
        for (process, expected) in processes {
            let error = parse(&with_process(process)).unwrap_err();
            assert!(error.contains(expected), "{process}: {error}");
        }
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let deep = format!(r#"{{"ociVersion":"1.0","x":{}{}}}"#, "[".repeat(70), "]".repeat(70));
        assert!(parse(&deep).unwrap_err().contains("nested"));
        assert!(parse(&" ".repeat((4 << 20) + 1)).unwrap_err().contains("larger"));
        let brackets = format!(r#"{{"ociVersion":"1.0","x":"\"{}"}}"#, "[".repeat(100));
        assert!(parse(&brackets).unwrap_err().contains("root"), "brackets in strings do not count");
    }
}
