//! The rules about what files say.

use std::fs;

use super::{broken, findings};
use crate::tidy::tree::Tree;

#[test]
fn rust_files_are_documented_short_and_finished() {
    let path = "crates/model/src/value.rs";
    let at = |line: usize, rule: &str| format!("{path}:{line}: {rule}: ");
    let after_doc = |text: &str| format!("//! Values.\n{text}\n");
    broken(path, "fn f() {}\n", &[&at(1, "module-doc")]);
    broken(path, &after_doc(&"\n".repeat(398)), &[]);
    broken(path, &after_doc(&"\n".repeat(399)), &[&at(401, "file-length")]);
    let unfinished = [
        format!("fn f() {{ {}!() }}", concat!("to", "do")),
        format!("fn f() {{ {}!(\"later\") }}", concat!("unimple", "mented")),
        format!("// {}: later", concat!("FIX", "ME")),
        format!("// {} later", concat!("TO", "DO")),
        format!("#[{}]", concat!("ig", "nore")),
        format!("#[{} = \"slow\"]", concat!("ig", "nore")),
    ];
    let note = format!("-- {}: an index\n", concat!("TO", "DO"));
    broken("migrations/V1__x.sql", &note, &["migrations/V1__x.sql:1: unfinished: "]);
    for mark in unfinished {
        broken(path, &after_doc(&mark), &[&at(2, "unfinished")]);
    }
    broken(path, &after_doc("const AUTODOC: u8 = 1; // TODOS and MY_TODO are words"), &[]);
    broken(
        "crates/model/src/value/mod.rs",
        "//! Values.\n",
        &["crates/model/src/value/mod.rs:1: mod-rs: "],
    );
    broken("crates/model/src/gen/made.rs", "fn f() {}\n", &[]);
}

#[test]
fn binaries_are_thin_and_services_keep_their_transport_apart() {
    let long = format!("//! Wiring.\n{}", "\n".repeat(60));
    broken("crates/server/src/main.rs", &long, &["crates/server/src/main.rs:61: thin-binary: "]);
    let transport = format!("//! Tokens.\nuse {}::Status;\nfn rows_stay() {{}}\n", "tonic");
    broken("crates/token/src/lib.rs", &transport, &["crates/token/src/lib.rs:2: transport: "]);
    for allowed in ["crates/token/src/grpc/convert.rs", "crates/token/tests/it.rs"] {
        broken(allowed, &transport, &[]);
    }
}

#[test]
fn log_messages_are_fragments() {
    let path = "crates/model/src/value.rs";
    let cases = [
        ("info!(\"Token refreshed\");", Some(2)),
        ("info!(\"token refreshed.\");", Some(2)),
        ("tracing::warn!(token = %id, \"Token refreshed\");", Some(2)),
        ("warn!(\n    at = describe(1, \"A, b)\"),\n    \"Gone\"\n);", Some(4)),
        ("info!(name = \"Upper.\", \"token refreshed\");", None),
        ("info!(\"token refreshed\", );", None),
        ("info!(\"waiting...\");", None),
        ("debug!(?value, \"{name} refreshed\");", None),
        ("my_info!(\"Shout.\");", None),
        ("// info!(\"In prose.\")", None),
        ("error!(error = %Chain(&error));", None),
    ];
    for (call, line) in cases {
        let text = format!("//! Values.\n{call}\n");
        let expected: Vec<String> =
            line.map(|line: u32| format!("{path}:{line}: log-style: ")).into_iter().collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        broken(path, &text, &expected);
    }
}

#[test]
fn nothing_names_a_machine_or_a_network() {
    let cases = [
        (format!("see {}", ["", "tmp", "build", "log"].join("/")), "machine-path"),
        (format!("cd {}", ["", "home", "ann"].join("/")), "machine-path"),
        (format!("\"{}\"", ["", "work", "main"].join("/")), "machine-path"),
        (format!("from {}", ["registry", "npmjs", "org"].join(".")), "registry-host"),
        (format!("https://{}/simple", ["files", "pythonhosted", "org"].join(".")), "registry-host"),
        (format!("http://{}:8080/x", ["cache", "corp"].join(".")), "private-host"),
    ];
    for (text, rule) in cases {
        broken(
            "docs/page.md",
            &format!("A page\n{text}\n"),
            &[&format!("docs/page.md:2: {rule}: ")],
        );
    }
    let fine = "`target/tmp/x`, `$HOME/work/x`, https://example.org/home/page, /tmp, \
                http://otel.tracing.svc.cluster.local:4317, https://docs.rs/moka";
    broken("docs/page.md", fine, &[]);
}

#[test]
fn invariants_name_tests_that_exist() {
    let cases = [
        ("1. Rows stay.\n", Some(5)),
        ("1. Rows stay. (test: `token::rows_go`)\n", Some(5)),
        ("1. Rows stay\n   and stay. (test: `token::rows_stay`)\n2. Two.\n", Some(7)),
        ("1. Rows stay\n   and stay. (tests: `a::rows_stay`, `b::rows_go`)\n", Some(5)),
        ("1. Rows stay\n   and stay. (test: `token::rows_stay`)\n\n## Else\n\n1. Free.\n", None),
    ];
    for (list, line) in cases {
        let page = format!("# House\n\n## Invariants\n\n{list}");
        let expected: Vec<String> = line
            .map(|line: u32| format!("ARCHITECTURE.md:{line}: invariant: "))
            .into_iter()
            .collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        broken("ARCHITECTURE.md", &page, &expected);
    }
}

