//! An invariant without a test is a wish: each one in `ARCHITECTURE.md` names the test that
//! holds it, and the test exists.

use super::Finding;
use super::tree::Tree;

/// The page that lists them.
const PAGE: &str = "ARCHITECTURE.md";

/// One numbered item of the list, with the lines it wraps over.
#[derive(Debug)]
struct Invariant {
    line: usize,
    text: String,
}

/// Every numbered item below a heading about invariants.
pub(super) fn tests_exist(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(page) = tree.get(PAGE) else {
        findings.push(Finding::new(PAGE, 1, "invariant", "write the page"));
        return;
    };
    for invariant in invariants(&page.text) {
        let tests = named_tests(&invariant.text);
        if tests.is_empty() {
            let todo = "name its test, as in (test: `path::to::test_fn`)";
            findings.push(Finding::new(PAGE, invariant.line, "invariant", todo));
        }
        for test in tests {
            if !is_defined(tree, test) {
                let todo = format!("write the test `{test}`, no such function exists");
                findings.push(Finding::new(PAGE, invariant.line, "invariant", todo));
            }
        }
    }
}

fn invariants(page: &str) -> Vec<Invariant> {
    let mut found: Vec<Invariant> = Vec::new();
    let mut inside = false;
    let mut open = false;
    for (index, line) in page.lines().enumerate() {
        if line.starts_with('#') {
            inside = line.to_lowercase().contains("invariant");
            open = false;
        } else if !inside || line.trim().is_empty() {
            open = false;
        } else if is_numbered(line) {
            found.push(Invariant { line: index + 1, text: line.to_owned() });
            open = true;
        } else if let Some(last) = found.last_mut().filter(|_| open) {
            last.text.push(' ');
            last.text.push_str(line.trim());
        }
    }
    found
}

fn is_numbered(line: &str) -> bool {
    let after = line.trim_start_matches(|c: char| c.is_ascii_digit());
    after.len() < line.len() && after.starts_with(". ")
}

/// The back-quoted paths after `(test:` or `(tests:`.
fn named_tests(text: &str) -> Vec<&str> {
    let Some((_, rest)) = text.split_once("(test: ").or_else(|| text.split_once("(tests: ")) else {
        return Vec::new();
    };
    let inside = rest.split(')').next().unwrap_or_default();
    inside.split('`').skip(1).step_by(2).filter(|path| !path.is_empty()).collect()
}

fn is_defined(tree: &Tree, path: &str) -> bool {
    let name = path.rsplit("::").next().unwrap_or(path);
    let definition = format!("fn {name}(");
    tree.rust().any(|file| file.text.contains(&definition))
}
