//! Short histories with known answers.

use super::*;

#[test]
fn cells_go_to_free_places_in_order_and_the_run_finishes_with_the_last() {
    let mut course = Course::new();
    assert_eq!(course.submit("r", work(3)), []);
    let first = course.sync("a", state(2, &[]));
    let expected = [
        health("a", Health::Ready),
        assign("a", "r", 0, 1, 1),
        assign("a", "r", 1, 1, 2),
    ];
    assert_eq!(first, expected);
    assert_eq!(
        course.record(&attempt("r", 1, 1), settled()),
        [assign("a", "r", 2, 1, 3)]
    );
    assert_eq!(course.record(&attempt("r", 0, 1), settled()), []);
    let view = course.scheduler.run(&run("r")).unwrap();
    assert_eq!((view.settled, view.held, view.running), (2, 1, 1));
    assert_eq!(course.record(&attempt("r", 2, 1), settled()), [finish("r")]);
    assert_eq!(course.scheduler.run(&run("r")), None);
}

#[test]
fn a_run_that_arrives_is_spread_over_the_hosts_that_wait() {
    let mut course = Course::new();
    course.sync("a", state(4, &[]));
    course.sync("b", state(4, &[]));
    let effects = course.submit("r", work(3));
    let expected = [
        assign("a", "r", 0, 1, 1),
        assign("b", "r", 1, 1, 2),
        assign("a", "r", 2, 1, 3),
    ];
    assert_eq!(effects, expected);
}

#[test]
fn what_a_host_does_not_list_is_said_again_and_what_it_should_not_hold_is_revoked() {
    let mut course = Course::new();
    course.submit("r", work(2));
    course.sync("a", state(2, &[]));
    let stray = attempt("q", 0, 1);
    let theirs = [held(&attempt("r", 0, 1), 1), held(&stray, 7)];
    let effects = course.sync(
        "a",
        HostState {
            free: 0,
            ..state(2, &theirs)
        },
    );
    let reason = "its run is over, or was never known";
    assert_eq!(
        effects,
        [revoke("a", stray, reason), assign("a", "r", 1, 1, 2)]
    );
}

#[test]
fn a_host_holds_no_more_than_it_has_places_even_where_it_has_not_seen_its_orders() {
    let mut course = Course::new();
    course.submit("r", work(10));
    course.sync("a", state(2, &[]));
    // The answer was lost: the host still says that it has two places free.
    let effects = course.sync("a", state(2, &[]));
    assert_eq!(
        effects,
        [assign("a", "r", 0, 1, 1), assign("a", "r", 1, 1, 2)]
    );
    // It says that it takes nothing, though places are free: a full disk, say.
    course.record(&attempt("r", 0, 1), settled());
    let held = [held(&attempt("r", 1, 1), 2)];
    course.sync(
        "b",
        HostState {
            free: 0,
            ..state(4, &held)
        },
    );
    assert_eq!(course.scheduler.host(&host("b")).unwrap().free, 0);
}

#[test]
fn a_host_whose_attempts_are_short_may_fetch_some_ahead_but_not_all() {
    let mut course = Course::new();
    course.submit("r", work(100));
    let ahead = |free| HostState {
        free,
        ..state(2, &[])
    };
    let mut assigned = |name, free| {
        let effects = course.sync(name, ahead(free));
        let assigns = effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Assign { .. }));
        assigns.count()
    };
    assert_eq!(assigned("a", 7), 7);
    assert_eq!(assigned("b", u32::MAX), 34);
    // Only so many have a place as there are; the others wait on the host, and move up.
    let running = |course: &Course| {
        let hosts = course.scheduler.hosts();
        let on_hosts: Vec<u32> = hosts.iter().map(|host| host.running).collect();
        (course.scheduler.run(&run("r")).unwrap().running, on_hosts)
    };
    assert_eq!(running(&course), (4, vec![2, 2]));
    course.sync("a", ahead(0));
    for cell in 0..6 {
        course.record(&attempt("r", cell, 1), settled());
    }
    assert_eq!(running(&course), (4, vec![2, 2]));
    course.sync_as("b", 2, state(0, &[]));
    assert_eq!(running(&course), (2, vec![2, 0]));
}

