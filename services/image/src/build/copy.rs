//! COPY: where its sources go in the image, with Docker's rules for directories, and the layer that they make.
//! May not: replace a directory by a file or the other way round.

use std::collections::BTreeMap;

use rustix::fs::FileType;
use serde_json::json;

use super::BuildError;
use super::cache::{self, Record};
use super::diagnostic::Diagnostic;
use super::expand::Expander;
use super::gather::{self, From, Hashing, Item, Source, Tree, What, below};
use super::image::Draft;
use super::layer::{Kind, Layer, LayerWriter, Meta};
use super::lines::heredoc_word;
use super::parse::{Instruction, Node, Word};
use super::place::{self, look};
use super::stage::{Builder, Stage, apply};
use super::stages;
use crate::error::{Error, Result, shown};
use crate::merged::Merged;
use crate::passwd;

/// A COPY with its variables replaced.
struct Copy<'a> {
    node: &'a Node,
    to: &'a Word,
    /// Absolute, without `.` and `..`.
    target: String,
    /// Whether the destination was written as a directory.
    into: bool,
    chown: Option<(&'a Word, String)>,
    chmod: Option<u32>,
}

/// What the layer gets at a path.
struct Planned<'a> {
    item: Option<&'a Item>,
    meta: Meta,
}

impl Builder<'_> {
    pub(super) fn copy(&mut self, stage: &mut Stage, node: &Node) -> Result<(), BuildError> {
        let Instruction::Copy {
            from,
            chown,
            chmod,
            sources,
            to,
        } = &node.what
        else {
            return Ok(());
        };
        let text = self.expand(stage, node, to)?;
        let chown = chown
            .as_ref()
            .map(|word| self.expand(stage, node, word).map(|text| (word, text)))
            .transpose()?;
        let chmod = match chmod {
            Some(word) => Some(self.mode(stage, node, word)?),
            None => None,
        };
        let copy = Copy {
            node,
            to,
            target: place::join(stage.draft.workdir(), &text),
            into: text.ends_with('/') || text == "." || text.ends_with("/."),
            chown,
            chmod,
        };
        let source_image = match from {
            Some(word) => Some(
                self.source_image(stage, &word.raw)
                    .map_err(|e| stages::at(self.file, node, word, e.to_string()))?,
            ),
            None => None,
        };
        let words = sources
            .iter()
            .map(|word| Ok((word, self.expand(stage, node, word)?)))
            .collect::<Result<Vec<_>, Box<Diagnostic>>>()?;
        let settings = json!({
            "to": copy.target, "into": copy.into, "chown": copy.chown.as_ref().map(|(_, text)| text), "chmod": copy.chmod,
        });
        // An image that did not change needs not be looked through.
        let quick = source_image.as_ref().map(|draft| {
            let texts: Vec<_> = words.iter().map(|(_, text)| text).collect();
            self.key(
                stage,
                &json!({"copy": settings, "image": draft.chain(), "sources": texts}),
            )
        });
        if let Some(record) = quick.as_ref().and_then(|key| self.recall(key)) {
            self.announce(node, true);
            apply(stage, node, &record);
            return Ok(());
        }
        let merged = source_image
            .as_ref()
            .map(|draft| self.layers(draft).and_then(|layers| Merged::open(&layers)))
            .transpose()?;
        let gathered = self.sources(stage, &copy, &words, merged.as_ref())?;
        let key = self.key(
            stage,
            &json!({"copy": settings, "content": gather::digest(&gathered)}),
        );
        let record = if let Some(record) = self.recall(&key) {
            self.announce(node, true);
            record
        } else {
            self.announce(node, false);
            let tree = match &merged {
                Some(merged) => merged,
                None => &self.context()?.tree,
            };
            Record {
                layer: self.write(&stage.draft, &copy, &gathered, tree)?,
            }
        };
        for key in quick.iter().chain([&key]) {
            cache::remember(self.store, key, &record)?;
        }
        apply(stage, node, &record);
        Ok(())
    }

    /// Finds and lists the sources.
    fn sources(
        &self,
        stage: &Stage,
        copy: &Copy<'_>,
        words: &[(&Word, String)],
        merged: Option<&Merged>,
    ) -> Result<Vec<Source>, BuildError> {
        let node = copy.node;
        let mut gathered = Vec::new();
        let mut heredocs = node.logical.heredocs.iter();
        for (word, text) in words {
            if heredoc_word(&word.raw).is_some()
                && let Some(heredoc) = heredocs.next()
            {
                let value = |name: &str| stage.value(name);
                let expander = Expander {
                    escape: self.file.source.escape,
                    value: &value,
                };
                let body = if heredoc.expand {
                    expander
                        .body(&heredoc.body)
                        .map_err(|why| stages::at(self.file, node, word, why))?
                } else {
                    heredoc.body.clone()
                };
                gathered.push(gather::text(&heredoc.name, body));
                continue;
            }
            let entries_most = self.store.limits().entries;
            let (tree, ignore, ignore_file) = if let Some(merged) = merged {
                (merged, None, None)
            } else {
                let context = self.context()?;
                (
                    &context.tree,
                    Some(&context.ignore),
                    context.ignore_file.as_ref(),
                )
            };
            let tree = Tree {
                merged: tree,
                ignore,
                entries_most,
            };
            let at = |message: String| stages::at(self.file, node, word, message);
            let mut found = 0;
            for path in tree.find(text).map_err(at)? {
                if let Some(source) = tree.gather(&path)? {
                    gathered.push(source);
                    found += 1;
                }
            }
            if found == 0 {
                let place = if merged.is_some() {
                    "that image"
                } else {
                    "the build context"
                };
                let mut error = at(format!("{text:?} is not in {place}"));
                error.help = ignore_file.map(|file| format!("it may be left out by {file}"));
                return Err(error.into());
            }
        }
        if gathered.len() > 1 && !copy.into {
            let message = "with several sources the destination must be a directory";
            let mut error = stages::at(self.file, node, copy.to, message);
            error.help = Some(format!("write it as {}/", copy.to.raw));
            return Err(error.into());
        }
        for item in gathered.iter_mut().flat_map(|source| &mut source.items) {
            if let Some(mode) = copy
                .chmod
                .filter(|_| !matches!(item.what, What::Symlink(_)))
            {
                item.meta.mode = mode;
            }
        }
        Ok(gathered)
    }

    /// Makes the layer.
    fn write(
        &self,
        draft: &Draft,
        copy: &Copy<'_>,
        sources: &[Source],
        tree: &Merged,
    ) -> Result<Option<Layer>, BuildError> {
        let layers = self.layers(draft)?;
        let image = Merged::open(&layers)?;
        let at = |message: String| stages::at(self.file, copy.node, copy.to, message);
        let owner = match &copy.chown {
            Some((word, text)) => {
                let user = passwd::resolve(&layers, text)
                    .map_err(|e| stages::at(self.file, copy.node, word, e.to_string()))?;
                // As Docker has it: a lone number is the group too.
                let alone = text.parse::<u32>().is_ok();
                Some((user.uid, if alone { user.uid } else { user.gid }))
            }
            None => None,
        };
        let newest = sources
            .iter()
            .flat_map(|s| &s.items)
            .map(|item| item.meta.mtime)
            .max();
        let fresh = place::directory(
            newest.unwrap_or(0).max(draft.created()),
            owner.unwrap_or((0, 0)),
        );
        let target = place::resolve(&image, copy.target.as_bytes()).map_err(at)?;
        let is_directory = target.kind == Some(FileType::Directory);
        let mut planned: BTreeMap<Vec<u8>, Planned<'_>> = BTreeMap::new();
        for source in sources {
            if target.kind.is_some() && !is_directory && (source.is_directory || copy.into) {
                return Err(at(format!("{} is no directory in the image", copy.target)).into());
            }
            let base = if !source.is_directory && (copy.into || is_directory) {
                below(&target.path, &source.name)
            } else {
                target.path.clone()
            };
            let parent = match (
                source.is_directory && is_directory,
                base.iter().rposition(|b| *b == b'/'),
            ) {
                (true, _) => base.as_slice(),
                (false, Some(slash)) => base.get(..slash).unwrap_or_default(),
                (false, None) => b"",
            };
            for (path, meta) in place::with_parents(&image, parent, &fresh)? {
                planned.entry(path).or_insert(Planned { item: None, meta });
            }
            for item in &source.items {
                let path = below(&base, &item.path);
                // What stands in the image already as the destination keeps its owner and mode.
                if path.is_empty() || (item.path.is_empty() && source.is_directory && is_directory)
                {
                    continue;
                }
                let mut meta = item.meta.clone();
                (meta.uid, meta.gid) = owner.unwrap_or((meta.uid, meta.gid));
                let directory = matches!(item.what, What::Directory);
                let there = planned.get(&path).map(|planned| {
                    planned
                        .item
                        .is_none_or(|item| matches!(item.what, What::Directory))
                });
                let there = match there {
                    Some(there) => Some(there),
                    None => {
                        look(&image, &path, false)?.map(|found| found.kind() == FileType::Directory)
                    }
                };
                if let Some(there) = there.filter(|there| *there != directory) {
                    let (old, new) = if there {
                        ("directory", "file")
                    } else {
                        ("file or link", "directory")
                    };
                    let path = shown(&path);
                    return Err(at(format!(
                        "the {old} /{path} in the image would become a {new}"
                    ))
                    .into());
                }
                planned.insert(
                    path,
                    Planned {
                        item: Some(item),
                        meta,
                    },
                );
            }
        }
        Ok(self.layer(&planned, tree)?)
    }

    fn layer(
        &self,
        planned: &BTreeMap<Vec<u8>, Planned<'_>>,
        tree: &Merged,
    ) -> Result<Option<Layer>> {
        let mut writer = LayerWriter::new(self.store, self.options.epoch)?;
        for (path, Planned { item, meta }) in planned {
            match item.map(|item| &item.what) {
                None | Some(What::Directory) => writer.add(path, Kind::Directory, meta, None)?,
                Some(What::Symlink(target)) => {
                    writer.add(path, Kind::Symlink(target), meta, None)?;
                }
                Some(What::Fifo) => writer.add(path, Kind::Fifo, meta, None)?,
                Some(What::File {
                    size,
                    from: From::Text(text),
                    ..
                }) => {
                    writer.add(path, Kind::File(*size), meta, Some(&mut text.as_slice()))?;
                }
                Some(What::File {
                    size,
                    digest,
                    from: From::Tree(from),
                }) => {
                    let changed = || {
                        let from = shown(from);
                        Error::Refused(format!("{from:?} changed while it was copied; build again"))
                    };
                    let found = look(tree, from, false)?.ok_or_else(changed)?;
                    let mut file = Hashing::new(found.open_file()?);
                    writer.add(path, Kind::File(*size), meta, Some(&mut file))?;
                    if file.finish().0 != *digest {
                        return Err(changed());
                    }
                }
            }
        }
        if writer.entries() == 0 {
            return Ok(None);
        }
        writer.finish().map(Some)
    }

    fn mode(&self, stage: &Stage, node: &Node, word: &Word) -> Result<u32, BuildError> {
        let text = self.expand(stage, node, word)?;
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o7777)
            .ok_or_else(|| {
                let mut error = stages::at(
                    self.file,
                    node,
                    word,
                    format!("{text:?} is not an octal mode"),
                );
                error.help = Some("--chmod=644".to_owned());
                error.into()
            })
    }
}
