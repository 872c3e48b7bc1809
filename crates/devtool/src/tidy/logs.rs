//! Log messages are fragments, not sentences: lower case, no full stop, so that they line up
//! and can be searched for.

use super::Finding;
use super::tree::{File, Tree};

/// The macros whose first bare string is the message.
const MACROS: [&str; 5] = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// Every message of every logging macro.
pub(super) fn messages(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.rust() {
        for (offset, message) in messages_of(file) {
            let upper = message.chars().next().is_some_and(char::is_uppercase);
            // An ellipsis says "still going" and is allowed.
            let stop = message.ends_with('.') && !message.ends_with("...");
            let todo = match (upper, stop) {
                (false, false) => continue,
                (true, false) => "start the log message in lower case",
                (false, true) => "end the log message without a full stop",
                (true, true) => "start the log message in lower case and drop the full stop",
            };
            findings.push(Finding::new(&file.path, file.line_at(offset), "log-style", todo));
        }
    }
}

/// The offset and text of each message in `file`.
fn messages_of(file: &File) -> Vec<(usize, &str)> {
    let text = file.text.as_str();
    let mut found = Vec::new();
    for name in MACROS {
        for (offset, _) in text.match_indices(name) {
            let before = text[..offset].chars().next_back();
            let longer_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
            let line = text[..offset].rsplit('\n').next().unwrap_or_default();
            // The tables of names above are not calls, and neither is prose.
            let quoted = before == Some('"') || before == Some('`');
            if longer_name || quoted || line.trim_start().starts_with("//") {
                continue;
            }
            let start = offset + name.len();
            found.extend(first_message(&text[start..]).map(|(at, message)| (start + at, message)));
        }
    }
    found
}

/// The first argument that is a bare string literal, in the arguments that start `text`.
fn first_message(text: &str) -> Option<(usize, &str)> {
    let mut depth = 0_usize;
    let mut at_start_of_argument = true;
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => {
                let end = string_end(&text[at + 1..])?;
                if at_start_of_argument && depth == 0 {
                    return Some((at, &text[at + 1..at + 1 + end]));
                }
                // Skip the literal: its brackets and commas are text.
                while rest.clone().next().is_some_and(|(next, _)| next <= at + 1 + end) {
                    rest.next();
                }
                at_start_of_argument = false;
            }
            '(' | '[' | '{' => {
                depth += 1;
                at_start_of_argument = false;
            }
            ')' | ']' | '}' => {
                depth = depth.checked_sub(1)?;
                at_start_of_argument = false;
            }
            ',' => at_start_of_argument = true,
            c if c.is_whitespace() => {}
            _ => at_start_of_argument = false,
        }
    }
    None
}

/// Where the string literal that has just been opened ends.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some(at),
            _ => escaped = false,
        }
    }
    None
}
