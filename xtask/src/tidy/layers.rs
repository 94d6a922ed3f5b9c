//! A crate links only crates of a lower layer; some pairs never meet at all.

use super::manifest::Manifest;
use super::{Offence, Tree};
use std::collections::{BTreeMap, BTreeSet};

/// Registry crates that one place alone may name.
const CONFINED: &[(&str, &str)] = &[("tokio", "shim"), ("smoltcp", "netstack-stack"), ("bincode", "sentry-ipc")];

/// What must not be linked, at any depth: the crate, and a test on (name, folder, layer) of what it links.
type Forbidden = fn(&Manifest) -> bool;
const NEVER: &[(&str, &str, Forbidden)] = &[
    ("sentry", "the gofer's or the network's inside", |m| m.name == "gofer-server" || m.name == "netstack-stack"),
    ("gofer", "the sentry's layers 3 to 6", inner_sentry),
    ("netstack", "the sentry's layers 3 to 6", inner_sentry),
];

fn inner_sentry(m: &Manifest) -> bool {
    m.folder.starts_with("sentry/") && (3..=6).contains(&m.layer)
}

pub fn check(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    let by_name: BTreeMap<&str, &Manifest> = tree.manifests.iter().map(|m| (m.name.as_str(), m)).collect();
    for manifest in &tree.manifests {
        if manifest.name != manifest.folder.replace('/', "-") {
            offences.push(Offence(format!("{}: its name is not its folder with dashes ({})", manifest.name, manifest.folder)));
        }
        for link in manifest.links.iter().filter_map(|name| by_name.get(name.as_str())) {
            if link.layer >= manifest.layer && !same_layer_allowed(manifest, link) {
                let (a, b) = (manifest.layer, link.layer);
                offences.push(Offence(format!("{} (layer {a}) links {} (layer {b})", manifest.name, link.name)));
            }
        }
        for (name, home) in CONFINED {
            if manifest.third_party.iter().any(|d| d == name) && manifest.name != *home && !manifest.name.starts_with(&format!("{home}-")) {
                offences.push(Offence(format!("{}: {name} belongs in {home} alone", manifest.name)));
            }
        }
    }
    for (name, what, forbidden) in NEVER {
        for linked in closure(&by_name, name) {
            if forbidden(by_name[linked]) {
                offences.push(Offence(format!("{name} links {linked}: {what}")));
            }
        }
    }
    offences
}

/// Within a family (platform and its platforms, one process's own crates below it), and the roles in the one binary.
fn same_layer_allowed(from: &Manifest, to: &Manifest) -> bool {
    let wiring = from.name == "runsc" && ["sentry", "gofer", "netstack"].contains(&to.name.as_str());
    from.layer == to.layer && (wiring || family(&from.folder) == family(&to.folder))
}

fn family(folder: &str) -> &str {
    match folder.strip_prefix("sentry/") {
        Some(below) => &folder[.."sentry/".len() + below.find('/').unwrap_or(below.len())],
        None => folder.split('/').next().unwrap_or(folder),
    }
}

fn closure<'a>(by_name: &BTreeMap<&'a str, &'a Manifest>, name: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = vec![name];
    while let Some(manifest) = open.pop().and_then(|name| by_name.get(name)) {
        for link in &manifest.links {
            if by_name.contains_key(link.as_str()) && seen.insert(link.as_str()) {
                open.push(link);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::family;

    #[test]
    fn families() {
        assert_eq!(family("sentry/platform/systrap"), "sentry/platform");
        assert_eq!(family("sentry/fs/tmpfs"), "sentry/fs");
        assert_eq!(family("sentry/mm"), "sentry/mm");
        assert_eq!(family("gofer/server"), "gofer");
    }
}
