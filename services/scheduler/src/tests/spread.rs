//! Where further attempts of a cell go: to another host, another rack, other processors, where there are any, and for a
//! bounded time.

use super::*;

fn on(rack: &str, cpu: &str, free: u32) -> HostState {
    let labels = [("rack", rack)].into_iter().filter(|_| !rack.is_empty());
    HostState {
        free,
        labels: labels
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        cpu: cpu.to_owned(),
        ..state(1, &[])
    }
}

/// A cell failed on host `a` of rack 1 with an old processor, and is wanted once more, while all places are taken. Then
/// each of the hosts, in this order, says every second that it has a free place, until one gets the attempt: which one,
/// and after how many milliseconds.
fn second_attempt(
    others: &[(&'static str, &str, &str)],
    busy: &[(&str, &str)],
) -> (&'static str, u64) {
    let mut course = Course::new();
    course.submit("r", work(1));
    course.sync("a", on("1", "old", 1));
    let speak = |course: &mut Course| {
        // They can run it, and have no place for it.
        for (index, (rack, cpu)) in busy.iter().enumerate() {
            course.sync(&format!("busy{index}"), on(rack, cpu, 0));
        }
    };
    speak(&mut course);
    course.sync("a", on("1", "old", 0));
    let begin = course.now;
    course.record(&attempt("r", 0, 1), again(0, 1, &["a"]));
    // Its place was counted as free with that, and it may be the only host.
    if course.scheduler.holder(&attempt("r", 0, 2)).is_some() {
        return ("a", 0);
    }
    loop {
        for (name, rack, cpu) in others.iter().chain(&[("a", "1", "old")]) {
            let effects = course.sync(name, on(rack, cpu, 1));
            if effects
                .iter()
                .any(|effect| matches!(effect, Effect::Assign { .. }))
            {
                return (name, course.now - begin);
            }
        }
        course.now += 1000;
        assert!(course.now < begin + 60_000, "nobody gets it");
        speak(&mut course);
    }
}

#[test]
fn hosts_first_then_racks_then_processors() {
    // Another host at once, where it is as different as any.
    assert_eq!(
        second_attempt(&[("b", "2", "new")], &[("2", "new")]),
        ("b", 0)
    );
    // Another one with the same processor a third of the time later, where there is one with another.
    assert_eq!(
        second_attempt(&[("b", "2", "old")], &[("2", "new")]),
        ("b", 4_000)
    );
    // One on the same rack after two thirds, whatever its processor.
    assert_eq!(
        second_attempt(&[("b", "1", "new")], &[("2", "new")]),
        ("b", 8_000)
    );
    assert_eq!(
        second_attempt(&[("b", "1", "old")], &[("2", "new")]),
        ("b", 8_000)
    );
    // The same host after all of it.
    assert_eq!(second_attempt(&[], &[("2", "new")]), ("a", 12_000));
    // Who offers more goes before who came earlier.
    let others = [("b", "1", "old"), ("c", "2", "old"), ("d", "2", "new")];
    assert_eq!(second_attempt(&others, &[("2", "new")]), ("d", 0));
}

#[test]
fn nothing_waits_for_what_no_host_offers() {
    assert_eq!(second_attempt(&[], &[]), ("a", 0));
    // All on one rack, or with one processor, or not known at all.
    assert_eq!(
        second_attempt(&[("b", "1", "new")], &[("1", "new")]),
        ("b", 0)
    );
    assert_eq!(
        second_attempt(&[("b", "2", "old")], &[("2", "old")]),
        ("b", 0)
    );
    assert_eq!(second_attempt(&[("b", "", "")], &[("2", "new")]), ("b", 0));
}

#[test]
fn a_host_that_gets_nothing_offers_nothing_and_what_it_was_does_not_count() {
    let mut course = Course::new();
    course.submit("r", work(1));
    course.sync("a", on("1", "old", 1));
    course.sync("far", on("2", "new", 0));
    course.sync("b", on("1", "old", 0));
    course.record(&attempt("r", 0, 1), again(0, 1, &["a"]));
    assert_eq!(course.sync("b", on("1", "old", 1)), []);
    let policy = Policy::Draining;
    let far = host("far");
    course.tell(Event::PolicySet { host: far, policy });
    assert_eq!(
        course.sync("b", on("1", "old", 1)),
        [assign("b", "r", 0, 2, 2)]
    );
    // It is moved to rack 1, and then there is no other rack.
    let mut course = Course::new();
    course.submit("r", work(1));
    course.sync("a", on("1", "old", 1));
    course.sync("far", on("2", "old", 0));
    course.sync("b", on("1", "old", 0));
    course.record(&attempt("r", 0, 1), again(0, 1, &["a"]));
    assert_eq!(course.sync("b", on("1", "old", 1)), []);
    course.sync("far", on("1", "old", 0));
    assert_eq!(
        course.sync("b", on("1", "old", 1)),
        [assign("b", "r", 0, 2, 2)]
    );
}
