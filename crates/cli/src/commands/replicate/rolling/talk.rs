//! What the daemon says: a line for each event, and on a terminal how far it is.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::args::TalkArgs;
use crate::render::{log, plain};
use crate::signals::Notify;
use engine::rolling::{Complaint, Moment, Place, Told};
use segment::names::quote;

/// So many lines about accounts are said between two looks at the status; the rest is there.
const LINES_MAX: usize = 20;

/// Talks.
pub struct Talk {
    bar: ProgressBar,
    notify: Notify,
    lines: usize,
    unsaid: usize,
}

impl Talk {
    /// As the user wants it.
    pub fn new(talk: TalkArgs) -> Self {
        let visible = !talk.no_progress && !talk.json && std::io::stderr().is_terminal();
        let target =
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        Self { bar, notify: Notify::from_env(), lines: 0, unsaid: 0 }
    }

    /// Says a line.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| log(text));
    }

    /// Tells the service manager.
    pub fn notify(&self, line: &str) {
        self.notify.say(line);
    }

    /// Says what became of accounts.
    pub fn told(&mut self, told: &[Told], now: Moment) {
        for told in told {
            self.lines += 1;
            if self.lines > LINES_MAX {
                self.unsaid += 1;
                continue;
            }
            match told {
                Told::Ill(place, Complaint { reason, .. }) => {
                    self.say(&format!("{} is left as it is: {reason}", name(place)));
                }
                Told::Well(place, since) => {
                    let seconds = (now.0 - since.0).max(0) / 1000;
                    self.say(&format!("{} goes again, after {seconds} s", name(place)));
                }
            }
        }
    }

    /// Shows how far it is.
    pub fn show(&mut self, text: &str) {
        if self.unsaid > 0 {
            self.say(&format!("{} more such lines; --status tells all", self.unsaid));
        }
        (self.lines, self.unsaid) = (0, 0);
        self.notify.say(&format!("STATUS={text}"));
        self.bar.set_message(plain(text));
        self.bar.tick();
    }

    /// Takes that away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// What is meant, for people.
pub fn name(place: &Place) -> String {
    match &place.mailbox {
        Some(mailbox) => quote(mailbox.as_bytes()),
        None => format!("account {}", quote(place.account.as_bytes())),
    }
}
