//! The one place where an error becomes a message, a hint and an exit code.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::render::plain;

/// How a run ended. The numbers are part of the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It did not work.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// Done, but something was found wrong.
    Findings,
    /// An audit found that something is not whole.
    NotWhole,
    /// A lock was not to be had in time (EX_TEMPFAIL of sysexits.h).
    TryAgain,
    /// The program itself is wrong.
    Bug,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Findings => 3,
            Exit::NotWhole => 4,
            Exit::TryAgain => 75,
            Exit::Bug => 255,
        })
    }
}

/// What went wrong, for a person: what was being done, why it failed, what to try.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    headline: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
}

impl CliError {
    /// Something was attempted and did not work.
    pub fn failed(
        headline: impl fmt::Display,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            exit: Exit::Failed,
            headline: headline.to_string(),
            source: Some(source.into()),
            hints: Vec::new(),
        }
    }

    /// The error itself says all.
    pub fn plain(headline: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, headline: headline.to_string(), source: None, hints: Vec::new() }
    }

    /// The command line makes no sense.
    pub fn usage(headline: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, ..Self::plain(headline) }
    }

    /// Another way to end than [`Exit::Failed`].
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What to try.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// The same, as the reason of something larger that did not work.
    #[must_use]
    pub fn in_front(mut self, headline: impl fmt::Display) -> Self {
        self.headline = format!("{headline}: {}", self.headline);
        self
    }

    /// The exit code that it stands for.
    pub fn exit_code(&self) -> Exit {
        self.exit
    }

    /// Whether the reader of our output went away: nothing to tell anybody.
    pub fn is_broken_pipe(&self) -> bool {
        self.is_io(io::ErrorKind::BrokenPipe)
    }

    /// Whether the system said this of something below.
    pub fn is_io(&self, kind: io::ErrorKind) -> bool {
        let mut source = self.source.as_deref().map(|error| error as &(dyn Error + 'static));
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && error.kind() == kind
            {
                return true;
            }
            source = error.source();
        }
        false
    }

    /// Prints it to standard error, as text or as one JSON object, and gives the exit code.
    pub fn report(&self, json: bool) -> Exit {
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told when standard error itself is gone.
        let _ = if json { self.write_json(&mut stderr) } else { self.write_text(&mut stderr) };
        self.exit
    }

    /// All that it says, but for its hints, in one line.
    pub fn line(&self) -> String {
        [vec![self.headline.clone()], self.causes()].concat().join(": ")
    }

    fn causes(&self) -> Vec<String> {
        let source = self.source.as_deref();
        source.map_or_else(Vec::new, |error| texts_of(error as &(dyn Error + 'static)))
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        write!(out, "cylinder: {}", plain(&self.headline))?;
        for cause in self.causes() {
            write!(out, ": {}", plain(&cause))?;
        }
        writeln!(out)?;
        for hint in &self.hints {
            writeln!(out, "hint: {}", plain(hint))?;
        }
        Ok(())
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.document())
    }

    /// All that it says, for programs.
    pub fn document(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.headline,
            "causes": self.causes(),
            "hints": self.hints,
        })
    }
}

/// What an error says, and what every error behind it adds.
pub fn texts_of(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // What only repeats the end of what wraps it tells nothing new.
        if !texts.last().is_some_and(|last| last.ends_with(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts
}

/// An error with all its reasons, in one line.
pub fn chain_of(error: &(dyn Error + 'static)) -> String {
    texts_of(error).join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        let error = CliError::plain("cannot use a\n\u{1b}[2J").hint("b\r");
        let mut text = Vec::new();
        error.write_text(&mut text).expect("a Vec takes all");
        assert_eq!(
            String::from_utf8_lossy(&text),
            "cylinder: cannot use a\\n\\u{1b}[2J\nhint: b\\r\n"
        );
    }

    #[test]
    fn an_error_is_one_line_and_its_hints() {
        let error =
            CliError::failed("cannot read a.tar", io::Error::other("no such disk")).hint("buy one");
        let mut text = Vec::new();
        error.write_text(&mut text).expect("a Vec takes all");
        assert_eq!(
            String::from_utf8_lossy(&text),
            "cylinder: cannot read a.tar: no such disk\nhint: buy one\n"
        );
    }

    #[test]
    fn a_broken_pipe_is_seen_through_wrappers() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(CliError::failed("cannot write", pipe).is_broken_pipe());
        assert!(!CliError::plain("cannot write").is_broken_pipe());
    }

    #[test]
    fn what_a_wrapper_repeats_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the store says: {0}")]
        struct Wrapper(#[source] io::Error);
        let below = io::Error::other("gone for good");
        assert_eq!(texts_of(&Wrapper(below)), ["the store says: gone for good"]);
    }
}
