//! Where things lie: the work tree, cargo's output folder and `target/dist`.

use std::path::{Path, PathBuf};

/// The work tree's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the root").to_path_buf()
}

/// Cargo's output folder.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where `cargo xtask build` leaves the binaries.
pub fn dist() -> PathBuf {
    root().join("target/dist")
}
