//! A statement with the name under which it appears in traces.

use std::borrow::Cow;

/// One SQL statement: a constant text with parameters `$1`, `$2`, … and a summary.
///
/// Values never become part of the text; they are bound. The text is what a
/// trace shows, so it holds nothing secret.
#[derive(Debug, Clone)]
pub struct Sql {
    summary: &'static str,
    text: Cow<'static, str>,
    is_planned_each_time: bool,
    is_pipelined: bool,
}

impl Sql {
    /// A constant statement; `summary` is its operation and its table, such as `SELECT tokens`.
    pub const fn new(summary: &'static str, text: &'static str) -> Self {
        Self::of(summary, Cow::Borrowed(text))
    }

    /// A statement put together from constant fragments at run time.
    ///
    /// Every distinct text is prepared once per connection, so the number of
    /// distinct texts must be small.
    pub const fn owned(summary: &'static str, text: String) -> Self {
        Self::of(summary, Cow::Owned(text))
    }

    /// The same statement, planned for the values of each call.
    ///
    /// After some calls the server may settle on one plan for all values of a
    /// prepared statement. Where the best plan depends on them, such as a
    /// filter that is rare for one value and common for another, that plan can
    /// be a scan of the whole table. Planning each time costs some ten
    /// microseconds, which a lookup by key should not pay.
    #[must_use]
    pub const fn planned_each_time(mut self) -> Self {
        self.is_planned_each_time = true;
        self
    }

    /// The same statement, sent on a connection that it shares with others of its kind.
    ///
    /// For reads that are certainly short, such as a lookup by key: answers
    /// come back in the order in which the statements were sent, so a slow one
    /// holds up those behind it. A transaction pays no attention to this, and
    /// neither does a statement that is no read.
    #[must_use]
    pub const fn pipelined(mut self) -> Self {
        self.is_pipelined = true;
        self
    }

    const fn of(summary: &'static str, text: Cow<'static, str>) -> Self {
        Self { summary, text, is_planned_each_time: false, is_pipelined: false }
    }

    /// Operation and table, the name of its span.
    pub fn summary(&self) -> &'static str {
        self.summary
    }

    /// The text sent to the server.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The first word of the summary: `SELECT`, `INSERT`, …
    pub fn operation(&self) -> &'static str {
        self.summary.split(' ').next().unwrap_or(self.summary)
    }

    /// Whether the server is to plan every call anew.
    pub(crate) fn is_planned_each_time(&self) -> bool {
        self.is_planned_each_time
    }

    /// Whether it may share a connection with others.
    pub(crate) fn is_pipelined(&self) -> bool {
        self.is_pipelined
    }

    /// Whether repeating the statement is harmless as far as its first word tells.
    pub(crate) fn is_read(&self) -> bool {
        ["select", "values", "table", "show", "explain"].iter().any(|word| self.starts_with(word))
    }

    /// Whether the statement would leave a trace in the session for the next user of the connection.
    pub(crate) fn changes_session(&self) -> bool {
        const WORDS: [&str; 16] = [
            "begin",
            "start",
            "commit",
            "end",
            "rollback",
            "abort",
            "savepoint",
            "release",
            "set",
            "reset",
            "listen",
            "unlisten",
            "prepare",
            "deallocate",
            "declare",
            "discard",
        ];
        WORDS.iter().any(|word| self.starts_with(word))
    }

    fn starts_with(&self, word: &str) -> bool {
        let text = self.text.trim_start().as_bytes();
        let follows = text.get(word.len());
        text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
            && !follows.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    }
}

#[cfg(test)]
mod tests {
    //! What the text says about itself.

    use super::Sql;

    #[test]
    fn first_word_decides() {
        let cases = [
            ("SELECT 1", true, false),
            ("\n  select 1", true, false),
            ("selection", false, false),
            ("WITH x AS (INSERT INTO t VALUES (1)) SELECT 1", false, false),
            ("insert into t values (1)", false, false),
            ("BEGIN", false, true),
            ("set local x = 1", false, true),
            ("settle", false, false),
            ("", false, false),
        ];
        for (text, is_read, changes_session) in cases {
            let sql = Sql::new("SELECT t", text);
            assert_eq!(
                (sql.is_read(), sql.changes_session()),
                (is_read, changes_session),
                "{text}"
            );
        }
    }

    #[test]
    fn operation_is_the_first_word_of_the_summary() {
        assert_eq!(Sql::new("SELECT tokens", "").operation(), "SELECT");
        assert_eq!(Sql::new("BEGIN", "").operation(), "BEGIN");
    }
}
