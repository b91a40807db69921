//! An error at a place in a Containerfile, printed as rustc prints its own: message, place, the line, a
//! caret, and the way out. May not: decide what is an error.

use std::fmt;

/// Longest part of a source line that is shown, in characters.
const LINE_SHOWN: usize = 160;

/// What is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
    /// The file, as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters are marked; at least one is.
    pub length: usize,
    /// The line's text.
    pub source: String,
    /// The way out, if one is known.
    pub help: Option<String>,
    /// What was printed before it failed, line by line; for failing commands.
    pub output: Vec<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "{margin}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{margin} |")?;
        let shown: String = self
            .source
            .chars()
            .take(LINE_SHOWN)
            .map(|c| if c == '\t' || c.is_control() { ' ' } else { c })
            .collect();
        writeln!(f, "{number} | {}", shown.trim_end())?;
        let before = " ".repeat(self.column.saturating_sub(1).min(LINE_SHOWN));
        let room = LINE_SHOWN.saturating_sub(self.column).max(1);
        write!(
            f,
            "{margin} | {before}{}",
            "^".repeat(self.length.clamp(1, room))
        )?;
        if let Some(help) = &self.help {
            write!(f, "\n{margin} = help: {help}")?;
        }
        if !self.output.is_empty() {
            write!(f, "\n{margin} = its output ended with:")?;
            for line in &self.output {
                write!(f, "\n{margin}   {line}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

/// The nearest of `words` to `wrong`, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(wrong: &str, words: &[&'a str]) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    let most = (wrong.len() / 3).max(1);
    words
        .iter()
        .map(|word| {
            (
                strsim::damerau_levenshtein(&wrong, &word.to_ascii_lowercase()),
                *word,
            )
        })
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_with_place_line_and_caret() {
        let diagnostic = Diagnostic {
            message: "unknown instruction \"COPPY\"".into(),
            file: "Containerfile".into(),
            line: 12,
            column: 3,
            length: 5,
            source: "  COPPY a b".into(),
            help: Some("did you mean COPY?".into()),
            output: vec![],
        };
        assert_eq!(
            diagnostic.to_string(),
            "error: unknown instruction \"COPPY\"\n  --> Containerfile:12:3\n   |\n12 |   COPPY a b\n   \
             |   ^^^^^\n   = help: did you mean COPY?"
        );
    }

    #[test]
    fn only_a_near_word_is_offered() {
        assert_eq!(nearest("coppy", &["COPY", "CMD"]), Some("COPY"));
        assert_eq!(nearest("RNU", &["RUN", "ENV"]), Some("RUN"));
        assert_eq!(nearest("HELLO", &["RUN", "ENV"]), None);
    }
}
