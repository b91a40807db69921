//! A search by runs of a matrix: which values to run next, and what their reports tell of cases. Cases that behaved alike
//! in every attempt are searched for together, and apart from the attempt that tells them apart. May not: submit or wait.

mod told;

use std::collections::{BTreeMap, BTreeSet};

use regatta_model::report::{AttemptReport, Bisected, CellReport, Report, Verdict};

use super::{Answer, Bisection, NoSuchValue, Policy, Posterior, Step};
use crate::sequential::{Answer as Confirmed, Record, Rule, Sides, Told};

/// Runs of the two ends before any other value; with fewer, chance at an end costs many runs (`ops/bench verdict`).
const ENDS: u32 = 3;

/// Values that one round asks for at least, however few places there are: one at a time takes longest to tell that there is
/// nothing to find.
const WIDTH_LEAST: usize = 2;

/// Most groups of cases that are searched for apart; cases that would be one more stay with those they were with.
pub const GROUPS_MOST: usize = 16;

/// What to look for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The axis.
    pub axis: String,
    /// Its values, the oldest first.
    pub values: Vec<String>,
    /// The same as sentences name them, with their titles.
    pub names: Vec<String>,
    /// Cases, those first that probably broke together; an empty group is the test as a whole.
    pub groups: Vec<Vec<String>>,
    /// By which the first bad value is compared with the last good one.
    pub rule: Rule,
    /// Attempts of values at most.
    pub attempts_most: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Search {
    axis: String,
    values: Vec<String>,
    names: Vec<String>,
    rule: Rule,
    groups: Vec<Group>,
    attempts_most: u32,
    runs: u32,
    attempts: u32,
    rounds: u32,
}

/// Cases that behaved alike so far.
#[derive(Clone, Debug)]
struct Group {
    cases: Vec<String>,
    bisection: Bisection,
    /// What came of each value's attempts.
    records: Vec<Record>,
    /// The answer that is being confirmed, and how many attempts there were when more were asked for.
    confirming: Option<(Answer, u32)>,
    end: Option<End>,
}

/// How the search for a group ended.
#[derive(Clone, Copy, Debug)]
struct End {
    answer: Answer,
    /// Whether the first bad value and the one before it differ for certain; none where there is no such value.
    confirmed: Option<Confirmed>,
}

/// What an attempt at a value came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    Passed,
    Failed,
    /// Nothing was tested.
    Untestable,
}

impl Search {
    /// A search that knows nothing yet.
    pub fn new(wanted: Wanted) -> Self {
        let policy = Policy {
            ends: ENDS,
            ..Policy::default()
        };
        let count = wanted.values.len();
        let group = |cases| Group {
            cases,
            bisection: Bisection::new(count, policy),
            records: vec![Record::default(); count],
            confirming: None,
            end: None,
        };
        Self {
            axis: wanted.axis,
            values: wanted.values,
            names: wanted.names,
            rule: wanted.rule,
            groups: wanted.groups.into_iter().map(group).collect(),
            attempts_most: wanted.attempts_most,
            runs: 0,
            attempts: 0,
            rounds: 0,
        }
    }

    /// The next round: for each run the places of its values, none twice, as attempts of one value are runs of their own.
    /// Nothing where all is answered. `width` is how many attempts can run at once.
    pub fn next(&mut self, width: usize) -> Vec<Vec<usize>> {
        let width = width.max(WIDTH_LEAST);
        let left = self.attempts_most.saturating_sub(self.attempts);
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for group in self.groups.iter_mut().filter(|group| group.end.is_none()) {
            if left == 0 {
                group.give_up();
                continue;
            }
            // What one group asks for tells of the others, too.
            let mut asked: BTreeMap<usize, usize> = BTreeMap::new();
            for place in group.ask(width, &self.rule) {
                *asked.entry(place).or_default() += 1;
            }
            for (place, count) in asked {
                let known = counts.entry(place).or_default();
                *known = count.max(*known);
            }
            if counts.values().sum::<usize>() >= width {
                break;
            }
        }
        let mut left = usize::try_from(left).unwrap_or(usize::MAX);
        let deepest = counts.values().copied().max().unwrap_or(0);
        let layers = (0..deepest).map(|layer| {
            let places = counts.iter().filter(|(_, count)| **count > layer);
            let places: Vec<usize> = places.map(|(place, _)| *place).take(left).collect();
            left -= places.len();
            places
        });
        let layers: Vec<_> = layers.filter(|places| !places.is_empty()).collect();
        self.rounds += u32::from(!layers.is_empty());
        layers
    }

