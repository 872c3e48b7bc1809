//! Whether a test that ran without its mechanism has proved anything.

use super::proof::Proof;
use super::trial::{End, Ran};

/// A longer line is cut: the rest of it is in the output of the test.
const SAID_MAX: usize = 160;

/// What the test of `proof` said with its mechanism off.
///
/// # Errors
///
/// Why that proves nothing.
pub(super) fn judge(proof: &Proof, ran: &Ran) -> Result<String, String> {
    let bound = proof.bound.as_secs();
    let said = ran.lines.iter().find(|line| line.contains(&proof.says));
    match (ran.end, proof.hangs, said) {
        (End::Passed, _, _) => Err("the test passes without it".to_owned()),
        (End::Missing, _, _) => Err("there is no such test".to_owned()),
        (End::Hung, false, _) => Err(format!("the test was killed after {bound} s")),
        (End::Failed, true, _) => Err(format!("the test fails instead of hanging for {bound} s")),
        (_, _, None) if !(proof.hangs && proof.says.is_empty()) => {
            Err(format!("nothing about {:?}: {}", proof.says, last_words(ran)))
        }
        (End::Hung, true, said) => {
            let said = said.filter(|_| !proof.says.is_empty()).map(|line| shortened(line));
            Ok(format!(
                "nothing more for {bound} s{}",
                said.map_or_else(String::new, |line| format!(" after: {line}"))
            ))
        }
        (End::Failed, false, said) => Ok(said.map(|line| shortened(line)).unwrap_or_default()),
    }
}

/// What is wrong with a test, or its proof, while everything is switched on.
pub(super) fn fault(proof: &Proof, ran: &Ran) -> Option<String> {
    match ran.end {
        End::Passed => {}
        End::Failed => return Some(format!("the test fails as it is: {}", last_words(ran))),
        End::Hung => {
            let bound = proof.bound.as_secs();
            return Some(format!("the test does not end within {bound} s as it is"));
        }
        End::Missing => return Some("there is no such test".to_owned()),
    }
    let said = !proof.says.is_empty() && ran.lines.iter().any(|line| line.contains(&proof.says));
    said.then(|| format!("the test says {:?} as it is", proof.says))
}

/// The message of the first panic, or the last line.
fn last_words(ran: &Ran) -> String {
    let has_words = |line: &&String| !line.trim().is_empty();
    let panicked = ran.lines.iter().position(|line| line.contains("panicked at "));
    let message = panicked.and_then(|at| ran.lines[at + 1..].iter().find(has_words));
    let last = ran.lines.iter().rfind(has_words);
    message.or(last).map(|line| shortened(line)).unwrap_or_default()
}

fn shortened(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(SAID_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::proof::Target;
    use super::*;

    fn ran(end: End, lines: &[&str]) -> Ran {
        Ran { end, lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    fn proof(says: &str, hangs: bool) -> Proof {
        Proof {
            line: 1,
            guarantee: String::new(),
            test: "a::b".to_owned(),
            target: Target::It,
            starts: Vec::new(),
            mechanism: String::new(),
            edits: Vec::new(),
            says: says.to_owned(),
            hangs,
            bound: Duration::from_secs(9),
        }
    }

    #[test]
    fn only_a_failure_with_the_right_words_proves_something() {
        let words: &[&str] = &["thread panicked at x:", " 3 rows lost "];
        let cases = [
            (false, End::Failed, words, Ok("3 rows lost")),
            (
                false,
                End::Failed,
                &["panicked at x:", "", "no server"][..],
                Err("nothing about \"rows lost\": no server"),
            ),
            (false, End::Passed, words, Err("the test passes without it")),
            (false, End::Hung, words, Err("the test was killed after 9 s")),
            (false, End::Missing, words, Err("there is no such test")),
            (true, End::Hung, words, Ok("nothing more for 9 s after: 3 rows lost")),
            (true, End::Hung, &["running"], Err("nothing about \"rows lost\": running")),
            (true, End::Failed, words, Err("the test fails instead of hanging for 9 s")),
            (true, End::Passed, words, Err("the test passes without it")),
        ];
        for (hangs, end, lines, expected) in cases {
            let found = judge(&proof("rows lost", hangs), &ran(end, lines));
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{end:?} {lines:?}");
        }
        let silent = judge(&proof("", true), &ran(End::Hung, &["running"]));
        assert_eq!(silent, Ok("nothing more for 9 s".to_owned()));
    }

    #[test]
    fn a_test_must_pass_in_silence_first() {
        let check = |end, lines: &[&str], expected: Option<&str>| {
            let found = fault(&proof("rows lost", false), &ran(end, lines));
            assert_eq!(found.as_deref(), expected);
        };
        check(End::Passed, &["running 1 test"], None);
        check(End::Passed, &["0 rows lost"], Some("the test says \"rows lost\" as it is"));
        check(End::Missing, &[], Some("there is no such test"));
        check(End::Hung, &[], Some("the test does not end within 9 s as it is"));
        check(End::Failed, &["panicked at x:", "no"], Some("the test fails as it is: no"));
    }
}
