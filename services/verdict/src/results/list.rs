//! A plain list, for tests that write their results themselves: `NAME`, a tab, a status, and perhaps a tab and a message. Lines
//! that begin with `#` are comments; `# cases: N` says how many cases there are, so that a list that was cut off is known as one.
//! May not: guess what a line means that has no status.

use regatta_model::case::CaseStatus;

use super::collect::Collector;

/// The words of a status, in lower case.
const WORDS: [(&str, CaseStatus); 16] = [
    ("passed", CaseStatus::Passed),
    ("pass", CaseStatus::Passed),
    ("ok", CaseStatus::Passed),
    ("success", CaseStatus::Passed),
    ("failed", CaseStatus::Failed),
    ("fail", CaseStatus::Failed),
    ("failure", CaseStatus::Failed),
    ("not ok", CaseStatus::Failed),
    ("error", CaseStatus::Error),
    ("errored", CaseStatus::Error),
    ("skipped", CaseStatus::Skipped),
    ("skip", CaseStatus::Skipped),
    ("ignored", CaseStatus::Skipped),
    ("disabled", CaseStatus::Skipped),
    ("flaky", CaseStatus::Flaky),
    ("timeout", CaseStatus::Error),
];

/// What a line says: name, status, message.
fn line(text: &str) -> Option<(&str, CaseStatus, &str)> {
    let (name, rest) = text.split_once('\t')?;
    let (word, message) = rest.split_once('\t').unwrap_or((rest, ""));
    let word = word.trim().to_ascii_lowercase();
    let (_, status) = WORDS.iter().find(|(known, _)| *known == word)?;
    (!name.trim().is_empty()).then_some((name, *status, message))
}

/// Whether a text is a list: its first line that is no comment is a case, or it says how many cases it has.
pub(super) fn is_list(text: &str) -> bool {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    for text in lines {
        if count(text).is_some() {
            return true;
        }
        if !text.starts_with('#') {
            return line(text).is_some();
        }
    }
    false
}

/// The number in `# cases: N`.
fn count(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('#')?.trim().strip_prefix("cases:")?;
    rest.trim().parse().ok()
}

/// Reads one file.
pub(super) fn read(path: &str, text: &str, collector: &mut Collector) {
    let (mut said, mut cases) = (None, 0_u64);
    for (at, text) in text.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        if text.starts_with('#') {
            said = count(text).or(said);
            continue;
        }
        let Some((name, status, message)) = line(text) else {
            collector.problem(&format!(
                "{path}: line {}: expected a name, a tab and a status such as passed, failed, error or skipped",
                at + 1
            ));
            continue;
        };
        cases = cases.saturating_add(1);
        if let Err(beyond) = collector.case(name, status, message, "") {
            return collector.problem(&format!("{path}: line {}: {beyond}", at + 1));
        }
    }
    match said {
        Some(said) if said != cases => collector.problem(&format!(
            "{path}: it says {said} cases, and there are {cases}"
        )),
        None => collector.problem(&format!(
            "{path}: no line `# cases: N`: the list may be cut off"
        )),
        Some(_) => {}
    }
}
