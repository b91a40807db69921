//! A Containerfile's text as logical lines: comments and directives taken out, continued lines joined, the
//! bodies of heredocs attached, and every byte's place remembered. May not: know what instructions mean.

use super::diagnostic::Diagnostic;

/// Largest Containerfile, in bytes.
pub(crate) const FILE_MOST: usize = 1 << 20;
/// Most instructions in one file.
pub(crate) const INSTRUCTIONS_MOST: usize = 1_000;
/// Most heredocs of one instruction.
const HEREDOCS_MOST: usize = 20;

/// A place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Line, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
}

/// The file's text, kept for messages.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: String,
    lines: Vec<String>,
    /// The character that joins lines and escapes in words: `\`, or a backtick by directive.
    pub(crate) escape: char,
}

/// One instruction with everything that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Logical {
    /// The first word, as written.
    pub(crate) keyword: String,
    /// Where it stands.
    pub(crate) place: Place,
    /// What follows it, continued lines joined.
    pub(crate) rest: String,
    /// For each joined piece: its first byte in `rest`, and its place.
    origins: Vec<(usize, Place)>,
    /// The bodies of its heredocs, in order.
    pub(crate) heredocs: Vec<Heredoc>,
}

/// One `<<WORD` and the lines below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word, without quotes.
    pub(crate) name: String,
    /// Whether variables in the body are replaced (the word was not quoted).
    pub(crate) expand: bool,
    /// Whether leading tabs were taken off (`<<-`).
    pub(crate) chomp: bool,
    /// The lines, each with its line end.
    pub(crate) body: String,
}

impl Source {
    /// An error in this file.
    pub(crate) fn error(
        &self,
        place: Place,
        length: usize,
        message: impl Into<String>,
    ) -> Box<Diagnostic> {
        Box::new(Diagnostic {
            message: message.into(),
            file: self.file.clone(),
            line: place.line,
            column: place.column,
            length,
            source: self
                .lines
                .get(place.line.saturating_sub(1))
                .cloned()
                .unwrap_or_default(),
            help: None,
            output: Vec::new(),
        })
    }
}

impl Logical {
    /// Where a byte of `rest` stands in the file.
    pub(crate) fn place_of(&self, offset: usize) -> Place {
        let at = self.origins.partition_point(|(start, _)| *start <= offset);
        let Some((start, place)) = at.checked_sub(1).and_then(|i| self.origins.get(i)) else {
            return self.place;
        };
        let text = self.rest.get(*start..offset).unwrap_or_default();
        Place {
            line: place.line,
            column: place.column + text.chars().count(),
        }
    }
}

/// Splits a file into its instructions.
pub(crate) fn split(text: &str, file: &str) -> Result<(Source, Vec<Logical>), Box<Diagnostic>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<String> = text
        .split('\n')
        .map(|l| l.strip_suffix('\r').unwrap_or(l).to_owned())
        .collect();
    let mut source = Source {
        file: file.to_owned(),
        lines,
        escape: '\\',
    };
    let start = Place { line: 1, column: 1 };
    if text.len() > FILE_MOST {
        return Err(source.error(
            start,
            1,
            format!("the file is larger than {FILE_MOST} bytes"),
        ));
    }
    if text.contains('\0') {
        return Err(source.error(start, 1, "the file holds a zero byte: it is no text"));
    }
    directives(&mut source)?;
    let mut reader = Reader {
        source: &source,
        next: 0,
    };
    let mut logical = Vec::new();
    while let Some(instruction) = reader.instruction()? {
        if logical.len() == INSTRUCTIONS_MOST {
            let message = format!("the file has more than {INSTRUCTIONS_MOST} instructions");
            return Err(source.error(instruction.place, 1, message));
        }
        logical.push(instruction);
    }
    Ok((source, logical))
}

