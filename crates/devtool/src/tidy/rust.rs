//! Rules about Rust files: documentation, length, names, unfinished work and thin edges.

use super::Finding;
use super::manifest::{Manifest, Root};
use super::tree::{File, Tree};

/// Longer files hold more than one concept.
const LINES_MAX: usize = 400;

/// A binary only wires: everything that decides something lives in a library, where it is tested.
const MAIN_LINES_MAX: usize = 60;

/// Where notes to oneself end up besides Rust.
const CONFIGURATION: [&str; 6] = [".sql", ".proto", ".toml", ".yaml", ".yml", ".sh"];

/// Marks of unfinished work; the first three are Rust. Written in pieces, because this file is checked as well.
const UNFINISHED: [(&str, &str); 5] = [
    (concat!("to", "do!("), "write the body"),
    (concat!("unimplemented", "!("), "write the body"),
    (concat!("#[", "ignore"), "run the test always, or delete it"),
    (concat!("FIX", "ME"), "mend it now, or describe the limit as a fact"),
    (concat!("TO", "DO"), "do it now, or describe the limit as a fact"),
];

/// The path by which the transport is named. In pieces for the same reason.
const TRANSPORT: &str = concat!("tonic", "::");

/// Rules that hold for every Rust file.
pub(super) fn files(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        if !file.text.starts_with("//!") {
            let todo = "open the file with a `//!` line that says what it is for";
            findings.push(Finding::new(&file.path, 1, "module-doc", todo));
        }
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            let todo = format!("split it, {lines} lines are more than {LINES_MAX}");
            findings.push(Finding::new(&file.path, LINES_MAX + 1, "file-length", todo));
        }
        if file.name() == "mod.rs" {
            let todo = "name the file after its module, beside the folder";
            findings.push(Finding::new(&file.path, 1, "mod-rs", todo));
        }
        unfinished(file, &UNFINISHED, findings);
    }
    let configured = |file: &&File| CONFIGURATION.iter().any(|suffix| file.path.ends_with(suffix));
    for file in tree.files.iter().filter(configured) {
        unfinished(file, &UNFINISHED[3..], findings);
    }
}

/// `main.rs` of a binary is short.
pub(super) fn thin_binaries(
    tree: &Tree,
    root: &Root,
    members: &[Manifest],
    findings: &mut Vec<Finding>,
) {
    for file in sources_of(tree, root, members, "binary").filter(|file| file.name() == "main.rs") {
        let lines = file.text.lines().count();
        if lines > MAIN_LINES_MAX {
            let todo = format!(
                "move what decides something into a library, {lines} lines are more than {MAIN_LINES_MAX}"
            );
            findings.push(Finding::new(&file.path, MAIN_LINES_MAX + 1, "thin-binary", todo));
        }
    }
}

/// A service knows its transport in one place, so that its logic runs without one.
pub(super) fn transport(
    tree: &Tree,
    root: &Root,
    members: &[Manifest],
    findings: &mut Vec<Finding>,
) {
    for file in sources_of(tree, root, members, "service") {
        if file.name() == "grpc.rs" || file.path.contains("/grpc/") {
            continue;
        }
        for (offset, _) in file.text.match_indices(TRANSPORT) {
            let todo = "move what touches the transport to grpc.rs";
            findings.push(Finding::new(&file.path, file.line_at(offset), "transport", todo));
        }
    }
}

/// Files below `src/` of the crates of one layer.
fn sources_of<'a>(
    tree: &'a Tree,
    root: &'a Root,
    members: &'a [Manifest],
    layer: &'a str,
) -> impl Iterator<Item = &'a File> {
    let folders: Vec<String> = members
        .iter()
        .filter(|member| {
            let index = root.layer_of(&member.folder);
            index.is_some_and(|index| root.layers[index].name.text == layer)
        })
        .filter_map(|member| Some(format!("{}src/", member.path.strip_suffix("Cargo.toml")?)))
        .collect();
    tree.rust().filter(move |file| folders.iter().any(|folder| file.path.starts_with(folder)))
}

fn unfinished(file: &File, marks: &[(&str, &'static str)], findings: &mut Vec<Finding>) {
    for (mark, todo) in marks {
        for (offset, _) in file.text.match_indices(mark) {
            // `TO_DO_LIST` or `my_todo!(` are other words.
            let before = file.text[..offset].chars().next_back();
            let after = file.text[offset + mark.len()..].chars().next();
            let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            let goes_on = part_of_word(mark.chars().next_back()) && part_of_word(after);
            if !part_of_word(before) && !goes_on {
                findings.push(Finding::new(&file.path, file.line_at(offset), "unfinished", *todo));
            }
        }
    }
}
