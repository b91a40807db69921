//! Words of a Containerfile: quotes taken off and variables replaced, as Docker's shell words are.
//! May not: run a command, or know what a variable is for.

/// Most bytes that one word may grow to.
const WORD_MOST: usize = 1 << 20;
/// Deepest nesting of `${a:-${b:-...}}`.
const DEPTH_MOST: usize = 20;

/// Replaces variables by what `value` answers.
pub(crate) struct Expander<'a> {
    /// The escape character.
    pub(crate) escape: char,
    /// A variable's value; none: it is not set.
    pub(crate) value: &'a dyn Fn(&str) -> Option<String>,
}

/// What becomes of quotes and escapes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They are taken off: a word.
    Removed,
    /// They mean nothing: the body of a heredoc.
    Kept,
}

impl Expander<'_> {
    /// One word: quotes removed, variables replaced.
    pub(crate) fn word(&self, raw: &str) -> Result<String, String> {
        Cursor {
            chars: raw.chars().collect(),
            at: 0,
            expander: self,
            depth: 0,
        }
        .text(None, Quotes::Removed)
    }

    /// A heredoc's body: variables replaced, quotes kept.
    pub(crate) fn body(&self, raw: &str) -> Result<String, String> {
        Cursor {
            chars: raw.chars().collect(),
            at: 0,
            expander: self,
            depth: 0,
        }
        .text(None, Quotes::Kept)
    }
}

struct Cursor<'a> {
    chars: Vec<char>,
    at: usize,
    expander: &'a Expander<'a>,
    depth: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Reads up to `end` (which is taken) or the end of the text.
    fn text(&mut self, end: Option<char>, quotes: Quotes) -> Result<String, String> {
        let escape = self.expander.escape;
        let mut out = String::new();
        let mut double = false;
        loop {
            if out.len() > WORD_MOST {
                return Err(format!("the text grows beyond {WORD_MOST} bytes"));
            }
            let Some(c) = self.next() else {
                return match (end, double) {
                    (Some(_), _) => Err("\"${\" lacks its \"}\"".to_owned()),
                    (None, true) => Err("a double quote is not closed".to_owned()),
                    (None, false) => Ok(out),
                };
            };
            match c {
                c if Some(c) == end && !double => return Ok(out),
                '$' => self.variable(&mut out)?,
                '\'' if quotes == Quotes::Removed && !double => loop {
                    match self.next() {
                        Some('\'') => break,
                        Some(c) => out.push(c),
                        None => return Err("a single quote is not closed".to_owned()),
                    }
                },
                '"' if quotes == Quotes::Removed => double = !double,
                c if c == escape => match (self.next(), quotes, double) {
                    (Some(n), Quotes::Removed, false) => out.push(n),
                    (Some(n), _, _) if n == '$' || n == escape => out.push(n),
                    (Some('"'), Quotes::Removed, true) => out.push('"'),
                    (Some(n), _, _) => out.extend([c, n]),
                    (None, _, _) => out.push(c),
                },
                c => out.push(c),
            }
        }
    }

    /// Reads what follows a `$`.
    fn variable(&mut self, out: &mut String) -> Result<(), String> {
        if self.peek() == Some('{') {
            self.at += 1;
            return self.braced(out);
        }
        let name = self.name();
        if name.is_empty() {
            // A lone dollar, `$1`, `$$`: as it stands; these are not for us.
            out.push('$');
            return Ok(());
        }
        out.push_str(&(self.expander.value)(&name).unwrap_or_default());
        Ok(())
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            let fits =
                c == '_' || c.is_ascii_alphabetic() || (c.is_ascii_digit() && !name.is_empty());
            if !fits {
                break;
            }
            name.push(c);
            self.at += 1;
        }
        name
    }

    /// Reads what follows `${`, with the `}`.
    fn braced(&mut self, out: &mut String) -> Result<(), String> {
        let name = self.name();
        if name.is_empty() {
            return Err("\"${\" needs the name of a variable".to_owned());
        }
        let value = (self.expander.value)(&name);
        let mut operator = match self.next() {
            Some('}') => {
                out.push_str(&value.unwrap_or_default());
                return Ok(());
            }
            Some(c) => c,
            None => return Err(format!("\"${{{name}\" lacks its \"}}\"")),
        };
        // With a colon, an empty value counts as none.
        let mut value = value;
        if operator == ':' {
            value = value.filter(|v| !v.is_empty());
            operator = self.next().unwrap_or('}');
        }
        if self.depth == DEPTH_MOST {
            return Err(format!("variables are nested deeper than {DEPTH_MOST}"));
        }
        if !matches!(operator, '-' | '+' | '?') {
            return Err(format!(
                "\"${{{name}{operator}\" is not supported: use ${{{name}:-word}}, ${{{name}:+word}} or \
                 ${{{name}:?message}}"
            ));
        }
        self.depth += 1;
        let word = self.text(Some('}'), Quotes::Removed)?;
        self.depth -= 1;
        match (operator, value) {
            ('-' | '?', Some(value)) => out.push_str(&value),
            ('-', None) | ('+', Some(_)) => out.push_str(&word),
            ('?', None) if word.is_empty() => return Err(format!("{name} is not set")),
            ('?', None) => return Err(format!("{name} is not set: {word}")),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        match name {
            "a" => Some("one two".into()),
            "empty" => Some(String::new()),
            _ => None,
        }
    }

    fn word(raw: &str) -> Result<String, String> {
        Expander {
            escape: '\\',
            value: &value,
        }
        .word(raw)
    }

    #[test]
    fn variables_and_quotes_are_replaced() {
        for (raw, expected) in [
            ("x", "x"),
            ("$a/b", "one two/b"),
            ("${a}b", "one twob"),
            ("\"$a\"", "one two"),
            ("'$a'", "$a"),
            ("\\$a", "$a"),
            ("\"\\$a \\\" \\n\"", "$a \" \\n"),
            ("a\\ b", "a b"),
            ("${none}", ""),
            ("${none:-x y}", "x y"),
            ("${empty:-x}", "x"),
            ("${empty-x}", ""),
            ("${a:+set}", "set"),
            ("${none:+set}", ""),
            ("${empty:+set}", ""),
            ("${empty+set}", "set"),
            ("${none:-${a:+deep}}", "deep"),
            ("${none:-'}'}", "}"),
            ("${a:?wanted}", "one two"),
            ("$", "$"),
            ("$1", "$1"),
            ("100%", "100%"),
        ] {
            assert_eq!(word(raw).as_deref(), Ok(expected), "{raw}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (raw, part) in [
            ("${", "name of a variable"),
            ("${a", "lacks"),
            ("${a:-b", "lacks"),
            ("${a#b}", "not supported"),
            ("${a:b}", "not supported"),
            ("'a", "single quote"),
            ("\"a", "double quote"),
            ("${none:?is needed}", "is needed"),
        ] {
            let error = word(raw).unwrap_err();
            assert!(error.contains(part), "{raw}: {error}");
        }
        assert!(
            word(&"${none:-".repeat(200))
                .unwrap_err()
                .contains("nested")
        );
    }

    #[test]
    fn a_body_keeps_its_quotes() {
        let expander = Expander {
            escape: '\\',
            value: &value,
        };
        assert_eq!(
            expander.body("'$a' \"x\" \\$a \\n\n").as_deref(),
            Ok("'one two' \"x\" $a \\n\n")
        );
    }
}
