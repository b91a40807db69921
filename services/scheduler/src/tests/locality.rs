//! Cells go where their images are, and nothing waits for that.

use regatta_model::Digest;
use regatta_model::matrix::{Kind, Kinds};

use super::*;
use crate::locality::PASSED_MOST;

pub(super) fn digest(name: &str) -> Digest {
    Digest::of_canonical(&name)
}

pub(super) fn kind(image: &str) -> Kind {
    Kind {
        image: digest(image),
        setup: None,
    }
}

/// Cells of these images in turn, `each` of one after another.
pub(super) fn repeating(images: &[&str], cells: u64, each: u64) -> Kinds {
    let kinds: Vec<Kind> = images.iter().map(|image| kind(image)).collect();
    let starts = (0..).map(|at| at * each);
    let ranges: Vec<(u64, usize)> = starts.zip(0..kinds.len()).collect();
    let period = each * u64::try_from(images.len()).unwrap();
    Kinds::repeating(kinds, cells, period, ranges)
}

fn of(kinds: Kinds, cells: u64) -> Work {
    Work {
        kinds,
        ..work(cells)
    }
}

fn has(slots: u32, held: &[Held], ready: &[&str]) -> HostState {
    HostState {
        ready: ready.iter().map(|name| digest(name)).collect(),
        ..state(slots, held)
    }
}

/// Who got which cells.
fn given(effects: &[Effect]) -> Vec<(String, u64)> {
    let given = effects.iter().filter_map(|effect| match effect {
        Effect::Assign { host, attempt, .. } => Some((host.to_string(), attempt.cell)),
        _ => None,
    });
    given.collect()
}

fn on(host: &str, cells: &[u64]) -> Vec<(String, u64)> {
    cells.iter().map(|cell| (host.to_owned(), *cell)).collect()
}

#[test]
fn a_host_gets_the_cells_whose_image_it_has_first() {
    let mut course = Course::new();
    course.submit("r", of(repeating(&["x", "y"], 8, 1), 8));
    assert_eq!(
        given(&course.sync("b", has(2, &[], &["y"]))),
        on("b", &[1, 3])
    );
    assert_eq!(
        given(&course.sync("a", has(2, &[], &["x"]))),
        on("a", &[0, 2])
    );
    // However far they are.
    let mut course = Course::new();
    course.submit(
        "r",
        of(repeating(&["x", "y"], 1_000_000, 500_000), 1_000_000),
    );
    let first = course.sync("b", has(2, &[], &["y"]));
    assert_eq!(given(&first), on("b", &[500_000, 500_001]));
    assert_eq!(given(&course.sync("c", has(2, &[], &[]))), on("c", &[0, 1]));
}

#[test]
fn a_host_goes_on_with_the_image_that_it_fetches() {
    let mut course = Course::new();
    course.submit("r", of(repeating(&["x", "y"], 8, 1), 8));
    assert_eq!(given(&course.sync("a", has(2, &[], &[]))), on("a", &[0, 2]));
    assert_eq!(given(&course.sync("b", has(2, &[], &[]))), on("b", &[1, 3]));
}

#[test]
fn a_cell_goes_to_the_idle_host_that_has_its_image() {
    let mut course = Course::new();
    for (name, image) in [("a", "y"), ("b", "x"), ("c", "z")] {
        course.sync(name, has(1, &[], &[image]));
    }
    let effects = course.submit("r", of(Kinds::one(kind("z"), 1), 1));
    assert_eq!(given(&effects), on("c", &[0]));
    let effects = course.submit("s", of(repeating(&["x", "y"], 2, 1), 2));
    let expected = [("a".to_owned(), 1), ("b".to_owned(), 0)];
    assert_eq!(given(&effects), expected);
}

#[test]
fn a_set_up_that_is_there_counts_where_images_are_equal() {
    let set_up = |setup: &str| Kind {
        image: digest("x"),
        setup: Some(digest(setup)),
    };
    let kinds = Kinds::repeating(vec![set_up("s"), set_up("t")], 4, 2, vec![(0, 0), (1, 1)]);
    let mut course = Course::new();
    course.submit("r", of(kinds, 4));
    assert_eq!(
        given(&course.sync("a", has(2, &[], &["x", "t"]))),
        on("a", &[1, 3])
    );
    assert_eq!(
        given(&course.sync("b", has(2, &[], &["x"]))),
        on("b", &[0, 2])
    );
}

#[test]
fn no_place_stays_idle_for_an_image() {
    let mut course = Course::new();
    course.sync("a", has(3, &[], &["x"]));
    course.sync("b", has(3, &[], &["y"]));
    let effects = course.submit("r", of(Kinds::one(kind("x"), 6), 6));
    let mut hosts: Vec<String> = given(&effects).into_iter().map(|(host, _)| host).collect();
    hosts.sort();
    assert_eq!(hosts, ["a", "a", "a", "b", "b", "b"]);
}

#[test]
fn no_cell_is_passed_over_for_ever() {
    let mut course = Course::new();
    let cells = 10_000;
    course.submit("r", of(repeating(&["x", "y"], cells, 1), cells));
    let mut order = Vec::new();
    let mut effects = course.sync("a", has(1, &[], &["y"]));
    while order.len() < 1000 {
        let (_, cell) = given(&effects)[0].clone();
        order.push(cell);
        effects = course.record(&attempt("r", cell, 1), settled());
    }
    let passed = usize::try_from(PASSED_MOST).unwrap();
    let expected = [0_u64, 2, 4].map(|cell| order.iter().position(|other| *other == cell));
    assert_eq!(expected[0], Some(passed));
    // The host is taken to have what it was given; and nothing is begun twice.
    order.sort_unstable();
    order.dedup();
    assert_eq!(order.len(), 1000);
}

#[test]
fn who_is_next_does_not_depend_on_images() {
    let mut course = Course::new();
    course.submit("first", of(Kinds::one(kind("x"), 1), 1));
    let urgent = Work {
        priority: 1,
        ..of(Kinds::one(kind("y"), 1), 1)
    };
    course.submit("urgent", urgent);
    let effects = course.sync("a", has(1, &[], &["x"]));
    assert_eq!(effects.last(), Some(&assign("a", "urgent", 0, 1, 1)));
}

#[test]
fn what_a_host_needs_soon_is_what_waits_and_it_lacks() {
    let mut course = Course::new();
    course.submit("r", of(repeating(&["x", "y"], 4, 2), 4));
    course.sync("a", has(1, &[], &["x"]));
    let soon = |course: &Course, name: &str| course.scheduler.soon(&host(name));
    // It has one more of x.
    assert_eq!(soon(&course, "a"), []);
    course.record(&attempt("r", 0, 1), settled());
    assert_eq!(soon(&course, "a"), [digest("y")]);
    let cordoned = Event::PolicySet {
        host: host("a"),
        policy: Policy::Cordoned,
    };
    course.tell(cordoned);
    assert_eq!(soon(&course, "a"), []);
    assert_eq!(soon(&course, "b"), []);
    course.sync("c", has(2, &[], &[]));
    assert_eq!(soon(&course, "c"), [], "nothing waits");
    let labels = BTreeMap::from([("arch".to_owned(), "other".to_owned())]);
    course.submit(
        "s",
        Work {
            labels,
            ..of(Kinds::one(kind("z"), 1), 1)
        },
    );
    assert_eq!(soon(&course, "c"), []);
}
