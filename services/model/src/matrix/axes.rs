//! Checks the axes and their values. May not: look at cells.

use std::collections::{BTreeMap, BTreeSet};

use super::cells::Axis;
use super::commits;
use super::finding::{Finding, Spot, did_you_mean, one_of, quote};
use super::read::Spanned;
use super::scalars::Text;
use super::steps::Checker;
use super::template;
use super::written::{LongValues, Values, Written};

/// Most axes of a matrix.
pub const AXES_MOST: usize = 64;

/// Reads the axes and their values, those of included cells too.
pub(super) fn axes(written: &Written) -> Result<Vec<Axis>, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut variables: BTreeMap<String, (String, Spot)> = BTreeMap::new();
    let mut axes: Vec<Axis> = Vec::new();
    if written.axes.value.entries.is_empty() {
        let finding = Finding::new(written.axes.at, "the matrix has no axis");
        findings.push(finding.help("for a single cell, give one axis with one value"));
    }
    if written.axes.value.entries.len() > AXES_MOST {
        let message = format!("the matrix has more than {AXES_MOST} axes");
        return Err(vec![Finding::new(written.axes.at, message)]);
    }
    for (name, values) in written.axes.value.iter() {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let letter = name.value.starts_with(|c: char| c.is_ascii_alphabetic());
        if !letter || !name.value.chars().all(inner) || name.value.len() > 64 {
            let message = format!("an axis cannot be named {}", quote(&name.value));
            let expected = "up to 64 letters, digits, `-` and `_`, beginning with a letter";
            findings.push(Finding::new(name.at, message).expected(expected));
        }
        let variable = axis_variable(&name.value);
        if let Some((other, first)) = variables.get(&variable) {
            let message = format!(
                "the axes {} and {} are both {variable} in the container",
                quote(other),
                quote(&name.value)
            );
            findings.push(
                Finding::new(name.at, message)
                    .note("the first is here", *first)
                    .help("rename one of them"),
            );
        }
        variables.insert(variable, (name.value.clone(), name.at));
        let (list, at, ordered) = match &values.value {
            Values::Short(list) => (list, values.at, false),
            Values::Long(long) => {
                let ordered = long.ordered.as_ref().is_some_and(|ordered| ordered.value);
                (&long.values.value, long.values.at, ordered)
            }
            Values::Commits(asked) => {
                findings.push(commits::unknown(&name.value, asked));
                continue;
            }
        };
        let list = axis_values(&name.value, list, at, &mut findings);
        axes.push(Axis {
            titles: titles(&name.value, &values.value, &list, &mut findings),
            name: name.value.clone(),
            values: list,
            extra: Vec::new(),
            ordered,
        });
    }
    extra_values(written, &mut axes, &mut findings);
    if findings.is_empty() {
        Ok(axes)
    } else {
        Err(findings)
    }
}

fn axis_values(
    name: &str,
    list: &[Spanned<Text>],
    at: Spot,
    findings: &mut Vec<Finding>,
) -> Vec<String> {
    if list.is_empty() {
        let finding = Finding::new(at, format!("the axis {} has no values", quote(name)));
        findings.push(
            finding
                .expected("a list of at least one value")
                .help("add a value, or remove the axis"),
        );
    }
    let mut places: BTreeMap<&str, Spot> = BTreeMap::new();
    let mut checker = Checker {
        axes: Vec::new(),
        findings: Vec::new(),
    };
    for value in list {
        checker.printable(value, "a value");
        template::refuse(&value.value.0, value.at, &mut checker.findings);
        if let Some(first) = places.insert(&value.value.0, value.at) {
            let message = format!(
                "the value {} is given twice on the axis {}",
                quote(&value.value.0),
                quote(name)
            );
            let finding = Finding::new(value.at, message).note("first given here", first);
            checker.findings.push(finding.help("keep one of the two"));
        }
    }
    findings.append(&mut checker.findings);
    list.iter().map(|value| value.value.0.clone()).collect()
}

/// What the values are to people.
fn titles(
    name: &str,
    values: &Values,
    list: &[String],
    findings: &mut Vec<Finding>,
) -> BTreeMap<String, String> {
    let Values::Long(LongValues {
        titles: Some(titles),
        ..
    }) = values
    else {
        return BTreeMap::new();
    };
    let known: BTreeSet<&str> = list.iter().map(String::as_str).collect();
    let mut checker = Checker {
        axes: Vec::new(),
        findings: Vec::new(),
    };
    for (value, title) in titles.value.iter() {
        checker.printable(title, "a title");
        if !known.contains(value.value.as_str()) {
            let message = format!(
                "the axis {} has no value {}",
                quote(name),
                quote(&value.value)
            );
            let known = || list.iter().map(String::as_str);
            let finding = Finding::new(value.at, message).expected(one_of(known()));
            let finding = finding.help_if(did_you_mean(&value.value, known()));
            checker.findings.push(finding);
        }
    }
    findings.append(&mut checker.findings);
    let titles = titles.value.iter();
    titles
        .map(|(value, title)| (value.value.clone(), title.value.0.clone()))
        .collect()
}

/// Adds the values that only included cells have.
fn extra_values(written: &Written, axes: &mut [Axis], findings: &mut Vec<Finding>) {
    let mut known: Vec<BTreeSet<String>> = axes
        .iter()
        .map(|axis| axis.values.iter().cloned().collect())
        .collect();
    for cell in written.include.iter().flat_map(|include| &include.value) {
        for (name, value) in cell.value.iter() {
            let at = axes.iter().position(|axis| axis.name == name.value);
            let Some(at) = at else { continue };
            if let (Some(known), Some(axis)) = (known.get_mut(at), axes.get_mut(at))
                && known.insert(value.value.0.clone())
            {
                let mut checker = Checker {
                    axes: Vec::new(),
                    findings: Vec::new(),
                };
                checker.printable(value, "a value");
                template::refuse(&value.value.0, value.at, &mut checker.findings);
                findings.append(&mut checker.findings);
                axis.extra.push(value.value.0.clone());
            }
        }
    }
}

/// The environment variable that tells a container its value of an axis.
pub fn axis_variable(axis: &str) -> String {
    let upper = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!(
        "REGATTA_AXIS_{}",
        axis.chars().map(upper).collect::<String>()
    )
}
