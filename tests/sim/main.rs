//! Thousands of small fleets and a large one in virtual time: what must hold does hold whatever goes wrong, and where a
//! rule is broken on purpose, the world notices. May not: depend on how fast this machine is.

use regatta_sim::World;
use regatta_sim::check::Invariant;
use regatta_sim::setup::{Plant, Setup};

/// Worlds that must be kind to the rules.
const WORLDS: u64 = 2_000;
/// Worlds within which a rule that is broken on purpose is noticed.
const SEEDS_MOST: u64 = 400;

/// Plays a world again and tells its story.
fn story(setup: &Setup) -> String {
    let traced = Setup {
        trace: true,
        ..setup.clone()
    };
    World::new(traced).play().trace
}

#[test]
fn rules_hold_in_every_small_world() {
    let (mut attempts, mut host_faults, mut takeovers, mut quarantines) = (0, 0, 0, 0);
    for seed in 0..WORLDS {
        let setup = Setup::small(seed);
        let told = World::new(setup.clone()).play();
        if let Some(violation) = told.violation {
            panic!("{}\nseed {seed}: {violation}", story(&setup));
        }
        attempts += told.attempts;
        host_faults += told.host_faults;
        takeovers += told.takeovers;
        quarantines += told.quarantines;
    }
    println!(
        "{WORLDS} worlds: {attempts} attempts, {host_faults} host faults, {takeovers} takeovers, {quarantines} quarantines"
    );
    // The worlds were unkind enough to tell anything.
    assert!(host_faults > WORLDS && takeovers > 2 * WORLDS && attempts > 20 * WORLDS);
    assert!(quarantines > WORLDS / 10);
}

#[test]
fn one_seed_tells_one_story() {
    for seed in [3, 14, 159] {
        let tell = || {
            let told = World::new(Setup::small(seed)).play();
            (told.digest, told.events, told.lasted_ms)
        };
        assert_eq!(tell(), tell(), "seed {seed}");
    }
}

/// How many worlds it takes until a broken rule is noticed.
fn seeds_until_noticed(plant: Plant) -> u64 {
    let mut others: Vec<(u64, Invariant)> = Vec::new();
    for seed in 0..SEEDS_MOST {
        let setup = Setup {
            plant: Some(plant),
            ..Setup::small(seed)
        };
        match World::new(setup.clone()).play().violation {
            Some(violation) if violation.invariant == plant.caught_by() => {
                let story = story(&setup);
                assert!(!story.is_empty());
                let last: Vec<&str> = story.lines().rev().take(3).collect();
                println!("{plant:?}: seed {seed} breaks {violation}");
                for line in last.into_iter().rev() {
                    println!("    {line}");
                }
                return seed + 1;
            }
            Some(violation) => others.push((seed, violation.invariant)),
            None => {}
        }
    }
    panic!(
        "{plant:?} was not noticed by {:?} in {SEEDS_MOST} worlds; others: {others:?}",
        plant.caught_by()
    );
}

#[test]
fn each_rule_broken_on_purpose_is_noticed() {
    for plant in Plant::ALL {
        let seeds = seeds_until_noticed(plant);
        println!(
            "{plant:?} is noticed by {:?} within {seeds} worlds",
            plant.caught_by()
        );
    }
}

#[test]
fn rules_hold_in_a_world_of_ten_thousand_hosts_and_a_million_cells() {
    let told = World::new(Setup::large(1)).play();
    println!(
        "{} attempts ({} host faults), {} events, {} s of its time",
        told.attempts,
        told.host_faults,
        told.events,
        told.lasted_ms / 1000
    );
    assert_eq!(told.violation, None);
    assert!(told.attempts > 1_000_000 && told.host_faults > 100);
}
