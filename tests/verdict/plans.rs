//! Which shard runs which case, by how long cases took before.

use std::collections::BTreeMap;

use regatta_model::lasted;
use regatta_model::plan::ShardUnit;
use regatta_verdict::shards::{Plan, Timed, expected};

/// What one shard said: names and milliseconds.
struct Said(Vec<String>, Vec<u8>);

impl Said {
    fn of(cases: &[(&str, u64)]) -> Self {
        let name = |(name, _): &(&str, u64)| (*name).to_owned();
        let code = |(_, ms): &(&str, u64)| match ms {
            0 => lasted::UNTOLD,
            ms => lasted::of_ms(*ms),
        };
        Self(
            cases.iter().map(name).collect(),
            cases.iter().map(code).collect(),
        )
    }

    fn timed(&self) -> Timed<'_> {
        Timed {
            names: &self.0,
            durations: &self.1,
        }
    }
}

fn known(cases: &[(&str, u64)]) -> BTreeMap<String, u64> {
    cases
        .iter()
        .map(|(name, ms)| ((*name).to_owned(), *ms))
        .collect()
}

fn plan(cases: &[(&str, u64)], total: u32, before: Option<&str>) -> String {
    let plan = Plan::new(&known(cases), total, before.map(Plan::parse));
    plan.unwrap().to_text()
}

const SKEWED: [(&str, u64); 6] = [("a", 8), ("b", 7), ("c", 6), ("d", 5), ("e", 4), ("f", 60)];

#[test]
fn the_longest_goes_first_to_the_shard_with_least_to_do() {
    assert_eq!(
        plan(&SKEWED, 2, None),
        "a\t1\nb\t1\nc\t1\nd\t1\ne\t1\nf\t0\n"
    );
    assert_eq!(
        plan(&SKEWED, 3, None),
        "a\t1\nb\t2\nc\t2\nd\t1\ne\t1\nf\t0\n"
    );
    let three = Plan::parse(&plan(&SKEWED, 3, None));
    assert_eq!(three.loads(&known(&SKEWED), 3), [60, 17, 13]);
    // Equal ones go round, by their names.
    assert_eq!(
        plan(&[("b", 5), ("a", 5), ("c", 5)], 2, None),
        "a\t0\nb\t1\nc\t0\n"
    );
    assert_eq!(Plan::new(&BTreeMap::new(), 4, None), None);
}

#[test]
fn a_plan_stays_while_it_is_good_enough() {
    let before = plan(&SKEWED, 3, None);
    // A tenth more or less moves nothing, and neither does a case of little weight that is new or gone.
    let jittered = [
        ("a", 7),
        ("b", 8),
        ("c", 6),
        ("d", 6),
        ("e", 4),
        ("f", 63),
        ("new", 3),
    ];
    assert_ne!(plan(&jittered, 3, None), before);
    assert_eq!(plan(&jittered, 3, Some(&before)), before);
    assert_eq!(plan(&SKEWED[1..], 3, Some(&before)), before);
    // Twice as much does, and so do shards that are no more, and much that is new.
    let heavy = [
        ("a", 80),
        ("b", 7),
        ("c", 6),
        ("d", 80),
        ("e", 4),
        ("f", 60),
    ];
    assert_eq!(plan(&heavy, 3, Some(&before)), plan(&heavy, 3, None));
    assert_eq!(plan(&SKEWED, 2, Some(&before)), plan(&SKEWED, 2, None));
    let grown = [&SKEWED[..], &[("new", 30)]].concat();
    assert_eq!(plan(&grown, 3, Some(&before)), plan(&grown, 3, None));
}

#[test]
fn what_a_case_takes_is_the_median_of_the_runs_that_tell() {
    let runs = [
        // The newest: an outlier, a case that took no time that was told, and one that is new.
        vec![Said::of(&[("a", 900), ("new", 3)]), Said::of(&[("b", 0)])],
        vec![Said::of(&[("b", 5)]), Said::of(&[("a", 6)])],
        vec![Said::of(&[("a", 4), ("b", 7), ("gone\tx", 5)])],
    ];
    let timed = runs
        .each_ref()
        .map(|run| run.iter().map(Said::timed).collect());
    assert_eq!(
        expected(&timed, ShardUnit::Case),
        known(&[("a", 6), ("b", 7), ("new", 3)])
    );
    assert_eq!(expected(&[], ShardUnit::Case), known(&[]));
}

#[test]
fn a_package_takes_as_long_as_its_tests_without_their_subtests() {
    let said = Said::of(&[
        ("p/a::TestX", 5),
        ("p/a::TestX/sub", 4),
        ("p/a::TestY", 2),
        ("p/b::TestX", 1),
    ]);
    assert_eq!(
        expected(&[vec![said.timed()]], ShardUnit::Package),
        known(&[("p/a", 7), ("p/b", 1)])
    );
}

#[test]
fn a_file_takes_as_long_as_its_tests_whatever_they_are_called() {
    let said = Said::of(&[
        ("/src/a.test.js::GET /ships", 5),
        ("/src/a.test.js::ships > a::b", 4),
        ("/src/b.test.js", 1),
    ]);
    assert_eq!(
        expected(&[vec![said.timed()]], ShardUnit::File),
        known(&[("/src/a.test.js", 9), ("/src/b.test.js", 1)])
    );
}

#[test]
fn a_plan_that_somebody_else_wrote_is_read_as_far_as_it_is_one() {
    let read = Plan::parse("a\t1\nno line\n\tx\nb with  blanks\t[x]\t0\nc\t-1\n");
    assert_eq!(read.to_text(), "a\t1\nb with  blanks\t[x]\t0\n");
}
