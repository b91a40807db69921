//! Cells that are measured against one another: on which hosts, and in which order.

use super::*;

fn in_rounds(groups: &[&[u64]], repeat: u32) -> Work {
    let cells = groups.iter().map(|group| group.len()).sum::<usize>();
    Work {
        repeat,
        rounds: groups.iter().map(|group| group.to_vec()).collect(),
        ..work(u64::try_from(cells).unwrap())
    }
}

/// Who got which cell, in order.
type Got = Vec<(String, u64)>;

/// Ends what was given, the first first, until nothing is left; `repeat` attempts settle a cell.
fn play(course: &mut Course, first: Vec<Effect>, repeat: u32) -> Got {
    let (mut got, mut ended) = (Got::new(), BTreeMap::<u64, u32>::new());
    let mut open: std::collections::VecDeque<Effect> = first.into();
    while let Some(effect) = open.pop_front() {
        let Effect::Assign { host, attempt, .. } = effect else {
            continue;
        };
        got.push((host.to_string(), attempt.cell));
        let ended = ended.entry(attempt.cell).or_default();
        *ended += 1;
        let next = if *ended >= repeat {
            settled()
        } else {
            again(attempt.cell, repeat - *ended, &[host.as_str()])
        };
        open.extend(course.record(&attempt, next));
    }
    got
}

#[test]
fn two_cells_take_turns_and_every_second_round_goes_backwards() {
    let mut course = Course::new();
    course.sync("a", state(1, &[]));
    let first = course.submit("r", in_rounds(&[&[0, 1]], 4));
    let cells: Vec<u64> = play(&mut course, first, 4)
        .iter()
        .map(|(_, cell)| *cell)
        .collect();
    assert_eq!(cells, [0, 1, 1, 0, 0, 1, 1, 0]);
    assert_eq!(course.scheduler.run(&run("r")), None, "it is over");
}

#[test]
fn each_host_gets_whole_rounds() {
    for (hosts, slots) in [(2, 1), (3, 1), (3, 2), (12, 1)] {
        let mut course = Course::new();
        for number in 0..hosts {
            course.sync(&format!("h{number}"), state(slots, &[]));
        }
        let groups: [&[u64]; 2] = [&[0, 2, 4], &[1, 3]];
        let first = course.submit("r", in_rounds(&groups, 10));
        let got = play(&mut course, first, 10);
        assert_eq!(got.len(), 50);
        for number in 0..hosts {
            let name = format!("h{number}");
            let count = |cell: u64| {
                let mine = got
                    .iter()
                    .filter(|(host, got)| (host, *got) == (&name, cell));
                mine.count()
            };
            for group in groups {
                let counts: Vec<usize> = group.iter().map(|cell| count(*cell)).collect();
                assert!(
                    counts.iter().all(|count| *count == counts[0]),
                    "{name} of {hosts}: {group:?} {counts:?}"
                );
            }
        }
        assert_eq!(course.scheduler.run(&run("r")), None, "it is over");
    }
}

#[test]
fn a_round_does_not_wait_for_a_host_that_gets_nothing_new() {
    let mut course = Course::new();
    course.sync("a", state(1, &[]));
    let first = course.submit("r", in_rounds(&[&[0, 1]], 1));
    assert_eq!(first, [assign("a", "r", 0, 1, 1)]);
    assert_eq!(
        course.sync("b", state(1, &[])),
        [health("b", Health::Ready)],
        "the other half of the round is a's"
    );
    course.tell(Event::PolicySet {
        host: host("a"),
        policy: Policy::Draining,
    });
    let second = course.sync("b", state(1, &[]));
    assert_eq!(second, [assign("b", "r", 1, 1, 2)]);
}