    /// Takes in what one run of a round says of its places. Tells which cannot be tested, where that was not known.
    pub fn take(&mut self, report: &Report, places: &[usize]) -> Result<Vec<usize>, NoSuchValue> {
        self.runs += 1;
        let mut skipped = Vec::new();
        for place in places {
            let value = self.values.get(*place).map_or("", String::as_str);
            let said = Said::of(report, &self.axis, value);
            let mut apart = Vec::new();
            let mut room = GROUPS_MOST.saturating_sub(self.groups.len());
            let (mut tested, mut skips) = (false, false);
            for group in self.groups.iter_mut().filter(|group| group.end.is_none()) {
                let others = group.part(&said, room);
                room -= others.len();
                for (group, seen) in others {
                    apart.push((group, seen));
                }
                let seen = group.seen(&said);
                tested |= seen != Seen::Untestable;
                skips |= group.record(*place, seen)?;
            }
            for (mut group, seen) in apart {
                tested |= seen != Seen::Untestable;
                skips |= group.record(*place, seen)?;
                self.groups.push(group);
            }
            self.attempts += u32::from(tested);
            if skips && !tested {
                skipped.push(*place);
            }
        }
        Ok(skipped)
    }

    /// Whether nothing is left to ask.
    pub fn is_over(&self) -> bool {
        self.groups.iter().all(|group| group.end.is_some())
    }

    /// Attempts of values so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What is known of each group, in the order in which they were found.
    pub fn told(&self) -> Vec<Bisected> {
        self.groups.iter().map(|group| self.of(group)).collect()
    }
}

impl Group {
    /// What to run next; nothing where it is answered.
    fn ask(&mut self, width: usize, rule: &Rule) -> Vec<usize> {
        let (answer, before) = match self.confirming {
            Some(confirming) => confirming,
            None => match self.bisection.step(width) {
                Step::Probe(places) => return places,
                Step::Done(answer) => (answer, 0),
            },
        };
        let Answer::Found { good, bad, .. } = answer else {
            return self.ended(answer, None);
        };
        let (good_told, bad_told) = (self.told(good), self.told(bad));
        let sides = Sides {
            candidate: bad_told,
            baseline: good_told,
            earlier: Record::default(),
            reruns: bad_told.reruns.runs,
            controls: good_told.reruns.runs,
            broken_before: false,
        };
        let confirmed = sides.answer(rule);
        let Confirmed::Ask {
            candidate,
            controls,
        } = confirmed
        else {
            return self.ended(answer, Some(confirmed));
        };
        let runs = |told: Told| told.first.runs + told.reruns.runs;
        let known = runs(good_told) + runs(bad_told);
        if known == before {
            // What could be tested before cannot be any more.
            return self.ended(answer, Some(Confirmed::Unresolved));
        }
        self.confirming = Some((answer, known));
        let times = |place: usize, times: u32| (0..times).map(move |_| place);
        times(bad, candidate).chain(times(good, controls)).collect()
    }

    fn ended(&mut self, answer: Answer, confirmed: Option<Confirmed>) -> Vec<usize> {
        self.end = Some(End { answer, confirmed });
        Vec::new()
    }

    /// Ends it with what is believed now.
    fn give_up(&mut self) {
        self.end = Some(match self.confirming {
            Some((answer, _)) => End {
                answer,
                confirmed: Some(Confirmed::Unresolved),
            },
            None => End {
                answer: self.bisection.best(),
                confirmed: None,
            },
        });
    }

    /// A value's attempts as the sequential test wants them: the first one raised the question.
    fn told(&self, place: usize) -> Told {
        let all = self.records.get(place).copied().unwrap_or_default();
        let first = Record {
            failed: all.failed.min(1),
            runs: all.runs.min(1),
        };
        Told {
            first,
            reruns: Record {
                failed: all.failed.saturating_sub(first.failed),
                runs: all.runs.saturating_sub(first.runs),
            },
        }
    }