#[test]
fn what_git_ignores_is_not_ours() {
    let house = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let done = std::process::Command::new("git").args(args).current_dir(house.path()).output();
        assert!(done.unwrap().status.success(), "git {args:?}");
    };
    git(&["init", "--quiet"]);
    let write = |path: &str, text: &str| fs::write(house.path().join(path), text).unwrap();
    write(".gitignore", "ignored.rs\n");
    write("ignored.rs", "fn f() {}\n");
    write("seen.rs", "fn f() {}\n");
    write("data.bin", "");
    fs::write(house.path().join("data.bin"), [0xff, 0xfe]).unwrap();
    let tree = Tree::read(house.path()).unwrap();
    let paths: Vec<&str> = tree.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, [".gitignore", "seen.rs"]);
}

#[test]
fn pages_are_filled_in_and_their_links_lead_somewhere() {
    let path = "docs/guide/page.md";
    let at = |line: usize, rule: &str| format!("{path}:{line}: {rule}: ");
    let left = format!("@{}@", "@OUT_PUT@");
    let unfilled = [&*at(3, "placeholder"), &*at(5, "placeholder"), &*at(5, "placeholder")];
    broken(path, &format!("# Page\n```\n{left}\n```\nx {left} y {left}\n"), &unfilled);
    broken(path, "@@ -1 +1 @@ and @@lower@@ and @@\n", &[]);
    let dead = [
        "[a](gone.md)",
        "[a](../gone.md#part)",
        "[`a`](<gone.md>)",
        "[a](/docs/gone.md)",
        "[a](../../../Cargo.toml)",
        "[a](../../crates/mod)",
        "![a](gone.png \"A picture\")",
        "[a]: gone.md",
        "[live](page.md) and [dead](gone.md)",
    ];
    for link in dead {
        broken(path, &format!("# Page\n{link}\n"), &[&at(2, "dead-link")]);
    }
    let live = [
        "[a](page.md#part) [b](./page.md) [c](../guide) [d](../../crates/model/)",
        "[a](/Cargo.toml) [b](../../Cargo.toml) [c](../..)",
        "[a](https://example.org/gone) [b](mailto:a@example.org) [c](#part)",
        "`[a](gone.md)` is how a link is written",
        "```text\n[a](gone.md)\n~~~\n[a](gone.md)\n```",
    ];
    for text in live {
        broken(path, &format!("# Page\n{text}\n"), &[]);
    }
}

#[test]
fn proofs_name_tests_and_text_that_are_there() {
    let path = "crates/token/tests/proofs.toml";
    let good = "[[proof]]\nguarantee = \"Rows stay.\"\ntest = \"rows_stay\"\ntarget = \"lib\"\n\
                mechanism = \"it stays\"\nfile = \"src/lib.rs\"\nfind = \"rows_stay() {\"\n\
                replace = \"rows_go() {\"\nsays = \"gone\"\n";
    broken(path, good, &[]);
    let also = "also = [{ file = \"../model/src/lib.rs\", find = \"Values\", replace = \"\" }]\n";
    broken(path, &format!("{good}{also}"), &[]);
    let cases = [
        (
            good.replace("= \"rows_stay\"", "= \"rows_go\""),
            "name a test of `lib`, `rows_go` is none",
        ),
        (good.replace("= \"rows_stay\"", "= \"it::rows_stay\""), "name a test of `lib`"),
        (good.replace("= \"lib\"", "= \"it\""), "name a test of `it`, `rows_stay` is none"),
        (good.replace("src/lib.rs", "src/gone.rs"), "name a file that exists, `src/gone.rs` does"),
        (good.replace("src/lib.rs", "../../../x.rs"), "name a file that exists, `../../../x.rs` "),
        (good.replace("\"rows_stay() {\"", "\"rows_leave\""), "find text that is in `src/lib.rs`"),
        (good.replace("\"rows_stay() {\"", "\"s\""), "find text that is in `src/lib.rs` once, not"),
        (good.replace("rows_go() {", "rows_stay() {"), "replace the text by another one"),
        (good.replace("says = \"gone\"\n", ""), "say a part of what the failing test prints"),
        (format!("{good}{}", also.replace("Values", "Pools")), "find text that is in `../model/"),
    ];
    for (text, todo) in cases {
        broken(path, &text, &[&format!("{path}:3: proof: {todo}")]);
    }
    let silent = good.replace("says = \"gone\"\n", "hangs = true\n");
    broken(path, &silent, &[]);
    for wrong in ["[[proof]]\n", &format!("{good}more = 1\n"), "x"] {
        broken(path, wrong, &[&format!("{path}:1: proof: mend it: ")]);
    }
    let page = "//! Pages.\nmod tests {\n    fn pages_turn() {}\n}\n";
    let inside = [
        ("crates/token/src/page.rs", page),
        (path, &good.replace("= \"rows_stay\"", "= \"page::tests::pages_turn\"")),
    ];
    assert_eq!(findings(&inside), Vec::<String>::new());
}
