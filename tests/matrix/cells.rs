//! Cells against the simplest model of them: a list of all combinations, searched.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use regatta_model::matrix::Matrix;
use serde_json::{Value, json};

/// A small matrix: sizes of the axes; excludes with, per axis, a mask of the values that it matches (0
/// where it does not name the axis); included cells by index, where the index after the last is a
/// value that the axis does not have.
#[derive(Clone, Debug)]
struct Small {
    sizes: Vec<usize>,
    excludes: Vec<Vec<u8>>,
    include: Vec<Vec<usize>>,
}

fn small() -> impl Strategy<Value = Small> {
    prop::collection::vec(1usize..=4, 1..=6).prop_flat_map(|sizes| {
        let mask = |size: &usize| {
            let most = (1u8 << size) - 1;
            prop_oneof![2 => Just(0u8), 2 => 0..=most, 3 => (0..*size).prop_map(|at| 1 << at)]
        };
        let exclude = sizes.iter().map(mask).collect::<Vec<_>>();
        let cell = sizes.iter().map(|size| 0..=*size).collect::<Vec<_>>();
        let excludes = prop::collection::vec(exclude, 0..12);
        let include = prop::collection::vec(cell, 0..4);
        (Just(sizes), excludes, include).prop_map(|(sizes, excludes, include)| Small {
            sizes,
            excludes,
            include,
        })
    })
}

impl Small {
    /// Every combination of the axes' own values, the last axis fastest.
    fn combinations(&self) -> Vec<Vec<usize>> {
        self.sizes.iter().fold(vec![vec![]], |all, size| {
            let longer =
                |one: Vec<usize>| (0..*size).map(move |at| [one.as_slice(), &[at]].concat());
            all.into_iter().flat_map(longer).collect()
        })
    }

    fn excludes(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.excludes
            .iter()
            .filter(|exclude| exclude.iter().any(|mask| *mask != 0))
    }

    fn is_excluded(&self, cell: &[usize]) -> bool {
        let hit = |(mask, at): (&u8, &usize)| *mask == 0 || mask & (1 << at) != 0;
        self.excludes()
            .any(|exclude| exclude.iter().zip(cell).all(hit))
    }

    /// The cells in their order: the product's, then the included ones that are no cells yet.
    fn cells(&self) -> Vec<Vec<usize>> {
        let mut cells: Vec<Vec<usize>> = self
            .combinations()
            .into_iter()
            .filter(|cell| !self.is_excluded(cell))
            .collect();
        for cell in &self.include {
            if !cells.contains(cell) {
                cells.push(cell.clone());
            }
        }
        cells
    }

    fn named(cell: &[usize]) -> BTreeMap<String, String> {
        cell.iter()
            .enumerate()
            .map(|(axis, at)| (format!("a{axis}"), format!("v{at}")))
            .collect()
    }

    fn to_json(&self) -> Value {
        let axes: serde_json::Map<String, Value> = self
            .sizes
            .iter()
            .enumerate()
            .map(|(axis, size)| {
                (
                    format!("a{axis}"),
                    (0..*size).map(|at| format!("v{at}")).collect(),
                )
            })
            .collect();
        let exclude: Vec<Value> = self
            .excludes()
            .map(|exclude| {
                let named = exclude.iter().enumerate().filter(|(_, mask)| **mask != 0);
                let named = named.map(|(axis, mask)| {
                    let values = (0..8)
                        .filter(|at| mask & (1 << at) != 0)
                        .map(|at| format!("v{at}"));
                    (format!("a{axis}"), values.collect::<Value>())
                });
                Value::Object(named.collect())
            })
            .collect();
        let own = self.cells().len() - self.extra().len();
        let include: Vec<Value> = self.cells()[own..]
            .iter()
            .map(|cell| json!(Self::named(cell)))
            .collect();
        json!({ "image": "x", "test": { "run": "x" }, "axes": axes, "exclude": exclude, "include": include })
    }

