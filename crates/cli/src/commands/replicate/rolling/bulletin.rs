//! Tells the files, the terminal and the service manager how it is doing, once in a second.

use std::path::{Path, PathBuf};

use engine::rolling::Moment;

use super::clock::Now;
use super::status::{self, Pace, Status};
use super::talk::Talk;
use crate::args::RollingArgs;
use crate::error::CliError;

/// How often, in milliseconds.
pub const EVERY: i64 = 1_000;

/// Where it is told.
pub struct Bulletin<'b> {
    args: &'b RollingArgs,
    /// The file in the state directory.
    own: PathBuf,
    pace: Pace,
    next: Moment,
    /// A file could not be written, and that was said.
    has_trouble: bool,
}

impl<'b> Bulletin<'b> {
    /// In this file, and where the arguments say.
    pub fn new(args: &'b RollingArgs, own: PathBuf) -> Self {
        Self { args, own, pace: Pace::default(), next: Moment::default(), has_trouble: false }
    }

    /// Whether it is time; if so, not again for a second.
    pub fn is_due(&mut self, now: Now) -> bool {
        let is_due = now.is_past(self.next);
        if is_due {
            self.next = now.plus(EVERY);
        }
        is_due
    }

    /// How many entries were done in a second of the last minute.
    pub fn pace(&mut self, now: Now, done: u64) -> f64 {
        self.pace.per_second(now.moment, done)
    }

    /// Tells it.
    pub fn tell(&mut self, status: &Status<'_>, talk: &mut Talk) {
        talk.show(&status.line());
        let document = format!("{:#}\n", status.document());
        let metrics = self.args.metrics.as_ref().map(|path| (path, status.metrics()));
        let mut files: Vec<(&Path, String)> = vec![(&self.own, document.clone())];
        files.extend(self.args.status_file.iter().map(|path| (path.as_path(), document.clone())));
        files.extend(metrics.map(|(path, text)| (path.as_path(), text)));
        for (path, text) in files {
            if let Err(error) = status::replace(path, &text) {
                let error = CliError::failed(format!("cannot write {}", path.display()), error);
                if !std::mem::replace(&mut self.has_trouble, true) {
                    talk.say(&error.line());
                }
                return;
            }
        }
        self.has_trouble = false;
    }
}
