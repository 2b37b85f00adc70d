//! The progress bar: on standard error, only on a terminal, gone when the work is done.

use std::io::{IsTerminal, Write};

use engine::ports::Monitor;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use model::Finding;

use crate::args::TalkArgs;
use crate::error::{CliError, Exit};
use crate::render;

/// Shows how far an operation is, and says each finding as it is met.
pub struct Progress {
    bar: ProgressBar,
    say_findings: bool,
}

impl Progress {
    /// A bar as the user wants it.
    pub fn new(talk: TalkArgs) -> Self {
        let visible = !talk.no_progress && !talk.json && std::io::stderr().is_terminal();
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let template = "{bar:24} {pos}/{len} messages  {per_sec}  {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, say_findings: !talk.json }
    }

    /// Says a line about something that is done while the rest goes on.
    pub fn say(&self, line: &str) {
        // Nobody is left to be told when standard error itself is gone.
        let _ = self.bar.suspend(|| writeln!(std::io::stderr(), "{line}"));
    }

    /// Does something that may write to a terminal.
    pub fn aside<T>(&self, action: impl FnOnce() -> T) -> T {
        self.bar.suspend(action)
    }

    /// Says what went wrong with a part of the whole, and gives its exit code.
    pub fn report(&self, error: &CliError) -> Exit {
        self.bar.suspend(|| error.report(false))
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

impl Monitor for Progress {
    fn expect(&self, messages: u64) {
        self.bar.inc_length(messages);
    }

    fn advance(&self, messages: u64, _bytes: u64) {
        self.bar.inc(messages);
    }

    fn finding(&self, finding: &Finding) {
        if self.say_findings {
            // Nobody is left to be told when standard error itself is gone.
            let finding = render::plain(&finding.to_string());
            let _ = self.bar.suspend(|| writeln!(std::io::stderr(), "finding: {finding}"));
        }
    }
}
