//! `cargo xtask`: builds the tool in `crates/devtool` and becomes it.
//!
//! Nothing but the standard library is used here, so that the first line appears a second or two
//! after the command was typed, also on a machine that has built nothing yet.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The tool's package and binary.
const TOOL: &str = "forebay-devtool";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(problem) => {
            say(&format!("xtask: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Returns only when the tool could not be built or started.
fn run() -> Result<ExitCode, String> {
    let root = root()?;
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let tool = own.with_file_name(TOOL);
    say(if tool.exists() { "xtask: checking the tool" } else { "xtask: building the tool, once" });
    if !build(&root, own.parent().is_some_and(|dir| dir.ends_with("release")))? {
        return Ok(ExitCode::FAILURE);
    }
    let mut command = Command::new(&tool);
    command.args(std::env::args_os().skip(1)).env("FOREBAY_WORKSPACE", &root);
    clean(&mut command);
    let error = command.exec();
    Err(format!("start {}: {error}", tool.display()))
}

/// The folder of the root manifest. Cargo says at run time where this package lives, which stays
/// true when the checkout has been moved.
fn root() -> Result<PathBuf, String> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(Path::to_path_buf).ok_or_else(|| "xtask lives in no folder".to_owned())
}

/// Builds the tool, passing on what cargo says except that it has finished.
fn build(root: &Path, release: bool) -> Result<bool, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["build", "--package", TOOL, "--bin", TOOL]);
    if release {
        command.arg("--release");
    }
    if std::io::stderr().is_terminal() {
        command.args(["--color", "always"]);
    }
    clean(&mut command);
    let mut child =
        command.stderr(Stdio::piped()).spawn().map_err(|error| format!("start cargo: {error}"))?;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.map_err(|error| format!("read what cargo says: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            if !line.contains("Finished") {
                say(&line);
            }
        }
    }
    let status = child.wait().map_err(|error| format!("wait for cargo: {error}"))?;
    Ok(status.success())
}

/// Takes out what `cargo run` put into the environment for this program alone. Left in, it would
/// make another cargo believe that the world has changed, and give servers strange libraries.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if own.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    match users_own(&paths) {
        Some(paths) => command.env("LD_LIBRARY_PATH", paths),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
}

/// The library directories that are neither a build's nor the toolchain's.
fn users_own(paths: &OsString) -> Option<OsString> {
    let kept: Vec<PathBuf> = std::env::split_paths(paths)
        .filter(|path| {
            let of_cargo = |part: std::path::Component<'_>| {
                ["target", "toolchains", "rustlib"].iter().any(|name| part.as_os_str() == *name)
            };
            !path.as_os_str().is_empty() && !path.components().any(of_cargo)
        })
        .collect();
    if kept.is_empty() { None } else { std::env::join_paths(kept).ok() }
}

/// Writes a line for the person in front. A closed terminal is no reason to stop working.
fn say(line: &str) {
    let _closed = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::users_own;

    #[test]
    fn only_the_users_own_library_directories_are_kept() {
        let cases = [
            ("", None),
            ("/w/target/debug/deps:/w/target/debug:/r/toolchains/stable/lib", None),
            ("/w/target/debug:/opt/lib", Some("/opt/lib")),
        ];
        for (paths, expected) in cases {
            assert_eq!(users_own(&paths.into()).as_deref(), expected.map(AsRef::as_ref), "{paths}");
        }
    }
}
