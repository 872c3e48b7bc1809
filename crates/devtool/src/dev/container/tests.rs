//! Which engine is used, and what it is asked, with engines that only write down what they hear.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::workspace::Workspace;

const TEST_IMAGE: &str = "jaeger:test";

fn engine(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Fails when the client of an engine that does not run counts as an engine.
#[test]
fn the_first_engine_that_answers_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = [dir.path().to_path_buf()];
    assert_eq!(Engine::find_in(&dirs, TEST_IMAGE), None);
    engine(dir.path(), "docker", "echo cannot connect to the daemon >&2; exit 1");
    assert_eq!(Engine::find_in(&dirs, TEST_IMAGE), None);
    engine(dir.path(), "podman", "test \"$1\" = info");
    let found = Engine::find_in(&dirs, TEST_IMAGE).unwrap();
    assert_eq!(found.program, dir.path().join("podman"));
    assert_eq!(Engine::find_in(&dirs, "none"), None);
}

/// Fails when the image is fetched although it is there, or is not although it is not.
#[test]
fn a_missing_image_is_fetched_and_a_refusal_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let workspace = Workspace { root: dir.path().to_path_buf() };
    let instance = workspace.instance(None).unwrap();
    instance.create().unwrap();
    let board = Board::new(&instance, false);
    let heard = dir.path().join("heard");
    let note = format!("echo \"$@\" >> {}", heard.display());
    let found = Engine { program: dir.path().join("podman"), image: TEST_IMAGE.to_owned() };
    let container = container_name(&instance);
    let run = run_args(&container, TEST_IMAGE).join(" ");
    let removal = format!("rm --force {container}");
    let inspection = format!("image inspect {TEST_IMAGE}");
    let pull = format!("pull --quiet {TEST_IMAGE}");
    let check = |script: &str, expected: &[&str]| {
        engine(dir.path(), "podman", &format!("{note}\n{script}"));
        let outcome = found.start(&board).map(|unit| {
            unit.process().unwrap().wait(ASK_TIMEOUT).expect("the client ends");
            unit.stop(&AtomicBool::new(true))
        });
        let told = std::fs::read_to_string(&heard).unwrap();
        std::fs::remove_file(&heard).unwrap();
        assert_eq!(told.lines().collect::<Vec<_>>(), expected);
        outcome
    };
    check("exit 0", &[&inspection, &removal, &run, &removal]).unwrap();
    let absent = "test \"$1\" != image";
    check(absent, &[&inspection, &pull, &removal, &run, &removal]).unwrap();
    let offline = "case $1 in image|pull) echo no route to the image >&2; exit 125;; esac";
    let error = check(offline, &[&inspection, &pull]).unwrap_err();
    assert!(format!("{error:#}").contains("no route to the image"), "{error:#}");
}