#[test]
fn what_is_asked_for_after_a_fault_runs_though_its_round_is_over() {
    let mut course = Course::new();
    course.sync("a", state(1, &[]));
    course.submit("r", in_rounds(&[&[0, 1]], 1));
    let second = course.record(&attempt("r", 0, 1), settled());
    assert_eq!(second, [assign("a", "r", 1, 1, 2)]);
    let third = course.record(&attempt("r", 1, 1), again(1, 1, &["a"]));
    assert_eq!(third, [assign("a", "r", 1, 2, 3)]);
    assert_eq!(course.record(&attempt("r", 1, 2), settled()), [finish("r")]);
}

fn exclusive(cells: u64) -> Work {
    Work {
        exclusive: true,
        ..work(cells)
    }
}

#[test]
fn who_has_a_host_to_himself_has_nothing_beside_him() {
    let mut course = Course::new();
    course.submit("r", exclusive(2));
    let first = course.sync("a", state(4, &[]));
    assert_eq!(
        first,
        [health("a", Health::Ready), assign("a", "r", 0, 1, 1)]
    );
    assert_eq!(course.submit("other", work(3)), [], "not beside it");
    // The other run holds nothing, and goes first; then its attempts are in the way.
    let second = course.record(&attempt("r", 0, 1), settled());
    let others = [
        assign("a", "other", 0, 1, 2),
        assign("a", "other", 1, 1, 3),
        assign("a", "other", 2, 1, 4),
    ];
    assert_eq!(second, others);
    for cell in 0..2 {
        let left = course.record(&attempt("other", cell, 1), settled());
        assert_eq!(left, [], "one of the other run is still there");
    }
    let last = course.record(&attempt("other", 2, 1), settled());
    assert!(last.contains(&assign("a", "r", 1, 1, 5)), "{last:?}");
}

#[test]
fn a_host_becomes_free_for_who_wants_it_to_himself_though_there_is_always_more() {
    let mut course = Course::new();
    course.submit("small", work(10_000));
    let mut open: std::collections::VecDeque<Effect> = course.sync("a", state(2, &[])).into();
    open.extend(course.submit("big", exclusive(1)));
    let mut got = 0;
    for _ in 0..1000 {
        let Some(effect) = open.pop_front() else {
            break;
        };
        let Effect::Assign { attempt, .. } = effect else {
            continue;
        };
        if attempt.run == run("big") {
            got += 1;
            assert!(open.is_empty(), "nothing is beside it: {open:?}");
        }
        course.now += 200;
        open.extend(course.record(&attempt, settled()));
        let held: Vec<Held> = open
            .iter()
            .filter_map(|effect| match effect {
                Effect::Assign {
                    attempt,
                    generation,
                    ..
                } => Some(super::held(attempt, *generation)),
                _ => None,
            })
            .collect();
        open.extend(course.sync("a", state(2, &held)));
    }
    assert_eq!(got, 1);
}

#[test]
fn rounds_go_on_after_a_restart_with_what_is_left() {
    let mut course = Course::restored(&["a"]);
    let mut work = in_rounds(&[&[0, 1]], 4);
    work.fresh = false;
    // Of the first cell two were recorded, of the second one; another one is still held.
    work.tried = [(0, 2), (1, 1)].into();
    assert_eq!(course.submit("r", work), []);
    let mine = [held(&attempt("r", 1, 2), 7)];
    course.sync("a", state(1, &mine));
    let next = course.record(&attempt("r", 1, 2), again(1, 2, &["a"]));
    let mut ended: BTreeMap<u64, u32> = [(0, 2), (1, 2)].into();
    let (mut cells, mut open) = (Vec::new(), next);
    while let Some(Effect::Assign { attempt, .. }) = open.pop() {
        cells.push(attempt.cell);
        let ended = ended.entry(attempt.cell).or_default();
        *ended += 1;
        let next = if *ended == 4 {
            settled()
        } else {
            again(attempt.cell, 4 - *ended, &["a"])
        };
        open = course.record(&attempt, next);
    }
    assert_eq!(
        cells,
        [0, 1, 0, 1],
        "the round of what is held first, then in turns"
    );
    assert_eq!(course.scheduler.run(&run("r")), None, "it is over");
}