/// Reads `# escape=` and passes over `# syntax=` and `# check=`, which stand before anything else.
fn directives(source: &mut Source) -> Result<(), Box<Diagnostic>> {
    for (index, line) in source.lines.iter().enumerate() {
        let Some((key, value)) = line
            .trim()
            .strip_prefix('#')
            .and_then(|comment| comment.split_once('='))
        else {
            break;
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match (key.as_str(), value) {
            ("escape", "\\") => source.escape = '\\',
            ("escape", "`") => source.escape = '`',
            ("escape", _) => {
                let place = Place {
                    line: index + 1,
                    column: 1,
                };
                let message = format!("{value:?} cannot be the escape character");
                let mut error = source.error(place, line.chars().count(), message);
                error.help = Some("it is \\ or `".to_owned());
                return Err(error);
            }
            ("syntax" | "check", _) => {}
            _ => break,
        }
    }
    Ok(())
}

struct Reader<'a> {
    source: &'a Source,
    next: usize,
}

impl Reader<'_> {
    fn line(&mut self) -> Option<(usize, &str)> {
        let line = self.source.lines.get(self.next)?;
        self.next += 1;
        Some((self.next, line))
    }

    fn instruction(&mut self) -> Result<Option<Logical>, Box<Diagnostic>> {
        let escape = self.source.escape;
        let (number, first) = loop {
            match self.line() {
                None => return Ok(None),
                Some((_, line)) if is_passed_over(line) => {}
                Some((number, line)) => break (number, line.to_owned()),
            }
        };
        let indent = first.len() - first.trim_start().len();
        let (mut piece, mut continues) = without_escape(&first, escape);
        let keyword_end = piece
            .get(indent..)
            .and_then(|t| t.find(char::is_whitespace))
            .map_or(piece.len(), |n| indent + n);
        let keyword = piece
            .get(indent..keyword_end)
            .unwrap_or_default()
            .to_owned();
        let column_of = |line: &str, at: usize| {
            line.get(..at)
                .map_or(1, |before| before.chars().count() + 1)
        };
        let place = Place {
            line: number,
            column: column_of(&first, indent),
        };
        let after = piece.get(keyword_end..).unwrap_or_default();
        let rest_start = keyword_end + (after.len() - after.trim_start().len());
        let mut rest = piece.get(rest_start..).unwrap_or_default().to_owned();
        let mut origins = vec![(
            0,
            Place {
                line: number,
                column: column_of(&first, rest_start),
            },
        )];
        while continues {
            let Some((number, line)) = self.line() else {
                break;
            };
            if is_passed_over(line) {
                continue;
            }
            let line = line.to_owned();
            (piece, continues) = without_escape(&line, escape);
            // Before its first word, an instruction's white space counts for nothing.
            let text = if rest.is_empty() {
                piece.trim_start()
            } else {
                piece
            };
            let column = column_of(&line, piece.len() - text.len());
            origins.push((
                rest.len(),
                Place {
                    line: number,
                    column,
                },
            ));
            rest.push_str(text);
        }
        let trimmed = rest.trim_end().len();
        rest.truncate(trimmed);
        let mut logical = Logical {
            keyword,
            place,
            rest,
            origins,
            heredocs: Vec::new(),
        };
        if ["RUN", "COPY", "ADD"]
            .iter()
            .any(|k| logical.keyword.eq_ignore_ascii_case(k))
        {
            self.heredocs(&mut logical)?;
        }
        Ok(Some(logical))
    }

    fn heredocs(&mut self, logical: &mut Logical) -> Result<(), Box<Diagnostic>> {
        for (offset, word) in shell_words(&logical.rest, self.source.escape) {
            let Some((name, expand, chomp)) = heredoc_word(word) else {
                continue;
            };
            let place = logical.place_of(offset);
            let length = word.chars().count();
            if logical.heredocs.len() == HEREDOCS_MOST {
                let message = format!("an instruction has at most {HEREDOCS_MOST} heredocs");
                return Err(self.source.error(place, length, message));
            }
            let mut body = String::new();
            loop {
                let Some((_, line)) = self.line() else {
                    let message = format!("the heredoc {name:?} is never closed");
                    let mut error = self.source.error(place, length, message);
                    error.help = Some(format!("end it by a line that holds only {name}"));
                    return Err(error);
                };
                let line = if chomp {
                    line.trim_start_matches('\t')
                } else {
                    line
                };
                if line == name {
                    break;
                }
                body.push_str(line);
                body.push('\n');
            }
            logical.heredocs.push(Heredoc {
                name,
                expand,
                chomp,
                body,
            });
        }
        Ok(())
    }
}

