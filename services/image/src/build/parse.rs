//! Instructions of a Containerfile, each checked for its form. May not: replace variables, or look at
//! images and files; that is for the one who carries them out.

use super::diagnostic::{Diagnostic, nearest};
use super::flags::Mount;
use super::lines::{self, Logical, Place, Source};

/// A parsed file: its text, and its instructions in order. The first [`Instruction::From`] is there.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) source: Source,
    pub(crate) nodes: Vec<Node>,
}

/// One instruction and where it stands.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) logical: Logical,
    pub(crate) what: Instruction,
}

/// A word as written, with quotes and variables, and its first byte in the instruction's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) raw: String,
    pub(crate) offset: usize,
}

/// A command in one of its two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `["program", "argument"]`, executed as it is.
    Exec(Vec<String>),
    /// A text for the shell.
    Shell(String),
}

/// What an instruction says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Instruction {
    From {
        platform: Option<Word>,
        image: Word,
        name: Option<String>,
    },
    Arg(Vec<(String, Option<Word>)>),
    Env(Vec<(Word, Word)>),
    Label(Vec<(Word, Word)>),
    Run {
        command: Command,
        mounts: Vec<Mount>,
        network: bool,
    },
    Copy {
        from: Option<Word>,
        chown: Option<Word>,
        chmod: Option<Word>,
        sources: Vec<Word>,
        to: Word,
    },
    Workdir(Word),
    User(Word),
    Entrypoint(Command),
    Cmd(Command),
    Shell(Vec<String>),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    StopSignal(Word),
}

const KNOWN: [&str; 14] = [
    "FROM",
    "ARG",
    "ENV",
    "LABEL",
    "RUN",
    "COPY",
    "WORKDIR",
    "USER",
    "ENTRYPOINT",
    "CMD",
    "SHELL",
    "EXPOSE",
    "VOLUME",
    "STOPSIGNAL",
];

/// What Docker knows and Regatta does not, with the way out.
const UNSUPPORTED: [(&str, &str); 4] = [
    (
        "ADD",
        "use COPY; for an archive or a URL, use RUN with tar or curl",
    ),
    (
        "HEALTHCHECK",
        "leave it out: a container is as healthy as its command's end says",
    ),
    (
        "ONBUILD",
        "write its instruction into the Containerfiles that build on this image",
    ),
    (
        "MAINTAINER",
        "use LABEL org.opencontainers.image.authors=...",
    ),
];

/// Parses a whole Containerfile. `file` is its name in messages.
pub(crate) fn parse(text: &str, file: &str) -> Result<File, Box<Diagnostic>> {
    let (source, logical) = lines::split(text, file)?;
    let mut nodes = Vec::with_capacity(logical.len());
    let mut in_stage = false;
    for logical in logical {
        let what = Parser {
            source: &source,
            logical: &logical,
        }
        .instruction()?;
        match &what {
            Instruction::From { .. } => in_stage = true,
            Instruction::Arg(_) => {}
            _ if in_stage => {}
            _ => {
                let message = format!(
                    "{} stands before the first FROM",
                    logical.keyword.to_uppercase()
                );
                let mut error =
                    source.error(logical.place, logical.keyword.chars().count(), message);
                error.help = Some("only ARG may; begin with FROM and an image".to_owned());
                return Err(error);
            }
        }
        nodes.push(Node { logical, what });
    }
    if !in_stage {
        let mut error = source.error(Place { line: 1, column: 1 }, 1, "the file has no FROM");
        error.help = Some("begin with FROM and the image to build on, or FROM scratch".to_owned());
        return Err(error);
    }
    Ok(File { source, nodes })
}

impl Word {
    /// How many characters it has on the page.
    pub(crate) fn length(&self) -> usize {
        self.raw.chars().count()
    }
}

/// Parses one instruction.
pub(super) struct Parser<'a> {
    pub(super) source: &'a Source,
    pub(super) logical: &'a Logical,
}

