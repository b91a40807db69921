//! Progress on a terminal: bars for transfers and builds, one line for a run. May not: write to standard output.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use regatta_image::Task;
use regatta_model::run::Progress;

use crate::context::Context;

/// Bars of what is fetched, brought, unpacked or built.
pub(crate) struct Bars {
    all: MultiProgress,
    quiet: bool,
    drawn: bool,
}

impl Bars {
    pub(crate) fn new(context: &Context) -> Self {
        let drawn = context.draws();
        let target = if drawn {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            quiet: context.global.quiet,
            drawn,
        }
    }
}

impl regatta_image::Progress for Bars {
    fn begin(&self, name: &str, total: Option<u64>) -> Box<dyn Task> {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{prefix:<28!} {bar:24} {bytes:>10} / {total_bytes:>10} {bytes_per_sec:>12}",
            )),
            None => {
                ProgressBar::new_spinner().with_style(style("{prefix:<28!} {spinner} {bytes:>10}"))
            }
        };
        let bar = self.all.add(bar);
        bar.set_prefix(name.to_owned());
        Box::new(Bar(bar))
    }

    fn note(&self, line: &str) {
        if self.quiet {
            return;
        }
        if self.drawn {
            drop(self.all.println(line));
        } else {
            anstream::eprintln!("{line}");
        }
    }
}

/// One bar; it goes when its task ends, however that ends.
struct Bar(ProgressBar);

impl Task for Bar {
    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Where a run stands, in one line that is drawn over and over; without a terminal, a line now and then.
pub(crate) struct RunLine {
    bar: ProgressBar,
    drawn: bool,
    quiet: bool,
    started: Instant,
    said: Instant,
    first_settled: Option<u64>,
}

/// How often a run's progress is told where no terminal is.
const SAY_EVERY: Duration = Duration::from_secs(10);

impl RunLine {
    pub(crate) fn new(context: &Context) -> Self {
        let drawn = context.draws();
        let bar = ProgressBar::new(0).with_style(style("{bar:24.green/white} {msg}"));
        bar.set_draw_target(if drawn {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let now = Instant::now();
        Self {
            bar,
            drawn,
            quiet: context.global.quiet,
            started: now,
            said: now,
            first_settled: None,
        }
    }

    pub(crate) fn show(&mut self, progress: &Progress) {
        // Cells settled before this process began to watch say nothing about the rate.
        let first = *self.first_settled.get_or_insert(progress.settled);
        let text = line(progress, first, self.started.elapsed());
        if self.drawn {
            self.bar.set_length(progress.cells);
            self.bar.set_position(progress.settled);
            self.bar.set_message(text);
        } else if !self.quiet && self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            anstream::eprintln!("{text}");
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// `7 of 12 cells · 2 running · 1 failing · 3.1/s · 2 s left`
fn line(progress: &Progress, first: u64, elapsed: Duration) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "{} of {} cells · {} running · {} failing",
        progress.settled, progress.cells, progress.running, progress.failing
    );
    let settled = progress.settled.saturating_sub(first);
    if settled > 0 && elapsed > Duration::from_millis(200) {
        let rate = to_f64(settled) / elapsed.as_secs_f64();
        let left = to_f64(progress.cells.saturating_sub(progress.settled)) / rate;
        let _ = write!(text, " · {rate:.1}/s · {} left", seconds(left));
    }
    text
}

/// Whole numbers of cells, exact up to 2^32 and close enough above.
fn to_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// A time as people say it: `2.5 s`, `3 min 10 s`, `2 h 5 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0))
        .unwrap_or(Duration::MAX)
        .as_secs();
    match whole {
        0..=9 => format!("{:.1} s", seconds.max(0.0)),
        10..=99 => format!("{whole} s"),
        100..=5999 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let said: Vec<_> = [0.04, 9.96, 42.9, 190.0, 7500.0, f64::INFINITY]
            .map(seconds)
            .into();
        assert_eq!(
            said[..5],
            ["0.0 s", "10.0 s", "42 s", "3 min 10 s", "2 h 5 min"]
        );
    }

    #[test]
    fn the_rate_counts_only_what_settled_while_watching() {
        let progress = Progress {
            cells: 100,
            settled: 60,
            running: 2,
            failing: 1,
            attempts: 61,
        };
        assert_eq!(
            line(&progress, 40, Duration::from_secs(10)),
            "60 of 100 cells · 2 running · 1 failing · 2.0/s · 20 s left"
        );
        assert_eq!(
            line(&progress, 60, Duration::from_secs(10)),
            "60 of 100 cells · 2 running · 1 failing"
        );
    }
}
