//! docs/guarantees.md: what callers may rely on, the test that holds it, and what the test would
//! miss. Made of the proofs of the crates.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::page;
use crate::prove::proof::Book;
use crate::workspace::Workspace;

/// Where the page is kept.
const PAGE: &str = "docs/guarantees.md";

/// The words before the tables.
const INTRODUCTION: &str = "\
# Guarantees

A test that passes says little until it was seen to fail. Each row below is a guarantee, the test
that holds it, and the mechanism without which that test fails. `cargo xtask prove` switches the
mechanisms off, one after the other in a copy of the checkout, and demands of each test that it
fails and says why. Made of the `tests/proofs.toml` of each crate by `cargo xtask codegen`, so
change it there.
";

/// Writes the page, or with `check` tells whether it is stale.
///
/// # Errors
///
/// When a file of proofs cannot be read, or the page cannot be written.
pub(crate) fn write_page(workspace: &Workspace, check: bool) -> anyhow::Result<ExitCode> {
    page::write(workspace, PAGE, &text(&Book::all(&workspace.root)?), check)
}

fn text(books: &[Book]) -> String {
    let mut text = INTRODUCTION.to_owned();
    for book in books {
        let name = book.name();
        // Writing to a string cannot fail.
        let _infallible = write!(
            text,
            "\n## {name}\n\nHow to repeat: `cargo xtask prove -p {name}`\n\n\
             | guarantee | test | mechanism that is switched off |\n|---|---|---|\n"
        );
        for proof in &book.proofs {
            let cells = [&proof.guarantee, &proof.mechanism].map(|cell| page::cell(cell));
            let [guarantee, mechanism] = cells;
            let _infallible = writeln!(text, "| {guarantee} | `{}` | {mechanism} |", proof.test);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::proof::parse;

    #[test]
    fn every_crate_has_a_table_of_its_own() {
        let book = |folder: &str, guarantee: &str| Book {
            folder: format!("crates/{folder}"),
            proofs: parse(&format!(
                "[[proof]]\nguarantee = \"{guarantee}\"\ntest = \"a::b\"\ntarget = \"it\"\n\
                 mechanism = \"x | y\"\nfile = \"src/a.rs\"\nfind = \"1\"\nreplace = \"2\"\n\
                 says = \"no\"\n"
            ))
            .expect("proofs"),
        };
        let text = text(&[book("cache", "one"), book("redis", "two")]);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains('`')).skip(1).collect();
        let made = |folder: &str| format!("How to repeat: `cargo xtask prove -p {folder}`");
        let expected = [
            made("cache"),
            "| one | `a::b` | x \\| y |".to_owned(),
            made("redis"),
            "| two | `a::b` | x \\| y |".to_owned(),
        ];
        assert!(rows.ends_with(&expected.each_ref().map(String::as_str)), "{rows:?}");
    }
}