#[test]
fn a_silent_host_is_suspect_then_lost_and_its_late_outcome_does_not_count() {
    let mut course = Course::new();
    course.submit("r", work(1));
    course.sync("a", state(1, &[]));
    let lost = attempt("r", 0, 1);
    assert_eq!(
        course.scheduler.holder(&lost),
        Some((host("a"), Incarnation(1), 1))
    );
    assert_eq!(course.tick(11_999), []);
    assert_eq!(course.tick(1), [health("a", Health::Suspect)]);
    assert_eq!(course.tick(20_499), []);
    let effects = course.tick(1);
    let told = Effect::Lost {
        attempt: lost.clone(),
        host: host("a"),
    };
    assert_eq!(effects, [health("a", Health::Lost), told]);
    assert_eq!(course.scheduler.holder(&lost), None);
    assert_eq!(course.record(&lost, again(0, 1, &["a"])), []);
    assert_eq!(
        course.sync("b", state(1, &[]))[1],
        assign("b", "r", 0, 2, 2)
    );
    // The lost one comes back: it must stop what it may still run, and gets no claim on it.
    let reason = "its host was lost, or it is recorded as ended";
    let effects = course.sync("a", state(1, &[held(&lost, 1)]));
    assert_eq!(
        effects,
        [
            health("a", Health::Ready),
            revoke("a", lost.clone(), reason)
        ]
    );
    assert_eq!(course.scheduler.holder(&lost), None);
}

#[test]
fn a_sync_renews_the_lease_of_all_that_a_host_holds() {
    let mut course = Course::new();
    course.submit("r", work(1));
    course.sync("a", state(1, &[]));
    for _ in 0..20 {
        course.now += 10_000;
        assert_eq!(
            course.sync("a", state(1, &[held(&attempt("r", 0, 1), 1)])),
            []
        );
        assert_eq!(course.tick(0), []);
    }
}

#[test]
fn a_new_incarnation_loses_what_it_does_not_list_and_an_older_one_is_not_heard() {
    let mut course = Course::new();
    course.submit("r", work(2));
    course.sync_as("a", 4, state(2, &[]));
    let (kept, gone) = (attempt("r", 0, 1), attempt("r", 1, 1));
    let effects = course.sync_as("a", 5, state(2, &[held(&kept, 1)]));
    assert_eq!(
        effects,
        [Effect::Lost {
            attempt: gone.clone(),
            host: host("a")
        }]
    );
    assert_eq!(
        course.scheduler.holder(&kept),
        Some((host("a"), Incarnation(4), 1))
    );
    let stale = state(2, &[held(&gone, 2)]);
    assert_eq!(course.sync_as("a", 4, stale), []);
    assert_eq!(
        course.record(&gone, again(1, 1, &[])),
        [assign("a", "r", 1, 2, 3)]
    );
}

#[test]
fn a_rerun_goes_to_a_host_that_has_not_run_the_cell_where_there_is_one() {
    let mut course = Course::new();
    course.submit("r", work(1));
    course.sync("a", state(1, &[]));
    // Alone, it gets the rerun at once.
    assert_eq!(
        course.record(&attempt("r", 0, 1), again(0, 1, &["a"])),
        [assign("a", "r", 0, 2, 2)]
    );
    // With another host that can run it, the rerun waits for that one.
    course.sync(
        "b",
        HostState {
            free: 0,
            ..state(1, &[])
        },
    );
    assert_eq!(course.record(&attempt("r", 0, 2), again(0, 1, &["a"])), []);
    assert_eq!(course.sync("a", state(1, &[])), []);
    assert_eq!(course.sync("b", state(1, &[])), [assign("b", "r", 0, 3, 3)]);
    // But not for ever.
    assert_eq!(
        course.record(&attempt("r", 0, 3), again(0, 1, &["b"]))[0],
        assign("a", "r", 0, 4, 4)
    );
    assert_eq!(
        course
            .record(&attempt("r", 0, 4), again(0, 1, &["a", "b"]))
            .len(),
        1
    );
}

