//! Lines of several files, in the order of time, and filtered.

use super::*;

fn write(dir: &Path, name: &str, text: &str) -> (String, PathBuf) {
    let path = dir.join(format!("{name}.log"));
    std::fs::write(&path, text).unwrap();
    (name.to_owned(), path)
}

#[test]
fn files_are_merged_by_time_and_filtered_by_level_with_their_continuations() {
    let dir = std::env::temp_dir().join(format!("forebay-logs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let files = [
        write(&dir, "a", "T1 INFO one\nT4 ERROR four\nT4    at line 7\n"),
        write(&dir, "b", "T2 INFO two\nT3 WARN three\n"),
    ];
    let text = |filter: &Filter, count: usize| -> Vec<String> {
        let past = past(&files, filter, count).unwrap();
        past.lines().map(|line| line.split_once("| ").unwrap().1.to_owned()).collect()
    };
    let all = Filter::default();
    assert_eq!(text(&all, 9), ["INFO one", "INFO two", "WARN three", "ERROR four", "   at line 7"]);
    assert_eq!(text(&all, 2), ["ERROR four", "   at line 7"]);
    let bad = Filter { level: Some(Level::Warn), ..Filter::default() };
    assert_eq!(text(&bad, 9), ["WARN three", "ERROR four", "   at line 7"]);
    let two = Filter { grep: Some("two".to_owned()), ..Filter::default() };
    assert_eq!(text(&two, 9), ["INFO two"]);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_tail_gives_whole_lines_once_and_begins_again_when_the_file_does() {
    let dir = std::env::temp_dir().join(format!("forebay-tail-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (_, path) = write(&dir, "a", "old\n");
    let mut tail = Tail::at_end(path.clone()).unwrap();
    std::fs::write(&path, "old\nnew\nha").unwrap();
    assert_eq!(tail.read().unwrap(), ["new"]);
    assert!(tail.read().unwrap().is_empty());
    std::fs::write(&path, "old\nnew\nhalf\n").unwrap();
    assert_eq!(tail.read().unwrap(), ["half"]);
    std::fs::write(&path, "x\n").unwrap();
    assert_eq!(tail.read().unwrap(), ["x"]);
    std::fs::remove_file(&path).unwrap();
    assert!(tail.read().unwrap().is_empty());
    std::fs::remove_dir_all(dir).unwrap();
}
