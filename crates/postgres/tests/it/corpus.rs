//! Every statement of the product, against the newest schema.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::path::{Path, PathBuf};

use source::{Found, statements_of};

mod source;

/// Where statements are put together at run time, and the test that asks the same of all of them.
const BUILT: [(&str, &str); 2] = [
    ("token/src/list.rs", "token::list::tests::every_list_has_built_in_types_only"),
    ("pool/src/list.rs", "pool::list::tests::every_list_has_built_in_types_only"),
];

/// Behind a transaction pooler a type that is not built in makes the driver ask for it, on a server
/// connection that may be another one by then.
///
/// Fails when somebody writes a statement with a parameter or a column of such a type, one that the
/// schema does not know, or one whose text this test cannot read.
#[tokio::test]
async fn every_statement_has_built_in_types_only() {
    let database = forebay_testkit::database().await;
    let connection = database.connect().await;
    let (mut checked, mut built, mut problems) = (0, Vec::new(), Vec::new());
    for file in sources() {
        let code = std::fs::read_to_string(&file).expect("a readable source");
        let name = file.strip_prefix(crates()).expect("below crates").display().to_string();
        for statement in statements_of(&code) {
            match statement {
                Found::Text(text) => {
                    checked += 1;
                    match connection.custom_types(&text).await {
                        Ok(custom) => problems.extend(
                            custom.iter().map(|custom| format!("{name}: {custom} in {text}")),
                        ),
                        Err(error) => problems.push(format!("{name}: {error:?} in {text}")),
                    }
                }
                Found::Built => built.push(name.clone()),
                Found::Unreadable(call) => problems.push(format!("{name}: cannot read {call}")),
            }
        }
    }
    println!("{checked} statements and {} builders of statements", built.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    built.sort();
    let mut expected = BUILT.map(|(file, _)| file.to_owned());
    expected.sort();
    assert_eq!(built, expected, "each needs a test of its own, named in BUILT");
    assert!(checked >= 20, "{checked} statements were found, where have the others gone?");
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates").to_owned()
}

/// The sources of all packages, without their tests and without what only measures.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<_> = entries(&crates())
        .filter(|package| !package.ends_with("bench"))
        .map(|package| package.join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.extend((!path.ends_with("tests")).then_some(path));
            } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("tests.rs")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("a readable folder").path())
}
