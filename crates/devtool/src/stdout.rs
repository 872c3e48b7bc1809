//! Writing an answer whole, to a terminal, a file or a pipe that may close early.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Writes and tells whether somebody still reads, for what goes on until nobody does.
pub(crate) fn still_read(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Writes `text` to the standard output. A reader that has seen enough is not an error.
///
/// # Errors
///
/// When the output is a file that cannot take it.
pub(crate) fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to the standard output"),
    }
}
