//! A proof names a test that exists and changes text that is there once, or it proves nothing. That
//! it proves something is for `cargo xtask prove` to show.

use super::Finding;
use super::tree::{File, Tree};
use crate::prove::proof::{self, Book, Proof, Target};

const RULE: &str = "proof";

/// Every `tests/proofs.toml`.
pub(super) fn can_run(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        let Some(folder) = proof::folder_of(&file.path) else {
            continue;
        };
        match proof::parse(&file.text) {
            Ok(proofs) => {
                let book = Book { folder: folder.to_owned(), proofs };
                for proof in &book.proofs {
                    for todo in faults(tree, &book, proof) {
                        findings.push(Finding::new(&file.path, proof.line, RULE, todo));
                    }
                }
            }
            Err(error) => {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                findings.push(Finding::new(&file.path, 1, RULE, format!("mend it: {first}")));
            }
        }
    }
}

fn faults(tree: &Tree, book: &Book, proof: &Proof) -> Vec<String> {
    let mut todo = Vec::new();
    if !is_defined(tree, book, proof) {
        let target = proof.target.name();
        todo.push(format!("name a test of `{target}`, `{}` is none", proof.test));
    }
    for started in &proof.starts {
        if tree.get(&format!("crates/{started}/src/main.rs")).is_none() {
            todo.push(format!("start a program that exists, `{started}` does not"));
        }
    }
    if proof.says.is_empty() && !proof.hangs {
        todo.push("say a part of what the failing test prints".to_owned());
    }
    for edit in &proof.edits {
        let file = book.path_of(&edit.file).and_then(|path| tree.get(&path));
        let Some(file) = file else {
            todo.push(format!("name a file that exists, `{}` does not", edit.file));
            continue;
        };
        if edit.find == edit.replace {
            todo.push("replace the text by another one".to_owned());
        }
        match file.text.matches(&edit.find).count() {
            1 => {}
            0 => todo.push(format!("find text that is in `{}`, this is not", edit.file)),
            n => todo.push(format!("find text that is in `{}` once, not {n} times", edit.file)),
        }
    }
    todo
}

/// Whether the test's function is where its path says.
fn is_defined(tree: &Tree, book: &Book, proof: &Proof) -> bool {
    let mut path: Vec<&str> = proof.test.split("::").collect();
    let Some(name) = path.pop() else {
        return false;
    };
    let definition = format!("fn {name}(");
    let defines = |file: &File| file.text.contains(&definition);
    let (root, main) = match proof.target {
        Target::It => (format!("{}/tests/it", book.folder), "main"),
        Target::Alone => (format!("{}/tests/alone", book.folder), "main"),
        Target::History => (format!("{}/tests/history", book.folder), "main"),
        Target::Lib => (format!("{}/src", book.folder), "lib"),
    };
    let file = |modules: &[&str]| {
        let module = if modules.is_empty() { main.to_owned() } else { modules.join("/") };
        tree.get(&format!("{root}/{module}.rs"))
    };
    // The last module has a file of its own, or is the tests inside of the one above.
    file(&path).is_some_and(defines)
        || path.split_last().is_some_and(|(last, above)| {
            file(above)
                .is_some_and(|file| defines(file) && file.text.contains(&format!("mod {last} {{")))
        })
}
