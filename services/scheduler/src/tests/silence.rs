//! Many hosts silent at once: the server doubts itself, for a bounded time.

use super::*;

/// Twelve hosts of the racks that `rack` says, each with an attempt.
fn fleet(rack: impl Fn(usize) -> Option<&'static str>) -> Course {
    let mut course = Course::new();
    course.submit("r", work(12));
    for index in 0..12 {
        let labels = rack(index).map(|rack| ("rack".to_owned(), rack.to_owned()));
        let state = HostState {
            labels: labels.into_iter().collect(),
            ..state(1, &[])
        };
        assert_eq!(
            course.sync(&name(index), state).len(),
            2,
            "ready, and an attempt"
        );
    }
    course
}

fn name(index: usize) -> String {
    format!("h{index:02}")
}

/// Ticks every second, with syncs of the hosts from `silent` on; gives the second at which each other host was lost.
fn watch(course: &mut Course, silent: usize, seconds: u64) -> Vec<(u64, HostName)> {
    let mut lost = Vec::new();
    for second in 1..=seconds {
        let effects = course.tick(1000);
        for effect in effects {
            if let Effect::HealthChanged {
                host,
                health: Health::Lost,
            } = effect
            {
                lost.push((second, host));
            }
        }
        for index in silent..12 {
            let holding = course.scheduler.hosts[index].held.iter();
            let holding: Vec<Held> = holding
                .map(|(key, hold)| held(&attempt("r", key.cell, key.ordinal), hold.generation))
                .collect();
            course.sync(&name(index), state(1, &holding));
        }
    }
    lost
}

/// Lease and drift of the usual configuration, in seconds, rounded up.
const LOST: u64 = 33;
const DOUBT: u64 = 60;

#[test]
fn a_third_of_the_fleet_is_lost_in_time() {
    let mut course = fleet(|_| None);
    let lost = watch(&mut course, 4, LOST);
    assert_eq!(lost.len(), 4);
}

#[test]
fn more_than_a_third_at_once_is_doubted_and_lost_after_a_bounded_time() {
    let mut course = fleet(|_| None);
    let lost = watch(&mut course, 5, LOST + DOUBT + 10);
    assert_eq!(lost.len(), 5);
    assert!(
        lost.iter().all(|(second, _)| *second > LOST + DOUBT - 5),
        "{lost:?}"
    );
    assert!(
        lost.iter().all(|(second, _)| *second <= LOST + DOUBT + 1),
        "{lost:?}"
    );
}

#[test]
fn hosts_that_come_back_while_the_server_doubts_itself_lost_nothing() {
    let mut course = fleet(|_| None);
    assert_eq!(watch(&mut course, 5, LOST + DOUBT / 2), []);
    // All but two are heard again: what was one event is two hosts now, and they are lost soon.
    let lost = watch(&mut course, 2, 20);
    assert_eq!(lost.len(), 2);
    let known = course.scheduler.hosts.iter();
    assert_eq!(known.filter(|host| host.held.is_empty()).count(), 2);
}

#[test]
fn a_rack_that_is_lost_together_is_one_event() {
    let rack = |index| Some(if index < 5 { "left" } else { "right" });
    let mut course = fleet(rack);
    assert_eq!(watch(&mut course, 5, LOST).len(), 5);
    let two = |index| Some(["a", "b", "c"][index % 3]);
    let mut course = fleet(two);
    assert_eq!(
        watch(&mut course, 5, LOST).len(),
        0,
        "no one rack explains it"
    );
}

#[test]
fn the_whole_fleet_silent_says_nothing_of_its_rack() {
    let mut course = fleet(|_| Some("only"));
    assert_eq!(watch(&mut course, 12, LOST + 20), []);
    assert_eq!(watch(&mut course, 12, DOUBT).len(), 12);
}
