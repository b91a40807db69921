//! How many attempts the scheduler places a second, by itself: one run of so many cells over so many hosts, from its
//! submission to its end, each attempt passing at once. May not: measure anything but the scheduler.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::time::Instant;

use clap::Parser;
use regatta_model::{AttemptId, HostName, Incarnation, Resources, RunId};
use regatta_scheduler::{
    Config, Effect, Event, HostState, Moment, Next, Restored, Scheduler, Work,
};

/// Places attempts as fast as the scheduler does.
#[derive(Parser)]
struct Args {
    /// Hosts of four places each
    #[arg(long, default_value_t = 10_000)]
    hosts: usize,
    /// Cells; each number is a run of its own
    #[arg(long, num_args = 1.., default_values_t = [10_000, 100_000, 1_000_000, 10_000_000])]
    cells: Vec<u64>,
    /// Runs that have the cells in equal parts, each of an owner of its own and with a weight
    #[arg(long, default_value_t = 1)]
    owners: u64,
    /// Whether attempts ask for two of the host's four processors, so that two places stay free
    #[arg(long)]
    ask: bool,
}

struct Placed {
    placements: u64,
    seconds: f64,
}

fn placed(effects: Vec<Effect>, held: &mut VecDeque<AttemptId>) -> u64 {
    let mut count = 0;
    for effect in effects {
        if let Effect::Assign { attempt, .. } = effect {
            held.push_back(attempt);
            count += 1;
        }
    }
    count
}

fn place(args: &Args, cells: u64) -> Placed {
    let mut scheduler = Scheduler::new(Config::default(), Restored::default());
    let now = Moment(1);
    let names: Vec<HostName> = (0..args.hosts)
        .map(|n| format!("h{n}").parse().expect("a name"))
        .collect();
    let asked = Resources {
        cpu_millis: if args.ask { 2000 } else { 0 },
        memory_bytes: 0,
    };
    let capacity = Resources {
        cpu_millis: 4000,
        memory_bytes: 0,
    };
    let mut held = VecDeque::new();
    let mut placements = 0;
    let began = Instant::now();
    for owner in 0..args.owners {
        let run: RunId = format!("r{owner}").parse().expect("a name");
        let work = Work {
            cells: cells / args.owners,
            repeat: 1,
            owner: format!("o{owner}").parse().ok(),
            weight: 1 + u32::try_from(owner % 10).unwrap_or(0),
            asked,
            fresh: true,
            ..Work::default()
        };
        let work = Box::new(work);
        scheduler.apply(now, Event::Submitted { run, work });
    }
    for host in names {
        let state = HostState {
            slots: 4,
            free: 4,
            capacity,
            ..HostState::default()
        };
        let synced = Event::Synced {
            host,
            incarnation: Incarnation(1),
            state: Box::new(state),
        };
        placements += placed(scheduler.apply(now, synced), &mut held);
    }
    while let Some(attempt) = held.pop_front() {
        let next = Next {
            settled: true,
            ..Next::default()
        };
        placements += placed(
            scheduler.apply(now, Event::Recorded { attempt, next }),
            &mut held,
        );
    }
    Placed {
        placements,
        seconds: began.elapsed().as_secs_f64(),
    }
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut out = io::stdout().lock();
    for &cells in &args.cells {
        let Placed {
            placements,
            seconds,
        } = place(&args, cells);
        let rate = placements as f64 / seconds;
        writeln!(
            out,
            "{} hosts, {cells} cells, {} owners: {placements} placements in {seconds:.2} s, {rate:.0} a second",
            args.hosts, args.owners
        )?;
    }
    Ok(())
}
