//! Which shard of a cell runs which of its cases, by how long they took in earlier runs: the longest first, each to the shard
//! that has least to do (Graham's LPT: at most a third longer than the best there is). May not: leave out a case or name one
//! twice; a case that no plan names is split by the test itself.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use regatta_model::lasted;
use regatta_model::plan::{SHARD_PLAN_BYTES_MOST, SHARDS_MOST, ShardUnit};

/// A plan that stands stays as long as its longest shard is at most so much longer than that of a new one: so the same
/// attempts keep their identity, and cases their history, though durations differ a little from run to run.
pub const KEPT_WITHIN: (u64, u64) = (11, 10);

/// ... and while what it does not name takes at most one in so many of the whole.
pub const UNNAMED_MOST: u64 = 20;

/// Cases of one shard, and how long they took.
#[derive(Clone, Copy, Debug)]
pub struct Timed<'a> {
    /// Their names.
    pub names: &'a [String],
    /// As [`lasted`] writes it, one for each name.
    pub durations: &'a [u8],
}

/// Which shard runs what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    shards: BTreeMap<String, u32>,
}

/// What a name counts for.
fn unit(name: &str, unit: ShardUnit) -> &str {
    match unit {
        ShardUnit::Case => name,
        ShardUnit::Package | ShardUnit::File => {
            name.split_once("::").map_or(name, |(whole, _)| whole)
        }
    }
}

/// Whether its time is part of another case's: a subtest's is in that of its test.
fn is_within(name: &str, unit: ShardUnit) -> bool {
    let test = name.split_once("::").map_or("", |(_, test)| test);
    unit == ShardUnit::Package && test.contains('/')
}

/// How long each unit takes, in milliseconds: the median of the runs that tell of it (of two the longer). `runs`: the newest
/// earlier runs, each with its shards.
pub fn expected(runs: &[Vec<Timed<'_>>], of: ShardUnit) -> BTreeMap<String, u64> {
    let mut told: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for shards in runs {
        let mut cases: BTreeMap<&str, u64> = BTreeMap::new();
        for shard in shards {
            let timed = shard.names.iter().zip(shard.durations);
            let timed = timed.filter_map(|(name, code)| Some((name, lasted::to_ms(*code)?)));
            // A name with these could not stand on a line.
            let timed = timed.filter(|(name, _)| !name.contains(['\t', '\n', '\r']));
            for (name, ms) in timed.filter(|(name, _)| !is_within(name, of)) {
                let known = cases.entry(name).or_default();
                *known = ms.max(*known);
            }
        }
        let mut units: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, ms) in cases {
            let sum = units.entry(unit(name, of)).or_default();
            *sum = sum.saturating_add(ms);
        }
        for (unit, ms) in units {
            told.entry(unit).or_default().push(ms);
        }
    }
    let median = |mut of: Vec<u64>| {
        of.sort_unstable();
        of.get(of.len() / 2).copied().unwrap_or(0)
    };
    told.into_iter()
        .map(|(unit, ms)| (unit.to_owned(), median(ms)))
        .collect()
}

impl Plan {
    /// The plan for so many shards; `before`, where that is still good enough. None where nothing is known.
    pub fn new(expected: &BTreeMap<String, u64>, total: u32, before: Option<Self>) -> Option<Self> {
        let total = total.clamp(1, SHARDS_MOST);
        if expected.is_empty() {
            return None;
        }
        let plan = Self::longest_first(expected, total);
        let longest = |plan: &Self| plan.loads(expected, total).into_iter().max().unwrap_or(0);
        let good = |before: &Self| {
            let named: u64 = before.loads(expected, total).iter().sum();
            let whole: u64 = expected.values().fold(0, |sum, ms| sum.saturating_add(*ms));
            let (most, of) = KEPT_WITHIN;
            before.shards.values().all(|shard| *shard < total)
                && (whole - named.min(whole)).saturating_mul(UNNAMED_MOST) <= whole
                && longest(before).saturating_mul(of) <= longest(&plan).saturating_mul(most)
        };
        Some(before.filter(good).unwrap_or(plan))
    }

    fn longest_first(expected: &BTreeMap<String, u64>, total: u32) -> Self {
        let mut units: Vec<(&String, u64)> =
            expected.iter().map(|(unit, ms)| (unit, *ms)).collect();
        units.sort_by_key(|(unit, ms)| (Reverse(*ms), *unit));
        let mut loads: Vec<(u64, u32)> = (0..total).map(|shard| (0, shard)).collect();
        let (mut plan, mut bytes) = (Self::default(), 0_usize);
        for (unit, ms) in units {
            bytes = bytes.saturating_add(unit.len() + "\t63\n".len());
            let Some((load, shard)) = loads.iter_mut().min() else {
                break;
            };
            if bytes > SHARD_PLAN_BYTES_MOST {
                break;
            }
            *load = load.saturating_add(ms);
            plan.shards.insert(unit.clone(), *shard);
        }
        plan
    }

    /// How long each shard is expected to take, in milliseconds, without what the plan does not name.
    pub fn loads(&self, expected: &BTreeMap<String, u64>, total: u32) -> Vec<u64> {
        let mut loads = vec![0_u64; usize::try_from(total).unwrap_or(0)];
        for (unit, ms) in expected {
            let shard = self
                .shards
                .get(unit)
                .and_then(|shard| usize::try_from(*shard).ok());
            if let Some(load) = shard.and_then(|shard| loads.get_mut(shard)) {
                *load = load.saturating_add(*ms);
            }
        }
        loads
    }

    /// As tests get it: a unit a line with a tab and its shard from 0, sorted.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (unit, shard) in &self.shards {
            text.extend([unit, "\t", &shard.to_string(), "\n"]);
        }
        text
    }

    /// Reads [`Self::to_text`]; lines that are none are passed over.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (unit, shard) = line.rsplit_once('\t')?;
            Some((unit.to_owned(), shard.parse().ok()?))
        };
        Self {
            shards: text.lines().filter_map(line).collect(),
        }
    }
}
