//! The manifests as the rules see them: names, edges and the lines they stand on.

use anyhow::Context as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::{File, Tree, line_at};

/// Our packages are called after their folder, with this in front.
pub(super) const PREFIX: &str = "forebay-";

/// The root manifest's view of the house.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) layers: Vec<Layer>,
    pub(super) owners: Vec<Owner>,
    pub(super) one_version: Vec<Name>,
    /// `publish = false` in `[workspace.package]`, which members inherit.
    pub(super) publish_off: bool,
    /// Workspace dependencies that stand for a package of another name: (alias, package).
    renames: Vec<(String, String)>,
}

/// A word of a manifest and the line it stands on.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) line: usize,
}

/// One `[[workspace.metadata.layer]]`.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) name: Name,
    pub(super) crates: Vec<Name>,
}

/// A third-party crate and the crates or layers that may name it.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) package: String,
    pub(super) by: Vec<Name>,
}

/// A member's manifest.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) path: String,
    /// The folder that names the crate: `token-server` for `crates/token-server/Cargo.toml`.
    pub(super) folder: String,
    pub(super) package: Name,
    pub(super) workspace_lints: bool,
    pub(super) publish: Publish,
    pub(super) dependencies: Vec<Dependency>,
}

/// What a member says about publishing itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publish {
    Off,
    Inherited,
    On,
}

/// One entry of a dependency table.
#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) package: String,
    pub(super) line: usize,
    /// Dev-dependencies reach anywhere: a test may need the whole house.
    pub(super) dev: bool,
    /// The version comes from `[workspace.dependencies]`.
    pub(super) from_workspace: bool,
}

impl Root {
    /// Reads the root manifest of `tree`.
    pub(super) fn read(tree: &Tree) -> anyhow::Result<Self> {
        let file = tree.get("Cargo.toml").context("find the root Cargo.toml")?;
        let parsed = parse(file)?;
        let workspace = table(&parsed, "workspace").context("find [workspace] in Cargo.toml")?;
        let metadata = table(workspace, "metadata");
        let layers = metadata
            .and_then(|metadata| metadata.get("layer"))
            .and_then(|layer| layer.get_ref().as_array())
            .map(|layers| layers.iter().filter_map(|layer| read_layer(file, layer)).collect())
            .unwrap_or_default();
        let owners = metadata
            .and_then(|metadata| table(metadata, "owners"))
            .map(|owners| {
                owners.iter().map(|(package, by)| read_owner(file, package.get_ref(), by)).collect()
            })
            .unwrap_or_default();
        let one_version = metadata
            .and_then(|metadata| metadata.get("one-version"))
            .map(|list| names(file, list))
            .unwrap_or_default();
        let publish_off = table(workspace, "package")
            .and_then(|package| package.get("publish"))
            .is_some_and(|publish| publish.get_ref().as_bool() == Some(false));
        let renames = table(workspace, "dependencies").map(read_renames).unwrap_or_default();
        Ok(Self { layers, owners, one_version, publish_off, renames })
    }

