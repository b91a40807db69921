//! How soon a bad host is found, and how often a good one is blamed: campaigns of cells over hosts, with the real judge and
//! the real scores, and chance alone for the rest. May not: know a scheduler, a lease or a network; each rerun goes to
//! some host that has not run its cell.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use clap::Parser;
use regatta_model::report::Verdict;
use regatta_model::{Blame, HostName, Outcome};
use regatta_sim::chance::Chance;
use regatta_verdict::judge::{self, AttemptFacts, Policy};
use regatta_verdict::trust::{self, Standing, Trust, quarantined_most};

/// Plays campaigns and counts.
#[derive(Parser)]
struct Args {
    /// Campaigns, each with a seed of its own
    #[arg(long, default_value_t = 100)]
    campaigns: u64,
    /// Hosts
    #[arg(long, default_value_t = 200)]
    hosts: usize,
    /// Bad ones of them
    #[arg(long, default_value_t = 3)]
    bad: usize,
    /// Cells of a campaign
    #[arg(long, default_value_t = 10_000)]
    cells: u64,
    /// Attempts in a thousand that fail on a bad host; each number is a set of campaigns
    #[arg(long, num_args = 1.., default_values_t = [300, 50])]
    fails: Vec<u64>,
    /// Attempts in a thousand that fail by chance, in every cell; each number is a set of campaigns
    #[arg(long, num_args = 1.., default_values_t = [0, 10, 50])]
    flaky: Vec<u64>,
}

/// How often a host is drawn by lot until there is none to be had.
const TRIES_MOST: u32 = 10_000;

/// What a set of campaigns came to.
#[derive(Default)]
struct Tally {
    /// Attempts of a bad host until it was quarantined.
    found: Vec<u32>,
    bad: usize,
    /// Good hosts that were quarantined.
    falsely: usize,
    attempts: u64,
    /// Attempts that were run because a host was no longer trusted.
    again: u64,
    /// Cells that did not pass in the end: failed, and failed and passed.
    failed: u64,
    mixed: u64,
}

struct Campaign<'a> {
    args: &'a Args,
    chance: Chance,
    names: Vec<HostName>,
    fails: u64,
    flaky: u64,
    trust: Vec<Trust>,
    /// Attempts of each host.
    runs: Vec<u32>,
    quarantined: BTreeMap<usize, u32>,
    cells: Vec<Vec<AttemptFacts>>,
    /// Failures that others did not confirm, by host.
    unconfirmed: Vec<u32>,
    attempts: u64,
}

impl<'a> Campaign<'a> {
    fn new(args: &'a Args, fails: u64, flaky: u64, seed: u64) -> Self {
        let names = (0..args.hosts).map(|index| format!("host-{index}").parse());
        Self {
            args,
            chance: Chance::new(seed),
            names: names.collect::<Result<_, _>>().unwrap_or_default(),
            fails,
            flaky,
            trust: vec![Trust::default(); args.hosts],
            runs: vec![0; args.hosts],
            quarantined: BTreeMap::new(),
            cells: Vec::new(),
            unconfirmed: vec![0; args.hosts],
            attempts: 0,
        }
    }

    /// Some host that may decide, and that has not run the cell where there is such a one. The first are the bad ones.
    fn host(&mut self, cell: &[AttemptFacts]) -> usize {
        let mut host = 0;
        for _ in 0..TRIES_MOST {
            host = self.chance.index(self.args.hosts);
            let ran = cell.iter().any(|facts| facts.host == self.names[host]);
            if !self.quarantined.contains_key(&host) && !ran {
                break;
            }
        }
        host
    }

    fn attempt(&mut self, cell: &[AttemptFacts]) -> AttemptFacts {
        let host = self.host(cell);
        let bad = host < self.args.bad && self.chance.permille(self.fails);
        let passed = !bad && !self.chance.permille(self.flaky);
        self.attempts += 1;
        self.runs[host] += 1;
        if passed {
            self.trust[host].pass();
        }
        AttemptFacts {
            ordinal: u32::try_from(cell.len() + 1).unwrap_or(u32::MAX),
            host: self.names[host].clone(),
            outcome: Outcome::Exited {
                exit_code: i32::from(!passed),
            },
            blame: (!passed).then_some(Blame::Test),
            passed,
            failing: Vec::new(),
            flaky: false,
        }
    }

