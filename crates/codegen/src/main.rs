//! Regenerates the committed gRPC code from the proto files, without protoc.
//!
//! `forebay-codegen` rewrites `crates/proto/src/gen`; with `--check` it writes
//! nothing and fails when the committed files differ from what it would write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use prost::Message as _;

mod stored;

/// The encoded `FileDescriptorSet`, which server reflection answers from.
const DESCRIPTOR_FILE: &str = "forebay.descriptors.bin";

fn main() -> anyhow::Result<ExitCode> {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => bail!("unknown argument {other:?}: expected nothing or --check"),
    };
    let root = workspace_root()?;
    let committed = root.join("crates/proto/src/gen");
    let fresh = root.join("target/codegen");
    generate(&root.join("proto"), &fresh)?;
    let stale = differences(&fresh, &committed)?;
    if check {
        return Ok(report(&stale));
    }
    replace(&fresh, &committed)?;
    Ok(ExitCode::SUCCESS)
}

fn workspace_root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).context("codegen lives in crates/codegen")?;
    Ok(root.to_path_buf())
}

fn generate(protos: &Path, out: &Path) -> anyhow::Result<()> {
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("empty {}", out.display()))?;
    }
    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let contracts = contracts_below(protos)?;
    let descriptors = protox::compile(contracts, [protos]).context("compile the proto files")?;
    fs::write(out.join(DESCRIPTOR_FILE), descriptors.encode_to_vec())
        .context("write the descriptor set")?;
    stored::generate(&descriptors, out).context("generate the servers of stored bytes")?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .out_dir(out)
        .compile_fds(descriptors)
        .context("generate Rust from the descriptors")
}

/// Every `.proto` file, in an order that does not depend on the machine.
fn contracts_below(protos: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![protos.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Names of files that are missing, superfluous or different in `committed`.
fn differences(fresh: &Path, committed: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = file_names(fresh)?;
    names.extend(file_names(committed)?);
    names.sort();
    names.dedup();
    // A file that cannot be read on either side compares as absent, which differs.
    names.retain(|name| fs::read(fresh.join(name)).ok() != fs::read(committed.join(name)).ok());
    Ok(names)
}

fn file_names(dir: &Path) -> anyhow::Result<Vec<String>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn replace(fresh: &Path, committed: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(committed)?;
    for name in file_names(committed)? {
        fs::remove_file(committed.join(name))?;
    }
    for name in file_names(fresh)? {
        fs::copy(fresh.join(&name), committed.join(&name))
            .with_context(|| format!("copy {name}"))?;
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a command-line tool answers on its terminal")]
fn report(stale: &[String]) -> ExitCode {
    if stale.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("generated code is stale: {}", stale.join(", "));
    eprintln!("fix: cargo xtask codegen");
    ExitCode::FAILURE
}