impl Parser<'_> {
    fn instruction(&self) -> Result<Instruction, Box<Diagnostic>> {
        let keyword = self.logical.keyword.to_ascii_uppercase();
        if self.logical.rest.is_empty() && KNOWN.contains(&keyword.as_str()) {
            return Err(self.at_keyword(format!("{keyword} needs at least one argument"), None));
        }
        match keyword.as_str() {
            "FROM" => self.from(),
            "ARG" => self.arg(),
            "ENV" => self.pairs().map(Instruction::Env),
            "LABEL" => self.pairs().map(Instruction::Label),
            "RUN" => self.run(),
            "COPY" => self.copy(),
            "WORKDIR" => Ok(Instruction::Workdir(self.whole())),
            "USER" => Ok(Instruction::User(self.whole())),
            "STOPSIGNAL" => Ok(Instruction::StopSignal(self.whole())),
            "ENTRYPOINT" => Ok(Instruction::Entrypoint(self.command(0))),
            "CMD" => Ok(Instruction::Cmd(self.command(0))),
            "SHELL" => match self.command(0) {
                Command::Exec(words) if !words.is_empty() => Ok(Instruction::Shell(words)),
                _ => Err(self.at(
                    &self.whole(),
                    "SHELL needs a list of words in brackets",
                    Some("SHELL [\"/bin/bash\", \"-c\"]"),
                )),
            },
            "EXPOSE" => Ok(Instruction::Expose(self.words(0))),
            "VOLUME" => Ok(Instruction::Volume(self.list_or_words(0))),
            _ => Err(self.unknown(&keyword)),
        }
    }

    fn unknown(&self, keyword: &str) -> Box<Diagnostic> {
        if let Some((name, help)) = UNSUPPORTED.iter().find(|(name, _)| *name == keyword) {
            return self.at_keyword(format!("{name} is not supported"), Some((*help).to_owned()));
        }
        let help = nearest(keyword, &KNOWN).map_or_else(
            || format!("the instructions are {}", KNOWN.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        self.at_keyword(
            format!("unknown instruction {:?}", self.logical.keyword),
            Some(help),
        )
    }

    pub(super) fn at_keyword(
        &self,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Box<Diagnostic> {
        let length = self.logical.keyword.chars().count();
        let mut error = self.source.error(self.logical.place, length, message);
        error.help = help;
        error
    }

    /// An error at a word.
    pub(super) fn at(
        &self,
        word: &Word,
        message: impl Into<String>,
        help: Option<&str>,
    ) -> Box<Diagnostic> {
        let place = self.logical.place_of(word.offset);
        let mut error = self.source.error(place, word.length(), message);
        error.help = help.map(str::to_owned);
        error
    }

    /// Everything behind the keyword as one word.
    pub(super) fn whole(&self) -> Word {
        Word {
            raw: self.logical.rest.clone(),
            offset: 0,
        }
    }

    pub(super) fn words(&self, from: usize) -> Vec<Word> {
        let text = self.logical.rest.get(from..).unwrap_or_default();
        lines::shell_words(text, self.source.escape)
            .into_iter()
            .map(|(at, word)| Word {
                raw: word.to_owned(),
                offset: from + at,
            })
            .collect()
    }

    /// A JSON list of texts, else words.
    pub(super) fn list_or_words(&self, from: usize) -> Vec<Word> {
        match self.command(from) {
            Command::Exec(words) => words
                .into_iter()
                .map(|word| Word {
                    raw: self.literal(&word),
                    offset: from,
                })
                .collect(),
            Command::Shell(_) => self.words(from),
        }
    }

    /// A text whose spaces and quotes stand for themselves, written so that taking quotes off gives it
    /// back; variables in it are still replaced.
    fn literal(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            if c.is_whitespace() || matches!(c, '"' | '\'') {
                out.push(self.source.escape);
            }
            out.push(c);
        }
        out
    }

    /// The exec form where the text is a JSON list of texts, the shell form otherwise.
    pub(super) fn command(&self, from: usize) -> Command {
        let text = self.logical.rest.get(from..).unwrap_or_default();
        if text.starts_with('[')
            && let Ok(words) = serde_json::from_str::<Vec<String>>(text)
        {
            return Command::Exec(words);
        }
        Command::Shell(text.to_owned())
    }
}

/// Letters, digits and `_`, not beginning with a digit.
pub(crate) fn is_a_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
}
