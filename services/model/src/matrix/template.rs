//! Texts with `${{ matrix.AXIS }}` in them, taken apart once, so that filling one in is copying.
//! May not: know expressions; `matrix.` and an axis is all there is.

use super::finding::{Finding, Spot, did_you_mean, one_of, quote};

/// A text whose holes are axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    /// Each a text, and the axis whose value follows it.
    holes: Vec<(String, usize)>,
    /// What follows the last hole.
    tail: String,
}

impl Template {
    /// Takes `text` apart. `axes` are the names of all axes.
    pub(super) fn parse(text: &str, at: Spot, axes: &[&str], findings: &mut Vec<Finding>) -> Self {
        let mut template = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${{") {
            let Some((inner, after)) = after.split_once("}}") else {
                let message = "a template is not closed";
                let finding = Finding::new(at, message).expected("`${{ matrix.AXIS }}`");
                findings.push(finding.at_part("${{").help("write `}}` after the axis"));
                return template;
            };
            match axis(inner.trim(), at, axes) {
                Ok(axis) => template.holes.push((before.to_owned(), axis)),
                Err(finding) => findings.push(finding.at_part(format!("${{{{{inner}}}}}"))),
            }
            rest = after;
        }
        rest.clone_into(&mut template.tail);
        template
    }

    /// The text, with the value of each axis from `value`.
    pub(super) fn fill<'v>(&self, value: impl Fn(usize) -> &'v str) -> String {
        let values = self
            .holes
            .iter()
            .map(|(before, axis)| before.len() + value(*axis).len());
        let mut text = String::with_capacity(values.sum::<usize>() + self.tail.len());
        for (before, axis) in &self.holes {
            text.push_str(before);
            text.push_str(value(*axis));
        }
        text.push_str(&self.tail);
        text
    }

    /// The axes that it names, each once, in order.
    pub(super) fn axes(&self) -> Vec<usize> {
        let mut axes: Vec<usize> = self.holes.iter().map(|(_, axis)| *axis).collect();
        axes.sort_unstable();
        axes.dedup();
        axes
    }

    /// What stands before the first hole.
    pub(super) fn head(&self) -> &str {
        self.holes.first().map_or(&self.tail, |(before, _)| before)
    }

    /// The text, where it has no holes.
    pub(super) fn constant(&self) -> Option<&str> {
        self.holes.is_empty().then_some(&self.tail)
    }
}

/// The axis that `inner`, the text between the braces, names.
fn axis(inner: &str, at: Spot, axes: &[&str]) -> Result<usize, Box<Finding>> {
    let known = || one_of(axes.iter().copied());
    let Some(name) = inner.strip_prefix("matrix.") else {
        let message = format!("a template cannot hold {}", quote(inner));
        let finding = Finding::new(at, message).expected("`matrix.` and the name of an axis");
        let name = inner.rsplit('.').next().unwrap_or_default().trim();
        let meant = axes.iter().find(|axis| **axis == name);
        let help = meant.map(|axis| format!("did you mean `${{{{ matrix.{axis} }}}}`?"));
        let other =
            "only `matrix.AXIS` is known here; for the container's own variables write `$NAME`";
        return Err(finding.help(other).help_if(help).into());
    };
    axes.iter().position(|axis| *axis == name).ok_or_else(|| {
        let finding = Finding::new(at, format!("unknown axis {} in a template", quote(name)));
        finding
            .expected(known())
            .help_if(did_you_mean(name, axes.iter().copied()))
            .into()
    })
}

/// Says that templates do not work in `text`, if it holds one.
pub(super) fn refuse(text: &str, at: Spot, findings: &mut Vec<Finding>) {
    if text.contains("${{") {
        let places = "`image`, `files`, `setup`, `test` and `env`";
        let finding = Finding::new(at, "a template does not work here");
        findings.push(finding.help(format!("templates work in the values of {places}")));
    }
}
