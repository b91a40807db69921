//! From a cell's number to what an agent runs: templates filled in, adjustments made, references
//! replaced by digests. Called for every attempt, so everything that can be prepared is.
//! May not: parse or check what `check` has prepared.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::Limits;
use crate::plan::{AttemptPlan, Command, FilePlan, Keep, Shard, StepPlan, VolumePlan};
use crate::run::Pins;

use super::cells::{Axis, Cells};
use super::known::Known;
use super::select::{Selector, matches};
use super::template::Template;

/// Why a cell cannot be made ready to run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no cell with this number.
    #[error("there is no cell {0}; `regatta check` prints how many there are")]
    NoSuchCell(u64),
    /// The image was not resolved when the matrix was submitted.
    #[error(
        "the image {0:?} is not known here; push it first, or submit the matrix file with `regatta submit`"
    )]
    NoImage(String),
    /// The files were not packed when the matrix was submitted.
    #[error("the files {0:?} were not sent along; submit the matrix file with `regatta submit`")]
    NoFiles(String),
    /// A template gave something that does not fit.
    #[error("{key} becomes {text:?} in cell {cell}: expected {expected}")]
    Unfit {
        /// The key in the matrix.
        key: &'static str,
        /// What the template gave.
        text: String,
        /// In which cell.
        cell: u64,
        /// What it should have been.
        expected: &'static str,
    },
}

/// All of a matrix that plans are made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Mould {
    pub(super) image: Template,
    pub(super) files: Vec<(Template, Template)>,
    pub(super) env: Vec<(String, Template)>,
    pub(super) setup: Option<StepMould>,
    pub(super) test: StepMould,
    pub(super) volumes: Vec<VolumePlan>,
    pub(super) limits: Limits,
    pub(super) results: Vec<String>,
    pub(super) artifacts: Vec<String>,
    pub(super) keep: Keep,
    pub(super) adjust: Vec<Adjustment>,
    pub(super) known: Vec<Known>,
}

/// A step with its templates.
#[derive(Clone, Debug)]
pub(super) struct StepMould {
    pub(super) run: CommandMould,
    pub(super) env: Vec<(String, Template)>,
    pub(super) user: Option<Template>,
    pub(super) workdir: Option<Template>,
    pub(super) timeout_ms: u64,
    pub(super) network: crate::container::Network,
}

impl Default for StepMould {
    fn default() -> Self {
        Self {
            run: CommandMould::Exec(Vec::new()),
            env: Vec::new(),
            user: None,
            workdir: None,
            timeout_ms: 0,
            network: crate::container::Network::None,
        }
    }
}

/// A command with its templates.
#[derive(Clone, Debug)]
pub(super) enum CommandMould {
    Shell(Template),
    Exec(Vec<Template>),
}

/// Changes for the cells that match.
#[derive(Clone, Debug, Default)]
pub(super) struct Adjustment {
    pub(super) selector: Selector,
    pub(super) env: Vec<(String, Template)>,
    pub(super) timeout_ms: Option<u64>,
    pub(super) limits: LimitsChange,
    pub(super) allow_failure: Option<bool>,
}

/// Limits that are given; the others stay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LimitsChange {
    pub(super) limits: Limits,
    pub(super) output_bytes: Option<u64>,
}

impl LimitsChange {
    /// `limits` with the given ones in their place.
    pub(super) fn over(&self, limits: &Limits) -> Limits {
        Limits {
            cpu_millis: self.limits.cpu_millis.or(limits.cpu_millis),
            memory_bytes: self.limits.memory_bytes.or(limits.memory_bytes),
            processes: self.limits.processes.or(limits.processes),
            disk_bytes: self.limits.disk_bytes.or(limits.disk_bytes),
            files: self.limits.files.or(limits.files),
            output_bytes: self.output_bytes.unwrap_or(limits.output_bytes),
        }
    }
}

/// A cell whose templates are being filled in.
struct Filling<'a> {
    axes: &'a [Axis],
    indices: &'a [u32],
    cell: u64,
}

