//! Which files of a build's context are left out: `.containerignore` or `.dockerignore`, with Docker's
//! patterns. May not: look at the files.

use globset::{GlobBuilder, GlobMatcher};

/// Largest file of patterns, in bytes.
pub(crate) const FILE_MOST: u64 = 1 << 20;
/// Most patterns.
const PATTERNS_MOST: usize = 10_000;

/// The patterns, in order; the last one that matches decides.
#[derive(Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<Pattern>,
    has_exceptions: bool,
}

#[derive(Debug)]
struct Pattern {
    matcher: GlobMatcher,
    exception: bool,
}

impl Ignore {
    /// Reads the patterns; an error gives the line and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut ignore = Self::default();
        for (index, line) in text
            .strip_prefix('\u{feff}')
            .unwrap_or(text)
            .lines()
            .enumerate()
        {
            // Only a "#" in the first column begins a comment.
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (exception, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            if ignore.patterns.len() == PATTERNS_MOST {
                return Err((
                    index + 1,
                    format!("there are more than {PATTERNS_MOST} patterns"),
                ));
            }
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|e| (index + 1, e.kind().to_string()))?;
            ignore.has_exceptions |= exception;
            ignore.patterns.push(Pattern {
                matcher: glob.compile_matcher(),
                exception,
            });
        }
        Ok(ignore)
    }

    /// Whether a path, relative to the context, is left out. A pattern that matches a directory is meant
    /// for all below it.
    pub(crate) fn is_ignored(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.exception == ignored && pattern.matches(path) {
                ignored = !pattern.exception;
            }
        }
        ignored
    }

    /// Whether something below an ignored directory may still be wanted.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.has_exceptions
    }
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        let ends = path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        ends.into_iter().any(|end| {
            path.get(..end)
                .is_some_and(|part| self.matcher.is_match(part))
        })
    }
}

/// Without `.`, `..`, doubled slashes and slashes at the ends.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_pattern_decides() {
        let text = "# comment\n/target/\n*.log\n!keep.log\n**/__pycache__\ndocs/**\n!docs/index.md\na/../b\n";
        let ignore = Ignore::parse(text).unwrap();
        for (path, expected) in [
            ("target", true),
            ("target/debug/x", true),
            ("sub/target", false),
            ("a.log", true),
            ("sub/a.log", false),
            ("keep.log", false),
            ("__pycache__", true),
            ("x/y/__pycache__/z.pyc", true),
            ("docs/a/b", true),
            ("docs/index.md", false),
            ("b", true),
            ("c", false),
        ] {
            assert_eq!(ignore.is_ignored(path), expected, "{path}");
        }
    }

    #[test]
    fn everything_may_be_left_out_but_something() {
        let ignore = Ignore::parse("*\n!src\n").unwrap();
        assert!(
            ignore.is_ignored("x") && !ignore.is_ignored("src") && !ignore.is_ignored("src/a/b")
        );
    }

    #[test]
    fn a_wrong_pattern_is_told_with_its_line() {
        assert_eq!(Ignore::parse("a\nb[").unwrap_err().0, 2);
    }
}
