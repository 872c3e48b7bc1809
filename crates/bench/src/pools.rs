//! The connection pools of the product against those that others write.

use forebay_config::{Config, Invocation};

use crate::report::{Case, Goal};
use crate::rounds::Rounds;
use crate::side::{Figures, Side};

pub mod external;
pub mod gate;
pub mod ioredis;
pub mod postgres;
pub mod redis;

/// Name of the bench.
pub const BENCH: &str = "pools";
/// Numbers of tasks: alone, one a connection, and two crowds.
const TASKS: [usize; 4] = [1, 8, 64, 512];
/// Connections of every side that has connections.
pub const CONNECTIONS: u32 = 8;

/// The part of the bench that is run: all of it, unless somebody looks into one side.
#[derive(Debug)]
pub struct Selection {
    /// Numbers of tasks.
    pub tasks: Vec<usize>,
    sides: Vec<String>,
}

impl Selection {
    /// What the arguments of the program ask for: a number is one of tasks, anything else the
    /// beginning of a side's name.
    pub fn from_args(args: impl Iterator<Item = String>) -> Self {
        let (mut tasks, mut sides) = (Vec::new(), Vec::new());
        for arg in args {
            match arg.parse() {
                Ok(number) => tasks.push(number),
                Err(_) => sides.push(arg),
            }
        }
        if tasks.is_empty() {
            tasks.extend(TASKS);
        }
        Self { tasks, sides }
    }

    /// Whether some sides are left out.
    pub fn is_narrow(&self) -> bool {
        !self.sides.is_empty()
    }

    /// Leaves out the sides that nobody asked for.
    pub fn narrow(&self, sides: &mut Vec<Side>) {
        sides.retain(|side| {
            self.sides.is_empty() || self.sides.iter().any(|wanted| side.name.starts_with(wanted))
        });
    }
}

/// One side of a run, by the first that begins so.
pub fn named<'a>(all: &'a [Rounds], name: &str) -> Option<&'a Rounds> {
    all.iter().find(|side| side.name.starts_with(name))
}

/// Our settings: the defaults and `flags`, such as `--postgres.connections_max=8`.
///
/// # Errors
/// When a flag is no setting.
pub fn settings(flags: &[String]) -> anyhow::Result<Config> {
    let environment: [(&str, &str); 0] = [];
    let loaded = forebay_config::load("token-server", &Invocation::new(flags, environment))?;
    Ok(loaded.config)
}

/// Reports every figure that both sides tell; `goal` is for the ratio of the throughputs.
pub fn compare(what: &str, tasks: usize, ours: &Rounds, peer: &Rounds, goal: Option<Goal>) {
    type Read = fn(&Figures) -> Option<f64>;
    let figures: [(&str, &str, Read); 6] = [
        ("throughput", "ops/s", |figures| Some(figures.throughput)),
        ("median wait", "us", |figures| figures.waits.map(|waits| waits.p50_us)),
        ("p99 wait", "us", |figures| figures.waits.map(|waits| waits.p99_us)),
        ("p99.9 wait", "us", |figures| figures.waits.and_then(|waits| waits.p999_us)),
        ("longest wait", "us", |figures| figures.waits.map(|waits| waits.max_us)),
        ("least-served task", "of the mean", |figures| figures.least_share),
    ];
    for (index, (name, unit, read)) in figures.into_iter().enumerate() {
        let (Some(our_figures), Some(their_figures)) = (ours.figure(read), peer.figure(read))
        else {
            continue;
        };
        let case = Case {
            bench: BENCH,
            case: format!("{what}, {tasks} tasks: {name}"),
            peer: peer.name.clone(),
            unit,
            ours: our_figures,
            theirs: their_figures,
            goal: goal.filter(|_| index == 0),
        };
        println!("{}", case.json());
    }
}

/// Reports one figure of ours against a bound that does not depend on a peer.
pub fn bound(case: String, unit: &'static str, figures: Vec<f64>, bound: f64) {
    let case = Case {
        bench: BENCH,
        case,
        peer: "the bound".to_owned(),
        unit,
        theirs: vec![bound; figures.len()],
        ours: figures,
        goal: Some(Goal::AtMost(1.0)),
    };
    println!("{}", case.json());
}
