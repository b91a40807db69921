//! Why a run waits: each reason in the situation that it is about, and none where nothing waits.

use std::collections::BTreeMap;

use regatta_model::wait::{Explanation, Wait};

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
