//! The workspace's manifests, as `cargo metadata` tells them.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;

/// One crate of the workspace.
pub struct Manifest {
    pub name: String,
    /// Below the root, without a slash at the end.
    pub folder: String,
    pub layer: u64,
    /// Whether its manifest allows unsafe code.
    pub allows_unsafe: bool,
    /// Workspace crates that it links, without those of its tests.
    pub links: Vec<String>,
    /// Crates of the registry that it names itself.
    pub third_party: Vec<String>,
}

/// Reads all of them.
pub fn read_all(root: &Path) -> Result<Vec<Manifest>> {
    let mut cargo = crate::process::command("cargo", &["metadata", "--format-version", "1", "--no-deps"]);
    crate::process::show(&cargo);
    let output = cargo.output().context("starting cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let value: Value = serde_json::from_slice(&output.stdout).context("reading cargo's metadata")?;
    let packages = value["packages"].as_array().context("cargo's metadata has no packages")?;
    packages.iter().map(|package| read(root, package)).collect()
}

fn read(root: &Path, package: &Value) -> Result<Manifest> {
    let name = package["name"].as_str().context("a package has no name")?.to_string();
    let manifest = Path::new(package["manifest_path"].as_str().context("a package has no manifest")?);
    let folder = manifest.parent().and_then(|p| p.strip_prefix(root).ok()).with_context(|| format!("{name} lies outside the tree"))?;
    let sandbox = &package["metadata"]["sandbox"];
    let mut links = Vec::new();
    let mut third_party = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let Some(dependency_name) = dependency["name"].as_str() else { continue };
        if dependency["path"].is_null() {
            third_party.push(dependency_name.to_string());
        } else if dependency["kind"].as_str() != Some("dev") {
            links.push(dependency_name.to_string());
        }
    }
    Ok(Manifest {
        layer: sandbox["layer"].as_u64().with_context(|| format!("{name}: no [package.metadata.sandbox] layer"))?,
        allows_unsafe: sandbox["unsafe"].as_bool().with_context(|| format!("{name}: no [package.metadata.sandbox] unsafe"))?,
        folder: folder.to_string_lossy().into_owned(),
        name,
        links,
        third_party,
    })
}
