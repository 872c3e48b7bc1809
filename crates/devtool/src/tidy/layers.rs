//! Crates live in layers and third-party crates have owners; both are data in the root manifest.

use super::Finding;
use super::manifest::{Manifest, PREFIX, Root};

/// The root manifest, which holds both tables.
const ROOT: &str = "Cargo.toml";

/// Every crate is in exactly one layer, and every layer names crates that exist.
pub(super) fn membership(root: &Root, members: &[Manifest], findings: &mut Vec<Finding>) {
    for member in members {
        let holding: Vec<&str> = root
            .layers
            .iter()
            .flat_map(|layer| layer.crates.iter().map(move |name| (layer, name)))
            .filter(|(_, name)| name.text == member.folder)
            .map(|(layer, _)| layer.name.text.as_str())
            .collect();
        let todo = match holding.as_slice() {
            [_] => continue,
            [] => format!("add `{}` to the crates of one layer in {ROOT}", member.folder),
            several => format!(
                "keep `{}` in one layer only, it is in {}",
                member.folder,
                several.join(" and ")
            ),
        };
        findings.push(Finding::new(&member.path, member.package.line, "layer", todo));
    }
    for name in root.layers.iter().flat_map(|layer| &layer.crates) {
        if !members.iter().any(|member| member.folder == name.text) {
            let todo = format!("remove `{}`, no such crate exists", name.text);
            findings.push(Finding::new(ROOT, name.line, "layer", todo));
        }
    }
}

/// Dependencies go strictly down: never up, never to a sibling.
pub(super) fn edges(root: &Root, members: &[Manifest], findings: &mut Vec<Finding>) {
    for member in members {
        // A crate outside the layers has a finding of its own.
        let Some(own) = root.layer_of(&member.folder) else {
            continue;
        };
        for dependency in member.dependencies.iter().filter(|dependency| !dependency.dev) {
            let Some(folder) = dependency.package.strip_prefix(PREFIX) else {
                continue;
            };
            let Some(theirs) = root.layer_of(folder) else {
                continue;
            };
            let direction = match theirs.cmp(&own) {
                std::cmp::Ordering::Less => continue,
                std::cmp::Ordering::Equal => "is a sibling in",
                std::cmp::Ordering::Greater => "is above it, in",
            };
            let todo = format!(
                "drop the dependency on `{folder}`, which {direction} layer {}; `{}` is in layer {}",
                root.layers[theirs].name.text, member.folder, root.layers[own].name.text
            );
            findings.push(Finding::new(&member.path, dependency.line, "layer-edge", todo));
        }
    }
}

/// A third-party crate with owners is named by them alone.
pub(super) fn owners(root: &Root, members: &[Manifest], findings: &mut Vec<Finding>) {
    for owner in &root.owners {
        for by in &owner.by {
            let known = members.iter().any(|member| member.folder == by.text)
                || root.layers.iter().any(|layer| layer.name.text == by.text);
            if !known {
                let todo = format!("remove `{}`, it is neither a crate nor a layer", by.text);
                findings.push(Finding::new(ROOT, by.line, "owner", todo));
            }
        }
    }
    for member in members {
        let layer = root.layer_of(&member.folder).map(|index| &root.layers[index].name.text);
        for dependency in member.dependencies.iter().filter(|dependency| !dependency.dev) {
            let Some(owner) = root.owners.iter().find(|owner| owner.package == dependency.package)
            else {
                continue;
            };
            let allowed = |by: &str| by == member.folder || Some(by) == layer.map(String::as_str);
            if !owner.by.iter().any(|by| allowed(&by.text)) {
                let by: Vec<&str> = owner.by.iter().map(|by| by.text.as_str()).collect();
                let todo =
                    format!("use `{}` through its owners only ({})", owner.package, by.join(", "));
                findings.push(Finding::new(&member.path, dependency.line, "owner", todo));
            }
        }
    }
}
