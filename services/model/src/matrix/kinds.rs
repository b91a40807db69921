//! Which cells have the same image and the same set-up: their *kind*, as ranges of cell numbers that repeat. May not:
//! take memory by the cell, or more time than the constants below allow.

use std::collections::{BTreeMap, BTreeSet};

use super::Matrix;
use crate::Digest;
use crate::run::Pins;

/// Most kinds of one matrix; where there would be more, set-ups and then images are not told apart.
pub const KINDS_MOST: usize = 256;

/// Most ranges of cells that kinds are kept by, and most included cells.
pub const RANGES_MOST: u64 = 512;

/// What cells of one kind are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The image's manifest.
    pub image: Digest,
    /// The key of the set-up layer ([`crate::plan::AttemptPlan::setup_key`]); none where there is no set-up, or where
    /// set-ups are too many to tell them apart.
    pub setup: Option<Digest>,
}

/// The kinds of a matrix's cells; none where they are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    kinds: Vec<Kind>,
    parts: Vec<Part>,
}

/// Cells that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    first: u64,
    cells: u64,
    /// After so many cells, all repeats; above 0.
    period: u64,
    /// Within a period: where ranges begin, in order, the first at 0, and of which kind they are.
    ranges: Vec<(u64, usize)>,
}

impl Part {
    /// The range in which a cell is, by its place within the period.
    fn range(&self, within: u64) -> usize {
        self.ranges
            .partition_point(|(start, _)| *start <= within)
            .saturating_sub(1)
    }

    /// See [`Kinds::next`].
    fn next(&self, kind: usize, from: u64) -> Option<u64> {
        let at = from.max(self.first) - self.first;
        let (within, range) = (at % self.period, self.range(at % self.period));
        let base = at - within;
        let is = |found: &&(u64, usize)| found.1 == kind;
        let (before, after) = self.ranges.split_at_checked(range + 1)?;
        let next = if before.last().is_some_and(|(_, own)| *own == kind) {
            Some(at)
        } else if let Some((start, _)) = after.iter().find(is) {
            Some(base + start)
        } else {
            let again = before.iter().find(is);
            again.map(|(start, _)| base + self.period + start)
        };
        next.filter(|next| *next < self.cells)
            .map(|next| self.first + next)
    }
}

impl Kinds {
    /// All cells of one kind.
    pub fn one(kind: Kind, cells: u64) -> Self {
        Self::repeating(vec![kind], cells, 1, vec![(0, 0)])
    }

    /// Kinds that repeat after `period` cells (at least 1); `ranges` tells where within it they begin, the first at 0.
    pub fn repeating(kinds: Vec<Kind>, cells: u64, period: u64, ranges: Vec<(u64, usize)>) -> Self {
        let part = Part {
            first: 0,
            cells,
            period: period.max(1),
            ranges,
        };
        Self {
            kinds,
            parts: vec![part],
        }
    }

    /// The kinds, by number.
    pub fn all(&self) -> &[Kind] {
        &self.kinds
    }

    /// The number of a cell's kind.
    pub fn of(&self, cell: u64) -> Option<usize> {
        let within = |part: &&Part| (part.first..part.first + part.cells).contains(&cell);
        let part = self.parts.iter().find(within)?;
        let range = part.range((cell - part.first) % part.period);
        part.ranges.get(range).map(|(_, kind)| *kind)
    }

    /// The first cell of a kind from `from` on.
    pub fn next(&self, kind: usize, from: u64) -> Option<u64> {
        let ahead = |part: &&Part| from < part.first + part.cells;
        let mut parts = self.parts.iter().filter(ahead);
        parts.find_map(|part| part.next(kind, from))
    }
}

/// Kinds that are being found.
struct Finding<'a> {
    matrix: &'a Matrix,
    pins: &'a Pins,
    /// Whether set-ups are told apart.
    setups: bool,
    numbers: BTreeMap<Kind, usize>,
    kinds: Vec<Kind>,
}