    /// Parts the cases that behave in another way than most, into `room` further groups at most.
    fn part(&mut self, said: &Said<'_>, room: usize) -> Vec<(Self, Seen)> {
        if self.cases.len() < 2 {
            return Vec::new();
        }
        let mut by_seen: BTreeMap<Seen, Vec<String>> = BTreeMap::new();
        for case in &self.cases {
            by_seen
                .entry(said.case(case))
                .or_default()
                .push(case.clone());
        }
        let mut parts: Vec<(Seen, Vec<String>)> = by_seen.into_iter().collect();
        parts.sort_by_key(|(_, cases)| std::cmp::Reverse(cases.len()));
        let others = parts.iter().skip(1).take(room);
        let apart: Vec<(Self, Seen)> = others
            .map(|(seen, cases)| {
                let cases = cases.clone();
                (
                    Self {
                        cases,
                        ..self.clone()
                    },
                    *seen,
                )
            })
            .collect();
        let gone: BTreeSet<&String> = apart.iter().flat_map(|(group, _)| &group.cases).collect();
        self.cases.retain(|case| !gone.contains(case));
        apart
    }

    /// What most of its cases did.
    fn seen(&self, said: &Said<'_>) -> Seen {
        if self.cases.is_empty() {
            return said.whole;
        }
        let mut counts: BTreeMap<Seen, usize> = BTreeMap::new();
        for case in &self.cases {
            *counts.entry(said.case(case)).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        most.map_or(Seen::Untestable, |(seen, _)| seen)
    }

    /// Takes in an attempt; whether its value is left out from now on.
    fn record(&mut self, place: usize, seen: Seen) -> Result<bool, NoSuchValue> {
        let failed = match seen {
            Seen::Untestable => {
                self.bisection.skip(place)?;
                return Ok(true);
            }
            Seen::Failed => true,
            Seen::Passed => false,
        };
        if let Some(record) = self.records.get_mut(place) {
            record.runs += 1;
            record.failed += u32::from(failed);
        }
        self.bisection.record(place, failed)?;
        Ok(false)
    }
}

/// What a report says of a value: a case fails there where it does in one of the value's cells.
struct Said<'a> {
    whole: Seen,
    failing: BTreeSet<&'a str>,
    /// Whether a cell says of the cases that it does not list that they pass.
    passes: bool,
}

impl<'a> Said<'a> {
    fn of(report: &'a Report, axis: &str, value: &str) -> Self {
        let own = |cell: &&CellReport| cell.axes.get(axis).is_some_and(|own| own == value);
        // A large run's report has only cells that did not simply pass.
        let listed = u64::try_from(report.cells.len()).unwrap_or(u64::MAX);
        let unlisted = listed < report.counts.cells;
        let mut said = Self {
            whole: if unlisted {
                Seen::Passed
            } else {
                Seen::Untestable
            },
            failing: BTreeSet::new(),
            passes: unlisted,
        };
        for cell in report.cells.iter().filter(own) {
            // The last attempt of each shard.
            let attempts = cell.attempts.iter();
            let last: BTreeMap<Option<u32>, &AttemptReport> =
                attempts.map(|attempt| (attempt.shard, attempt)).collect();
            let any = |is: fn(&AttemptReport) -> bool| last.values().any(|attempt| is(attempt));
            let untested = last.is_empty() || any(|attempt| attempt.outcome == "setup_failed");
            if untested || cell.verdict == Verdict::Unresolved {
                continue;
            }
            let failed = cell.verdict == Verdict::Failed;
            if failed {
                said.whole = Seen::Failed;
            } else if said.whole == Seen::Untestable {
                said.whole = Seen::Passed;
            }
            said.failing.extend(cell.failing.iter().map(String::as_str));
            // It may have broken without saying anything of a case.
            said.passes |= !(failed && (cell.failing.is_empty() || any(|attempt| attempt.whole)));
        }
        said
    }

    fn case(&self, case: &str) -> Seen {
        match (self.failing.contains(case), self.passes) {
            (true, _) => Seen::Failed,
            (false, true) => Seen::Passed,
            (false, false) => Seen::Untestable,
        }
    }
}
