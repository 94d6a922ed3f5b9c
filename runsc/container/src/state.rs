//! The state directory: one private directory per container, with its record.
//!
//! `ROOT/ID/lock` is held (flock) by whoever changes the container, `ROOT/ID/state.json` appears complete, by rename. A directory without a record
//! belongs to a creation under way, or is what a killed one left; which of the two, the lock tells.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ContainerId, ProcessId};

const RECORD: &str = "state.json";
const LOCK: &str = "lock";
/// How often a new directory is tried for, and how long the one who holds it is waited for in between: a sweeper is done sooner.
const CREATE_ATTEMPTS: u32 = 40;
const CREATE_PAUSE: Duration = Duration::from_millis(5);
/// Annotations may be large, but come from a configuration of at most 4 MiB.
const MAX_RECORD: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}")]
    Host { path: PathBuf, source: io::Error },
    #[error("state directory {path} must belong to user {uid} and be closed to others")]
    NotPrivate { path: PathBuf, uid: u32 },
    #[error("container id {0} is in use")]
    InUse(ContainerId),
    #[error("container {0} does not exist")]
    Missing(ContainerId),
    #[error("{path}: malformed record")]
    Malformed { path: PathBuf, source: serde_json::Error },
}

fn host(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError::Host { path, source }
}

/// What is remembered of a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub oci_version: String,
    pub id: String,
    pub bundle: String,
    pub rootfs: String,
    pub annotations: std::collections::BTreeMap<String, String>,
    /// RFC 3339.
    pub created: String,
    pub owner: String,
    pub sentry: ProcessId,
    pub gofer: Option<ProcessId>,
    pub netstack: Option<ProcessId>,
    /// The container's pid for others.
    pub zygote: Option<ProcessId>,
}

impl Record {
    /// All processes, those that end others first.
    pub fn processes(&self) -> Vec<ProcessId> {
        [Some(self.sentry), self.zygote, self.gofer, self.netstack].into_iter().flatten().collect()
    }
}

/// Where the containers of one `--root` are recorded.
#[derive(Clone, Debug)]
pub struct StateRoot(PathBuf);

impl StateRoot {
    /// Opens the directory, making it if it is missing.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(host(path))?;
        let path = fs::canonicalize(path).map_err(host(path))?;
        let meta = fs::metadata(&path).map_err(host(&path))?;
        let uid = rustix::process::geteuid().as_raw();
        if meta.uid() != uid || (meta.permissions().mode() & 0o022) != 0 {
            return Err(StateError::NotPrivate { path, uid });
        }
        Ok(Self(path))
    }

    /// Takes an id. The result holds the lock and is not visible as a container before [`Container::record`].
    pub fn create(&self, id: &ContainerId) -> Result<Container, StateError> {
        let dir = self.0.join(id.as_str());
        // Whoever sweeps may take the new directory for debris before it is locked: then it is made again.
        for _ in 0..CREATE_ATTEMPTS {
            match DirBuilder::new().mode(0o700).create(&dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(host(&dir))?,
            }
            if dir.join(RECORD).exists() {
                break;
            }
            match Container::lock(id, dir.clone()) {
                Ok(Some(container)) if !container.is_current() => continue,
                Ok(Some(container)) if container.has_record() => break,
                Ok(Some(container)) => {
                    container.clear()?;
                    return Ok(container);
                }
                Ok(None) => std::thread::sleep(CREATE_PAUSE),
                Err(StateError::Host { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(StateError::InUse(id.clone()))
    }

    /// A container to act on; waits for others that do.
    pub fn lock(&self, id: &ContainerId) -> Result<(Container, Record), StateError> {
        let dir = self.0.join(id.as_str());
        let lock = match OpenOptions::new().read(true).write(true).custom_flags(libc_nofollow()).open(dir.join(LOCK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::Missing(id.clone())),
            other => other.map_err(host(&dir))?,
        };
        lock.lock().map_err(host(&dir))?;
        let container = Container { id: id.clone(), dir, lock };
        let record = self.read(id)?;
        Ok((container, record))
    }

    /// What a killed creation may have left: a directory that has no record and that nobody holds. Removes it.
    pub fn remove_debris(&self, id: &ContainerId) -> Result<(), StateError> {
        let dir = self.0.join(id.as_str());
        if !dir.exists() {
            return Ok(());
        }
        match Container::lock(id, dir)? {
            Some(container) if !container.has_record() => container.remove(),
            _ => Ok(()),
        }
    }

    /// Removes containers whose id starts with `prefix`, whose sentry is dead and that nobody holds: a killed runsc could not do it.
    pub fn sweep(&self, prefix: &str) -> Result<(), StateError> {
        for entry in fs::read_dir(&self.0).map_err(host(&self.0))? {
            let name = entry.map_err(host(&self.0))?.file_name();
            let Some(id) = name.to_str().filter(|name| name.starts_with(prefix)).and_then(|name| name.parse::<ContainerId>().ok()) else {
                continue;
            };
            let dead = match self.read(&id) {
                Ok(record) => !record.sentry.is_alive(),
                Err(StateError::Missing(_)) => true,
                Err(_) => false,
            };
            // Others may sweep at the same time, or have just made the directory: then there is nothing to do.
            if dead && let Ok(Some(container)) = Container::lock(&id, self.0.join(id.as_str())) {
                let _ = container.remove();
            }
        }
        Ok(())
    }

    /// A container's record, without waiting.
    pub fn read(&self, id: &ContainerId) -> Result<Record, StateError> {
        let path = self.0.join(id.as_str()).join(RECORD);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StateError::Missing(id.clone())),
            other => other.map_err(host(&path))?,
        };
        let mut text = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut text).map_err(host(&path))?;
        serde_json::from_slice(&text).map_err(|source| StateError::Malformed { path, source })
    }

    /// All ids with a record, sorted.
    pub fn list(&self) -> Result<Vec<ContainerId>, StateError> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(host(&self.0))? {
            let name = entry.map_err(host(&self.0))?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<ContainerId>().ok()) else { continue };
            if self.0.join(id.as_str()).join(RECORD).exists() {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }

    pub fn directory(&self, id: &ContainerId) -> PathBuf {
        self.0.join(id.as_str())
    }
}

