//! Each rule is broken once in a small house built for the purpose, and must be reported there
//! and nowhere else; the real house must be clean.

use std::fs;

use super::check;
use crate::workspace::Workspace;

mod files;

const ROOT: &str = r#"[workspace]
members = ["crates/*"]

[workspace.package]
publish = false

[workspace.metadata]
one-version = ["tonic"]

[[workspace.metadata.layer]]
name = "foundation"
crates = ["model", "clock"]

[[workspace.metadata.layer]]
name = "service"
crates = ["token"]

[[workspace.metadata.layer]]
name = "binary"
crates = ["server"]

[workspace.metadata.owners]
moka = ["token"]
anyhow = ["binary"]

[workspace.dependencies]
forebay-model = { path = "crates/model" }
cachette = { package = "moka", version = "0.12" }
moka = "0.12"
"#;

const LOCK: &str = concat!(
    "[[package]]\nname = \"tonic\"\nversion = \"0.14.9\"\n",
    "source = \"registry+https://github.com/rust-lang/crates",
    ".io-index\"\n"
);

const PAGE: &str = "# House\n\n## Invariants\n\n1. Rows stay. (test: `token::rows_stay`)\n";

/// A manifest that keeps every rule, with `dependencies` appended.
fn manifest(folder: &str, dependencies: &str) -> String {
    format!(
        "[package]\nname = \"forebay-{folder}\"\npublish.workspace = true\n\n\
         [lints]\nworkspace = true\n\n[dependencies]\n{dependencies}"
    )
}

/// A house without a finding, overwritten with `changes`; returns what tidy says about it.
fn findings(changes: &[(&str, &str)]) -> Vec<String> {
    let house = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = house.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("Cargo.toml", ROOT);
    write("Cargo.lock", LOCK);
    write("ARCHITECTURE.md", PAGE);
    for folder in ["model", "clock"] {
        write(&format!("crates/{folder}/Cargo.toml"), &manifest(folder, ""));
        write(&format!("crates/{folder}/src/lib.rs"), "//! Values.\n");
    }
    write("crates/token/Cargo.toml", &manifest("token", "moka.workspace = true\n"));
    write("crates/token/src/lib.rs", "//! Tokens.\nfn rows_stay() {}\n");
    write("crates/token/src/grpc.rs", &format!("//! Transport.\nuse {}::Status;\n", "tonic"));
    write("crates/server/Cargo.toml", &manifest("server", "anyhow.workspace = true\n"));
    write("crates/server/src/main.rs", "//! Wiring.\nfn main() {}\n");
    for (path, text) in changes {
        write(path, text);
    }
    check(house.path()).unwrap().iter().map(ToString::to_string).collect()
}

/// Breaks the house by writing `text` to `path` and expects exactly `expected`, by prefix.
fn broken(path: &str, text: &str, expected: &[&str]) {
    let found = findings(&[(path, text)]);
    let matches = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
    assert!(matches, "{path}:\n{text}\nexpected {expected:#?}\nfound {found:#?}");
}

#[test]
fn a_house_in_order_has_no_finding() {
    assert_eq!(findings(&[]), Vec::<String>::new());
}

#[test]
fn the_real_house_is_in_order() {
    let workspace = Workspace::find().unwrap();
    let found: Vec<String> =
        check(&workspace.root).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn layers_are_kept() {
    let edges = [
        // An upward edge, a sibling, a build-dependency, a dependency of one platform only.
        ("model", "forebay-token.workspace = true\n", 9),
        ("model", "forebay-clock.workspace = true\n", 9),
        ("model", "\n[build-dependencies]\nforebay-token.workspace = true\n", 11),
        ("model", "\n[target.'cfg(unix)'.dependencies]\nforebay-token.workspace = true\n", 11),
    ];
    for (folder, dependencies, line) in edges {
        let path = format!("crates/{folder}/Cargo.toml");
        let expected = format!("{path}:{line}: layer-edge: drop the dependency on `");
        broken(&path, &manifest(folder, dependencies), &[&expected]);
    }
    // Downwards is the way, and tests may need the whole house.
    let dev = "forebay-model.workspace = true\nmoka.workspace = true\n\
               [dev-dependencies]\nforebay-server.workspace = true\nanyhow.workspace = true\n";
    broken("crates/token/Cargo.toml", &manifest("token", dev), &[]);
}

#[test]
fn every_crate_is_in_one_layer() {
    broken(
        "crates/stray/Cargo.toml",
        &manifest("stray", ""),
        &["crates/stray/Cargo.toml:2: layer: add `stray` to the crates of one layer"],
    );
    broken(
        "Cargo.toml",
        &ROOT.replace("\"token\"]\n\n[[", "\"token\", \"clock\"]\n\n[["),
        &["crates/clock/Cargo.toml:2: layer: keep `clock` in one layer only, it is in foundation"],
    );
    broken(
        "Cargo.toml",
        &ROOT.replace("\"server\"", "\"server\", \"ghost\""),
        &["Cargo.toml:20: layer: remove `ghost`"],
    );
}

#[test]
fn third_party_crates_have_owners() {
    broken(
        "crates/model/Cargo.toml",
        &manifest("model", "moka.workspace = true\nanyhow.workspace = true\n"),
        &[
            "crates/model/Cargo.toml:9: owner: use `moka` through its owners only (token)",
            "crates/model/Cargo.toml:10: owner: use `anyhow` through its owners only (binary)",
        ],
    );
    // Another name does not hide it.
    broken(
        "crates/model/Cargo.toml",
        &manifest("model", "cachette.workspace = true\n"),
        &["crates/model/Cargo.toml:9: owner: use `moka`"],
    );
    broken(
        "Cargo.toml",
        &ROOT.replace("moka = [\"token\"]", "moka = [\"token\", \"ghost\"]"),
        &["Cargo.toml:23: owner: remove `ghost`"],
    );
}

#[test]
fn manifests_follow_the_workspace() {
    let path = "crates/model/Cargo.toml";
    let good = manifest("model", "");
    let at = |line: u32, rule: &str| format!("{path}:{line}: {rule}: ");
    broken(path, &good.replace("[lints]\nworkspace = true", ""), &[&at(1, "lints")]);
    broken(path, &good.replace("publish.workspace = true", ""), &[&at(2, "publish")]);
    broken(path, &good.replace("publish.workspace", "publish"), &[&at(2, "publish")]);
    broken(path, &good.replace("publish.workspace = true", "publish = false"), &[]);
    broken(path, &good.replace("forebay-model", "model"), &[&at(2, "package-name")]);
    let versions = [
        "bytes = \"1\"\n",
        "bytes = { version = \"1\", default-features = false }\n",
        "bytes = { path = \"../bytes\" }\n",
    ];
    for version in versions {
        broken(path, &manifest("model", version), &[&at(9, "workspace-version")]);
    }
}

#[test]
fn the_lock_file_holds_one_of_each_from_the_public_index() {
    let twice = format!("{LOCK}\n{}", LOCK.replace("0.14.9", "0.13.0"));
    broken("Cargo.lock", &twice, &["Cargo.lock:8: one-version: lock one version of `tonic`, not "]);
    broken("Cargo.lock", "", &["Cargo.toml:8: one-version: remove `tonic`"]);
    let mirrored = LOCK.replace("https://github.com/rust-lang/", "sparse+https://mirror.example/");
    broken("Cargo.lock", &mirrored, &["Cargo.lock:4: lock-source: "]);
}
