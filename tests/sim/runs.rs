//! The runs of a world: their matrices, and what is true of each of their cells. May not: know where a cell runs.

use std::fmt::Write as _;
use std::sync::Arc;

use regatta_model::matrix::Matrix;
use regatta_model::{CellNumber, Owner, Resources};

use crate::chance::Chance;
use crate::hosts;
use crate::setup::Setup;
use crate::store::RunRow;

/// What a run's cells are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Nothing.
    Not,
    /// The first version.
    First,
    /// The version before.
    Previous,
}

/// Versions of a run that compares, at most.
const VERSIONS_MOST: u64 = 8;

/// The cases of an attempt, where its run compares.
pub const CASES: [&str; 2] = ["a", "b"];

/// How an attempt of a cell ends on a host that spoils nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Its set-up failed.
    pub untested: bool,
    /// Cases that fail.
    pub failing: Vec<String>,
    /// It fails, and no case says why.
    pub whole: bool,
}

impl Ending {
    pub fn passed(&self) -> bool {
        !self.untested && !self.whole && self.failing.is_empty()
    }
}

/// A matrix of `versions` times `others` cells.
fn matrix(
    versions: u64,
    others: u64,
    (repeat, at_most, in_all): (u32, u32, Option<u64>),
    compared: Compared,
) -> Arc<Matrix> {
    let list = |count: u64| (1..=count).map(|n| n.to_string()).collect::<Vec<_>>();
    let (versions, others) = (list(versions).join(", "), list(others).join(", "));
    let mut text = format!(
        "image: i\naxes: {{v: {{values: [{versions}], ordered: true}}, o: [{others}]}}\ntest: {{run: x}}\nrepeat: {repeat}\n\
         rerun: {{at-most: {at_most}{}}}\n",
        in_all.map_or_else(String::new, |most| format!(", in-all: {most}"))
    );
    let baseline = match compared {
        Compared::Not => "",
        Compared::First => "compare: {axis: v, baseline: 1}\n",
        Compared::Previous => "compare: {axis: v, baseline: previous}\n",
    };
    write!(text, "{baseline}").expect("a string takes all");
    Arc::new(Matrix::parse(&text, "matrix.yaml").expect("a fine matrix"))
}

/// Whose a run is: mostly that of one of two owners.
fn owner(chance: &mut Chance) -> Option<Owner> {
    let name = ["alice", "bob"].get(chance.index(3))?;
    name.parse().ok()
}

/// What the attempts of a run ask for: of half of the runs nothing.
fn asked(setup: &Setup, chance: &mut Chance) -> Resources {
    if !setup.asks || chance.permille(500) {
        return Resources::default();
    }
    Resources {
        cpu_millis: chance.within(0, hosts::SIZE_MOST) * 1000,
        memory_bytes: chance.within(0, hosts::SIZE_MOST) << 30,
    }
}

impl RunRow {
    /// The run of this number. The first is the big one; the others come behind it.
    pub fn planned(index: usize, setup: &Setup, chance: &mut Chance) -> Self {
        let cells = if index == 0 {
            setup.cells
        } else {
            chance.within(1, setup.cells.min(500))
        };
        let repeat = match chance.within(0, 9) {
            0 => 5,
            1..3 => 2,
            _ => 1,
        };
        let at_most = [0, 3, 10, 10, 10][chance.index(5)];
        let compared = match chance.within(0, 3) {
            // A third of the cells of one that compares is run again and again.
            _ if cells > 1000 => Compared::Not,
            0 => Compared::First,
            1 => Compared::Previous,
            _ => Compared::Not,
        };
        let versions = match compared {
            Compared::Not if cells > 1000 => 1000,
            _ => cells.clamp(1, VERSIONS_MOST),
        };
        // Two versions at least are there to be compared.
        let versions = versions.max(1 + u64::from(compared != Compared::Not));
        let others = (cells / versions).max(1);
        let in_all = (cells <= 1000 && chance.permille(300)).then(|| chance.within(0, 20));
        let matrix = matrix(versions, others, (repeat, at_most, in_all), compared);
        Self {
            cells: matrix.cells().count(),
            matrix,
            compared,
            others,
            repeat,
            priority: i32::from(chance.permille(100)),
            parallel: chance.permille(100).then_some(3),
            owner: owner(chance),
            weight: u32::try_from(chance.within(1, 3)).unwrap_or(1),
            asked: asked(setup, chance),
            cancelled: false,
            over: false,
        }
    }

    /// How an attempt of a cell ends where its host spoils nothing. `of_cell` decides what the cell is, `chance` the rest.
    pub fn ending(&self, cell: CellNumber, seed: u64, chance: &mut Chance) -> Ending {
        let mut ending = Ending::default();
        let mut of_cell = Chance::new(seed ^ cell);
        let luck = of_cell.within(0, 999);
        if self.compared == Compared::Not {
            // Of a thousand cells twenty fail, and thirty do now and then.
            ending.whole = luck < 20 || (luck < 50 && chance.permille(500));
            return ending;
        }
        let mut of_version = Chance::new(!seed ^ (cell / self.others));
        if of_version.permille(100) {
            ending.untested = true;
            return ending;
        }
        let rates = [0, 0, 0, 0, 0, 0, 50, 200, 500, 1000];
        for name in CASES {
            if chance.permille(rates[of_cell.index(rates.len())]) {
                ending.failing.push(name.to_owned());
            }
        }
        ending.whole = ending.failing.is_empty() && luck < 50 && chance.permille(500);
        ending
    }
}
