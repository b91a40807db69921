//! The instructions of a Containerfile whose words have a form of their own: FROM, ARG, ENV, LABEL, RUN, COPY.
//! May not: replace variables.

use super::diagnostic::Diagnostic;
use super::flags;
use super::parse::{Command, Instruction, Parser, Word, is_a_name};

impl Parser<'_> {
    pub(super) fn from(&self) -> Result<Instruction, Box<Diagnostic>> {
        let (flags, start) = self.flags(&["platform"])?;
        let words = self.words(start);
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, r#as, name] if r#as.raw.eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => {
                return Err(self.at(
                    &self.whole(),
                    "FROM takes one image and perhaps a name",
                    Some("FROM IMAGE [AS NAME]"),
                ));
            }
        };
        if let Some(name) = name {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !name.raw.chars().all(fits)
                || !name.raw.starts_with(|c: char| c.is_ascii_alphabetic())
            {
                let help =
                    "it begins with a letter and holds letters, digits, \"-\", \"_\" and \".\"";
                return Err(self.at(name, "this cannot be the name of a stage", Some(help)));
            }
        }
        let platform = flags.into_iter().next().map(|flag| flag.value);
        Ok(Instruction::From {
            platform,
            image: image.clone(),
            name: name.map(|name| name.raw.to_ascii_lowercase()),
        })
    }

    pub(super) fn arg(&self) -> Result<Instruction, Box<Diagnostic>> {
        let mut args = Vec::new();
        for word in self.words(0) {
            let (name, value) = match word.raw.split_once('=') {
                Some((name, value)) => {
                    let offset = word.offset + name.len() + 1;
                    (
                        name.to_owned(),
                        Some(Word {
                            raw: value.to_owned(),
                            offset,
                        }),
                    )
                }
                None => (word.raw.clone(), None),
            };
            if !is_a_name(&name) {
                let help = "ARG NAME or ARG NAME=default";
                return Err(self.at(
                    &word,
                    format!("{name:?} is no name of a variable"),
                    Some(help),
                ));
            }
            args.push((name, value));
        }
        Ok(Instruction::Arg(args))
    }

    /// `name=value ...`, or the old form `name value` that takes the rest of the line.
    pub(super) fn pairs(&self) -> Result<Vec<(Word, Word)>, Box<Diagnostic>> {
        let words = self.words(0);
        let keyword = self.logical.keyword.to_ascii_uppercase();
        let Some(first) = words.first() else {
            return Ok(Vec::new());
        };
        if !first.raw.contains('=') {
            let Some(second) = words.get(1) else {
                let help = format!("{keyword} NAME=value");
                return Err(self.at(first, format!("{keyword} needs a value"), Some(&help)));
            };
            let raw = self
                .logical
                .rest
                .get(second.offset..)
                .unwrap_or_default()
                .to_owned();
            return Ok(vec![(
                first.clone(),
                Word {
                    raw,
                    offset: second.offset,
                },
            )]);
        }
        let mut pairs = Vec::with_capacity(words.len());
        for word in &words {
            let Some((name, value)) = word
                .raw
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
            else {
                let message = format!("{:?} has no \"=\"", word.raw);
                let help = format!("{keyword} NAME=value; a value with spaces stands in quotes");
                return Err(self.at(word, message, Some(&help)));
            };
            let value = Word {
                raw: value.to_owned(),
                offset: word.offset + name.len() + 1,
            };
            pairs.push((
                Word {
                    raw: name.to_owned(),
                    offset: word.offset,
                },
                value,
            ));
        }
        Ok(pairs)
    }

    pub(super) fn run(&self) -> Result<Instruction, Box<Diagnostic>> {
        let (flags, start) = self.flags(&["mount", "network", "security"])?;
        let mut mounts = Vec::new();
        let mut network = true;
        for flag in flags {
            match flag.name.as_str() {
                "mount" => mounts.push(flags::mount(self, &flag)?),
                "network" => match flag.value.raw.as_str() {
                    "default" | "host" => network = true,
                    "none" => network = false,
                    _ => {
                        let help = "--network=host (the default) or --network=none";
                        return Err(self.at(&flag.whole, "no such network", Some(help)));
                    }
                },
                _ => {
                    let help = "leave it out; steps have no privileges to give";
                    return Err(self.at(&flag.whole, "--security is not supported", Some(help)));
                }
            }
        }
        let command = self.command(start);
        match &command {
            Command::Shell(text) if text.is_empty() => {
                Err(self.at_keyword("RUN needs a command", None))
            }
            Command::Exec(words) if words.is_empty() => {
                Err(self.at(&self.whole(), "the list of words is empty", None))
            }
            Command::Exec(_) if !self.logical.heredocs.is_empty() => Err(self.at(
                &self.whole(),
                "a heredoc needs the shell form",
                Some("write the command without brackets"),
            )),
            _ => Ok(Instruction::Run {
                command,
                mounts,
                network,
            }),
        }
    }

    pub(super) fn copy(&self) -> Result<Instruction, Box<Diagnostic>> {
        let (flags, start) = self.flags(&[
            "from", "chown", "chmod", "link", "parents", "exclude", "checksum",
        ])?;
        let (mut from, mut chown, mut chmod) = (None, None, None);
        for flag in flags {
            match flag.name.as_str() {
                "from" => from = Some(flag.value),
                "chown" => chown = Some(flag.value),
                "chmod" => chmod = Some(flag.value),
                // The layer is the same with it and without, as long as the target is no symbolic link.
                "link" if matches!(flag.value.raw.as_str(), "" | "true" | "false") => {}
                name => {
                    let help = "COPY takes --from, --chown and --chmod; name files in .containerignore \
                                to leave them out";
                    return Err(self.at(
                        &flag.whole,
                        format!("--{name} is not supported"),
                        Some(help),
                    ));
                }
            }
        }
        let mut sources = self.list_or_words(start);
        let to = sources.pop();
        match to {
            Some(to) if !sources.is_empty() => Ok(Instruction::Copy {
                from,
                chown,
                chmod,
                sources,
                to,
            }),
            _ => Err(self.at(
                &self.whole(),
                "COPY needs at least one source and a destination",
                Some("COPY SOURCE... DESTINATION"),
            )),
        }
    }
}
