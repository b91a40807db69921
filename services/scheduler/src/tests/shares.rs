//! Who gets a free place: priorities, owners, weights, and the order of the queue against a plain one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use regatta_model::Resources;

use super::resources::resources;
use super::*;
use crate::queue::{Demand, Queue, Standing};

fn owned(owner: &str, weight: u32, cells: u64) -> Work {
    Work {
        owner: Some(owner.parse().unwrap()),
        weight,
        ..work(cells)
    }
}

/// How many places each of the runs has on hosts.
fn held_by<const N: usize>(course: &Course, runs: [&str; N]) -> [u64; N] {
    runs.map(|id| course.scheduler.run(&run(id)).map_or(0, |view| view.held))
}

/// Runs in the order in which they are given, and what each has of so many places then.
fn shared<const N: usize>(runs: &[(&str, Work); N], places: u32) -> [u64; N] {
    let mut course = Course::new();
    for (id, work) in runs {
        course.submit(id, work.clone());
    }
    course.sync("a", state(places, &[]));
    held_by(&course, runs.each_ref().map(|(id, _)| *id))
}

#[test]
fn owners_share_alike_however_many_runs_they_have() {
    let runs = [
        ("a1", owned("a", 1, 100)),
        ("a2", owned("a", 1, 100)),
        ("a3", owned("a", 1, 100)),
        ("b1", owned("b", 1, 100)),
    ];
    assert_eq!(shared(&runs, 12), [2, 2, 2, 6]);
    // Runs that name nobody are somebody's together.
    let runs = [
        ("x1", work(100)),
        ("x2", work(100)),
        ("b1", owned("b", 1, 100)),
    ];
    assert_eq!(shared(&runs, 12), [3, 3, 6]);
}

#[test]
fn weights_count_among_the_runs_of_an_owner_and_among_owners() {
    let runs = [("a1", owned("a", 3, 100)), ("a2", owned("a", 1, 100))];
    assert_eq!(shared(&runs, 12), [9, 3]);
    let runs = [("a1", owned("a", 3, 100)), ("b1", owned("b", 1, 100))];
    assert_eq!(shared(&runs, 12), [9, 3]);
    // Twice the weight on average is twice the places.
    let runs = [
        ("a1", owned("a", 3, 100)),
        ("a2", owned("a", 1, 100)),
        ("b1", owned("b", 1, 100)),
    ];
    assert_eq!(shared(&runs, 12), [6, 2, 4]);
    // What one has no use for, the other has.
    let runs = [("a1", owned("a", 1000, 2)), ("b1", owned("b", 1, 100))];
    assert_eq!(shared(&runs, 12), [2, 10]);
}

#[test]
fn priorities_go_before_owners_and_count_in_what_an_owner_has() {
    let urgent = Work {
        priority: 1,
        parallel: Some(4),
        ..owned("a", 1, 100)
    };
    let runs = [
        ("b1", owned("b", 1, 100)),
        ("a1", owned("a", 1, 100)),
        ("a2", urgent),
    ];
    assert_eq!(shared(&runs, 4), [0, 0, 4]);
    assert_eq!(shared(&runs, 8), [4, 0, 4]);
    assert_eq!(shared(&runs, 12), [6, 2, 4]);
}

#[test]
fn all_have_their_turn_where_there_are_fewer_places_than_runs() {
    let mut course = Course::new();
    for id in ["x1", "x2", "y1"] {
        course.submit(id, owned(&id[..1], 1, 1_000_000));
    }
    let mut effects = course.sync("a", state(1, &[]));
    let mut turns = Vec::new();
    while turns.len() < 6 {
        let Some(Effect::Assign { attempt, .. }) = effects.pop() else {
            panic!("nothing was placed")
        };
        turns.push(attempt.run.to_string());
        effects = course.record(&attempt, settled());
    }
    assert_eq!(turns, ["x1", "y1", "x2", "y1", "x1", "y1"]);
}

#[test]
fn an_owner_is_forgotten_with_the_last_of_his_runs() {
    let mut course = Course::new();
    course.submit("a1", owned("a", 1, 1));
    course.sync("a", state(1, &[]));
    course.submit("b1", owned("b", 1, 100));
    course.record(&attempt("a1", 0, 1), settled());
    assert_eq!(held_by(&course, ["a1", "b1"]), [0, 1]);
    assert_eq!(course.scheduler.footprint().owners, 1);
    course.submit("a2", owned("a", 1, 100));
    course.sync("b", state(3, &[]));
    assert_eq!(held_by(&course, ["b1", "a2"]), [2, 2]);
}

