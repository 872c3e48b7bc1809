//! Servers that answer with bytes that are encoded already.
//!
//! On the wire a message inside of a message and a field of type `bytes` are the same: tag, length,
//! content. So the server of a service whose entities are cached in their encoded form is generated
//! from contracts in which the fields below are `bytes`. It can send what is stored without decoding
//! and encoding it, and nobody else notices: clients, reflection and all other messages are those
//! of the real contracts.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The fields that a server sends as they are stored, as `package.Message.field`.
const FIELDS: [&str; 8] = [
    "forebay.pool.v1.BatchGetPoolsResponse.pools",
    "forebay.pool.v1.GetPoolResponse.pool",
    "forebay.pool.v1.ListPoolsResponse.pools",
    "forebay.pool.v1.LookupPoolResponse.pool",
    "forebay.token.v1.BatchGetTokensResponse.tokens",
    "forebay.token.v1.GetTokenResponse.token",
    "forebay.token.v1.ListTokensResponse.tokens",
    "forebay.token.v1.LookupTokenResponse.token",
];

/// Writes `package.stored.rs` into `out` for each package that has such fields.
pub(crate) fn generate(contracts: &FileDescriptorSet, out: &Path) -> anyhow::Result<()> {
    let mut contracts = contracts.clone();
    let mut changed = 0;
    let mut packages = Vec::new();
    let mut real_messages = Vec::new();
    for file in &mut contracts.file {
        let package = file.package().to_owned();
        for message in &mut file.message_type {
            let name = format!("{package}.{}", message.name());
            match change(&name, message) {
                0 => real_messages.push((package.clone(), message.name().to_owned())),
                fields => changed += fields,
            }
        }
        if FIELDS.iter().any(|field| field.starts_with(&format!("{package}."))) {
            packages.push(package);
        }
    }
    if changed != FIELDS.len() {
        bail!("the contracts have {changed} of the {} stored fields", FIELDS.len());
    }
    contracts.file.retain(|file| is_needed(file, &packages));

    // The names of the files would be those of the real contracts.
    let folder = out.join("stored");
    fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut config = tonic_prost_build::configure()
        .bytes(".")
        .build_client(false)
        .out_dir(&folder)
        .emit_rerun_if_changed(false);
    for (package, name) in &real_messages {
        if packages.contains(package) {
            // `forebay.token.v1` is the module `token::v1` of the crate.
            let module = package.split('.').skip(1).collect::<Vec<_>>().join("::");
            config = config
                .extern_path(format!(".{package}.{name}"), format!("crate::{module}::{name}"));
        }
    }
    config.compile_fds(contracts).context("generate Rust from the descriptors")?;
    for package in packages {
        let (from, to) = (format!("{package}.rs"), format!("{package}.stored.rs"));
        fs::rename(folder.join(&from), out.join(to)).with_context(|| format!("move {from}"))?;
    }
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}

/// Makes the stored fields of a message `bytes`; how many there are.
fn change(message: &str, descriptor: &mut DescriptorProto) -> usize {
    let mut changed = 0;
    for field in &mut descriptor.field {
        if FIELDS.contains(&format!("{message}.{}", field.name()).as_str()) {
            field.set_type(Type::Bytes);
            field.type_name = None;
            changed += 1;
        }
    }
    changed
}

fn is_needed(file: &FileDescriptorProto, packages: &[String]) -> bool {
    packages.iter().any(|package| package == file.package())
        || file.package().starts_with("google.protobuf")
}
