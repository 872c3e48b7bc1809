//! Several figures of every round of every side, and how they are reported.

use crate::cache::{Table, compare_all};
use crate::report::Goal;

/// Name and unit of a figure.
pub type Column = (&'static str, &'static str);

/// One table for each of `N` figures, all of the same sides.
pub struct Tables<const N: usize> {
    what: String,
    columns: [Column; N],
    tables: [Table; N],
}

impl<const N: usize> Tables<N> {
    /// Empty ones of these sides, ours first.
    pub fn new<'a>(
        what: impl Into<String>,
        columns: [Column; N],
        sides: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let table: Table = sides.into_iter().map(|side| (side.to_owned(), Vec::new())).collect();
        Self { what: what.into(), columns, tables: std::array::from_fn(|_| table.clone()) }
    }

    /// Adds a round of one side.
    pub fn push(&mut self, side: usize, figures: [f64; N]) {
        for (table, figure) in self.tables.iter_mut().zip(figures) {
            table[side].1.push(figure);
        }
    }

    /// One figure of all sides.
    pub fn table(&self, name: &str) -> &Table {
        let index = self.columns.iter().position(|(column, _)| *column == name);
        &self.tables[index.expect("a column has that name")]
    }

    /// One figure of ours.
    pub fn ours(&self, name: &str) -> &[f64] {
        self.table(name).first().map_or(&[], |(_, rounds)| rounds)
    }

    /// The case that a figure is reported as.
    pub fn case(&self, name: &str) -> String {
        format!("{}: {name}", self.what)
    }

    /// Reports all figures; a goal is for a figure and a peer.
    pub fn report(&self, goal: impl Fn(&str, &str) -> Option<Goal>) {
        for ((name, unit), table) in self.columns.iter().zip(&self.tables) {
            compare_all(&self.case(name), unit, table, |peer| goal(name, peer));
        }
        eprintln!("  {}", self.what);
        for (index, (side, _)) in self.tables.first().into_iter().flatten().enumerate() {
            let figures = self.columns.iter().zip(&self.tables);
            let figures = figures
                .map(|((name, _), table)| format!("{name} {:.4?}", table[index].1))
                .collect::<Vec<_>>();
            eprintln!("    {side}: {}", figures.join(", "));
        }
    }

    /// A goal of ours alone: the figure is nothing in every round.
    pub fn zero(&self, wanted: &str, name: &str, peer: &str) -> Option<Goal> {
        let first_peer = self.tables.first()?.get(1)?.0.as_str();
        (name == wanted && peer == first_peer).then_some(Goal::Zero)
    }
}