#[test]
fn a_rerun_waits_a_bounded_time_for_another_host() {
    let mut course = Course::new();
    course.submit("r", work(1));
    course.sync("a", state(1, &[]));
    course.sync(
        "b",
        HostState {
            free: 0,
            ..state(1, &[])
        },
    );
    assert_eq!(course.record(&attempt("r", 0, 1), again(0, 1, &["a"])), []);
    for _ in 0..2 {
        course.now += 6000;
        course.sync(
            "b",
            HostState {
                free: 0,
                ..state(1, &[])
            },
        );
        let effects = course.sync("a", state(1, &[]));
        let waited = course.now - 1000;
        let expected = if waited < 12_000 {
            vec![]
        } else {
            vec![assign("a", "r", 0, 2, 2)]
        };
        assert_eq!(effects, expected, "after {waited} ms");
    }
}

#[test]
fn saying_twice_that_a_cell_wants_one_more_is_one_more() {
    let mut course = Course::new();
    course.submit("r", work(3));
    course.sync("a", state(3, &[]));
    course.record(&attempt("r", 0, 1), settled());
    course.sync(
        "a",
        HostState {
            free: 0,
            ..state(
                3,
                &[held(&attempt("r", 1, 1), 2), held(&attempt("r", 2, 1), 3)],
            )
        },
    );
    // Both broken cells ask for their baseline, cell 0, once more.
    for cell in [1, 2] {
        let next = Next {
            settled: true,
            failed: true,
            ..again(0, 1, &[])
        };
        course.record(&attempt("r", cell, 1), next);
    }
    assert!(course.scheduler.holder(&attempt("r", 0, 2)).is_some());
    assert!(course.scheduler.holder(&attempt("r", 0, 3)).is_none());
    assert_eq!(course.record(&attempt("r", 0, 2), settled()), [finish("r")]);
}

#[test]
fn repeat_gives_every_cell_so_many_attempts_with_ordinals_of_their_own() {
    let mut course = Course::new();
    course.submit(
        "r",
        Work {
            repeat: 3,
            ..work(2)
        },
    );
    let effects = course.sync("a", state(4, &[]));
    let expected = [
        assign("a", "r", 0, 1, 1),
        assign("a", "r", 0, 2, 2),
        assign("a", "r", 0, 3, 3),
        assign("a", "r", 1, 1, 4),
    ];
    assert_eq!(effects[1..], expected);
}

#[test]
fn what_still_runs_of_a_settled_cell_is_revoked_and_awaited() {
    let mut course = Course::new();
    course.submit(
        "r",
        Work {
            repeat: 2,
            ..work(1)
        },
    );
    course.sync("a", state(2, &[]));
    let reason = "its cell has its verdict";
    let effects = course.record(&attempt("r", 0, 1), settled());
    assert_eq!(effects, [revoke("a", attempt("r", 0, 2), reason)]);
    let rest = [held(&attempt("r", 0, 2), 2)];
    assert_eq!(
        course.sync("a", state(2, &rest)),
        [revoke("a", attempt("r", 0, 2), reason)]
    );
    // It never saw the order at all: then nothing is to be awaited.
    assert_eq!(course.sync("a", state(2, &[])), [finish("r")]);
}

#[test]
fn what_is_wanted_of_a_cell_again_does_not_wait_for_what_it_gave_up() {
    let mut course = Course::new();
    course.submit(
        "r",
        Work {
            repeat: 2,
            ..work(2)
        },
    );
    course.sync("a", state(3, &[]));
    let (first, second) = (attempt("r", 0, 1), attempt("r", 0, 2));
    let other = attempt("r", 1, 1);
    let listed = [held(&first, 1), held(&second, 2), held(&other, 3)];
    course.sync(
        "a",
        HostState {
            free: 0,
            ..state(3, &listed)
        },
    );
    // The cell has its verdict; its second attempt waits on the host, which drops it without a word.
    let revoked = course.record(&first, settled());
    assert!(revoked.contains(&revoke("a", second, "its cell has its verdict")));
    // Meanwhile another cell wants one more of it: a new one is asked for at once.
    let effects = course.record(&other, again(0, 1, &[]));
    assert!(
        effects.iter().any(|effect| matches!(
            effect,
            Effect::Assign { attempt, .. } if attempt.cell == 0 && attempt.ordinal == 3
        )),
        "{effects:?}"
    );
}

