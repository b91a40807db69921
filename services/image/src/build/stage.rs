//! Carrying out a Containerfile's instructions, stage by stage, each step from the cache where nothing that
//! it depends on has changed. May not: know how a step is done; see `run`, `copy` and `settings`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use regatta_model::Digest;
use serde_json::json;

use super::cache::{self, Record};
use super::context::Context;
use super::diagnostic::Diagnostic;
use super::image::Draft;
use super::layer::{Kind, Layer, LayerWriter};
use super::parse::{File, Instruction, Node, Word};
use super::stages::{self, Base, Plan};
use super::{BuildError, BuildOptions, StepRunner, place};
use crate::error::{Error, Result};
use crate::merged::Merged;
use crate::progress::Progress;
use crate::store::Store;

/// Longest instruction that is shown in progress lines, in characters.
const SHOWN: usize = 100;

/// A build under way.
pub(super) struct Builder<'a> {
    pub(super) store: &'a Store,
    pub(super) options: &'a BuildOptions<'a>,
    pub(super) runner: &'a dyn StepRunner,
    pub(super) progress: &'a dyn Progress,
    pub(super) file: &'a File,
    plan: &'a Plan,
    /// Stages that are done.
    finished: BTreeMap<usize, Draft>,
    /// Images that `COPY --from` names.
    images: BTreeMap<String, Draft>,
    context: OnceCell<Context>,
    step: usize,
    /// ARGs that some stage declared.
    declared: BTreeSet<String>,
}

/// A stage under way.
pub(super) struct Stage {
    pub(super) draft: Draft,
    /// Its number.
    pub(super) number: usize,
    /// Declared ARGs that have a value.
    pub(super) args: BTreeMap<String, String>,
    /// Whether CMD was set in this stage, and so is not the base's.
    pub(super) own_cmd: bool,
}

