//! What `cargo xtask` runs: the one-command environment, tests and checks.

use std::ffi::OsString;
use std::process::ExitCode;

use forebay_provision::guard;

use crate::workspace::Workspace;

mod bench;
mod cache;
mod call;
mod cargo;
mod chaos;
mod ci;
mod codegen;
mod data;
mod dev;
mod doctor;
mod down;
mod ephemeral;
mod fleet;
mod listing;
mod logs;
mod page;
mod pools;
mod proto_lint;
mod prove;
mod say;
mod settings;
mod signals;
mod state;
mod status;
mod stdout;
mod testing;
mod tidy;
mod trace;
mod workspace;

const HELP: &str = "\
cargo xtask COMMAND

  dev [--detach]       everything, running: stores, services, traces
  status [--json]      what runs where
  logs [-f]            what the processes wrote
  pools [--watch] [--json]
                       their connection pools: who holds, who waits, what failed
  cache [--watch] [--json]
                       their caches: hits, memory, whether Redis is trusted and why not
  cache inspect|evict|clear ...
                       looks at an entry, drops it, or drops all
  down                 end it
  env                  addresses as lines for a shell
  doctor [--json]      what this machine offers and lacks

  test [ARGS]          run every test on a Postgres and a Redis made for the run
  prove [-p PACKAGE]   switch mechanisms off and see their tests fail
  ci [--keep-going]    everything a change must pass
  chaos cache [--minutes N]
                       three replicas under faults: is every read as fresh as was promised?
  bench [NAME]         us and the peers, interleaved in one run
  tidy                 the rules of the house
  codegen [--check]    the committed gRPC code, the pages of settings and guarantees
  proto lint           the contracts
  migrate              the schema of the instance's database
  seed [--scale N]     its data
  call [pkg.Service[/Method] ['{json}']]
                       any method of a running service; lists them without one
  trace ls | show ID   the traces that the built-in receiver has kept

Each command explains itself with --help.";

type Run = fn(Vec<OsString>, &Workspace) -> anyhow::Result<ExitCode>;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    if command == guard::ARGUMENT {
        guard::main();
        return ExitCode::SUCCESS;
    }
    let Some(run) = command.to_str().and_then(find) else {
        return help(&command);
    };
    match Workspace::find().and_then(|workspace| run(args.collect(), &workspace)) {
        Ok(code) => code,
        Err(error) => {
            say::warn(&format!("{}: {error:#}", command.display()));
            ExitCode::FAILURE
        }
    }
}

fn find(command: &str) -> Option<Run> {
    Some(match command {
        "bench" => bench::run,
        "cache" => cache::run,
        "ci" => ci::run,
        "dev" => dev::run,
        "doctor" => doctor::run,
        "down" => down::run,
        "env" => status::env,
        "logs" => logs::run,
        "status" => status::run,
        "codegen" => codegen::run,
        "call" => call::run,
        "chaos" => chaos::run,
        "migrate" => data::migrate,
        "pools" => pools::run,
        "seed" => data::seed,
        "proto" => proto_lint::run,
        "prove" => prove::run,
        "test" => testing::run,
        "tidy" => tidy::run,
        "trace" => trace::run,
        _ => return None,
    })
}

fn help(command: &OsString) -> ExitCode {
    const USAGE_ERROR: u8 = 2;
    if command.is_empty() || command == "help" || command == "--help" || command == "-h" {
        say::line(HELP);
        return ExitCode::SUCCESS;
    }
    say::warn(&format!("no command {}\n\n{HELP}", command.display()));
    ExitCode::from(USAGE_ERROR)
}

#[cfg(test)]
mod tests {
    use super::find;

    /// Fails when a page sends its reader to a command that does not exist.
    #[test]
    fn every_command_in_the_pages_exists() {
        for (name, page) in [
            ("README.md", include_str!("../../../README.md")),
            ("docs/troubleshooting.md", include_str!("../../../docs/troubleshooting.md")),
            ("docs/settings.md", include_str!("../../../docs/settings.md")),
            ("docs/guarantees.md", include_str!("../../../docs/guarantees.md")),
        ] {
            let named: Vec<&str> = page.split("cargo xtask ").skip(1).collect();
            assert!(!named.is_empty(), "{name}");
            for text in named {
                // A line may break inside the command.
                let word = text.split(|c: char| !c.is_ascii_lowercase()).find(|w| !w.is_empty());
                assert!(word.and_then(find).is_some(), "{name}: cargo xtask {word:?}");
            }
        }
    }
}
