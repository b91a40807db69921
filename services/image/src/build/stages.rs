//! The stages of a Containerfile: what each builds on, and which of them are needed. May not: build.

use std::collections::{BTreeMap, BTreeSet};

use super::BuildOptions;
use super::diagnostic::{Diagnostic, nearest};
use super::expand::Expander;
use super::parse::{File, Instruction, Node, Word};
use crate::error::Error;
use crate::platform::Platform;

/// What a stage builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// Nothing.
    Scratch,
    /// A stage before it.
    Stage(usize),
    /// An image, by its name.
    Image(String),
}

/// One stage.
#[derive(Debug)]
pub(super) struct StagePlan {
    /// The place of its FROM among the file's instructions.
    pub(super) from: usize,
    /// The place behind its last instruction.
    pub(super) end: usize,
    pub(super) base: Base,
    name: Option<String>,
}

/// All stages, and what of them is built.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) stages: Vec<StagePlan>,
    /// The needed ones, each after those that it needs; the last is the image.
    pub(super) needed: Vec<usize>,
    /// ARGs before the first FROM.
    pub(super) globals: BTreeMap<String, String>,
    /// Steps that are told: FROM, RUN, COPY, WORKDIR.
    pub(super) steps: usize,
}

/// The variables about platforms, which an ARG makes visible.
pub(super) fn platform_args() -> BTreeMap<String, String> {
    let platform = Platform::host();
    let mut args = BTreeMap::new();
    for which in ["TARGET", "BUILD"] {
        args.insert(format!("{which}PLATFORM"), platform.to_string());
        args.insert(format!("{which}OS"), platform.os.clone());
        args.insert(format!("{which}ARCH"), platform.architecture.clone());
        args.insert(format!("{which}VARIANT"), platform.variant.clone());
    }
    args
}

/// An error at a word of an instruction.
pub(super) fn at(
    file: &File,
    node: &Node,
    word: &Word,
    message: impl Into<String>,
) -> Box<Diagnostic> {
    file.source
        .error(node.logical.place_of(word.offset), word.length(), message)
}

/// A word with its variables replaced.
pub(super) fn expand(
    file: &File,
    node: &Node,
    word: &Word,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Box<Diagnostic>> {
    let expander = Expander {
        escape: file.source.escape,
        value,
    };
    expander
        .word(&word.raw)
        .map_err(|why| at(file, node, word, why))
}

/// Finds the stages and what is needed of them.
pub(super) fn plan(file: &File, options: &BuildOptions<'_>) -> Result<Plan, super::BuildError> {
    let mut plan = Plan {
        stages: Vec::new(),
        needed: Vec::new(),
        globals: BTreeMap::new(),
        steps: 0,
    };
    let builtin = platform_args();
    for (place, node) in file.nodes.iter().enumerate() {
        match &node.what {
            Instruction::From {
                platform,
                image,
                name,
            } => {
                let value = |n: &str| plan.globals.get(n).or(builtin.get(n)).cloned();
                if let Some(platform) = platform {
                    check_platform(file, node, platform, &expand(file, node, platform, &value)?)?;
                }
                let text = expand(file, node, image, &value)?;
                if text.is_empty() {
                    let mut error = at(file, node, image, "the name of the image is empty");
                    error.help =
                        Some("give the ARG a default, or set it by --build-arg".to_owned());
                    return Err(error.into());
                }
                let base = match plan.find(&text, plan.stages.len()) {
                    _ if text == "scratch" => Base::Scratch,
                    Some(stage) if text.parse::<usize>().is_err() => Base::Stage(stage),
                    _ => Base::Image(text),
                };
                if let Some(name) = name
                    && plan
                        .stages
                        .iter()
                        .any(|stage| stage.name.as_ref() == Some(name))
                {
                    let message = format!("a stage named {name:?} stands above already");
                    return Err(at(file, node, image, message).into());
                }
                plan.stages.push(StagePlan {
                    from: place,
                    end: place + 1,
                    base,
                    name: name.clone(),
                });
            }
            Instruction::Arg(args) if plan.stages.is_empty() => {
                for (name, default) in args {
                    let value = |n: &str| plan.globals.get(n).or(builtin.get(n)).cloned();
                    let default = default
                        .as_ref()
                        .map(|word| expand(file, node, word, &value));
                    let given = options.args.get(name).cloned();
                    if let Some(value) = given.or(default.transpose()?) {
                        plan.globals.insert(name.clone(), value);
                    }
                }
            }
            _ => {
                if let Some(stage) = plan.stages.last_mut() {
                    stage.end = place + 1;
                }
            }
        }
    }
    let target = plan.target(options)?;
    plan.choose(file, target);
    Ok(plan)
}

fn check_platform(
    file: &File,
    node: &Node,
    word: &Word,
    text: &str,
) -> Result<(), Box<Diagnostic>> {
    let own = Platform::host();
    let plain = format!("{}/{}", own.os, own.architecture);
    if text == own.to_string() || text == plain || text == own.architecture {
        return Ok(());
    }
    let mut error = at(
        file,
        node,
        word,
        format!("{text:?} is not this machine's platform, {own}"),
    );
    error.help =
        Some("images are built for the machine that builds them; leave --platform out".to_owned());
    Err(error)
}

impl Plan {
    /// A stage before `before`, by its name or number.
    pub(super) fn find(&self, name: &str, before: usize) -> Option<usize> {
        let lower = name.to_ascii_lowercase();
        let named = self
            .stages
            .iter()
            .position(|stage| stage.name.as_deref() == Some(lower.as_str()));
        named
            .or_else(|| name.parse().ok())
            .filter(|stage| *stage < before)
    }

    fn target(&self, options: &BuildOptions<'_>) -> Result<usize, Error> {
        let Some(target) = &options.target else {
            return Ok(self.stages.len().saturating_sub(1));
        };
        self.find(target, self.stages.len()).ok_or_else(|| {
            let names: Vec<_> = self
                .stages
                .iter()
                .filter_map(|s| s.name.as_deref())
                .collect();
            let help = match nearest(target, &names) {
                Some(near) => format!("did you mean {near}?"),
                None if names.is_empty() => "no stage has a name".to_owned(),
                None => format!("the stages are {}", names.join(", ")),
            };
            Error::Refused(format!("the Containerfile has no stage {target:?}; {help}"))
        })
    }

    fn choose(&mut self, file: &File, target: usize) {
        let mut needed = BTreeSet::new();
        let mut open = vec![target];
        while let Some(stage) = open.pop() {
            if !needed.insert(stage) {
                continue;
            }
            let Some(plan) = self.stages.get(stage) else {
                continue;
            };
            if let Base::Stage(base) = plan.base {
                open.push(base);
            }
            for node in file.nodes.get(plan.from + 1..plan.end).unwrap_or_default() {
                if let Instruction::Copy {
                    from: Some(from), ..
                } = &node.what
                {
                    open.extend(self.find(&from.raw, stage));
                }
            }
        }
        // A stage needs only stages above it, so their order is the file's.
        self.needed = needed
            .into_iter()
            .filter(|stage| *stage <= target)
            .collect();
        self.steps = self
            .needed
            .iter()
            .filter_map(|stage| self.stages.get(*stage))
            .flat_map(|plan| file.nodes.get(plan.from..plan.end).unwrap_or_default())
            .filter(|node| is_step(&node.what))
            .count();
    }
}

/// Whether an instruction is told as a step.
pub(super) fn is_step(what: &Instruction) -> bool {
    matches!(
        what,
        Instruction::From { .. }
            | Instruction::Run { .. }
            | Instruction::Copy { .. }
            | Instruction::Workdir(_)
    )
}