fn is_passed_over(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The line without a last escape character, and whether there was one.
fn without_escape(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end().strip_suffix(escape) {
        Some(piece) => (piece, true),
        None => (line, false),
    }
}

/// `<<NAME`, `<<-NAME`, `<<"NAME"`, `<<'NAME'`, each with a number before it or without.
pub(crate) fn heredoc_word(word: &str) -> Option<(String, bool, bool)> {
    let word = word
        .trim_start_matches(|c: char| c.is_ascii_digit())
        .strip_prefix("<<")?;
    let (word, chomp) = match word.strip_prefix('-') {
        Some(word) => (word, true),
        None => (word, false),
    };
    if word.contains('<') {
        return None;
    }
    let name: String = word.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    let expand = name.len() == word.len();
    (!name.is_empty()).then_some((name, expand, chomp))
}

/// The words of a text as a shell would split them, quotes kept, each with its first byte's offset.
pub(crate) fn shell_words(text: &str, escape: char) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        if quote.is_none() && c.is_whitespace() {
            if let Some(start) = start.take() {
                words.push((start, text.get(start..at).unwrap_or_default()));
            }
            continue;
        }
        start.get_or_insert(at);
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), c) if c == escape => escaped = true,
            _ => {}
        }
    }
    if let Some(start) = start {
        words.push((start, text.get(start..).unwrap_or_default()));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> Vec<Logical> {
        split(text, "Containerfile").unwrap().1
    }

    #[test]
    fn lines_are_joined_and_places_kept() {
        let all = logical(
            "# syntax=docker/dockerfile:1\n\nFROM a\nRUN one \\\n  # not this\n\n  two \\\n three\nCMD x",
        );
        let words: Vec<_> = all
            .iter()
            .map(|l| (l.keyword.as_str(), l.rest.as_str()))
            .collect();
        assert_eq!(
            words,
            [("FROM", "a"), ("RUN", "one   two  three"), ("CMD", "x")]
        );
        let run = &all[1];
        assert_eq!(run.place, Place { line: 4, column: 1 });
        assert_eq!(run.place_of(0), Place { line: 4, column: 5 });
        let two = run.rest.find("two").unwrap();
        assert_eq!(run.place_of(two), Place { line: 7, column: 3 });
        let three = run.rest.find("three").unwrap();
        assert_eq!(run.place_of(three), Place { line: 8, column: 2 });
    }

    #[test]
    fn the_escape_character_can_be_chosen() {
        let all = logical("# escape=`\nRUN a `\n b\\\nCMD c");
        assert_eq!(all[0].rest, "a  b\\");
        assert_eq!(all.len(), 2);
        assert!(split("# escape=x\nFROM a", "f").is_err());
    }

    #[test]
    fn heredocs_are_attached_in_order() {
        let all = logical("COPY <<A <<-'B' /x/\none $x\nA\n\t\ttwo\n\tB\nRUN echo $((1 << 2))\n");
        assert_eq!(all.len(), 2);
        let [a, b] = all[0].heredocs.as_slice() else {
            panic!("two heredocs")
        };
        assert_eq!(
            (a.name.as_str(), a.body.as_str(), a.expand),
            ("A", "one $x\n", true)
        );
        assert_eq!(
            (b.name.as_str(), b.body.as_str(), b.expand),
            ("B", "two\n", false)
        );
        assert!(all[1].heredocs.is_empty());
    }

    #[test]
    fn an_open_heredoc_is_an_error_at_its_word() {
        let error = split("FROM a\nRUN cat <<EOF\nx\n", "f").unwrap_err();
        assert_eq!((error.line, error.column, error.length), (2, 9, 5));
    }

    #[test]
    fn crlf_and_missing_last_line_end_are_taken() {
        let all = logical("FROM a\r\nRUN b \\\r\n c");
        assert_eq!(all[1].rest, "b  c");
    }
}
