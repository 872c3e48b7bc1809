//! docs/settings.md: every default with its range, meaning and source, made of the reference file.

use std::fmt::Write as _;
use std::process::ExitCode;

use forebay_config::{Reference, reference};

use crate::page;
use crate::workspace::Workspace;

/// Where the page is kept.
const PAGE: &str = "docs/settings.md";

/// The words before the tables.
const INTRODUCTION: &str = "\
# Settings

Every setting, its default, what it accepts, and where the default comes from. Made of
[deploy/config/forebay.default.toml](../deploy/config/forebay.default.toml) by `cargo xtask
codegen`, so change it there.

A setting is changed in a file (`--config FILE`), by the environment
(`FOREBAY__REDIS__LANES=3`) or by a flag (`--redis.lanes=3`). A service prints what is in force,
and which layer said so, with `--print-config`; a running one answers
`cargo xtask call forebay.ops.v1.OpsService/GetEffectiveConfig`.

Sources: *connection pooling document* is the configuration of the backend that came before,
whose values were kept wherever it gave one. *measured* was found with this project's own
benchmarks. *chosen* is a judgement, with its reason. Everything else names whose default it is.
";

/// What the message about a bad duration explains and the reader of a table of durations knows.
const DURATION_EXAMPLE: &str = " such as \"250ms\" or \"10s\"";

/// Writes the page, or with `check` tells whether it is stale.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn write_page(workspace: &Workspace, check: bool) -> anyhow::Result<ExitCode> {
    page::write(workspace, PAGE, &text(&reference()), check)
}

fn text(keys: &[Reference]) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut last = "";
    for key in keys {
        let (section, name) = place(&key.key);
        if section != last {
            // Writing to a string cannot fail.
            let _infallible = write!(
                text,
                "\n## {section}\n\n| key | default | accepts | meaning | source |\n\
                 |---|---|---|---|---|\n"
            );
            last = section;
        }
        let Reference { default, accepts, meaning, source, .. } = key;
        let accepts = accepts.replace(DURATION_EXAMPLE, "");
        let cells = [&accepts, meaning, source].map(|cell| page::cell(cell));
        let _infallible = writeln!(text, "| `{name}` | `{default}` | {} |", cells.join(" | "));
    }
    text
}

/// The section of a key and its name there. What differs for a service is a section of its own.
fn place(key: &str) -> (&str, &str) {
    let start = match key.strip_prefix("service.").and_then(|rest| rest.find('.')) {
        Some(end) => "service.".len() + end,
        None => key.rfind('.').unwrap_or_default(),
    };
    (&key[..start], key[start..].trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str, meaning: &str) -> Reference {
        Reference {
            key: key.to_owned(),
            default: "\"1s\"".to_owned(),
            accepts: "a duration such as \"250ms\" or \"10s\", 1s to 2h".to_owned(),
            meaning: meaning.to_owned(),
            source: "chosen: short.".to_owned(),
        }
    }

    #[test]
    fn every_section_has_a_table_of_its_own() {
        let keys = [
            key("cache.l2_timeout", "One | two."),
            key("cache.token.ttl", ""),
            key("service.pool-server.grpc.listen", ""),
        ];
        let text = text(&keys);
        let tables = &text[INTRODUCTION.len()..];
        let lines: Vec<&str> = tables.lines().filter(|line| !line.is_empty()).collect();
        let [head, rule] =
            ["| key | default | accepts | meaning | source |", "|---|---|---|---|---|"];
        assert_eq!(
            lines,
            [
                "## cache",
                head,
                rule,
                "| `l2_timeout` | `\"1s\"` | a duration, 1s to 2h | One \\| two. | chosen: short. |",
                "## cache.token",
                head,
                rule,
                "| `ttl` | `\"1s\"` | a duration, 1s to 2h |  | chosen: short. |",
                "## service.pool-server",
                head,
                rule,
                "| `grpc.listen` | `\"1s\"` | a duration, 1s to 2h |  | chosen: short. |",
            ]
        );
    }
}