#[test]
fn a_cell_that_was_run_again_comes_to_its_end_before_the_reruns_of_others_begin() {
    let mut course = Course::new();
    course.submit("r", work(3));
    course.sync("a", state(3, &[]));
    let next = |effects: &[Effect]| match effects {
        [Effect::Assign { attempt, .. }] => (attempt.cell, attempt.ordinal),
        _ => panic!("{effects:?}"),
    };
    let mut ended =
        |cell, ordinal| next(&course.record(&attempt("r", cell, ordinal), again(cell, 2, &[])));
    assert_eq!(ended(0, 1), (0, 2));
    assert_eq!(ended(1, 1), (0, 3));
    assert_eq!(ended(2, 1), (1, 2));
    assert_eq!(
        ended(0, 2),
        (0, 4),
        "others wait for their first rerun, and longer"
    );
    assert_eq!(ended(1, 2), (1, 3));
}

#[test]
fn of_the_reruns_that_a_run_may_still_take_only_a_part_is_under_way_at_once() {
    let mut course = Course::new();
    let wanted = Work {
        reruns_left: Some(24),
        ..work(6)
    };
    course.submit("r", wanted);
    course.sync("a", state(20, &[]));
    let mut ended = |cell, ordinal, left| {
        let next = Next {
            reruns_left: Some(left),
            ..again(cell, 2, &[])
        };
        let effects = course.record(&attempt("r", cell, ordinal), next);
        let assigned = |effect: &&Effect| matches!(effect, Effect::Assign { .. });
        effects.iter().filter(assigned).count()
    };
    assert_eq!(ended(0, 1, 24), 2);
    assert_eq!(ended(1, 1, 24), 1, "an eighth of 24 is under way");
    assert_eq!(ended(2, 1, 24), 0);
    assert_eq!(ended(0, 2, 23), 0, "of 23 it is two");
    assert_eq!(ended(0, 3, 22), 1);
    assert_eq!(ended(0, 4, 2), 1, "the last two");
    assert_eq!(ended(0, 5, 1), 0);
    let explanation = course.scheduler.explain(&run("r")).unwrap();
    assert_eq!(
        explanation.waits,
        [regatta_model::wait::Wait::Reruns { left: 1 }]
    );
}

#[test]
fn shares_are_fair_priorities_go_first_and_parallel_is_a_limit() {
    let mut course = Course::new();
    course.submit("big", work(100));
    course.submit("small", work(2));
    let effects = course.sync("a", state(5, &[]));
    let runs = |effects: &[Effect]| -> Vec<String> {
        let assigned = effects.iter().filter_map(|effect| match effect {
            Effect::Assign { attempt, .. } => Some(attempt.run.to_string()),
            _ => None,
        });
        assigned.collect()
    };
    assert_eq!(runs(&effects), ["big", "small", "big", "small", "big"]);
    course.submit(
        "urgent",
        Work {
            priority: 5,
            parallel: Some(1),
            ..work(9)
        },
    );
    let effects = course.record(&attempt("big", 0, 1), settled());
    assert_eq!(runs(&effects), ["urgent"]);
    let effects = course.record(&attempt("big", 1, 1), settled());
    assert_eq!(runs(&effects), ["big"]);
}

#[test]
fn hosts_without_the_labels_and_hosts_that_a_person_put_aside_get_nothing() {
    let mut course = Course::new();
    let labels = BTreeMap::from([("arch".to_owned(), "arm".to_owned())]);
    course.submit(
        "r",
        Work {
            labels: labels.clone(),
            ..work(2)
        },
    );
    assert_eq!(
        course.sync("a", state(1, &[])),
        [health("a", Health::Ready)]
    );
    for policy in [Policy::Cordoned, Policy::Draining, Policy::Quarantined] {
        course.tell(Event::PolicySet {
            host: host("b"),
            policy,
        });
        let effects = course.sync(
            "b",
            HostState {
                labels: labels.clone(),
                ..state(1, &[])
            },
        );
        assert!(
            !effects
                .iter()
                .any(|effect| matches!(effect, Effect::Assign { .. }))
        );
    }
    let effects = course.tell(Event::PolicySet {
        host: host("b"),
        policy: Policy::Active,
    });
    assert_eq!(effects, [assign("b", "r", 0, 1, 1)]);
}

