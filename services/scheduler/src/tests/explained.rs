//! Why a run waits: each reason in the situation that it is about, and none where nothing waits.

use std::collections::BTreeMap;

use regatta_model::wait::{Explanation, Wait};

use super::resources::{asking, resources, sized};
use super::*;

fn waits(course: &Course, id: &str) -> Vec<Wait> {
    course.scheduler.explain(&run(id)).unwrap().waits
}

fn labelled(zone: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("zone".to_owned(), zone.to_owned())])
}

#[test]
fn a_run_without_a_host_that_could_run_it_says_so() {
    let mut course = Course::new();
    course.submit("r", work(3));
    assert_eq!(waits(&course, "r"), [Wait::NoHost]);
    course.sync(
        "a",
        HostState {
            labels: labelled("east"),
            ..state(1, &[])
        },
    );
    course.submit(
        "west",
        Work {
            labels: labelled("west"),
            ..work(2)
        },
    );
    let labels = labelled("west");
    assert_eq!(waits(&course, "west"), [Wait::NoHostWithLabels { labels }]);
    course.submit(
        "east",
        Work {
            labels: labelled("east"),
            ..work(2)
        },
    );
    assert_eq!(
        course.scheduler.explain(&run("east")),
        Some(Explanation {
            cells: 2,
            waits: vec![Wait::PlacesTaken { own: 0, others: 1 }]
        })
    );
    assert_eq!(course.scheduler.explain(&run("nobody")), None);
}

#[test]
fn hosts_that_are_silent_or_put_aside_are_counted() {
    let mut course = Course::new();
    for name in ["a", "b", "c"] {
        course.sync(name, state(0, &[]));
    }
    course.tell(Event::PolicySet {
        host: host("c"),
        policy: Policy::Cordoned,
    });
    course.submit("r", work(1));
    course.tick(11_000);
    course.sync("c", state(0, &[]));
    course.tick(1_000);
    let counts = Wait::HostsNotAble {
        suspect: 2,
        lost: 0,
        put_aside: 1,
    };
    assert_eq!(waits(&course, "r"), [counts]);
    course.tick(25_000);
    let counts = Wait::HostsNotAble {
        suspect: 1,
        lost: 2,
        put_aside: 0,
    };
    assert_eq!(waits(&course, "r"), [counts]);
}

#[test]
fn limits_of_the_run_itself_are_told() {
    let mut course = Course::new();
    course.sync("a", state(4, &[]));
    course.submit(
        "r",
        Work {
            parallel: Some(2),
            ..work(9)
        },
    );
    assert_eq!(waits(&course, "r"), [Wait::Parallel { most: 2 }]);
    course.tell(Event::Cancelled { run: run("r") });
    assert!(matches!(waits(&course, "r")[..], [Wait::Stopped { .. }]));
    // Everything is under way: nothing waits.
    course.submit("small", work(1));
    assert_eq!(waits(&course, "small"), []);
    // A rerun avoids the one host that is free.
    course.sync("b", state(0, &[]));
    course.record(&attempt("small", 0, 1), again(0, 1, &["a"]));
    assert_eq!(waits(&course, "small"), [Wait::AnotherHost { attempts: 1 }]);
}

#[test]
fn a_server_that_began_anew_waits_for_its_hosts() {
    let mut course = Course::restored(&["a", "b"]);
    course.submit(
        "r",
        Work {
            fresh: false,
            ..work(3)
        },
    );
    course.sync("a", state(1, &[]));
    assert_eq!(waits(&course, "r"), [Wait::Adopting { hosts: 1 }]);
    course.sync("b", state(1, &[]));
    assert_eq!(
        waits(&course, "r"),
        [Wait::PlacesTaken { own: 2, others: 0 }]
    );
}

#[test]
fn a_run_that_no_host_is_big_enough_for_says_so_with_the_biggest() {
    let mut course = Course::new();
    course.sync("a", sized(64, 8, state(4, &[])));
    course.sync("b", sized(8, 32, state(4, &[])));
    course.submit("r", asking(16, 16, 3));
    let wait = Wait::NoHostHolds {
        asked: resources(16, 16),
        host: host("b"),
        biggest: resources(8, 32),
    };
    assert_eq!(
        wait.to_string(),
        "no host holds an attempt of 16 processors and 16GiB: the biggest is b with 8 processors and 32GiB; start an \
         agent on a bigger one, or change `resources` in the matrix"
    );
    assert_eq!(waits(&course, "r"), [wait]);
    // A host that did not speak since the server began may be as big as one likes.
    let mut course = Course::restored(&["a"]);
    course.submit("r", asking(16, 16, 3));
    assert!(matches!(
        waits(&course, "r")[..],
        [Wait::HostsNotAble { suspect: 1, .. }]
    ));
    course.sync("a", sized(8, 32, state(4, &[])));
    assert!(matches!(
        waits(&course, "r")[..],
        [Wait::NoHostHolds { .. }]
    ));
}

#[test]
fn a_run_that_waits_for_memory_says_so_and_which_host_becomes_free_for_it() {
    let mut course = Course::new();
    course.submit("small", asking(0, 2, 100));
    course.sync("a", sized(8, 8, state(8, &[])));
    course.submit("big", asking(0, 8, 1));
    let taken = |asked, kept, reserved: Option<&str>| Wait::ResourcesTaken {
        asked,
        alone: false,
        hosts: 1,
        kept,
        reserved: reserved.map(host),
    };
    let (two, eight) = (resources(0, 2), resources(0, 8));
    assert_eq!(waits(&course, "big"), [taken(eight, 0, None)]);
    let first = Wait::OthersFirst { runs: 1 };
    assert_eq!(
        waits(&course, "small"),
        [taken(two, 0, None), first.clone()]
    );
    // One ends, and another small one passes the big one.
    course.record(&attempt("small", 0, 1), settled());
    let holding: Vec<Held> = (1..5)
        .map(|n| held(&attempt("small", n, 1), n + 1))
        .collect();
    for _ in 0..4 {
        course.now += 10_000;
        course.sync("a", sized(8, 8, state(8, &holding)));
    }
    assert_eq!(waits(&course, "big"), [taken(eight, 0, None)]);
    // There would be room for one more now, and it is kept.
    assert_eq!(course.record(&attempt("small", 1, 1), settled()), []);
    assert_eq!(waits(&course, "big"), [taken(eight, 0, Some("a"))]);
    assert_eq!(waits(&course, "small"), [taken(two, 1, None), first]);
}

#[test]
fn runs_that_go_first_are_counted() {
    let mut course = Course::new();
    let of = |owner: &str, priority| Work {
        owner: Some(owner.parse().unwrap()),
        priority,
        ..work(100)
    };
    course.submit("crowd", of("x", 0));
    course.sync("a", state(2, &[]));
    course.submit("late", of("x", 0));
    course.submit("other", of("y", 0));
    course.submit("urgent", of("x", 1));
    course.submit(
        "elsewhere",
        Work {
            labels: labelled("west"),
            priority: 9,
            ..work(1)
        },
    );
    let first = |id| match &waits(&course, id)[..] {
        [Wait::PlacesTaken { .. }] => 0,
        [Wait::PlacesTaken { .. }, Wait::OthersFirst { runs }] => *runs,
        others => panic!("{others:?}"),
    };
    assert_eq!(
        ["urgent", "other", "late", "crowd"].map(first),
        [0, 1, 2, 3]
    );
}