impl Finding<'_> {
    /// The number of a cell's kind; none where it has no plan, or there are too many.
    fn kind(&mut self, cell: u64) -> Option<usize> {
        let plan = self.matrix.plan(cell * self.shards(), self.pins).ok()?;
        let kind = Kind {
            image: plan.image,
            setup: plan.setup_key().filter(|_| self.setups),
        };
        if let Some(number) = self.numbers.get(&kind) {
            return Some(*number);
        }
        let number = self.kinds.len();
        if number >= KINDS_MOST {
            return None;
        }
        self.kinds.push(kind);
        self.numbers.insert(kind, number);
        Some(number)
    }

    /// The kinds, where they depend on these axes alone.
    fn find(self, axes: &BTreeSet<usize>) -> Option<Kinds> {
        let shards = self.shards();
        let mut kinds = self.find_whole(axes)?;
        // The shards of a cell are of its kind, and stand together.
        for part in &mut kinds.parts {
            (part.first, part.cells) = (part.first * shards, part.cells * shards);
            part.period *= shards;
            for (start, _) in &mut part.ranges {
                *start *= shards;
            }
        }
        Some(kinds)
    }

    fn shards(&self) -> u64 {
        u64::from(self.matrix.shards()).max(1)
    }

    /// The same where each cell is counted once, into however many shards it is split.
    fn find_whole(mut self, axes: &BTreeSet<usize>) -> Option<Kinds> {
        let cells = self.matrix.cells();
        let product = cells.product().count();
        let included = cells.count() / self.shards() - product;
        let starts = self.starts(axes, product)?;
        let mut parts = Vec::new();
        if product > 0 {
            let (period, starts) = starts;
            let ranges = self.ranges(0, starts)?;
            parts.push(Part {
                first: 0,
                cells: product,
                period,
                ranges,
            });
        }
        if included > RANGES_MOST {
            return None;
        }
        if included > 0 {
            let ranges = self.ranges(product, (0..included).collect())?;
            parts.push(Part {
                first: product,
                cells: included,
                period: included,
                ranges,
            });
        }
        Some(Kinds {
            kinds: self.kinds,
            parts,
        })
    }

    fn ranges(&mut self, first: u64, starts: Vec<u64>) -> Option<Vec<(u64, usize)>> {
        let mut ranges: Vec<(u64, usize)> = Vec::new();
        for start in starts {
            let kind = self.kind(first + start)?;
            if ranges.last().is_none_or(|(_, last)| *last != kind) {
                ranges.push((start, kind));
            }
        }
        Some(ranges)
    }

    /// After how many of the product's cells the values of these axes repeat, and where within that they may change.
    fn starts(&self, axes: &BTreeSet<usize>, product: u64) -> Option<(u64, Vec<u64>)> {
        let (Some(first), Some(last)) = (axes.first(), axes.last()) else {
            return Some((1, vec![0]));
        };
        let sizes = self.matrix.axes().iter().map(|axis| axis.values.len());
        let sizes: Vec<u64> = sizes
            .map(|size| u64::try_from(size).unwrap_or(u64::MAX))
            .collect();
        let times = |from: usize, to: usize| {
            let sizes = sizes.get(from..to).unwrap_or_default();
            sizes
                .iter()
                .fold(1_u64, |all, size| all.saturating_mul(*size))
        };
        if times(0, sizes.len()) == product {
            let (stride, slots) = (times(last + 1, sizes.len()), times(*first, last + 1));
            let starts = || (0..slots).map(|slot| slot * stride).collect();
            return (slots <= RANGES_MOST).then(|| (slots.saturating_mul(stride).max(1), starts()));
        }
        // Some are excluded, so nothing repeats; but cells are in the order of their values.
        let cells = self.matrix.cells();
        let values = |cell: u64| {
            let mut indices = cells.indices(cell * self.shards())?;
            indices.truncate(last + 1);
            Some(indices)
        };
        let (mut starts, mut start) = (Vec::new(), 0);
        while start < product {
            if u64::try_from(starts.len()).unwrap_or(u64::MAX) >= RANGES_MOST {
                return None;
            }
            starts.push(start);
            let own = values(start)?;
            let (mut low, mut high) = (start, product);
            while high - low > 1 {
                let middle = low + (high - low) / 2;
                if values(middle)? == own {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            start = high;
        }
        Some((product.max(1), starts))
    }
}

impl Matrix {
    /// The kinds of the cells, so far as they can be told within [`KINDS_MOST`] and [`RANGES_MOST`].
    pub fn kinds(&self, pins: &Pins) -> Kinds {
        let mould = &self.0.checked.mould;
        let find = |setups: bool| {
            let finding = Finding {
                matrix: self,
                pins,
                setups,
                numbers: BTreeMap::new(),
                kinds: Vec::new(),
            };
            finding.find(&mould.kind_axes(setups))
        };
        let known = find(true).or_else(|| find(false));
        known.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(axes: &str, image: &str) -> (Matrix, Pins) {
        let source = format!("axes: {axes}\nimage: \"{image}\"\ntest: {{ run: \"true\" }}\n");
        let matrix = Matrix::parse(&source, "m.yaml").unwrap();
        let images = matrix.images(1000).unwrap();
        let pin = |name: String| {
            let digest = Digest::of_canonical(&name);
            (name, digest)
        };
        let pins = Pins {
            images: images.into_iter().map(pin).collect(),
            ..Pins::default()
        };
        (matrix, pins)
    }

    /// That the kinds say of every cell what its plan says, and `next` finds what is next.
    fn check(matrix: &Matrix, pins: &Pins, number: usize) {
        let kinds = matrix.kinds(pins);
        assert_eq!(kinds.all().len(), number);
        let cells = matrix.cells().count();
        for cell in 0..cells {
            let kind = kinds.of(cell).unwrap();
            let plan = matrix.plan(cell, pins).unwrap();
            let expected = Kind {
                image: plan.image,
                setup: plan.setup_key(),
            };
            assert_eq!(kinds.all()[kind], expected, "cell {cell}");
            for kind in 0..number {
                let next = (cell..cells).find(|cell| kinds.of(*cell) == Some(kind));
                assert_eq!(kinds.next(kind, cell), next, "kind {kind} from cell {cell}");
            }
        }
        assert_eq!(kinds.of(cells), None);
        assert_eq!(kinds.next(0, cells), None);
    }

    #[test]
    fn kinds_are_what_plans_say() {
        let axes = "{ a: [1, 2, 3], i: [x, y, z], b: [1, 2] }";
        let (one, pins) = matrix(axes, "img");
        check(&one, &pins, 1);
        let (by_axis, pins) = matrix(axes, "img-${{ matrix.i }}");
        check(&by_axis, &pins, 3);
        let (by_two, pins) = matrix(axes, "img-${{ matrix.a }}-${{ matrix.b }}");
        check(&by_two, &pins, 6);
    }

    #[test]
    fn what_is_excluded_and_included_is_counted_right() {
        let axes = "{ a: [1, 2, 3], i: [x, y, z], b: [1, 2] }\nexclude: [{ a: 2, i: y }, { i: z, b: 1 }]\n\
                    include: [{ a: 1, i: w, b: 1 }, { a: 2, i: y, b: 2 }]";
        let (matrix, pins) = matrix(axes, "img-${{ matrix.i }}");
        check(&matrix, &pins, 4);
    }

    #[test]
    fn shards_are_of_their_cells_kinds() {
        let axes = "{ a: [1, 2], i: [x, y, z] }\nexclude: [{ a: 2, i: y }]\ninclude: [{ a: 3, i: w }]\nshards: 3";
        let (excluded, pins) = matrix(axes, "img-${{ matrix.i }}");
        check(&excluded, &pins, 4);
        let (whole, pins) = matrix(
            "{ a: [1, 2], i: [x, y, z] }\nshards: 2",
            "img-${{ matrix.i }}",
        );
        check(&whole, &pins, 3);
    }

    #[test]
    fn more_images_than_can_be_told_apart_are_not() {
        let values: Vec<String> = (0..600).map(|n| n.to_string()).collect();
        let (matrix, pins) = matrix(
            &format!("{{ i: [{}] }}", values.join(", ")),
            "img-${{ matrix.i }}",
        );
        assert_eq!(matrix.kinds(&pins), Kinds::default());
    }
}