/// A container whose lock is held.
#[derive(Debug)]
pub struct Container {
    id: ContainerId,
    dir: PathBuf,
    lock: File,
}

impl Container {
    fn lock(id: &ContainerId, dir: PathBuf) -> Result<Option<Self>, StateError> {
        let path = dir.join(LOCK);
        let lock =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc_nofollow()).open(&path);
        let lock = lock.map_err(host(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { id: id.clone(), dir, lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(host(&path)(error)),
        }
    }

    /// Whether the lock is that of the directory that has the name now, rather than of one that was removed meanwhile.
    fn is_current(&self) -> bool {
        let ours = self.lock.metadata().map(|meta| (meta.dev(), meta.ino()));
        let named = fs::symlink_metadata(self.dir.join(LOCK)).map(|meta| (meta.dev(), meta.ino()));
        matches!((ours, named), (Ok(ours), Ok(named)) if ours == named)
    }

    fn has_record(&self) -> bool {
        self.dir.join(RECORD).exists()
    }

    /// Removes what an earlier, killed creation left, except for the lock.
    fn clear(&self) -> Result<(), StateError> {
        for entry in fs::read_dir(&self.dir).map_err(host(&self.dir))? {
            let entry = entry.map_err(host(&self.dir))?;
            if entry.file_name() != LOCK {
                fs::remove_file(entry.path()).map_err(host(&entry.path()))?;
            }
        }
        Ok(())
    }

    pub fn id(&self) -> &ContainerId {
        &self.id
    }

    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Writes the record, at once and whole.
    pub fn record(&self, record: &Record) -> Result<(), StateError> {
        let (new, path) = (self.dir.join("state.json.new"), self.dir.join(RECORD));
        let text = serde_json::to_vec(record).map_err(|source| StateError::Malformed { path: path.clone(), source })?;
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            fs::rename(&new, &path)
        };
        write().map_err(host(&path))
    }

    /// Forgets the container.
    pub fn remove(self) -> Result<(), StateError> {
        // The record first: without it the rest is debris.
        match fs::remove_file(self.dir.join(RECORD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(host(&self.dir)(error)),
            _ => {}
        }
        fs::remove_dir_all(&self.dir).map_err(host(&self.dir))
    }
}

fn libc_nofollow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits() as i32
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::{Record, StateError, StateRoot};
    use crate::{ContainerId, ProcessId};

    struct Temp(PathBuf);
    impl Temp {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("runsc-state-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }
    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn record(id: &str) -> Record {
        Record {
            oci_version: "1.2.0".into(),
            id: id.into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            annotations: Default::default(),
            created: "2026-01-01T00:00:00Z".into(),
            owner: String::new(),
            sentry: ProcessId { pid: 1, start_time: 0 },
            gofer: None,
            netstack: None,
            zygote: None,
        }
    }

    #[test]
    fn an_id_is_taken_once() {
        let temp = Temp::new("once");
        let root = StateRoot::open(&temp.0.join("state")).unwrap();
        let id: ContainerId = "c1".parse().unwrap();
        let container = root.create(&id).unwrap();
        assert!(matches!(root.create(&id), Err(StateError::InUse(_))), "while it is created");
        assert!(matches!(root.read(&id), Err(StateError::Missing(_))));
        assert_eq!(root.list().unwrap(), []);
        container.record(&record("c1")).unwrap();
        drop(container);
        assert!(matches!(root.create(&id), Err(StateError::InUse(_))), "while it exists");
        assert_eq!(root.list().unwrap(), std::slice::from_ref(&id));
        let (container, read) = root.lock(&id).unwrap();
        assert_eq!(read, record("c1"));
        container.remove().unwrap();
        assert!(matches!(root.lock(&id), Err(StateError::Missing(_))));
    }

    #[test]
    fn a_killed_creation_does_not_block_its_id() {
        let temp = Temp::new("debris");
        let root = StateRoot::open(&temp.0).unwrap();
        let id: ContainerId = "c1".parse().unwrap();
        let container = root.create(&id).unwrap();
        fs::write(container.directory().join("control.sock"), "").unwrap();
        drop(container);
        assert!(root.create(&id).is_ok());
        root.remove_debris(&id).unwrap();
        assert!(!root.directory(&id).exists());
    }

    #[test]
    fn sweeping_does_not_disturb_creation() {
        let temp = Temp::new("sweep");
        let root = StateRoot::open(&temp.0).unwrap();
        let sweeper = root.clone();
        let sweep = std::thread::spawn(move || (0..400).for_each(|_| sweeper.sweep("do-").unwrap_or_default()));
        for n in 0..100 {
            let id: ContainerId = format!("do-{n}").parse().unwrap();
            let container = root.create(&id).unwrap();
            container.record(&record("do")).unwrap();
            container.remove().unwrap();
        }
        sweep.join().unwrap();
    }

    #[test]
    fn an_open_state_directory_is_refused() {
        let temp = Temp::new("open");
        fs::set_permissions(&temp.0, Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(StateRoot::open(&temp.0), Err(StateError::NotPrivate { .. })));
    }
}
