//! Where the checkout is, and where its instances keep their state.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The checkout this tool was built from.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
}

impl Workspace {
    /// The checkout that holds this crate.
    ///
    /// # Errors
    ///
    /// When the checkout has been moved since the tool was built.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest
            .ancestors()
            .nth(2)
            .context("devtool lives in crates/devtool")?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }
}
