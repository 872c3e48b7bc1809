//! A page is finished when no place in it waits to be filled in and its links lead somewhere.

use super::Finding;
use super::tree::{File, Tree};

/// What encloses the name of a place to fill in.
const MARK: &str = "@@";

/// Places left to fill in and relative links to nothing, in every Markdown file.
pub(super) fn finished(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in tree.files.iter().filter(|file| file.path.ends_with(".md")) {
        placeholders(file, findings);
        for (line, target) in links(&file.text) {
            let lives = resolved(&file.path, target).is_some_and(|path| tree.holds(&path));
            if !lives {
                let todo = format!("mend the link to `{target}`, no such file is committed");
                findings.push(Finding::new(&file.path, line, "dead-link", todo));
            }
        }
    }
}

fn placeholders(file: &File, findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once(MARK) {
            rest = after;
            let Some((name, beyond)) = after.split_once(MARK) else {
                break;
            };
            if !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
                let todo = format!("fill in {name}");
                findings.push(Finding::new(&file.path, index + 1, "placeholder", todo));
                rest = beyond;
            }
        }
    }
}

/// The targets of links into the repository, with their lines; code is no link.
fn links(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fence = None;
    for (index, line) in page.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(_)) => fence = mark,
            (Some(_), _) if fence == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                found.extend(targets(line).into_iter().map(|target| (index + 1, target)));
            }
        }
    }
    found.retain(|(_, target)| is_relative(target));
    found
}

/// What the links of one line point to: `[text](target)`, and `[name]: target` at its start.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (offset, mark) in line.match_indices("](") {
        let before = &line[..offset];
        // The text of a link may be code, but a link inside of code is none.
        if before.matches('`').count().is_multiple_of(2) {
            found.extend(line[offset + mark.len()..].split([')', ' ']).next());
        }
    }
    if line.starts_with('[')
        && let Some((_, target)) = line.split_once("]: ")
    {
        found.extend(target.split_whitespace().next());
    }
    found.into_iter().map(|target| target.trim_matches(['<', '>'])).collect()
}

/// Whether a target is neither a URL nor a heading of the same page.
fn is_relative(target: &str) -> bool {
    let has_scheme = target.contains("://") || target.starts_with("mailto:");
    !has_scheme && !target.is_empty() && !target.starts_with('#')
}

/// The path from the root that `target` means in the page at `page`; `None` outside of the root.
fn resolved(page: &str, target: &str) -> Option<String> {
    let target = target.split(['#', '?']).next().unwrap_or_default();
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let base = if target.starts_with('/') { "" } else { folder };
    let mut path = Vec::new();
    for part in base.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()?),
            name => path.push(name),
        }
    }
    Some(path.join("/"))
}