    fn index(&self, name: &HostName) -> usize {
        let index = name.as_str().strip_prefix("host-");
        index.and_then(|index| index.parse().ok()).unwrap_or(0)
    }

    /// Runs a cell until it has its verdict.
    fn settle(&mut self, mut cell: Vec<AttemptFacts>) -> Vec<AttemptFacts> {
        let policy = Policy::default();
        while judge::next(&cell, None, &policy).verdict.is_none() {
            let attempt = self.attempt(&cell);
            cell.push(attempt);
        }
        cell
    }

    /// Charges hosts, and quarantines those whose odds are high.
    fn charge(&mut self, cell: &[AttemptFacts]) {
        for (place, least) in trust::charges(cell, 0.0) {
            let host = self.index(&cell[place].host);
            let all: u32 = self.unconfirmed.iter().sum();
            let others = trust::chance(all - self.unconfirmed[host], self.attempts);
            self.unconfirmed[host] += 1;
            self.trust[host].charge(others.max(least));
            let most = quarantined_most(self.args.hosts);
            if self.trust[host].standing() == Standing::Quarantined && self.quarantined.len() < most
            {
                self.quarantined.entry(host).or_insert(self.runs[host]);
                self.distrust(host);
            }
        }
    }

    /// What a host decided is run again elsewhere.
    fn distrust(&mut self, host: usize) {
        let name = self.names[host].clone();
        let mut cells = std::mem::take(&mut self.cells);
        for cell in &mut cells {
            for facts in cell.iter_mut().filter(|facts| facts.host == name) {
                facts.blame = Some(Blame::Host);
            }
            if cell.iter().any(|facts| facts.host == name) {
                *cell = self.settle(std::mem::take(cell));
            }
        }
        self.cells = cells;
    }

    fn play(mut self, tally: &mut Tally) {
        for _ in 0..self.args.cells {
            let cell = self.settle(Vec::new());
            let attempts = self.attempts;
            self.cells.push(cell.clone());
            self.charge(&cell);
            tally.again += self.attempts - attempts;
        }
        for (host, runs) in &self.quarantined {
            if *host < self.args.bad {
                tally.found.push(*runs);
            } else {
                tally.falsely += 1;
            }
        }
        tally.bad += self.args.bad;
        tally.attempts += self.attempts;
        for cell in &self.cells {
            match judge::next(cell, None, &Policy::default()).verdict {
                Some(Verdict::Failed | Verdict::Unresolved) => tally.failed += 1,
                Some(Verdict::Flaky) => tally.mixed += 1,
                _ => {}
            }
        }
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut out = io::stdout();
    writeln!(
        out,
        "| fails on a bad host | by chance | found | attempts until then, median (p90) | good hosts quarantined | attempts \
         run again | cells failed | cells mixed |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for fails in &args.fails {
        for flaky in &args.flaky {
            let mut tally = Tally::default();
            for seed in 0..args.campaigns {
                Campaign::new(&args, *fails, *flaky, seed).play(&mut tally);
            }
            tally.found.sort_unstable();
            let at = |percent: usize| {
                let place = tally.found.len() * percent / 100;
                tally.found.get(place).copied().unwrap_or(0)
            };
            let cells = (args.campaigns * args.cells) as f64;
            writeln!(
                out,
                "| {}% | {}% | {} of {} | {} ({}) | {} of {} | {:.2}% | {:.4}% | {:.2}% |",
                *fails as f64 / 10.0,
                *flaky as f64 / 10.0,
                tally.found.len(),
                tally.bad,
                at(50),
                at(90),
                tally.falsely,
                args.campaigns * (args.hosts - args.bad) as u64,
                tally.again as f64 / tally.attempts as f64 * 100.0,
                tally.failed as f64 / cells * 100.0,
                tally.mixed as f64 / cells * 100.0,
            )?;
        }
    }
    Ok(())
}
