//! A copy of the checkout in which mechanisms are switched off, with a target directory of its own.
//!
//! The copy stays, so that the next run builds only what has changed. A run that dies in the middle
//! leaves a mechanism switched off there; the next one starts by making the copy whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::proof::{Book, Proof};
use crate::workspace::Workspace;
use crate::{cargo, listing};

/// The copy. Only one program works on it at a time.
pub(super) struct Scratch {
    copy: Workspace,
    target: PathBuf,
    _lock: File,
}

/// What stood in the files that a proof has changed. Dropping it without [`Off::restore`] leaves
/// them as they are, for the next run to mend.
#[must_use]
pub(super) struct Off(Vec<(PathBuf, String)>);

impl Scratch {
    /// The copy, brought up to date. It is kept in the target directory of the checkout.
    ///
    /// # Errors
    ///
    /// When another run has it, or a file cannot be copied.
    pub(super) fn open(workspace: &Workspace) -> anyhow::Result<Self> {
        let programs = cargo::bin_dir()?;
        let target = programs.parent().context("programs are built into a folder of the target")?;
        Self::open_in(&target.join("prove"), workspace)
    }

    fn open_in(dir: &Path, workspace: &Workspace) -> anyhow::Result<Self> {
        let root = dir.join("workspace");
        std::fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        let lock = File::create(dir.join("lock")).context("create the lock of the copy")?;
        if lock.try_lock().is_err() {
            bail!("another `cargo xtask prove` is running in this checkout");
        }
        let scratch = Self { copy: Workspace { root }, target: dir.join("target"), _lock: lock };
        scratch.bring_up_to_date(&workspace.root)?;
        Ok(scratch)
    }

    /// The folder of a crate in the copy.
    pub(super) fn folder(&self, book: &Book) -> PathBuf {
        self.copy.root.join(&book.folder)
    }

    /// Cargo, run in the copy.
    pub(super) fn cargo(&self) -> Command {
        let mut command = cargo::command(&self.copy);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// Where cargo puts the programs that it builds in the copy.
    pub(super) fn bin_dir(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// Switches off the mechanism of a proof.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written, or its text is not there once.
    pub(super) fn switch_off(&self, book: &Book, proof: &Proof) -> anyhow::Result<Off> {
        let mut off = Off(Vec::new());
        for edit in &proof.edits {
            let path = book.path_of(&edit.file).context("a file outside of the checkout")?;
            let path = self.copy.root.join(path);
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("read {}", edit.file))?;
            let places = text.matches(&edit.find).count();
            ensure!(places == 1, "{} places in {} instead of one", places, edit.file);
            std::fs::write(&path, text.replace(&edit.find, &edit.replace))
                .with_context(|| format!("write {}", edit.file))?;
            off.0.push((path, text));
        }
        Ok(off)
    }

    /// Copies what differs and removes what is gone. A file that is the same keeps its time, so
    /// that nothing is built again because of it.
    fn bring_up_to_date(&self, from: &Path) -> anyhow::Result<()> {
        let wanted: BTreeSet<String> = listing::files(from)?.into_iter().collect();
        for path in &wanted {
            let (source, copy) = (from.join(path), self.copy.root.join(path));
            let text = std::fs::read(&source).with_context(|| format!("read {path}"))?;
            if std::fs::read(&copy).is_ok_and(|there| there == text) {
                continue;
            }
            let folder = copy.parent().context("a file is in a folder")?;
            std::fs::create_dir_all(folder).with_context(|| format!("make room for {path}"))?;
            std::fs::write(&copy, text).with_context(|| format!("copy {path}"))?;
        }
        for path in listing::files(&self.copy.root)? {
            if !wanted.contains(&path) {
                std::fs::remove_file(self.copy.root.join(&path))
                    .with_context(|| format!("remove {path}"))?;
            }
        }
        Ok(())
    }
}

impl Off {
    /// Puts everything back.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(super) fn restore(self) -> anyhow::Result<()> {
        // Backwards: two edits of one file are undone in order.
        for (path, text) in self.0.into_iter().rev() {
            std::fs::write(&path, text).with_context(|| format!("restore {}", path.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::proof::parse;
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Fails when the checkout is touched, when a run meets what another one has left, and when a
    /// file that is the same is written again, which would have everything built anew.
    #[test]
    fn the_copy_is_whole_at_every_start_and_the_checkout_never_touched() {
        let (house, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let workspace = Workspace { root: house.path().to_path_buf() };
        write(house.path(), "crates/a/src/lib.rs", "on();\nrest();\n");
        write(house.path(), "crates/b/src/lib.rs", "also_on();\n");
        let text = "[[proof]]\nguarantee = \"g\"\ntest = \"t\"\ntarget = \"lib\"\nmechanism = \"m\"\n\
                    file = \"src/lib.rs\"\nfind = \"on();\"\nreplace = \"off();\"\nsays = \"s\"\n\
                    also = [{ file = \"../b/src/lib.rs\", find = \"also_on\", replace = \"off\" }]\n";
        let proofs = parse(text).unwrap();
        let book = Book { folder: "crates/a".to_owned(), proofs };
        let [proof] = book.proofs.as_slice() else { panic!("one proof") };

        let scratch = Scratch::open_in(dir.path(), &workspace).unwrap();
        assert!(Scratch::open_in(dir.path(), &workspace).is_err(), "one run at a time");
        let file = scratch.folder(&book).join("src/lib.rs");
        let other = scratch.copy.root.join("crates/b/src/lib.rs");
        let both = || [&file, &other].map(|file| std::fs::read_to_string(file).unwrap());
        let off = scratch.switch_off(&book, proof).unwrap();
        assert_eq!(both(), ["off();\nrest();\n", "off();\n"]);
        off.restore().unwrap();
        assert_eq!(both(), ["on();\nrest();\n", "also_on();\n"]);

        drop(scratch.switch_off(&book, proof).unwrap());
        write(&scratch.copy.root, "crates/a/src/gone.rs", "");
        drop(scratch);
        write(house.path(), "crates/b/src/lib.rs", "also_on(); on();\n");
        let scratch = Scratch::open_in(dir.path(), &workspace).unwrap();
        assert_eq!(both(), ["on();\nrest();\n", "also_on(); on();\n"]);
        assert!(!file.with_file_name("gone.rs").exists());
        let time = || std::fs::metadata(&file).unwrap().modified().unwrap();
        let before = time();
        drop(scratch);
        drop(Scratch::open_in(dir.path(), &workspace).unwrap());
        assert_eq!(time(), before, "what is the same is left alone");
        let found = std::fs::read_to_string(house.path().join("crates/a/src/lib.rs")).unwrap();
        assert_eq!(found, "on();\nrest();\n");
    }
}
