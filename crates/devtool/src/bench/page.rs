//! The page `docs/benchmarks.md`: one section a bench, each replaced by its own runs only.

use std::path::Path;

use anyhow::Context as _;

use super::report::tables;
use super::{BENCHES, Run};

/// Writes the sections of the benches that have run, and keeps the others.
///
/// # Errors
///
/// When the file cannot be read or written.
pub(super) fn update(file: &Path, machine: &str, runs: &[Run]) -> anyhow::Result<()> {
    let old = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    };
    std::fs::write(file, page(&old, machine, runs))
        .with_context(|| format!("write {}", file.display()))
}

fn page(old: &str, machine: &str, runs: &[Run]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`; `cargo xtask bench NAME` repeats one section and leaves the\n\
         others. All sides run in turn, round by round, in one run on one machine that also carries\n\
         the load. Figures are medians over the rounds; a ratio, ours / theirs, is the median of the\n\
         ratios of neighbouring rounds. A ratio counts, an absolute figure does not.\n",
    );
    for bench in BENCHES {
        let run = runs.iter().find(|run| run.bench.name == bench.name);
        let section = match (run, section(old, bench.name)) {
            (Some(run), _) => new_section(run, machine),
            (None, Some(kept)) => kept.to_owned(),
            (None, None) => continue,
        };
        text.push('\n');
        text.push_str(section.trim_end());
        text.push('\n');
    }
    text
}

fn new_section(run: &Run, machine: &str) -> String {
    let (name, about) = (run.bench.name, run.bench.about);
    let (stalls, tables) = (run.stalls.sentence(), tables(&run.lines));
    format!("## {name}\n\n{about}\n\nOn {machine}.\n{stalls}\n\n{}", tables.trim_start())
}

/// The section with that name, from its heading to the next one.
fn section<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let heading = format!("\n## {name}\n");
    let start = page.find(&heading)? + 1;
    let rest = &page[start..];
    let end = rest.find("\n## ").map_or(rest.len(), |end| end + 1);
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::stalls::Stalls;

    #[test]
    fn a_run_replaces_its_own_section_only() {
        let old = "# Benchmarks\n\nold text\n\n## grpc\n\nkept\n\n### a\n\n## pools\n\nreplaced\n";
        let [grpc, pools, ..] = BENCHES;
        let run = |bench| Run { bench, lines: Vec::new(), stalls: Stalls::default() };
        let new = page(old, "2 processors", &[run(pools)]);
        assert!(new.contains("\n## grpc\n\nkept\n\n### a\n\n## pools\n\n"), "{new}");
        assert!(!new.contains("replaced") && !new.contains("old text"), "{new}");
        assert_eq!(page(&new, "2 processors", &[run(pools)]), new, "a run is repeatable");
        let first = page("", "2 processors", &[run(grpc)]);
        assert!(first.contains("## grpc") && !first.contains("## pools"), "{first}");
    }
}
