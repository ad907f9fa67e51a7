//! What was measured, as rows: a figure of ours, one of the peer's, and what is made of them.

use std::time::Duration;

use serde_json::{Value, json};

/// Where a ratio, or a figure of ours where there is no peer, has to lie.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// At most so much.
    AtMost(f64),
    /// At least so much.
    AtLeast(f64),
    /// Nothing: it is told for completeness.
    Told,
}

/// One figure a round and side, of rounds in which the sides took turns.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub metric: String,
    /// Beside what.
    pub peer: Option<String>,
    /// The unit of both sides.
    pub unit: &'static str,
    /// What is to be reached.
    pub goal: Goal,
    /// Ours, one for each round.
    pub ours: Vec<f64>,
    /// The peer's, one for each round.
    pub theirs: Vec<f64>,
    /// How much the machine itself varied meanwhile: the slowest twentieth of equal pieces of work beside the middle one.
    pub unrest: f64,
}

/// Above this, pieces of work that are equal took so different times that ratios mean little.
pub const UNREST_MAX: f64 = 1.5;
/// Above this, one round's ratio is so far from another's that their median means little.
const SPREAD_MAX: f64 = 2.0;

impl Row {
    /// The middle of ours.
    #[must_use]
    pub fn our_median(&self) -> f64 {
        median(&self.ours)
    }

    /// The middle of the peer's.
    #[must_use]
    pub fn their_median(&self) -> Option<f64> {
        self.peer.as_ref().map(|_| median(&self.theirs))
    }

    /// Ours by theirs: the middle of the rounds' ratios.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|_| median(&self.ratios()))
    }

    fn ratios(&self) -> Vec<f64> {
        self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs).collect()
    }

    /// The least and the most of the rounds' ratios; of ours where there is no peer.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        let of = if self.peer.is_some() { self.ratios() } else { self.ours.clone() };
        of.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), one| (least.min(*one), most.max(*one)))
    }

    /// Whether it is reached; nothing to reach is neither.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let figure = self.ratio().unwrap_or_else(|| self.our_median());
        match self.goal {
            Goal::AtMost(most) => Some(figure <= most),
            Goal::AtLeast(least) => Some(figure >= least),
            Goal::Told => None,
        }
    }

    /// Whether the machine was too restless for this figure to decide anything.
    #[must_use]
    pub fn is_noisy(&self) -> bool {
        let (least, most) = self.spread();
        self.unrest > UNREST_MAX || most > least * SPREAD_MAX
    }

    /// As an object of `results.json`.
    #[must_use]
    pub fn json(&self) -> Value {
        let (least, most) = self.spread();
        json!({
            "metric": self.metric, "peer": self.peer, "ours": self.our_median(), "theirs": self.their_median(), "unit": self.unit,
            "ratio": self.ratio(), "goal": self.goal_words(), "met": self.met(), "spread": [least, most], "noisy": self.is_noisy(),
        })
    }

    /// As a line of a Markdown table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let (least, most) = self.spread();
        let theirs = self.their_median().map_or_else(String::new, |theirs| format!("{} {}", figure(theirs), self.unit));
        let ratio = self.ratio().map_or_else(String::new, |ratio| format!("{} ×", figure(ratio)));
        let met = match self.met() {
            _ if self.is_noisy() => "noisy",
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        format!(
            "| {} | {} | {} {} | {theirs} | {ratio} | {} to {} | {} | {met} |",
            self.metric,
            self.peer.as_deref().unwrap_or_default(),
            figure(self.our_median()),
            self.unit,
            figure(least),
            figure(most),
            self.goal_words().unwrap_or_default(),
        )
    }

    fn goal_words(&self) -> Option<String> {
        let unit = if self.peer.is_some() { "×" } else { self.unit };
        match self.goal {
            Goal::AtMost(most) => Some(format!("≤ {most} {unit}")),
            Goal::AtLeast(least) => Some(format!("≥ {least} {unit}")),
            Goal::Told => None,
        }
    }
}

/// The head of the table that [`Row::markdown`]'s lines belong to.
pub const TABLE_HEAD: &str = "| metric | beside | ours | theirs | ratio | rounds | goal | met |\n|---|---|---|---|---|---|---|---|";

/// The middle one; the mean of both where there are two.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    if sorted.len().is_multiple_of(2) && !sorted.is_empty() {
        f64::midpoint(at(sorted.len() / 2 - 1), at(sorted.len() / 2))
    } else {
        at(sorted.len() / 2)
    }
}

/// The value below which that share of them lies.
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// In three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// In milliseconds.
#[must_use]
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// In microseconds.
#[must_use]
pub fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: &[f64], theirs: &[f64], goal: Goal) -> Row {
        let (metric, peer) = ("one".to_owned(), Some("another".to_owned()));
        Row { metric, peer, unit: "ms", goal, ours: ours.to_vec(), theirs: theirs.to_vec(), unrest: 1.0 }
    }

    #[test]
    fn a_ratio_is_the_middle_of_the_rounds() {
        let row = row(&[1.0, 2.0, 30.0], &[10.0, 10.0, 100.0], Goal::AtMost(0.2));
        assert_eq!((row.ratio(), row.met(), row.spread()), (Some(0.2), Some(true), (0.1, 0.3)));
        assert!(row.is_noisy(), "one round is three times another");
        assert_eq!(row.json()["goal"], "≤ 0.2 ×");
    }

    #[test]
    fn a_figure_without_a_peer_is_held_against_its_goal_itself() {
        let row = Row { peer: None, theirs: Vec::new(), ..row(&[900.0], &[], Goal::AtMost(1000.0)) };
        assert_eq!((row.ratio(), row.met(), row.is_noisy()), (None, Some(true), false));
        assert!(Row { unrest: 1.6, ..row.clone() }.is_noisy(), "the machine was not quiet");
        assert_eq!(Row { goal: Goal::AtLeast(1000.0), ..row }.met(), Some(false));
    }

    #[test]
    fn shares_of_values() {
        let values: Vec<_> = (1..=100).map(f64::from).collect();
        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99), percentile(&values, 1.0)), (50.0, 99.0, 100.0));
        assert_eq!(median(&[3.0, 1.0]), 2.0);
    }
}