    /// The layer of a crate, by position, lowest first.
    pub(super) fn layer_of(&self, folder: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.crates.iter().any(|name| name.text == folder))
    }

    /// Every member's manifest, in path order.
    pub(super) fn members(&self, tree: &Tree) -> anyhow::Result<Vec<Manifest>> {
        let file = tree.get("Cargo.toml").context("find the root Cargo.toml")?;
        let parsed = parse(file)?;
        let workspace = table(&parsed, "workspace").context("find [workspace] in Cargo.toml")?;
        let listed =
            |key: &str| workspace.get(key).map(|list| names(file, list)).unwrap_or_default();
        let (patterns, excluded) = (listed("members"), listed("exclude"));
        tree.files
            .iter()
            .filter_map(|file| Some((file, file.path.strip_suffix("/Cargo.toml")?)))
            .filter(|(_, folder)| patterns.iter().any(|pattern| matches(&pattern.text, folder)))
            .filter(|(_, folder)| excluded.iter().all(|excluded| excluded.text != *folder))
            .map(|(file, folder)| self.read_member(file, folder))
            .collect()
    }

    fn read_member(&self, file: &File, folder: &str) -> anyhow::Result<Manifest> {
        let parsed = parse(file)?;
        let package = table(&parsed, "package")
            .with_context(|| format!("find [package] in {}", file.path))?;
        let name = package
            .get("name")
            .and_then(|name| named(file, name))
            .with_context(|| format!("find the package name in {}", file.path))?;
        let publish = match package.get("publish").map(Spanned::get_ref) {
            Some(DeValue::Boolean(false)) => Publish::Off,
            Some(DeValue::Table(inherit)) if is_true(inherit, "workspace") => Publish::Inherited,
            _ => Publish::On,
        };
        let workspace_lints =
            table(&parsed, "lints").is_some_and(|lints| is_true(lints, "workspace"));
        let mut dependencies = Vec::new();
        self.read_dependencies(file, &parsed, &mut dependencies);
        for (_, target) in table(&parsed, "target").into_iter().flatten() {
            if let Some(target) = target.get_ref().as_table() {
                self.read_dependencies(file, target, &mut dependencies);
            }
        }
        Ok(Manifest {
            path: file.path.clone(),
            folder: folder.rsplit('/').next().unwrap_or(folder).to_owned(),
            package: name,
            workspace_lints,
            publish,
            dependencies,
        })
    }

    fn read_dependencies(&self, file: &File, from: &DeTable<'_>, into: &mut Vec<Dependency>) {
        let kinds =
            [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)];
        for (kind, dev) in kinds {
            for (alias, entry) in table(from, kind).into_iter().flatten() {
                let settings = entry.get_ref().as_table();
                let alias_text = alias.get_ref().as_ref();
                let package = settings
                    .and_then(|settings| settings.get("package"))
                    .and_then(|package| package.get_ref().as_str())
                    .or_else(|| self.renamed(alias_text))
                    .unwrap_or(alias_text);
                into.push(Dependency {
                    package: package.to_owned(),
                    line: line_at(&file.text, alias.span().start),
                    dev,
                    from_workspace: settings.is_some_and(|entry| is_true(entry, "workspace")),
                });
            }
        }
    }

    fn renamed(&self, alias: &str) -> Option<&str> {
        let found = self.renames.iter().find(|(name, _)| name == alias);
        found.map(|(_, package)| package.as_str())
    }
}

fn parse(file: &File) -> anyhow::Result<DeTable<'_>> {
    let parsed = DeTable::parse(&file.text).with_context(|| format!("parse {}", file.path))?;
    Ok(parsed.into_inner())
}

fn table<'a, 'i>(parent: &'a DeTable<'i>, key: &str) -> Option<&'a DeTable<'i>> {
    parent.get(key)?.get_ref().as_table()
}

fn is_true(parent: &DeTable<'_>, key: &str) -> bool {
    parent.get(key).is_some_and(|value| value.get_ref().as_bool() == Some(true))
}

fn named(file: &File, value: &Spanned<DeValue<'_>>) -> Option<Name> {
    let text = value.get_ref().as_str()?.to_owned();
    Some(Name { text, line: line_at(&file.text, value.span().start) })
}

fn names(file: &File, list: &Spanned<DeValue<'_>>) -> Vec<Name> {
    let values = list.get_ref().as_array();
    values
        .map(|values| values.iter().filter_map(|value| named(file, value)).collect())
        .unwrap_or_default()
}

fn read_layer(file: &File, layer: &Spanned<DeValue<'_>>) -> Option<Layer> {
    let layer = layer.get_ref().as_table()?;
    let name = named(file, layer.get("name")?)?;
    Some(Layer { name, crates: names(file, layer.get("crates")?) })
}

fn read_owner(file: &File, package: &str, by: &Spanned<DeValue<'_>>) -> Owner {
    Owner { package: package.to_owned(), by: names(file, by) }
}

fn read_renames(dependencies: &DeTable<'_>) -> Vec<(String, String)> {
    let renamed = |entry: &Spanned<DeValue<'_>>| {
        let package = entry.get_ref().as_table()?.get("package")?;
        Some(package.get_ref().as_str()?.to_owned())
    };
    dependencies
        .iter()
        .filter_map(|(alias, entry)| Some((alias.get_ref().to_string(), renamed(entry)?)))
        .collect()
}

/// Cargo's member patterns, as far as this workspace uses them: a folder, or all folders in one.
fn matches(pattern: &str, folder: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(parent) => folder
            .strip_prefix(parent)
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|name| !name.contains('/')),
        None => pattern == folder,
    }
}
