//! The JSON document keeps its shape, running or not.

use super::*;
use crate::state::Health;
use forebay_provision::proc_table::Identity;

fn keys(json: &Json) -> Vec<&str> {
    json.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_document_has_its_shape_before_the_first_start_and_while_it_runs() {
    let root = std::env::temp_dir().join(format!("forebay-status-{}", std::process::id()));
    let workspace = Workspace { root: root.clone() };
    let instance = workspace.instance(None).unwrap();
    let never = current(&instance).unwrap();
    let mut running = State::new(&instance, Identity::own());
    running.backends.postgres.url = Some("postgres://u:secret@h/d".to_owned());
    running.backends.traces.otlp = Some("127.0.0.1:4317".to_owned());
    running.services[0].state = Health::Ready;
    for state in [&never, &running] {
        let json = document(state, &instance);
        assert_eq!(keys(&json), ["backends", "instance", "services"]);
        assert_eq!(json["instance"], "default");
        let names: Vec<&Json> =
            json["services"].as_array().unwrap().iter().map(|service| &service["name"]).collect();
        assert_eq!(names, ["token-server", "pool-server"]);
        assert_eq!(keys(&json["services"][0]), ["grpc", "name", "ops", "pid", "state"]);
        assert_eq!(keys(&json["backends"]), ["postgres", "redis", "traces"]);
        assert_eq!(keys(&json["backends"]["postgres"]), ["source", "url"]);
        assert_eq!(keys(&json["backends"]["traces"]), ["otlp", "query", "source"]);
        assert!(!json.to_string().contains("secret"));
    }
    assert_eq!(document(&never, &instance)["services"][0]["state"], "stopped");
    let json = document(&running, &instance);
    assert_eq!(json["services"][0]["state"], "ready");
    assert!(json["backends"]["traces"]["query"].as_str().unwrap().starts_with("file://"));
}

#[test]
fn a_dead_supervisor_is_not_believed() {
    let root = std::env::temp_dir().join(format!("forebay-dead-{}", std::process::id()));
    let workspace = Workspace { root: root.clone() };
    let instance = workspace.instance(None).unwrap();
    instance.create().unwrap();
    let mut state = State::new(&instance, Identity { started: 0, ..Identity::own() });
    state.phase = Phase::Ready;
    state.services[0].state = Health::Ready;
    state.services[0].pid = Some(1);
    state.save(&instance.state_file()).unwrap();
    let now = current(&instance).unwrap();
    assert_eq!(describe(&now), "stopped");
    assert_eq!(now.services[0].state, Health::Stopped);
    assert_eq!(now.services[0].pid, None);
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn values_survive_the_shell() {
    assert_eq!(quoted("a b"), "'a b'");
    assert_eq!(quoted("it's"), r"'it'\''s'");
}
