//! docs/troubleshooting.md says what is really printed: every error that it explains is brought
//! about here, and the page must quote its words.

mod postgres;
mod redis;

use std::error::Error;

use forebay_config::reference;

const PAGE: &str = include_str!("../../../../docs/troubleshooting.md");

/// An error with its causes, as the log and `/readyz` have it.
fn printed(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Asserts that the section under `heading` quotes `text`. Numbers differ from one occasion to the
/// next, so any number stands for any other; so does what a line of code is called.
fn quotes(heading: &str, text: &str) {
    let section = PAGE.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("the page has no section {heading:?}"));
    let quoted = section.lines().filter_map(|line| line.strip_prefix("    "));
    let found = quoted.clone().any(|line| plain(line) == plain(text));
    let quoted: Vec<_> = quoted.map(plain).collect();
    assert!(
        found,
        "{heading:?} must quote\n    {text}\nwhich is\n    {}\n{quoted:#?}",
        plain(text)
    );
}

/// The text with every number, its fraction and its unit of time as `#`, and every file as `FILE`.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for word in text.split(' ') {
        let word = if word.contains(".rs:") { "FILE" } else { word };
        let mut rest = word;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            plain.push_str(&rest[..start]);
            plain.push('#');
            let after = rest[start..].find(|c: char| !c.is_ascii_digit() && c != '.');
            rest = after.map_or("", |end| &rest[start + end..]);
            let unit = ["ms", "µs", "ns", "s"].iter().find_map(|unit| rest.strip_prefix(unit));
            rest = unit.unwrap_or(rest);
        }
        plain.push_str(rest);
        plain.push(' ');
    }
    plain.trim_end().replace("# #", "#")
}

#[test]
fn numbers_and_places_stand_for_any_other() {
    assert_eq!(plain("GET had no answer after 150.3ms"), plain("GET had no answer after 2s"));
    assert_eq!(plain("at 127.0.0.1:6379: x"), "at #:#: x");
    assert_eq!(plain("held by a/b.rs:7 for 20 ms"), plain("held by c.rs:99 for 1 ms"));
    assert_ne!(plain("3 wait"), plain("3 waited"));
}

/// Fails when the page sends its reader to a setting that does not exist.
#[test]
fn every_setting_that_the_page_names_exists() {
    let keys: Vec<String> = reference().into_iter().map(|one| one.key).collect();
    let mut named = 0;
    for code in PAGE.split('`').skip(1).step_by(2) {
        let section = code.split('.').next().unwrap_or_default();
        if code.contains('.') && ["postgres", "redis", "grpc", "telemetry"].contains(&section) {
            assert!(keys.iter().any(|key| key == code), "there is no {code}");
            named += 1;
        }
    }
    assert!(named > 5, "{named}");
}
