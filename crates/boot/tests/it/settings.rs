//! The command line: what is printed, and what is refused.

use std::process::Output;

use crate::tiny::command;

fn output(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output: Output =
        command(arguments).envs(environment.iter().copied()).output().expect("run tiny");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("tiny prints text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn bad_settings_end_with_64_and_every_problem() {
    let environment = [("FOREBAY__REDIS__LANES", "0"), ("DATABASE_URL", "mysql://u:hunter2@h")];
    let (code, stdout, stderr) = output(&["--grpc.lisen=x"], &environment);
    assert_eq!(code, Some(64));
    assert_eq!(stdout, "");
    for part in [
        "tiny: 3 problems in the settings",
        "grpc.lisen (flag --grpc.lisen): there is no such setting; did you mean grpc.listen?",
        "redis.lanes (environment FOREBAY__REDIS__LANES): expected a whole number, 1 to 256",
        "postgres.url (environment DATABASE_URL): expected a URL of the form postgres://",
    ] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn a_bad_log_filter_ends_with_64() {
    let (code, _, stderr) = output(&["--telemetry.log_filter=forebay=loud"], &[]);
    assert_eq!(code, Some(64));
    assert!(stderr.contains("telemetry.log_filter"), "{stderr}");
}

#[test]
fn commands_answer_and_end() {
    let check = |argument: &str, part: &str| {
        let environment = [("DATABASE_URL", "postgres://u:hunter2@h/d")];
        let (code, stdout, stderr) = output(&[argument], &environment);
        assert_eq!(code, Some(0), "{argument}: {stderr}");
        assert!(stdout.contains(part), "{argument}: {stdout}");
        assert!(!stdout.contains("hunter2"), "{argument}: {stdout}");
    };
    check("--version", concat!("tiny ", env!("CARGO_PKG_VERSION"), "\n"));
    check("--help", "Usage: tiny [--config FILE]");
    check("--print-defaults", "# The settings of forebay and their defaults.");
    check("--print-config", "postgres.url = \"postgres://u:[redacted]@h/d\"  # environment");
}
