//! The file of an instance: written whole, read back, and not believed when its writer is gone.

use forebay_provision::Rung;

use super::*;
use crate::workspace::Workspace;

fn state() -> State {
    let workspace = Workspace { root: PathBuf::from("/nowhere") };
    State::new(&workspace.instance(None).unwrap(), Identity::own())
}

#[test]
fn what_is_saved_is_read_back() {
    let dir = std::env::temp_dir().join(format!("forebay-state-{}", std::process::id()));
    let workspace = Workspace { root: dir.clone() };
    let instance = workspace.instance(Some("one")).unwrap();
    assert_eq!(State::load(&instance).unwrap(), None);
    instance.create().unwrap();
    let mut state = State::new(&instance, Identity::own());
    state.backends.postgres.url = Some("postgres://a:b@c/d".to_owned());
    state.save(&instance.state_file()).unwrap();
    assert_eq!(State::load(&instance).unwrap(), Some(state));
    std::fs::write(instance.state_file(), "{").unwrap();
    assert!(State::load(&instance).unwrap_err().to_string().contains("remove it"));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_supervisor_is_known_by_its_start_and_not_by_its_id_alone() {
    let mut state = state();
    assert!(state.is_running());
    state.supervisor.started += 1;
    assert!(!state.is_running());
}

#[test]
fn ports_are_read_from_addresses_and_urls() {
    let cases = [
        (Some("127.0.0.1:50051"), Some(50051)),
        (Some("http://127.0.0.1:9464"), Some(9464)),
        (Some("postgres://postgres@127.0.0.1:5432/forebay"), Some(5432)),
        (Some("file:///somewhere"), None),
        (Some(""), None),
        (None, None),
    ];
    for (address, expected) in cases {
        assert_eq!(State::port_of(address), expected, "{address:?}");
    }
}

#[test]
fn passwords_are_not_shown() {
    let cases = [
        ("postgres://u:secret@h:1/d?x=a@b", "postgres://u:***@h:1/d?x=a@b"),
        ("redis://:p@ss@h", "redis://:***@h"),
        ("postgres://u@h/d", "postgres://u@h/d"),
        ("redis://h:1", "redis://h:1"),
    ];
    for (url, expected) in cases {
        assert_eq!(redacted(url), expected);
    }
}

/// Fails when a URL of the user's counts as ours once it was used, or when a server that we start
/// from a program of the user's counts as theirs.
#[test]
fn what_the_user_named_is_never_our_own() {
    let rungs = Rung::ALL.map(|rung| (rung.name(), true));
    for (source, ours) in rungs.into_iter().chain([(ENVIRONMENT, false), ("built-in", true)]) {
        let (url, source) = (Some("there:1".to_owned()), Some(source.to_owned()));
        let traces = Traces { otlp: url.clone(), query: None, source: source.clone() };
        let backend = Backend { url, source, pid: None };
        let expected = ours.then_some("there:1");
        assert_eq!((backend.own(), traces.own()), (expected, expected), "{backend:?}");
    }
}