#[test]
fn fail_fast_stops_the_rest_and_finishes() {
    let mut course = Course::new();
    course.submit(
        "r",
        Work {
            fail_fast: true,
            ..work(100)
        },
    );
    course.sync("a", state(2, &[]));
    let failed = Next {
        settled: true,
        failed: true,
        ..Next::default()
    };
    let reason = "a cell failed, and the run is fail-fast";
    let effects = course.record(&attempt("r", 0, 1), failed);
    assert_eq!(effects, [revoke("a", attempt("r", 1, 1), reason)]);
    assert_eq!(
        course.record(&attempt("r", 1, 1), Next::default()),
        [finish("r")]
    );
}

#[test]
fn a_cancelled_run_starts_nothing_more_and_ends_when_nothing_is_held() {
    let mut course = Course::new();
    course.submit("r", work(100));
    course.sync("a", state(1, &[]));
    let cancel = Event::Cancelled { run: run("r") };
    let reason = "the run was cancelled";
    assert_eq!(
        course.tell(cancel.clone()),
        [revoke("a", attempt("r", 0, 1), reason)]
    );
    assert_eq!(
        course.sync("b", state(5, &[])),
        [health("b", Health::Ready)]
    );
    let finished = Effect::Finish {
        run: run("r"),
        cancelled: true,
    };
    assert_eq!(
        course.record(&attempt("r", 0, 1), Next::default()),
        std::slice::from_ref(&finished)
    );
    // One that holds nothing ends at once.
    let mut course = Course::new();
    course.submit("r", work(100));
    assert_eq!(course.tell(cancel), [finished]);
}

#[test]
fn after_a_restart_nothing_is_placed_before_every_host_told_what_it_holds() {
    let mut course = Course::restored(&["a", "b"]);
    let tried = BTreeMap::from([(1, 2)]);
    let restored = Work {
        fresh: false,
        settled: vec![0],
        tried,
        ..work(4)
    };
    assert_eq!(course.submit("r", restored), []);
    assert_eq!(
        course.sync("c", state(9, &[])),
        [health("c", Health::Ready)]
    );
    // One that runs, and one that ended while there was no server.
    let (runs, ended) = (attempt("r", 2, 1), attempt("r", 1, 3));
    let told = HostState {
        ended: vec![held(&ended, 12)],
        ..state(1, &[held(&runs, 11)])
    };
    // The host was started anew meanwhile: a former life of it may tell how they ended.
    assert_eq!(course.sync_as("a", 2, told), [health("a", Health::Ready)]);
    assert_eq!(
        course.scheduler.holder(&runs),
        Some((host("a"), Incarnation(0), 11))
    );
    assert_eq!(
        course.scheduler.holder(&ended),
        Some((host("a"), Incarnation(0), 12))
    );
    assert_eq!(course.record(&ended, settled()), []);
    // What is recorded already, and what somebody else holds, is not taken up.
    let old = attempt("r", 1, 2);
    let told = state(3, &[held(&old, 3), held(&runs, 4)]);
    let effects = course.sync("b", told);
    assert_eq!(
        effects[1..3],
        [
            revoke("b", old, "its cell has its verdict"),
            revoke("b", runs, "another host holds it")
        ]
    );
    // That was the last host: the rest is placed, with a generation above all that were seen.
    assert_eq!(effects[3..], [assign("b", "r", 3, 1, 13)]);
}

#[test]
fn after_a_restart_a_host_that_stays_away_delays_for_lease_and_drift_only() {
    let mut course = Course::restored(&["a"]);
    course.submit(
        "r",
        Work {
            fresh: false,
            ..work(1)
        },
    );
    course.submit("new", work(1));
    // A run that is new cannot be held by anybody, and need not wait.
    let effects = course.sync("b", state(2, &[]));
    assert_eq!(effects[1..], [assign("b", "new", 0, 1, 1)]);
    for _ in 0..3 {
        course.now += 10_000;
        assert_eq!(
            course.sync("b", state(2, &[held(&attempt("new", 0, 1), 1)])),
            []
        );
    }
    let effects = course.tick(2500);
    assert_eq!(
        effects,
        [health("a", Health::Lost), assign("b", "r", 0, 1, 2)]
    );
    // Too late: what it held then is revoked.
    let late = attempt("r", 0, 1);
    let effects = course.sync("a", state(1, &[held(&late, 9)]));
    assert_eq!(effects[1..], [revoke("a", late, "another host holds it")]);
}

