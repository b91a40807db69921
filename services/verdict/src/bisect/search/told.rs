//! What a search came to, in words and numbers. May not: conclude anything.

use regatta_model::report::{Belief, Bisected, BisectedAs};

use super::{Answer, Confirmed, Group, Posterior, Search};

/// Beliefs below this are not listed.
const LISTED_LEAST: f64 = 0.001;

/// Most values whose belief is listed.
const LISTED_MOST: usize = 100;

impl Search {
    /// What is known of a group.
    pub(super) fn of(&self, group: &Group) -> Bisected {
        let posterior = group.bisection.posterior();
        let value = |place: usize| self.values.get(place).cloned();
        let name = |place: usize| self.names.get(place).map_or("", String::as_str);
        let axis = self.axis.as_str();
        let what = named(&group.cases);
        let (result, ends, probability, text) = match group
            .end
            .map(|end| (end.answer, end.confirmed))
        {
            None => {
                let (text, probability) = self.believed(&posterior);
                (BisectedAs::Searching, (None, None), probability, text)
            }
            Some((
                Answer::Found {
                    good,
                    bad,
                    probability,
                },
                confirmed,
            )) => {
                let sure = percent(probability);
                let ends = (value(good), value(bad));
                let untested = untested(good, bad);
                let (good, bad) = (name(good), name(bad));
                if matches!(confirmed, Some(Confirmed::Regressed) | None) {
                    let text = format!(
                        "{axis} {bad} is the first that fails {what}, with a probability of {sure}; {good} is the last that \
                         passes it.{untested}"
                    );
                    (BisectedAs::Found, ends, probability, text)
                } else {
                    let text = format!(
                        "{axis} {bad} is probably the first that fails {what} ({sure}), but beside {good} the difference is not \
                         certain."
                    );
                    (BisectedAs::Unconfirmed, ends, probability, text)
                }
            }
            Some((Answer::NoCulprit { probability }, _)) => {
                let text = format!(
                    "Nothing broke {what} between {axis} {} and {} (probability {}): {}.",
                    name(0),
                    self.names.last().map_or("", String::as_str),
                    percent(probability),
                    at_the_ends(group),
                );
                (BisectedAs::None, (None, None), probability, text)
            }
            Some((
                Answer::Range {
                    good,
                    bad,
                    probability,
                    ..
                },
                _,
            )) => {
                let text = format!(
                    "The first that fails {what} is after {axis} {} and not after {} (probability {}), if there is one: {} \
                     attempts do not tell more.",
                    name(good),
                    name(bad),
                    percent(probability),
                    self.attempts,
                );
                (
                    BisectedAs::Range,
                    (value(good), value(bad)),
                    probability,
                    text,
                )
            }
            Some((Answer::Untestable, _)) => {
                let text = format!("Fewer than two values of {axis} can be tested.");
                (BisectedAs::Range, (None, None), 0.0, text)
            }
        };
        Bisected {
            axis: self.axis.clone(),
            cases: group.cases.clone(),
            result,
            last_good: ends.0,
            first_bad: ends.1,
            probability,
            none: posterior.none,
            posterior: self.beliefs(&posterior),
            runs: self.runs,
            attempts: self.attempts,
            rounds: self.rounds,
            text: format!(
                "{text} {} in {}.",
                counted(self.attempts, "attempt"),
                counted(self.rounds, "round")
            ),
        }
    }

    fn beliefs(&self, posterior: &Posterior) -> Vec<Belief> {
        let values = self.values.iter().zip(&posterior.values);
        let listed = values.filter(|(_, probability)| **probability >= LISTED_LEAST);
        let mut beliefs: Vec<Belief> = listed
            .map(|(value, probability)| Belief {
                value: value.clone(),
                probability: *probability,
            })
            .collect();
        beliefs.sort_by(|one, other| other.probability.total_cmp(&one.probability));
        beliefs.truncate(LISTED_MOST);
        beliefs
    }

    /// What is believed while it goes on, and how much the likeliest of it.
    fn believed(&self, posterior: &Posterior) -> (String, f64) {
        let mut beliefs = self.beliefs(posterior);
        beliefs.push(Belief {
            value: "none".to_owned(),
            probability: posterior.none,
        });
        beliefs.sort_by(|one, other| other.probability.total_cmp(&one.probability));
        let shown = beliefs.iter().take(3);
        let shown = shown.filter(|belief| belief.probability >= 0.01);
        let shown: Vec<String> = shown
            .map(|belief| {
                format!(
                    "{} {:.0}%",
                    belief.value,
                    (belief.probability * 100.0).floor()
                )
            })
            .collect();
        let likeliest = beliefs.first().map_or(0.0, |belief| belief.probability);
        (
            format!("first bad {} is {}.", self.axis, shown.join(", ")),
            likeliest,
        )
    }
}

/// A probability for people: never 100% where it is not.
fn percent(probability: f64) -> String {
    format!("{:.1}%", (probability * 1000.0).floor() / 10.0)
}

/// So many of something: `1 round`, `2 rounds`.
fn counted(count: u32, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// What a search is for.
fn named(cases: &[String]) -> String {
    match cases {
        [] => "the test".to_owned(),
        [case] => case.clone(),
        cases => format!("{} tests", cases.len()),
    }
}

/// How what a search is for stands at both ends, where nothing broke between them.
fn at_the_ends(group: &Group) -> &'static str {
    let ends = [group.records.first(), group.records.last()];
    match ends.map(|record| record.copied().unwrap_or_default()) {
        [first, last] if first.only_failed() && last.failed == 0 && last.runs > 0 => {
            "it fails in the first and passes in the last"
        }
        [first, last] if first.only_failed() && last.only_failed() => "it fails in both",
        _ => "they fail equally often",
    }
}

/// That nothing is known of the values between these two.
fn untested(good: usize, bad: usize) -> String {
    match good.abs_diff(bad).saturating_sub(1) {
        0 => String::new(),
        1 => " The one between them could not be tested, and may be it.".to_owned(),
        more => format!(" The {more} between them could not be tested, and one of them may be it."),
    }
}
