//! Where commands and answers end in what a connection to Redis carries (RESP3).

/// Words of a command.
pub(crate) type Words = Vec<Vec<u8>>;

/// The first command and its length, if it is complete: an array of strings.
pub(crate) fn command(sent: &[u8]) -> Option<(Words, usize)> {
    let (count, mut at) = header(sent, 0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (length, from) = header(sent, at)?;
        let length = usize::try_from(length).ok()?;
        words.push(sent.get(from..from + length)?.to_vec());
        at = from + length + 2;
    }
    (at <= sent.len()).then_some((words, at))
}

/// Length of the first answer, if it is complete.
pub(crate) fn answer(sent: &[u8]) -> Option<usize> {
    end_of(sent, 0)
}

/// Whether an answer belongs to no command.
pub(crate) fn is_push(answer: &[u8]) -> bool {
    answer.first() == Some(&b'>')
}

fn end_of(sent: &[u8], at: usize) -> Option<usize> {
    let kind = *sent.get(at)?;
    let (number, after) = match kind {
        b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => header(sent, at)?,
        _ => (0, line_end(sent, at)?),
    };
    let parts = match kind {
        b'$' | b'=' | b'!' => {
            let Ok(length) = usize::try_from(number) else { return Some(after) };
            let end = after + length + 2;
            return (end <= sent.len()).then_some(end);
        }
        b'*' | b'~' | b'>' => number,
        b'%' => 2 * number,
        // What is said about an answer comes before it.
        b'|' => 2 * number + 1,
        _ => 0,
    };
    (0..parts).try_fold(after, |at, _| end_of(sent, at))
}

/// The number in the line at `at`, and where the next one begins.
fn header(sent: &[u8], at: usize) -> Option<(i64, usize)> {
    let end = line_end(sent, at)?;
    let digits = sent.get(at + 1..end - 2)?;
    Some((str::from_utf8(digits).ok()?.parse().ok()?, end))
}

fn line_end(sent: &[u8], at: usize) -> Option<usize> {
    let rest = sent.get(at..)?;
    Some(at + rest.windows(2).position(|two| two == b"\r\n")? + 2)
}

/// Fails if a command or an answer is cut at the wrong place, whatever arrives together.
#[test]
fn commands_and_answers_are_cut_where_they_end() {
    let sent = b"*2\r\n$3\r\nGET\r\n$4\r\n*1\r\n\r\n*1\r\n$4\r\nPING\r\n";
    let (words, length) = command(sent).expect("complete");
    assert_eq!((words, length), (vec![b"GET".to_vec(), b"*1\r\n".to_vec()], 23));
    for short in 0..23 {
        assert_eq!(command(&sent[..short]), None, "{short}");
    }
    for whole in [
        "+OK\r\n",
        "$-1\r\n",
        "$3\r\n\r\n$\r\n",
        "_\r\n",
        "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n",
        "%1\r\n+a\r\n*0\r\n",
        ">2\r\n+a\r\n+b\r\n",
        "|1\r\n+a\r\n+b\r\n:7\r\n",
        "*-1\r\n",
    ] {
        let more = [whole, "+next\r\n"].concat();
        assert_eq!(answer(more.as_bytes()), Some(whole.len()), "{whole:?}");
        for short in 0..whole.len() {
            assert_eq!(answer(&whole.as_bytes()[..short]), None, "{whole:?} cut at {short}");
        }
    }
}
