//! What belongs to one machine or one network stays out of the repository: a reader elsewhere
//! cannot use it, and it tells strangers about where the author works.

use super::Finding;
use super::tree::{File, Tree};

/// Folders under which a path is somebody's own.
const MACHINE_FOLDERS: [&str; 6] = ["tmp", "work", "home", "root", "Users", "workspace"];

/// Hosts that package managers ask. Which one is asked is a setting of the machine, never ours.
/// Labels that join with dots, because this file is checked as well.
const REGISTRIES: [[&str; 3]; 9] = [
    ["registry", "npmjs", "org"],
    ["registry", "yarnpkg", "com"],
    ["files", "pythonhosted", "org"],
    ["static", "crates", "io"],
    ["index", "crates", "io"],
    ["deb", "debian", "org"],
    ["archive", "ubuntu", "com"],
    ["security", "ubuntu", "com"],
    ["proxy", "golang", "org"],
];

/// Suffixes of names that only a private network resolves.
const PRIVATE_SUFFIXES: [&str; 5] = [".internal", ".local", ".lan", ".corp", ".intranet"];

/// Private names that mean the same thing everywhere.
const WELL_KNOWN: [&str; 2] = ["host.docker.internal", ".cluster.local"];

/// Machine paths and registry hosts in any text file.
pub(super) fn places(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| !file.path.contains("/src/gen/")) {
        machine_paths(file, findings);
        registries(file, findings);
        private_hosts(file, findings);
    }
}

fn machine_paths(file: &File, findings: &mut Vec<Finding>) {
    for folder in MACHINE_FOLDERS {
        let mark = format!("/{folder}/");
        for (offset, _) in file.text.match_indices(&mark) {
            // Only an absolute path: `src/tmp/x` and a path behind a host are something else.
            let before = file.text[..offset].chars().next_back();
            let relative = before.is_some_and(|c| c.is_alphanumeric() || "._-~}>)*$/".contains(c));
            let after = file.text[offset + mark.len()..].chars().next();
            let named = after.is_some_and(|c| c.is_alphanumeric() || "._-".contains(c));
            if !relative && named {
                let todo = format!("say it without `{mark}`, which exists on one machine");
                findings.push(Finding::new(&file.path, file.line_at(offset), "machine-path", todo));
            }
        }
    }
}

fn registries(file: &File, findings: &mut Vec<Finding>) {
    for labels in REGISTRIES {
        let host = labels.join(".");
        for (offset, _) in file.text.match_indices(&host) {
            let todo = format!("leave `{host}` to the settings of the package manager");
            findings.push(Finding::new(&file.path, file.line_at(offset), "registry-host", todo));
        }
    }
}

fn private_hosts(file: &File, findings: &mut Vec<Finding>) {
    for (offset, mark) in file.text.match_indices("://") {
        let rest = &file.text[offset + mark.len()..];
        let authority = rest
            .split(|c: char| c == '/' || c == '"' || c == '`' || c.is_whitespace())
            .next()
            .unwrap_or_default();
        let host_and_port = authority.rsplit('@').next().unwrap_or_default();
        let host = host_and_port.split(':').next().unwrap_or_default();
        let private = PRIVATE_SUFFIXES.iter().any(|suffix| host.ends_with(suffix));
        if private && !WELL_KNOWN.iter().any(|known| host.ends_with(known)) {
            let todo = format!("replace `{host}`, which one network knows");
            findings.push(Finding::new(&file.path, file.line_at(offset), "private-host", todo));
        }
    }
}
