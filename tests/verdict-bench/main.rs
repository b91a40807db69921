//! How often verdicts are right: campaigns in which chance alone decides what fails, judged by the statistics of the server.
//! May not: run anything, or judge by itself where the server has a rule.

mod bisect;
mod many;
mod metrics;
mod scale;
mod sequential;
mod table;

use std::f64::consts::TAU;
use std::io::{self, Write as _};

use clap::{Parser, ValueEnum};
use regatta_sim::chance::Chance;
use serde_json::json;

/// Simulates and prints tables
#[derive(Parser)]
struct Args {
    /// Trials of a row of the test on two versions; other tables take a part of them
    #[arg(long, default_value_t = 20_000)]
    trials: u64,
    /// What decides all chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tables to make; all where none is named
    #[arg(long, num_args = 1..)]
    only: Vec<Name>,
    /// JSON instead of Markdown
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Sequential,
    Outages,
    Histories,
    Simple,
    Fdr,
    Bisect,
    Metrics,
    Series,
    Scale,
}

/// Parts that chance is cut into.
const PARTS: u64 = 1 << 53;

/// A number from 0 up to 1.
fn part(chance: &mut Chance) -> f64 {
    chance.within(0, PARTS - 1) as f64 / PARTS as f64
}

/// True with this probability.
fn happens(chance: &mut Chance, probability: f64) -> bool {
    part(chance) < probability
}

/// A number around 0 that is normally distributed, with a standard deviation of 1 (Box and Muller).
fn normal(chance: &mut Chance) -> f64 {
    let radius = (-2.0 * (1.0 - part(chance)).ln()).sqrt();
    radius * (TAU * part(chance)).cos()
}

fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{}%", text.trim_end_matches(".0"))
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut out = io::stdout();
    let mut tables = Vec::new();
    for name in Name::value_variants() {
        if !args.only.is_empty() && !args.only.contains(name) {
            continue;
        }
        let table = match name {
            Name::Sequential => sequential::table(&args),
            Name::Outages => sequential::outages(&args),
            Name::Histories => sequential::histories(&args),
            Name::Simple => sequential::simple(&args),
            Name::Fdr => many::table(&args),
            Name::Bisect => bisect::table(&args),
            Name::Metrics => metrics::table(&args),
            Name::Series => metrics::series(&args),
            Name::Scale => scale::table(&args),
        };
        if args.json {
            tables.push(table.json());
        } else {
            writeln!(out, "{}", table.markdown())?;
        }
    }
    if args.json {
        let all = json!({"trials": args.trials, "seed": args.seed, "tables": tables});
        writeln!(out, "{all:#}")?;
    }
    Ok(())
}