/// A fleet that is busy with a run of a million cells, whose attempts of a minute each end one after the other: how long
/// until all of ten cells that come behind have begun, in milliseconds.
fn ten_behind_a_million(small: Work) -> u64 {
    const ATTEMPT_MS: u64 = 60_000;
    let mut course = Course::new();
    course.submit("big", owned("crowd", 1, 1_000_000));
    let mut running: VecDeque<(u64, AttemptId)> = VecDeque::new();
    let given = |effects: Vec<Effect>| {
        effects.into_iter().filter_map(|effect| match effect {
            Effect::Assign { attempt, .. } => Some(attempt),
            _ => None,
        })
    };
    for index in 0..25 {
        course.now += ATTEMPT_MS / 25;
        let ends = course.now + ATTEMPT_MS;
        let effects = course.sync(&format!("h{index}"), state(4, &[]));
        running.extend(given(effects).map(|attempt| (ends, attempt)));
        // No host is silent for too long.
        for other in 0..index {
            let mine = running.iter().skip(other * 4).take(4);
            let mine: Vec<Held> = mine.map(|(_, id)| held(id, 0)).collect();
            course.sync(&format!("h{other}"), state(4, &mine));
        }
    }
    let from = course.now;
    let mut begun = given(course.submit("small", small)).count();
    while begun < 10 {
        let (ends, attempt) = running.pop_front().unwrap();
        course.now = ends;
        for next in given(course.record(&attempt, settled())) {
            begun += usize::from(next.run == run("small"));
            running.push_back((ends + ATTEMPT_MS, next));
        }
    }
    course.now - from
}

#[test]
fn ten_cells_behind_a_million_begin_within_the_length_of_an_attempt() {
    for small in [owned("one", 1, 10), owned("crowd", 1, 10)] {
        let waited = ten_behind_a_million(small);
        assert!(waited <= 60_000, "{waited} ms");
    }
    // Heavier ones do not wait any longer, and a light one not much.
    let heavy = ten_behind_a_million(owned("one", 1000, 10));
    assert!(heavy <= 60_000, "{heavy} ms");
}

/// What the queue should know, without any order.
#[derive(Clone, Debug)]
struct Plain {
    owner: Option<u8>,
    priority: i32,
    weight: u32,
    demand: Demand,
    standing: Standing,
}

/// The runs in the order in which they go, worked out from nothing.
fn in_order(runs: &BTreeMap<u64, Plain>, first: &BTreeMap<Option<u8>, (u64, u64)>) -> Vec<u64> {
    let load = |plain: &Plain| 232_792_560 / u64::from(plain.weight) * plain.demand.held;
    let owner_load = |owner| {
        let his = runs.values().filter(|plain| plain.owner == owner);
        his.map(load).sum::<u64>()
    };
    let mut order: Vec<_> = runs
        .iter()
        .filter(|(_, plain)| plain.demand.waits)
        .map(|(run, plain)| {
            let owner = (owner_load(plain.owner), first[&plain.owner]);
            let own = (load(plain), plain.demand.last, *run);
            (Reverse(plain.priority), owner, own)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(.., (.., run))| run).collect()
}

/// The least processors, and the least memory, that a run that waits asks for.
fn least(runs: &BTreeMap<u64, Plain>) -> Resources {
    let waiting = || runs.values().filter(|plain| plain.demand.waits);
    let least = |of: fn(u64) -> u64| waiting().map(|plain| of(plain.weight.into())).min();
    resources(
        least(|weight| weight).unwrap_or(0),
        least(|weight| weight % 3).unwrap_or(0),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn the_queue_is_in_the_order_that_its_rule_gives(
        steps in prop::collection::vec((0_u64..8, prop::option::of(0_u8..3), -1_i32..2, 1_u32..5, 0_u64..6, any::<bool>()), 0..80),
    ) {
        let (mut queue, mut runs) = (Queue::default(), BTreeMap::<u64, Plain>::new());
        // Of each owner: when one of his runs was placed last, and his first run.
        let (mut first, mut next) = (BTreeMap::<_, (u64, u64)>::new(), 100);
        for (time, (which, owner, priority, weight, held, waits)) in (1..).zip(steps) {
            let id = runs.keys().nth(usize::try_from(which).unwrap()).copied();
            if let Some(id) = id.filter(|_| held == 5) {
                let gone = runs.remove(&id).unwrap();
                queue.leave(id, gone.standing);
                if !runs.values().any(|plain| plain.owner == gone.owner) {
                    first.remove(&gone.owner);
                }
            } else if let Some(id) = id {
                let plain = runs.get_mut(&id).unwrap();
                let last = if held > plain.demand.held { time } else { plain.demand.last };
                let (last_of_owner, _) = first.get_mut(&plain.owner).unwrap();
                *last_of_owner = last.max(*last_of_owner);
                plain.demand = Demand { held, last, waits };
                plain.standing = queue.update(id, plain.standing, plain.demand);
            } else {
                let of = owner.map_or_else(|| work(1), |owner| owned(&format!("o{owner}"), 1, 1));
                let asked = resources(u64::from(weight), u64::from(weight) % 3);
                let standing = queue.join(next, &Work { priority, weight, asked, ..of });
                first.entry(owner).or_insert((0, next));
                runs.insert(next, Plain { owner, priority, weight, demand: Demand::default(), standing });
                next += 1;
            }
            prop_assert_eq!(queue.runs().collect::<Vec<_>>(), in_order(&runs, &first));
            prop_assert_eq!(queue.least(), least(&runs));
            prop_assert_eq!(queue.is_empty(), runs.values().all(|plain| !plain.demand.waits));
        }
    }
}
