//! A program that was found, with the libraries that were unpacked with it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program and what it needs to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The file.
    pub path: PathBuf,
    /// Search path of the libraries that were unpacked with it.
    pub libraries: Option<OsString>,
}

impl Program {
    /// The first of `names` that lies in `dir`.
    pub(crate) fn in_dir(dir: &Path, names: &[&str], libraries: Option<&OsString>) -> Option<Self> {
        let path = names.iter().map(|name| dir.join(name)).find(|path| path.is_file())?;
        Some(Self { path, libraries: libraries.cloned() })
    }

    /// A command for it, in the environment it needs.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env_remove("LD_LIBRARY_PATH");
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Writes a script to `path` that runs it with its environment, for those who can be given a
    /// path only.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_wrapper(&self, path: &Path) -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let quoted = |text: &OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
        let mut script = String::from("#!/bin/sh\n");
        match &self.libraries {
            Some(dir) => script.push_str(&format!("export LD_LIBRARY_PATH={}\n", quoted(dir))),
            None => script.push_str("unset LD_LIBRARY_PATH\n"),
        }
        script.push_str(&format!("exec {} \"$@\"\n", quoted(self.path.as_os_str())));
        std::fs::write(path, script)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_passes_arguments_and_libraries_on() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("it's a program");
        std::fs::write(&script, "#!/bin/sh\necho \"$LD_LIBRARY_PATH $1\"\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let libraries = Some("/some lib".into());
        let names = ["absent", "it's a program"];
        let program = Program::in_dir(dir.path(), &names, libraries.as_ref()).unwrap();
        assert_eq!(program.path, script);
        assert_eq!(Program::in_dir(dir.path(), &["absent"], None), None);

        let wrapper = dir.path().join("wrapper");
        program.write_wrapper(&wrapper).unwrap();
        for mut command in [program.command(), Command::new(&wrapper)] {
            let output = command.arg("a b").output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "/some lib a b\n");
        }
    }
}
