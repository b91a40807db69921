//! The decisive lines of a log or a message: what a person would look for first. May not: decide anything by them.

/// Most lines of an excerpt.
pub const LINES_MOST: usize = 12;

/// Most bytes of an excerpt.
pub const BYTES_MOST: usize = 2048;

/// Bytes at the end of a log that are looked at.
const TAIL: usize = 256 << 10;

/// Longest line of an excerpt, in bytes.
const LINE_MOST: usize = 300;

/// What lines that tell why begin with, once white space is taken off.
const BEGINNINGS: [&str; 9] = [
    "E   ", "ERROR", "error", "FAILED", "FAIL", "fatal:", "Error", "--- FAIL", "not ok",
];

/// What lines that tell why contain.
const SIGNS: [&str; 9] = [
    "panicked at",
    "Error: ",
    "Exception: ",
    "error: ",
    "AssertionError",
    "Segmentation fault",
    "not found",
    "No such file",
    "Warning: ",
];

/// The lines of a log or a message that tell why something failed, else its last ones.
pub fn decisive(text: &str) -> String {
    let text = plain(tail(text));
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let mut chosen: Vec<&str> = Vec::new();
    for line in lines.iter().filter(|line| tells_why(line)) {
        if chosen.len() < LINES_MOST && !chosen.contains(line) {
            chosen.push(line);
        }
    }
    if chosen.is_empty() {
        chosen = lines.iter().rev().take(LINES_MOST).rev().copied().collect();
    }
    let cut: Vec<&str> = chosen.iter().map(|line| cut(line, LINE_MOST)).collect();
    cut_owned(cut.join("\n"), BYTES_MOST)
}

/// The message of a failing case: its summary, and the decisive lines of its details that the summary does not hold.
pub(crate) fn message(summary: &str, details: &str, most: usize) -> String {
    let summary = plain(summary).trim().to_owned();
    let details = plain(details);
    let lines: Vec<&str> = details.lines().map(str::trim_end).collect();
    let errors = lines
        .iter()
        .filter_map(|line| line.strip_prefix("E   "))
        .map(str::trim);
    let mut chosen: Vec<&str> = errors.collect();
    if chosen.is_empty() {
        chosen = lines
            .iter()
            .map(|line| line.trim())
            .filter(|line| !line.is_empty())
            .collect();
    }
    let mut message = summary.clone();
    for line in chosen
        .into_iter()
        .filter(|line| !line.is_empty() && !summary.contains(line))
    {
        if message.len() >= most || message.lines().count() >= LINES_MOST {
            break;
        }
        if !message.is_empty() {
            message.push('\n');
        }
        message.push_str(cut(line, LINE_MOST));
    }
    cut_owned(message, most)
}

fn tells_why(line: &str) -> bool {
    let trimmed = line.trim_start();
    BEGINNINGS
        .iter()
        .any(|b| line.starts_with(b) || trimmed.starts_with(b))
        || SIGNS.iter().any(|sign| line.contains(sign))
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default()
}

/// The text without terminal escapes and control characters.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                // Parameters end at the first letter (or at another character of the final range).
                while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                rest.next();
            }
            '\n' | '\t' => plain.push(c),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}

/// The first bytes of a text, whole characters only.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn cut_owned(mut text: String, most: usize) -> String {
    text.truncate(cut(&text, most).len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_tell_why_are_found_and_else_the_last_ones() {
        let log = "collecting\n\u{1b}[31mE   AssertionError: 1 != 2\u{1b}[0m\nmore\nFAILED tests/a.py::b\n";
        assert_eq!(
            decisive(log),
            "E   AssertionError: 1 != 2\nFAILED tests/a.py::b"
        );
        let log = (0..50)
            .map(|n| format!("line {n}"))
            .collect::<Vec<_>>()
            .join("\n");
        assert_eq!(decisive(&log).lines().count(), LINES_MOST);
        assert!(decisive(&log).ends_with("line 49"));
        assert_eq!(decisive(""), "");
    }

    #[test]
    fn a_message_is_bounded_and_says_nothing_twice() {
        let text = message("boom: ä", "def x():\nE   boom: ä\nE   because\n", 100);
        assert_eq!(text, "boom: ä\nbecause");
        assert_eq!(message("ä", &"ü\n".repeat(9000), 4), "ä\n");
        assert_eq!(message("", "ä", 1), "");
    }
}
