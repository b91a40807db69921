//! Colours by meaning, and only where they are wanted. May not: be used for anything that a program reads.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

use crate::args::When;

/// Paints words, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    pub(crate) const fn plain() -> Self {
        Self { on: false }
    }

    pub(crate) fn for_stdout(when: When) -> Self {
        Self::new(when, &std::io::stdout())
    }

    pub(crate) fn for_stderr(when: When) -> Self {
        Self::new(when, &std::io::stderr())
    }

    fn new(when: When, stream: &impl IsTerminal) -> Self {
        let on = match when {
            When::Always => true,
            When::Never => false,
            // https://no-color.org: any value but the empty one switches colours off.
            When::Auto => {
                stream.is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        Self { on }
    }

    pub(crate) const fn is_on(self) -> bool {
        self.on
    }

    fn paint(self, style: Style, text: &str) -> String {
        if self.on {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.paint(Style::new().fg_color(Some(AnsiColor::Green.into())), text)
    }

    pub(crate) fn bad(self, text: &str) -> String {
        self.paint(
            Style::new().bold().fg_color(Some(AnsiColor::Red.into())),
            text,
        )
    }

    pub(crate) fn doubtful(self, text: &str) -> String {
        self.paint(Style::new().fg_color(Some(AnsiColor::Yellow.into())), text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }
}
