//! What is new beside another run, as lines of text, of Markdown and of HTML. May not: conclude anything.

use std::fmt::Write as _;

use regatta_model::report::{Against, AgainstChange, AgainstKind};

use super::{Look, escaped, markdown, probability};

/// Changes that are shown.
const SHOWN: usize = 50;

/// How many of what, beside what the sentence says.
fn rest(against: &Against) -> String {
    let mut parts = vec![format!("{} fail in both", against.alike)];
    let only = [
        (against.only_here, "only in this run"),
        (against.only_there, "only in the other"),
    ];
    let only = only.into_iter().filter(|(count, _)| *count > 0);
    parts.extend(only.map(|(count, whose)| format!("{count} cells {whose}")));
    let shown = u64::try_from(against.changes.len().min(SHOWN)).unwrap_or(0);
    let all = u64::try_from(against.changes.len()).unwrap_or(0) + against.more;
    if all > shown {
        parts.push(format!("{} more changes", all - shown));
    }
    parts.join(", ")
}

/// How probable it is that it is no chance.
fn sure(change: &AgainstChange) -> String {
    format!(" ({})", probability(change.probability))
}

pub(super) fn text(against: &Against, look: Look) -> String {
    let mut out = format!("\n{}\n", look.paint.strong(&against.sentence));
    for change in against.changes.iter().take(SHOWN) {
        let word = change.kind.name();
        let word = match change.kind {
            AgainstKind::Regressed => look.paint.bad(word),
            AgainstKind::Unresolved => look.paint.doubtful(word),
            AgainstKind::Fixed => look.paint.good(word),
        };
        let _ = writeln!(out, "  {word}: {}{}", change.text, sure(change));
    }
    let _ = writeln!(out, "  {}", look.paint.faint(&rest(against)));
    out
}

pub(super) fn markdown(against: &Against) -> String {
    let mut out = format!("\n**{}**\n\n", markdown::text(&against.sentence));
    for change in against.changes.iter().take(SHOWN) {
        let (word, said) = (change.kind.name(), markdown::text(&change.text));
        let _ = writeln!(out, "- {word}: {said}{}", sure(change));
    }
    let _ = writeln!(out, "\n{}", rest(against));
    out
}

pub(super) fn html(against: &Against, out: &mut String) {
    let _ = writeln!(
        out,
        "<section>\n<h2>Beside run {}</h2>\n<p>{}</p>",
        escaped(&against.run),
        escaped(&against.sentence)
    );
    if !against.changes.is_empty() {
        out.push_str("<div class=\"scroll\"><table>\n");
        for change in against.changes.iter().take(SHOWN) {
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td class=\"detail\">{}{}</td></tr>",
                change.kind.name(),
                escaped(&change.text),
                escaped(&sure(change))
            );
        }
        out.push_str("</table></div>\n");
    }
    let _ = writeln!(out, "<p>{}</p>\n</section>", escaped(&rest(against)));
}