    fn extra(&self) -> BTreeSet<&Vec<usize>> {
        let own: BTreeSet<Vec<usize>> = self
            .combinations()
            .into_iter()
            .filter(|cell| !self.is_excluded(cell))
            .collect();
        self.include
            .iter()
            .filter(|cell| !own.contains(*cell))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_cell_is_there_once_in_order_and_decodes_to_itself(small in small()) {
        let expected = small.cells();
        let source = small.to_json().to_string();
        let matrix = match Matrix::parse(&source, "m") {
            Ok(matrix) => matrix,
            Err(wrong) => {
                prop_assert!(expected.is_empty(), "{wrong}\n{source}");
                return Ok(());
            }
        };
        let cells = matrix.cells();
        prop_assert_eq!(cells.count(), expected.len() as u64);
        for (number, cell) in (0u64..).zip(&expected) {
            let named = Small::named(cell);
            let values = cells.values(number).unwrap();
            let values = values.into_iter().map(|(axis, value)| (axis.to_owned(), value.to_owned()));
            prop_assert_eq!(values.collect::<BTreeMap<_, _>>(), named.clone());
            prop_assert_eq!(cells.number(&named), Some(number));
        }
        prop_assert_eq!(cells.values(cells.count()), None);
        for cell in small.combinations().iter().filter(|cell| !expected.contains(cell)) {
            prop_assert_eq!(cells.number(&Small::named(cell)), None);
        }
    }

    #[test]
    fn every_shard_of_a_cell_has_a_number_after_its_cells(small in small(), shards in 1u64..=5) {
        let expected = small.cells();
        prop_assume!(!expected.is_empty());
        let mut source = small.to_json();
        let whole = Matrix::parse(&source.to_string(), "m").unwrap();
        source["shards"] = shards.into();
        source["compare"] = json!({ "axis": "a0", "baseline": "v0" });
        let split = Matrix::parse(&source.to_string(), "m").unwrap();
        source["shards"] = 1.into();
        let compared = Matrix::parse(&source.to_string(), "m").unwrap();
        let (cells, whole) = (split.cells(), whole.cells());
        prop_assert_eq!(cells.count(), shards * whole.count());
        prop_assert_eq!((cells.whole(), u64::from(cells.shards())), (whole.count(), shards));
        prop_assert_eq!(cells.numbers().collect::<Vec<_>>(), (0..whole.count()).map(|cell| cell * shards).collect::<Vec<_>>());
        for number in 0..cells.count() {
            let (cell, shard) = (number / shards, number % shards);
            prop_assert_eq!(cells.values(number), whole.values(cell));
            prop_assert_eq!((cells.first(number), u64::from(cells.shard(number))), (number - shard, shard));
            let named = Small::named(&expected[usize::try_from(cell).unwrap()]);
            prop_assert_eq!(cells.number(&named), Some(number - shard));
            let baseline = compared.cells().baseline(cell);
            prop_assert_eq!(cells.baseline(number), baseline.map(|cell| cell * shards + shard));
        }
        prop_assert_eq!(cells.values(cells.count()), None);
    }

    #[test]
    fn an_adjustment_is_refused_exactly_where_no_cell_matches(small in small(), which in prop::collection::vec(0usize..5, 6)) {
        let expected = small.cells();
        prop_assume!(!expected.is_empty());
        // Axes on which `which` names an own value; the others are free.
        let selector: BTreeMap<String, String> = small.sizes.iter().zip(&which).enumerate()
            .filter(|(_, (size, at))| at < size)
            .map(|(axis, (_, at))| (format!("a{axis}"), format!("v{at}")))
            .collect();
        prop_assume!(!selector.is_empty());
        let meant = |cell: &Vec<usize>| selector.iter().all(|(axis, value)| Small::named(cell)[axis] == *value);
        let mut source = small.to_json();
        source["adjust"] = json!([{ "where": selector, "allow-failure": true }]);
        match Matrix::parse(&source.to_string(), "m") {
            Ok(matrix) => {
                prop_assert!(expected.iter().any(meant));
                for (number, cell) in (0u64..).zip(&expected) {
                    prop_assert_eq!(matrix.allow_failure(number), meant(cell));
                }
            }
            Err(wrong) => {
                prop_assert!(!expected.iter().any(meant), "{}", wrong);
                prop_assert!(wrong.to_string().contains("matches nothing"), "{}", wrong);
            }
        }
    }

    #[test]
    fn two_adjustments_are_refused_exactly_where_a_cell_has_both(
        small in small(),
        pair in prop::collection::vec((0usize..4, 0usize..4, any::<bool>(), any::<bool>()), 6),
    ) {
        let expected = small.cells();
        let pick = |first: bool| -> BTreeMap<String, String> {
            small.sizes.iter().zip(&pair).enumerate()
                .filter(|(_, (size, (a, b, x, y)))| if first { *x && a < size } else { *y && b < size })
                .map(|(axis, (_, (a, b, ..)))| (format!("a{axis}"), format!("v{}", if first { a } else { b })))
                .collect()
        };
        let (one, other) = (pick(true), pick(false));
        let has = |cell: &Vec<usize>, selector: &BTreeMap<String, String>| {
            selector.iter().all(|(axis, value)| Small::named(cell)[axis] == *value)
        };
        let used = |selector: &BTreeMap<String, String>| {
            !selector.is_empty() && expected.iter().any(|cell| has(cell, selector))
        };
        if !used(&one) || !used(&other) {
            return Ok(());
        }
        let mut source = small.to_json();
        source["adjust"] = json!([{ "where": one, "timeout": "1m" }, { "where": other, "timeout": "2m" }]);
        let both = expected.iter().any(|cell| has(cell, &one) && has(cell, &other));
        match Matrix::parse(&source.to_string(), "m") {
            Ok(_) => prop_assert!(!both),
            Err(wrong) => prop_assert!(both && wrong.to_string().contains("two adjustments"), "{}", wrong),
        }
    }

    #[test]
    fn images_are_those_of_the_cells(small in small()) {
        let expected = small.cells();
        prop_assume!(!expected.is_empty() && small.sizes.len() >= 2);
        let mut source = small.to_json();
        source["image"] = "${{ matrix.a1 }}-${{matrix.a0}}".into();
        let matrix = Matrix::parse(&source.to_string(), "m").unwrap();
        let texts: BTreeSet<String> = expected.iter().map(|cell| format!("v{}-v{}", cell[1], cell[0])).collect();
        prop_assert_eq!(matrix.images(texts.len()).unwrap(), texts.clone());
        prop_assert!(matrix.images(texts.len() - 1).is_err());
    }
}

#[test]
fn a_billion_cells_are_counted_and_decoded() {
    let file = crate::fixtures("good", &["yaml"])
        .into_iter()
        .find(|f| f.ends_with("billion.yaml"))
        .unwrap();
    let matrix = Matrix::parse(&std::fs::read_to_string(file).unwrap(), "billion.yaml").unwrap();
    let cells = matrix.cells();
    // Counted by listing all 10^9 combinations.
    assert_eq!(cells.count(), BILLION);
    let mut previous = None;
    for step in 0..5000 {
        let number = step * (cells.count() / 5000);
        let values = cells.values(number).unwrap();
        let digits: String = values.iter().map(|(_, value)| *value).collect();
        let values = values
            .into_iter()
            .map(|(axis, value)| (axis.to_owned(), value.to_owned()));
        assert_eq!(cells.number(&values.collect()), Some(number));
        assert!(
            previous < Some(digits.clone()),
            "the numbers follow the order of the file"
        );
        previous = Some(digits);
    }
}

/// How many cells `billion.yaml` has.
const BILLION: u64 = 536_641_341;
