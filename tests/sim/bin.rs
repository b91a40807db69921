//! Plays worlds of the simulator by their seeds: a seed is a bug report. May not: know what a world does.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;
use regatta_sim::World;
use regatta_sim::setup::{Plant, Setup};

/// Plays fleets in virtual time, and looks whether a rule is broken.
#[derive(Parser)]
struct Args {
    /// The first world's seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many worlds, one seed after the other
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Tell the story's last lines
    #[arg(long)]
    trace: bool,
    /// Ten thousand hosts and a million cells
    #[arg(long)]
    large: bool,
    /// Break this rule on purpose
    #[arg(long)]
    plant: Option<Plant>,
}

fn main() -> io::Result<ExitCode> {
    let args = Args::parse();
    let mut out = io::stdout().lock();
    let mut broken = 0_u64;
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let setup = if args.large {
            Setup::large(seed)
        } else {
            Setup::small(seed)
        };
        let told = World::new(Setup {
            plant: args.plant,
            trace: args.trace,
            ..setup
        })
        .play();
        write!(out, "{}", told.trace)?;
        if let Some(violation) = told.violation {
            broken += 1;
            writeln!(out, "seed {seed}: {violation}")?;
        } else if args.seeds == 1 {
            writeln!(
                out,
                "seed {seed}: every rule holds; {} attempts, {} host faults, {} quarantines, {} events, {} s, digest {:016x}",
                told.attempts,
                told.host_faults,
                told.quarantines,
                told.events,
                told.lasted_ms / 1000,
                told.digest
            )?;
        }
    }
    if args.seeds > 1 {
        writeln!(out, "{} worlds, {broken} of them broken", args.seeds)?;
    }
    Ok(ExitCode::from(u8::from(broken > 0)))
}