impl Filling<'_> {
    fn fill(&self, template: &Template) -> String {
        template.fill(|at| match (self.axes.get(at), self.indices.get(at)) {
            (Some(axis), Some(index)) => axis.value(*index),
            _ => "",
        })
    }

    fn absolute(&self, key: &'static str, template: &Template) -> Result<String, PlanError> {
        let text = self.fill(template);
        if template.constant().is_some() || is_absolute(&text) {
            return Ok(text);
        }
        let expected = "an absolute path without `..`";
        Err(PlanError::Unfit {
            key,
            text,
            cell: self.cell,
            expected,
        })
    }

    fn step(
        &self,
        step: &StepMould,
        keys: [&'static str; 2],
        env: &BTreeMap<String, String>,
        adjusted: &BTreeMap<String, String>,
    ) -> Result<StepPlan, PlanError> {
        let mut env = env.clone();
        env.extend(
            step.env
                .iter()
                .map(|(name, value)| (name.clone(), self.fill(value))),
        );
        env.extend(
            adjusted
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let user = step.user.as_ref().map(|user| {
            let text = self.fill(user);
            if user.constant().is_some() || is_user(&text) {
                return Ok(text);
            }
            let expected = "a name or uid[:gid]";
            Err(PlanError::Unfit {
                key: keys[0],
                text,
                cell: self.cell,
                expected,
            })
        });
        let workdir = step
            .workdir
            .as_ref()
            .map(|workdir| self.absolute(keys[1], workdir));
        Ok(StepPlan {
            run: match &step.run {
                CommandMould::Shell(text) => Command::Shell(self.fill(text)),
                CommandMould::Exec(argv) => {
                    Command::Exec(argv.iter().map(|text| self.fill(text)).collect())
                }
            },
            env,
            user: user.transpose()?,
            workdir: workdir.transpose()?,
            timeout_ms: step.timeout_ms,
            network: step.network,
        })
    }
}

impl Mould {
    /// Makes a cell ready to run.
    pub(super) fn plan(
        &self,
        axes: &[Axis],
        cells: &Cells,
        cell: u64,
        pins: &Pins,
    ) -> Result<AttemptPlan, PlanError> {
        let indices = cells.indices(cell).ok_or(PlanError::NoSuchCell(cell))?;
        let filling = Filling {
            axes,
            indices: &indices,
            cell,
        };
        let image = filling.fill(&self.image);
        let Some(image) = pins.images.get(&image) else {
            return Err(PlanError::NoImage(image));
        };
        let mut files = Vec::with_capacity(self.files.len());
        for (from, to) in &self.files {
            let from = filling.fill(from);
            let Some(blob) = pins.files.get(&from) else {
                return Err(PlanError::NoFiles(from));
            };
            files.push(FilePlan {
                blob: *blob,
                to: filling.absolute("files.to", to)?,
            });
        }
        let env = self
            .env
            .iter()
            .map(|(name, value)| (name.clone(), filling.fill(value)))
            .collect();
        let (mut adjusted, mut limits, mut timeout) = (BTreeMap::new(), self.limits, None);
        for adjust in self
            .adjust
            .iter()
            .filter(|adjust| matches(&adjust.selector, &indices))
        {
            adjusted.extend(
                adjust
                    .env
                    .iter()
                    .map(|(name, value)| (name.clone(), filling.fill(value))),
            );
            limits = adjust.limits.over(&limits);
            timeout = adjust.timeout_ms.or(timeout);
        }
        let setup = self
            .setup
            .as_ref()
            .map(|setup| filling.step(setup, ["setup.user", "setup.workdir"], &env, &adjusted));
        let mut test = filling.step(&self.test, ["test.user", "test.workdir"], &env, &adjusted)?;
        test.timeout_ms = timeout.unwrap_or(test.timeout_ms);
        let values = axes.iter().zip(&indices);
        Ok(AttemptPlan {
            axes: values
                .map(|(axis, at)| (axis.name.clone(), axis.value(*at).to_owned()))
                .collect(),
            image: *image,
            files,
            setup: setup.transpose()?,
            test,
            volumes: self.volumes.clone(),
            limits,
            results: self.results.clone(),
            artifacts: self.artifacts.clone(),
            keep: self.keep,
            shard: (cells.shards() > 1).then(|| Shard {
                index: cells.shard(cell),
                total: cells.shards(),
                plan: (!pins.shards.is_empty())
                    .then(|| pins.shards.get(&cells.group(cell)).copied())
                    .flatten(),
            }),
        })
    }

    /// The axes that a cell's image depends on, and with `setups` its set-up too.
    pub(super) fn kind_axes(&self, setups: bool) -> BTreeSet<usize> {
        let mut axes: BTreeSet<usize> = self.image.axes().into_iter().collect();
        let Some(setup) = self.setup.as_ref().filter(|_| setups) else {
            return axes;
        };
        let command: &[Template] = match &setup.run {
            CommandMould::Shell(text) => std::slice::from_ref(text),
            CommandMould::Exec(argv) => argv,
        };
        let files = self.files.iter().flat_map(|(from, to)| [from, to]);
        let adjusted = self.adjust.iter().flat_map(|adjust| &adjust.env);
        let env = self.env.iter().chain(&setup.env).chain(adjusted);
        let templates = files
            .chain(command)
            .chain(env.map(|(_, value)| value))
            .chain(&setup.user)
            .chain(&setup.workdir);
        axes.extend(templates.flat_map(Template::axes));
        let adjusting = self.adjust.iter().filter(|adjust| !adjust.env.is_empty());
        let selectors = adjusting.flat_map(|adjust| &adjust.selector);
        axes.extend(selectors.map(|(axis, _)| *axis));
        axes
    }

    /// Whether the cell may fail without failing its run.
    pub(super) fn allow_failure(&self, cell: &[u32]) -> bool {
        let said = self
            .adjust
            .iter()
            .filter(|adjust| matches(&adjust.selector, cell));
        said.filter_map(|adjust| adjust.allow_failure)
            .next_back()
            .unwrap_or(false)
    }
}

/// Whether `text` is an absolute path that stays where it says.
pub(super) fn is_absolute(text: &str) -> bool {
    text.starts_with('/') && !text.split('/').any(|part| part == "..")
}

/// Whether `text` is a user: a name or id, perhaps with a group.
pub(super) fn is_user(text: &str) -> bool {
    let (user, group) = text.split_once(':').unwrap_or((text, "0"));
    [user, group].iter().all(|part| {
        !part.is_empty()
            && part.len() <= 256
            && !part.starts_with('-')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$'))
    })
}
