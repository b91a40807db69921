//! Checks a matrix file from the outside of this crate: cells, count and times. For trying things out.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people"
)]

use std::collections::BTreeSet;
use std::time::Instant;

use regatta_model::Digest;
use regatta_model::matrix::Matrix;
use regatta_model::run::Pins;

fn main() {
    for file in std::env::args().skip(1) {
        let source = match std::fs::read_to_string(&file) {
            Ok(source) => source,
            Err(error) => {
                eprintln!("{file}: {error}");
                continue;
            }
        };
        let start = Instant::now();
        let matrix = match Matrix::parse(&source, &file) {
            Ok(matrix) => matrix,
            Err(wrong) => {
                eprint!("{}", wrong.render(true));
                continue;
            }
        };
        let checked = start.elapsed();
        let cells = matrix.cells();
        let count = cells.count();
        println!("{file}: {count} cells, checked in {checked:?}");
        let (start, tries) = (Instant::now(), 10_000);
        let (mut inverse, mut number) = (0u64, 1u64);
        for _ in 0..tries {
            number = number
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let cell = number % count;
            let values = cells.values(cell).unwrap_or_default();
            let values = values
                .into_iter()
                .map(|(axis, value)| (axis.to_owned(), value.to_owned()));
            inverse += u64::from(cells.number(&values.collect()) == Some(cell));
        }
        let each = start.elapsed() / tries;
        println!("  {inverse} of {tries} decoded and encoded to themselves, {each:?} for both");
        let start = Instant::now();
        let decoded =
            (0..tries).filter(|cell| cells.values(u64::from(*cell) * 7919 % count).is_some());
        println!(
            "  {} decoded, {:?} each",
            decoded.count(),
            start.elapsed() / tries
        );
        let pin = |texts: BTreeSet<String>| {
            let pin = |text: String| (text.clone(), Digest::of(text.as_bytes()));
            texts.into_iter().map(pin).collect()
        };
        let pins = Pins {
            images: pin(matrix.images(10_000).unwrap_or_default()),
            files: pin(matrix.file_sources(10_000).unwrap_or_default()),
            ..Pins::default()
        };
        let start = Instant::now();
        let plans =
            (0..tries).filter(|cell| matrix.plan(u64::from(*cell) * 7919 % count, &pins).is_ok());
        println!(
            "  {} planned, {:?} each",
            plans.count(),
            start.elapsed() / tries
        );
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap_or_default();
        println!("  {peak}");
    }
}
