//! What was healed, for people and for programs.

use engine::audit::{Audited, Custody};
use engine::heal::{Origin, Outcome};
use model::Userid;
use serde_json::{Value, json};

use crate::args::HealArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::render::{self, count, plain};

/// Adds up what became of damaged messages.
pub struct Report<'r> {
    args: &'r HealArgs,
    messages: Vec<Value>,
    looked_at: u64,
    healed: u64,
    left: u64,
    /// Damaged messages that clients do not see any more.
    expunged: u64,
    /// Accounts that a server does not tell its replicas of.
    unsent: Vec<String>,
    /// Findings that no bytes can mend.
    others: u64,
    failures: Vec<Exit>,
    errors: Vec<Value>,
}

impl<'r> Report<'r> {
    /// Of nothing yet.
    pub fn new(args: &'r HealArgs) -> Self {
        Self {
            args,
            messages: Vec::new(),
            looked_at: 0,
            healed: 0,
            left: 0,
            expunged: 0,
            unsent: Vec::new(),
            others: 0,
            failures: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Takes what an audit found.
    pub fn audited(&mut self, audited: &Audited) {
        self.looked_at += audited.messages;
        let wounds = engine::heal::wounds(audited).count();
        self.others += (audited.issues.len() - wounds) as u64;
    }

    /// Takes what became of a message.
    pub fn take(
        &mut self,
        userid: &Userid,
        wound: &Custody,
        outcome: &Outcome,
        progress: &Progress,
    ) {
        let from = |origin: &Origin| match origin {
            Origin::Message(message) => format!("{message} of this spool"),
            Origin::Place => self.args.from.clone().unwrap_or_default(),
        };
        let would = if self.args.dry_run { "would get" } else { "has got" };
        let guid = wound.recorded.guid;
        let (code, text) = match outcome {
            Outcome::Replaced(origin, to) => (
                "replaced",
                match self.args.dry_run {
                    true => format!(
                        "{guid} would come back from {} as uid {to}, and this one be expunged",
                        from(origin)
                    ),
                    false => format!(
                        "{guid} has come back from {} as uid {to}, and this one is expunged",
                        from(origin)
                    ),
                },
            ),
            Outcome::Expunged => {
                ("expunged", "expunged already; the server removes it in time".to_owned())
            }
            Outcome::Left(why) => (why.code(), format!("{why}; it is as it was")),
            Outcome::Healed(origin) => {
                ("healed", format!("{would} {guid} back from {}", from(origin)))
            }
            Outcome::NoCopy => ("no-copy", format!("nobody has {guid}; it is as it was")),
            Outcome::Failed(origin, error) => {
                let error = crate::error::chain_of(error);
                ("failed", format!("{guid} is at {}, but {error}; it is as it was", from(origin)))
            }
        };
        match outcome {
            Outcome::Healed(_) | Outcome::Replaced(..) => self.healed += 1,
            Outcome::Expunged => self.expunged += 1,
            Outcome::NoCopy | Outcome::Failed(..) | Outcome::Left(_) => self.left += 1,
        }
        let mut message = json!({
            "account": userid.to_string(),
            "mailbox": wound.place.mailbox.to_string(),
            "uid": wound.place.uid.0,
            "guid": guid.to_string(),
            "nature": wound.nature.code(),
            "outcome": code,
            "detail": text,
        });
        if let Outcome::Replaced(_, to) = outcome {
            message["new_uid"] = to.0.into();
            let account = userid.to_string();
            if !self.args.dry_run && self.unsent.last() != Some(&account) {
                self.unsent.push(account);
            }
        }
        if !self.args.talk.json {
            let line = format!("{}: {}: {text}", wound.place, wound.nature);
            progress.say(&plain(&line));
        }
        self.messages.push(message);
    }

    /// Takes why an account could not be looked at, or not to its end.
    pub fn failed(&mut self, userid: &Userid, error: CliError, progress: &Progress) {
        let error = error.in_front(format!("{} was not healed", plain(&userid.to_string())));
        self.errors.push(error.document());
        let exit = if self.args.talk.json { error.exit_code() } else { progress.report(&error) };
        self.failures.push(exit);
    }

    /// Says all in all.
    pub fn finish(self) -> Result<Exit, CliError> {
        let text = match self.args.talk.json {
            true => {
                let report = json!({
                    "dry_run": self.args.dry_run,
                    "messages": self.messages,
                    "looked_at": self.looked_at,
                    "healed": self.healed,
                    "left": self.left,
                    "expunged": self.expunged,
                    "other_findings": self.others,
                    "errors": self.errors,
                });
                format!("{report:#}\n")
            }
            false => {
                let others = match self.others {
                    0 => String::new(),
                    n => format!("; {} that cylinder audit tells of", count(n, "other finding")),
                };
                let expunged = match self.expunged {
                    0 => String::new(),
                    n => format!(", {n} expunged already"),
                };
                let unsent = match &self.unsent[..] {
                    [] => String::new(),
                    accounts => format!(
                        "What comes through a sync_server is not in the sync log: send to replicas \
                         once more: {}\n",
                        plain(&accounts.join(" "))
                    ),
                };
                let would = if self.args.dry_run { "would be healed" } else { "healed" };
                format!(
                    "{} looked at: {} {would}, {} left as they were{expunged}{others}\n{unsent}",
                    count(self.looked_at, "message"),
                    self.healed,
                    self.left,
                )
            }
        };
        render::print("the report", &text)?;
        Ok(if self.failures.iter().any(|exit| *exit != Exit::TryAgain) {
            Exit::Failed
        } else if self.left + self.others > 0 {
            Exit::NotWhole
        } else if !self.failures.is_empty() {
            Exit::TryAgain
        } else {
            Exit::Done
        })
    }
}