#[test]
fn a_restored_run_with_nothing_left_to_do_finishes() {
    let mut course = Course::new();
    let restored = Work {
        fresh: false,
        settled: vec![0, 1, 1, 99],
        ..work(2)
    };
    assert_eq!(course.submit("r", restored), [finish("r")]);
}

#[test]
fn an_ordinal_is_never_used_twice_even_when_a_settled_cell_opens_again() {
    let mut course = Course::new();
    let tried = BTreeMap::from([(0, 4)]);
    course.submit(
        "r",
        Work {
            settled: vec![0],
            tried,
            ..work(2)
        },
    );
    course.sync("a", state(1, &[]));
    let next = Next {
        settled: true,
        ..again(0, 1, &[])
    };
    assert_eq!(
        course.record(&attempt("r", 1, 1), next),
        [assign("a", "r", 0, 5, 2)]
    );
}

#[test]
fn cells_that_were_judged_anew_are_settled_and_wanted_at_once() {
    let mut course = Course::new();
    course.submit("r", work(3));
    course.sync("a", state(1, &[]));
    course.record(&attempt("r", 0, 1), settled());
    course.record(&attempt("r", 1, 1), settled());
    let next = Next {
        settles: vec![1],
        ..again(0, 1, &["a"])
    };
    let rejudged = Event::Rejudged {
        run: run("r"),
        next,
    };
    assert_eq!(course.tell(rejudged), []);
    let view = course.scheduler.run(&run("r")).unwrap();
    assert_eq!((view.settled, view.held, view.waiting), (1, 1, 1));
    course.record(&attempt("r", 2, 1), settled());
    let view = course.scheduler.run(&run("r")).unwrap();
    assert_eq!(view.settled, 2, "it goes on for what was wanted again");
    let unknown = Event::Rejudged {
        run: run("other"),
        next: again(0, 1, &[]),
    };
    assert_eq!(course.tell(unknown), []);
}

#[test]
fn ten_million_cells_cost_what_is_in_flight() {
    let mut course = Course::new();
    course.submit("r", work(10_000_000));
    course.sync("a", state(8, &[]));
    let mut running: std::collections::VecDeque<AttemptId> =
        (0..8).map(|cell| attempt("r", cell, 1)).collect();
    for _ in 0..100_000 {
        let effects = course.record(&running.pop_front().unwrap(), settled());
        let [Effect::Assign { attempt, .. }] = effects.as_slice() else {
            panic!("{effects:?}")
        };
        running.push_back(attempt.clone());
    }
    let view = course.scheduler.run(&run("r")).unwrap();
    assert_eq!(
        (view.settled, view.held, view.fresh),
        (100_000, 8, 9_899_992)
    );
}

#[test]
fn events_that_make_no_sense_have_no_effect() {
    let mut course = Course::new();
    assert_eq!(course.record(&attempt("r", 0, 1), settled()), []);
    assert_eq!(course.tell(Event::Cancelled { run: run("r") }), []);
    course.submit("r", work(1));
    assert_eq!(course.submit("r", work(5)), []);
    assert_eq!(
        course.record(&attempt("r", 77, 1), again(99, u32::MAX, &["x"])),
        []
    );
    assert_eq!(
        course.record(&attempt("r", u64::MAX, u32::MAX), settled()),
        []
    );
    let strange = held(&attempt("r", u64::MAX, u32::MAX), u64::MAX);
    let effects = course.sync(
        "a",
        HostState {
            free: u32::MAX,
            slots: 1,
            holding: vec![strange],
            ..HostState::default()
        },
    );
    // It is revoked, and the host gets what there is, within its one place.
    assert_eq!(effects[2..], [assign("a", "r", 0, 1, 1)]);
}
