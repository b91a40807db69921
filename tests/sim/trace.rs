//! What happened, in words, for a person who reads a seed's story. May not: change what happens.

use std::collections::VecDeque;

/// Lines that are kept for the end of a story that went wrong.
const LINES_MOST: usize = 10_000;

/// The last lines of a story; nothing where nobody wants them.
#[derive(Debug, Default)]
pub struct Trace {
    wanted: bool,
    lines: VecDeque<String>,
}

impl Trace {
    pub fn new(wanted: bool) -> Self {
        Self {
            wanted,
            lines: VecDeque::new(),
        }
    }

    pub fn say(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.wanted {
            if self.lines.len() == LINES_MOST {
                self.lines.pop_front();
            }
            self.lines
                .push_back(format!("{:>9.3} s  {}", now as f64 / 1000.0, line()));
        }
    }

    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