impl Stage {
    /// The value that a variable has in instructions.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let env = self.draft.env();
        let set = env
            .into_iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value);
        set.or_else(|| self.args.get(name).cloned())
    }
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        store: &'a Store,
        options: &'a BuildOptions<'a>,
        runner: &'a dyn StepRunner,
        progress: &'a dyn Progress,
        file: &'a File,
        plan: &'a Plan,
    ) -> Self {
        Self {
            store,
            options,
            runner,
            progress,
            file,
            plan,
            finished: BTreeMap::new(),
            images: BTreeMap::new(),
            context: OnceCell::new(),
            step: 0,
            declared: plan.globals.keys().cloned().collect(),
        }
    }

    /// Builds all needed stages; gives the last one's image.
    pub(super) fn all(&mut self) -> Result<Draft, BuildError> {
        let mut last = Draft::scratch();
        for number in &self.plan.needed {
            last = self.stage(*number)?;
            self.finished.insert(*number, last.clone());
        }
        for name in self
            .options
            .args
            .keys()
            .filter(|name| !self.declared.contains(*name))
        {
            self.progress
                .note(&format!("warning: no ARG declares --build-arg {name}"));
        }
        Ok(last)
    }

    fn stage(&mut self, number: usize) -> Result<Draft, BuildError> {
        let Some(plan) = self.plan.stages.get(number) else {
            return Ok(Draft::scratch());
        };
        let nodes = self.file.nodes.get(plan.from..plan.end).unwrap_or_default();
        let Some((from, rest)) = nodes.split_first() else {
            return Ok(Draft::scratch());
        };
        self.announce(from, false);
        let draft = match &plan.base {
            Base::Scratch => Draft::scratch(),
            Base::Stage(base) => self
                .finished
                .get(base)
                .cloned()
                .unwrap_or_else(Draft::scratch),
            Base::Image(name) => self.image(name).map_err(|e| match &from.what {
                Instruction::From { image, .. } => {
                    stages::at(self.file, from, image, e.to_string())
                }
                _ => self.at_keyword(from, e.to_string()),
            })?,
        };
        if draft
            .list("OnBuild")
            .is_some_and(|triggers| !triggers.is_empty())
        {
            let mut error = self.at_keyword(
                from,
                "the image has ONBUILD triggers, which are not supported",
            );
            error.help =
                Some("write their instructions here, on the image that it is based on".to_owned());
            return Err(error.into());
        }
        let mut stage = Stage {
            draft,
            number,
            args: BTreeMap::new(),
            own_cmd: false,
        };
        for node in rest {
            self.instruction(&mut stage, node)?;
        }
        Ok(stage.draft)
    }

    fn instruction(&mut self, stage: &mut Stage, node: &Node) -> Result<(), BuildError> {
        match &node.what {
            Instruction::From { .. } => Ok(()),
            Instruction::Arg(args) => self.arg(stage, node, args),
            Instruction::Run {
                command,
                mounts,
                network,
            } => self.run(stage, node, command, mounts, *network),
            Instruction::Copy { .. } => self.copy(stage, node),
            Instruction::Workdir(word) => self.workdir(stage, node, word),
            _ => self.setting(stage, node),
        }
    }

    /// An image by its name: of the store, else fetched.
    pub(super) fn image(&self, name: &str) -> Result<Draft> {
        let digest = match (self.store.resolve(name), &self.options.pull) {
            (Some(digest), _) => digest,
            (None, Some(pull)) => {
                self.progress.note(&format!("pulling {name}"));
                pull(name)?
            }
            (None, None) => {
                return Err(Error::NoImage {
                    name: name.to_owned(),
                });
            }
        };
        Draft::from_store(self.store, &digest)
    }

    /// What `COPY --from` means.
    pub(super) fn source_image(&mut self, stage: &Stage, name: &str) -> Result<Draft> {
        let earlier = self
            .plan
            .find(name, stage.number)
            .and_then(|number| self.finished.get(&number));
        if let Some(draft) = earlier.or_else(|| self.images.get(name)) {
            return Ok(draft.clone());
        }
        let draft = self.image(name)?;
        self.images.insert(name.to_owned(), draft.clone());
        Ok(draft)
    }

    /// The files to copy from.
    pub(super) fn context(&self) -> Result<&Context> {
        if let Some(context) = self.context.get() {
            return Ok(context);
        }
        let context = Context::open(&self.options.context, &self.options.file)?;
        Ok(self.context.get_or_init(|| context))
    }

    fn arg(
        &mut self,
        stage: &mut Stage,
        node: &Node,
        args: &[(String, Option<Word>)],
    ) -> Result<(), BuildError> {
        for (name, default) in args {
            self.declared.insert(name.clone());
            let default = match default {
                Some(word) => Some(self.expand(stage, node, word)?),
                None => self
                    .plan
                    .globals
                    .get(name)
                    .cloned()
                    .or_else(|| stages::platform_args().get(name).cloned()),
            };
            if let Some(value) = self.options.args.get(name).cloned().or(default) {
                stage.args.insert(name.clone(), value);
            }
        }
        Ok(())
    }

    fn workdir(&mut self, stage: &mut Stage, node: &Node, word: &Word) -> Result<(), BuildError> {
        let text = self.expand(stage, node, word)?;
        if text.is_empty() {
            return Err(stages::at(self.file, node, word, "the directory is empty").into());
        }
        let path = place::join(stage.draft.workdir(), &text);
        stage.draft.set("WorkingDir", path.clone().into());
        let created = stage.draft.created();
        self.step(stage, node, &json!({"workdir": path}), |builder, stage| {
            let merged = Merged::open(&builder.layers(&stage.draft)?)?;
            let place = place::resolve(&merged, path.as_bytes())
                .map_err(|why| stages::at(builder.file, node, word, why))?;
            if place
                .kind
                .is_some_and(|kind| kind != rustix::fs::FileType::Directory)
            {
                let message = format!("{path} is no directory in the image");
                return Err(stages::at(builder.file, node, word, message).into());
            }
            if place.kind.is_some() {
                return Ok(None);
            }
            let mut writer = LayerWriter::new(builder.store, builder.options.epoch)?;
            let fresh = place::directory(created, (0, 0));
            for (path, meta) in place::with_parents(&merged, &place.path, &fresh)? {
                writer.add(&path, Kind::Directory, &meta, None)?;
            }
            Ok(Some(writer.finish()?))
        })
    }

    /// Carries a step out, or takes what it made before. `what` is all that its result depends on, besides
    /// the layers below.
    pub(super) fn step(
        &mut self,
        stage: &mut Stage,
        node: &Node,
        what: &serde_json::Value,
        make: impl FnOnce(&mut Self, &Stage) -> Result<Option<Layer>, BuildError>,
    ) -> Result<(), BuildError> {
        let key = self.key(stage, what);
        if let Some(record) = self.recall(&key) {
            self.announce(node, true);
            apply(stage, node, &record);
            return Ok(());
        }
        self.announce(node, false);
        let record = Record {
            layer: make(self, stage)?,
        };
        cache::remember(self.store, &key, &record)?;
        apply(stage, node, &record);
        Ok(())
    }

    pub(super) fn key(&self, stage: &Stage, what: &serde_json::Value) -> Digest {
        cache::key(stage.draft.chain(), self.options.epoch, what)
    }

    pub(super) fn recall(&self, key: &Digest) -> Option<Record> {
        if self.options.no_cache {
            None
        } else {
            cache::find(self.store, key)
        }
    }

    /// Tells a step.
    pub(super) fn announce(&mut self, node: &Node, cached: bool) {
        self.step += 1;
        let (step, steps) = (self.step, self.plan.steps);
        let cached = if cached { " … cached" } else { "" };
        self.progress
            .note(&format!("[{step}/{steps}] {}{cached}", shown(node)));
    }

    /// The unpacked layers of what is built so far; one empty directory where there are none.
    pub(super) fn layers(&self, draft: &Draft) -> Result<Vec<PathBuf>> {
        if draft.is_empty() {
            let empty = self.store.directory().join("empty");
            std::fs::create_dir_all(&empty).map_err(|e| Error::at("make", &empty, e))?;
            return Ok(vec![empty]);
        }
        let manifest = draft.write(self.store, self.options.epoch)?;
        self.store.unpack(&manifest)
    }

    pub(super) fn expand(
        &self,
        stage: &Stage,
        node: &Node,
        word: &Word,
    ) -> Result<String, Box<Diagnostic>> {
        stages::expand(self.file, node, word, &|name| stage.value(name))
    }

    /// An error at an instruction's first word.
    pub(super) fn at_keyword(&self, node: &Node, message: impl Into<String>) -> Box<Diagnostic> {
        let length = node.logical.keyword.chars().count();
        self.file.source.error(node.logical.place, length, message)
    }
}

/// Adds what a step made to its stage.
pub(super) fn apply(stage: &mut Stage, node: &Node, record: &Record) {
    match &record.layer {
        Some(layer) => stage.draft.push_layer(layer, &history(node)),
        None => stage.draft.push_empty(&history(node)),
    }
}

/// An instruction on one line.
fn shown(node: &Node) -> String {
    let line = history(node);
    if line.chars().count() <= SHOWN {
        return line;
    }
    let cut: String = line.chars().take(SHOWN).collect();
    format!("{cut}…")
}

/// An instruction as the image's history has it.
pub(super) fn history(node: &Node) -> String {
    let words: Vec<_> = node.logical.rest.split_whitespace().collect();
    format!(
        "{} {}",
        node.logical.keyword.to_ascii_uppercase(),
        words.join(" ")
    )
}
