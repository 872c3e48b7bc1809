//! Medians, ratios, and the one line a case is reported in.

use serde_json::{Value, json};

/// One finished case: the same work by us and by a peer.
#[derive(Debug)]
pub struct Case {
    /// Bench, such as `grpc`.
    pub bench: &'static str,
    /// What was compared.
    pub case: String,
    /// Who we were compared with.
    pub peer: String,
    /// Unit of the figures.
    pub unit: &'static str,
    /// Our figure of each round.
    pub ours: Vec<f64>,
    /// The peer's figure of each round.
    pub theirs: Vec<f64>,
    /// What the ratio ours / theirs must reach, when there is a goal.
    pub goal: Option<Goal>,
}

/// What a ratio must reach.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
    /// Ours must be nothing in every round; there is no ratio.
    Zero,
}

impl Case {
    /// Median over the rounds of ours / theirs in the same round.
    pub fn ratio(&self) -> f64 {
        let ratios = self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs);
        median(ratios.collect())
    }

    /// One JSON object, without a line end.
    pub fn json(&self) -> String {
        let ratio = self.ratio();
        let (goal, met) = match self.goal {
            None => (Value::Null, Value::Null),
            Some(Goal::AtLeast(bound)) => (json!(format!(">= {bound}")), json!(ratio >= bound)),
            Some(Goal::Zero) => {
                (json!("= 0"), json!(self.ours.iter().all(|figure| *figure == 0.0)))
            }
            Some(Goal::AtMost(bound)) => (json!(format!("<= {bound}")), json!(ratio <= bound)),
        };
        json!({
            "bench": self.bench,
            "case": self.case,
            "ours": round(median(self.ours.clone())),
            "peer": self.peer,
            "theirs": round(median(self.theirs.clone())),
            "unit": self.unit,
            "ratio": (ratio * 1000.0).round() / 1000.0,
            "goal": goal,
            "met": met,
        })
        .to_string()
    }
}

/// A peer that could not be run: the keys of a case, no figures, and why in the place of the unit.
pub fn absent(bench: &str, case: &str, peer: &str, reason: &str) -> String {
    json!({
        "bench": bench,
        "case": case,
        "ours": Value::Null,
        "peer": peer,
        "theirs": Value::Null,
        "unit": format!("absent: {reason}"),
        "ratio": Value::Null,
        "goal": Value::Null,
        "met": Value::Null,
    })
    .to_string()
}

/// The median; the mean of the middle two for an even count, NaN for none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Four significant figures are more than a shared machine can repeat.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powf(3.0 - value.abs().log10().floor());
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_ignores_outliers() {
        assert_eq!(median(vec![3.0, 1.0, 1000.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
