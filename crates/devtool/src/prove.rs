//! `cargo xtask prove`: every guarantee's mechanism is switched off once, and its test must fail.
//!
//! The proofs are data beside the tests, `crates/*/tests/proofs.toml`. The checkout is never
//! touched: mechanisms are switched off in a copy of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use forebay_provision::guard;
use lexopt::prelude::*;

use self::proof::{Book, Proof, Target};
use self::scratch::Scratch;
use self::trial::Built;
use crate::ephemeral::{Backends, Dir, find_pgbouncer};
use crate::signals::Interrupts;
use crate::workspace::Workspace;
use crate::{cargo, say};

pub(crate) mod guarantees;
mod judge;
pub(crate) mod proof;
mod scratch;
mod trial;

const USAGE: &str = "usage: cargo xtask prove [-p PACKAGE] [FILTER] [--list]
Runs each test that crates/*/tests/proofs.toml names, first as it is and then without the mechanism
that it guards, in a copy of the checkout with a Postgres and a Redis of its own. Fails when a test
passes without its mechanism. FILTER is a part of the path of a test or of the words for a
mechanism; --list only shows what would run.";

/// What the arguments ask for.
#[derive(Debug, Default)]
struct Wanted {
    package: Option<String>,
    filter: String,
    list: bool,
}

/// A row of the table: the test, the mechanism, and what came of it.
struct Row<'a> {
    proof: &'a Proof,
    result: Result<String, String>,
}

/// Runs the proofs.
///
/// # Errors
///
/// When the arguments are wrong, nothing is to be proved, or the servers, the copy or the builds
/// fail. A mechanism whose test passes without it is not an error but an exit code.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some(wanted) = Wanted::read(args)? else {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let books = wanted.select(Book::all(&workspace.root)?);
    if books.is_empty() {
        bail!("no proof is called so; see cargo xtask prove --list");
    }
    if wanted.list {
        for (book, proof) in
            books.iter().flat_map(|book| book.proofs.iter().map(move |p| (book, p)))
        {
            say::line(&format!("{} | {} | {}", book.name(), proof.test, proof.mechanism));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    let code = runtime.block_on(run_in(books, workspace.clone()));
    // What was interrupted is not waited for.
    runtime.shutdown_background();
    guard::close();
    code
}

async fn run_in(books: Vec<Book>, workspace: Workspace) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::install().context("listen for signals")?;
    guard::install(&cargo::own_program()?).context("start the guard")?;
    let dir = Dir::create()?;
    let servers = dir.path().to_path_buf();
    let work = tokio::task::spawn_blocking(move || {
        let scratch = Scratch::open(&workspace)?;
        let pgbouncer = find_pgbouncer()?;
        let backends = Backends::start(&servers)?;
        let env = backends.environment(&cargo::own_program()?, &pgbouncer)?;
        let mut rows = Vec::new();
        for book in &books {
            rows.extend(prove(&scratch, book, &env)?);
        }
        backends.stop();
        print_table(&rows);
        let proved = rows.iter().all(|row| row.result.is_ok());
        anyhow::Ok(if proved { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    });
    tokio::select! {
        done = work => done.context("run the proofs")?,
        () = interrupts.at_least(1) => {
            const BY_SIGNAL_INT: u8 = 130;
            say::warn("prove: stopped");
            Ok(ExitCode::from(BY_SIGNAL_INT))
        }
    }
}

/// Proves one crate: each of its tests as it is, once, and then without each of its mechanisms.
fn prove<'a>(
    scratch: &Scratch,
    book: &'a Book,
    env: &[(&'static str, OsString)],
) -> anyhow::Result<Vec<Row<'a>>> {
    // What a test starts is found beside its copy.
    let started = ("FOREBAY_TEST_BIN_DIR", scratch.bin_dir().into_os_string());
    let env_of = |proof: &Proof| {
        let further = (!proof.starts.is_empty()).then(|| started.clone());
        env.iter().cloned().chain(further).collect::<Vec<_>>()
    };
    let programs = build_all(scratch, book)?;
    let folder = scratch.folder(book);
    let mut faults = BTreeMap::new();
    let mut rows = Vec::new();
    for proof in &book.proofs {
        let at = (&proof.test, &proof.says);
        if let Entry::Vacant(place) = faults.entry(at) {
            let program = &programs[&(proof.target, &proof.starts)];
            let ran = trial::test(program, &folder, proof, &env_of(proof))?;
            place.insert(judge::fault(proof, &ran));
        }
    }
    for proof in &book.proofs {
        let result = match &faults[&(&proof.test, &proof.says)] {
            Some(fault) => Err(fault.clone()),
            None => without(scratch, book, proof, &env_of(proof))?,
        };
        let row = Row { proof, result };
        say::line(&row.line());
        rows.push(row);
    }
    Ok(rows)
}

/// The programs of tests, by their names and what they start.
type Programs<'a> = BTreeMap<(Target, &'a Vec<String>), PathBuf>;

fn build_all<'a>(scratch: &Scratch, book: &'a Book) -> anyhow::Result<Programs<'a>> {
    let mut programs = BTreeMap::new();
    for proof in &book.proofs {
        if let Entry::Vacant(place) = programs.entry((proof.target, &proof.starts)) {
            match trial::build(scratch, book, proof)? {
                Built::Program(program) => place.insert(program),
                Built::Error(error) => bail!("{} does not compile: {error}", book.name()),
            };
        }
    }
    Ok(programs)
}

/// What the test of one proof says while its mechanism is off, or why that proves nothing.
fn without(
    scratch: &Scratch,
    book: &Book,
    proof: &Proof,
    env: &[(&'static str, OsString)],
) -> anyhow::Result<Result<String, String>> {
    let off = match scratch.switch_off(book, proof) {
        Ok(off) => off,
        Err(error) => return Ok(Err(format!("cannot be switched off: {error:#}"))),
    };
    let result = match trial::build(scratch, book, proof)? {
        Built::Program(program) => {
            let ran = trial::test(&program, &scratch.folder(book), proof, env)?;
            judge::judge(proof, &ran)
        }
        Built::Error(error) => Err(format!("does not compile: {error}")),
    };
    off.restore()?;
    Ok(result)
}

fn print_table(rows: &[Row<'_>]) {
    let survived = rows.iter().filter(|row| row.result.is_err()).count();
    say::line("\ntest | mechanism off | what the test said");
    for row in rows {
        let said =
            row.result.as_ref().map_or_else(|why| format!("NOT PROVED: {why}"), String::clone);
        say::line(&format!("{} | {} | {said}", row.proof.test, row.proof.mechanism));
    }
    say::line(&format!("\n{} proved, {survived} not", rows.len() - survived));
}

impl Row<'_> {
    fn line(&self) -> String {
        let Proof { test, mechanism, .. } = self.proof;
        match &self.result {
            Ok(said) => format!("proved      {test} needs: {mechanism} ({said})"),
            Err(why) => format!("NOT PROVED  {test} needs: {mechanism} ({why})"),
        }
    }
}

impl Wanted {
    /// The arguments; `None` when they ask for help.
    fn read(args: Vec<OsString>) -> anyhow::Result<Option<Self>> {
        let mut wanted = Self::default();
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next().context(USAGE)? {
            match arg {
                Short('p') | Long("package") => {
                    let package = parser.value()?.string()?;
                    let folder = package.strip_prefix("forebay-").unwrap_or(&package);
                    wanted.package = Some(folder.to_owned());
                }
                Long("list") => wanted.list = true,
                Long("help") | Short('h') => return Ok(None),
                Value(filter) if wanted.filter.is_empty() => wanted.filter = filter.string()?,
                _ => bail!("{USAGE}"),
            }
        }
        Ok(Some(wanted))
    }

    fn select(&self, mut books: Vec<Book>) -> Vec<Book> {
        let named = |proof: &Proof| {
            proof.test.contains(&self.filter) || proof.mechanism.contains(&self.filter)
        };
        books.retain(|book| self.package.as_ref().is_none_or(|name| name == book.name()));
        for book in &mut books {
            book.proofs.retain(named);
        }
        books.retain(|book| !book.proofs.is_empty());
        books
    }
}
