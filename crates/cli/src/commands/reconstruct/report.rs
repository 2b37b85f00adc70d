//! What is to be different, told as it is found: it may be a line for every message there is.

use std::io::{self, BufWriter, Stdout, Write};

use engine::reconstruct::{Change, Field, Planned, Told, Value};
use model::Userid;
use serde_json::{Value as Json, json};

use crate::args::ReconstructArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::render::{bytes, count, finding_json, plain};
use crate::when::rfc3339;

/// Tells all, and adds it up.
pub struct Report<'r> {
    args: &'r ReconstructArgs,
    progress: &'r Progress,
    out: BufWriter<Stdout>,
    /// What kept something from being told.
    broken: Option<io::Error>,
    is_first: bool,
    accounts: u64,
    total: Planned,
    errors: Vec<Json>,
    failures: Vec<Exit>,
}

impl<'r> Report<'r> {
    /// Of nothing yet.
    pub fn new(args: &'r ReconstructArgs, progress: &'r Progress) -> Self {
        let mut report = Self {
            args,
            progress,
            out: BufWriter::new(io::stdout()),
            broken: None,
            is_first: true,
            accounts: 0,
            total: Planned::default(),
            errors: Vec::new(),
            failures: Vec::new(),
        };
        if args.talk.json {
            report.write("{\"told\": [");
        }
        report
    }

    /// What shows how far it is.
    pub fn progress(&self) -> &'r Progress {
        self.progress
    }

    /// Tells one thing.
    pub fn tell(&mut self, userid: &Userid, told: Told<'_>) {
        let text = match (self.args.talk.json, told) {
            (true, told) => {
                let comma = if std::mem::take(&mut self.is_first) { "\n" } else { ",\n" };
                format!("{comma}{}", document(userid, told))
            }
            (false, Told::Change(change)) => line(change),
            (false, Told::Left(finding)) => {
                let remedy = finding.kind.remedy();
                format!("left: {}\n  to do: {remedy}\n", plain(&finding.to_string()))
            }
        };
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        let Self { progress, out, broken, .. } = self;
        if broken.is_none() {
            *broken = progress.aside(|| out.write_all(text.as_bytes())).err();
        }
    }

    /// Makes sure that all was told, before anything is done.
    pub fn said(&mut self) -> Result<(), CliError> {
        let Self { progress, out, broken, .. } = self;
        let flushed = progress.aside(|| out.flush());
        match broken.take().map_or(flushed, Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(CliError::failed("cannot write what is to be changed", error)
                .hint("nothing of this account was changed")),
        }
    }

    /// Takes what was planned, and done if it was to be.
    pub fn add(&mut self, planned: &Planned) {
        self.accounts += 1;
        self.total.mailboxes += planned.mailboxes;
        self.total.messages += planned.messages;
        self.total.read += planned.read;
        self.total.changes += planned.changes;
        self.total.left += planned.left;
    }

    /// Takes why an account was not looked at, or not to its end.
    pub fn failed(&mut self, userid: &Userid, error: CliError) {
        let error = error.in_front(format!("{} was not reconstructed", plain(&userid.to_string())));
        self.errors.push(error.document());
        let is_json = self.args.talk.json;
        let exit = if is_json { error.exit_code() } else { self.progress.report(&error) };
        self.failures.push(exit);
    }

    /// Says all in all.
    pub fn finish(mut self) -> Result<Exit, CliError> {
        self.progress.clear();
        let Planned { mailboxes, messages, read, changes, left, .. } = self.total;
        let text = match self.args.talk.json {
            true => {
                let rest = json!({
                    "applied": self.args.apply,
                    "accounts": self.accounts,
                    "mailboxes": mailboxes,
                    "messages": messages,
                    "bytes_read": read,
                    "changes": changes,
                    "left": left,
                    "errors": self.errors,
                });
                // The document began before all of this was known.
                format!("\n], {}\n", rest.to_string().trim_start_matches('{'))
            }
            false => {
                let done = match (self.args.apply, changes) {
                    (_, 0) => "nothing to change".to_owned(),
                    (true, n) => format!("{} made", count(n, "change")),
                    (false, n) => format!("{} to make; --apply makes them", count(n, "change")),
                };
                let left = match left {
                    0 => String::new(),
                    n => format!(", {} left", count(n, "finding")),
                };
                format!(
                    "{}, {}, {} ({} read): {done}{left}\n",
                    count(self.accounts, "account"),
                    count(mailboxes, "mailbox"),
                    count(messages, "message"),
                    bytes(read),
                )
            }
        };
        self.write(&text);
        self.said()?;
        let is_open = left > 0 || changes > 0 && !self.args.apply;
        Ok(if self.failures.iter().any(|exit| *exit != Exit::TryAgain) {
            Exit::Failed
        } else if is_open {
            Exit::NotWhole
        } else if !self.failures.is_empty() {
            Exit::TryAgain
        } else {
            Exit::Done
        })
    }
}

/// `user.glad uid 12: why: field old -> new, field old -> new`
fn line(change: &Change) -> String {
    let uid = change.uid.map(|uid| format!(" uid {uid}")).unwrap_or_default();
    let fields =
        change.fields.iter().map(|Field { name, old, new }| match (text(old), text(new)) {
            (None, Some(new)) => format!("{name} {new}"),
            (Some(old), None) => format!("no {name} ({old})"),
            (old, new) => {
                let [old, new] = [old, new].map(|value| value.unwrap_or_default());
                format!("{name} {} -> {}", or_none(&old), or_none(&new))
            }
        });
    let fields: Vec<String> = fields.collect();
    let text = format!("{}{uid}: {}: {}", change.place, change.why, fields.join(", "));
    format!("{}\n", plain(&text))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Nothing => return None,
        Value::Number(number) => number.to_string(),
        Value::Time(time) if time.secs == 0 => "never".to_owned(),
        Value::Time(time) => rfc3339(time.secs),
        Value::Text(text) => text.clone(),
    })
}

fn document(userid: &Userid, told: Told<'_>) -> Json {
    let value = |value: &Value| match value {
        Value::Nothing => Json::Null,
        Value::Number(number) => json!(number),
        Value::Time(time) => json!(rfc3339(time.secs)),
        Value::Text(text) => json!(text),
    };
    match told {
        Told::Left(finding) => {
            let mut document = finding_json(finding);
            document["told"] = json!("left");
            document["account"] = json!(userid.to_string());
            document
        }
        Told::Change(Change { place, uid, why, fields }) => {
            let fields = fields.iter().map(|Field { name, old, new }| {
                json!({"field": name, "old": value(old), "new": value(new)})
            });
            json!({
                "told": "change",
                "account": userid.to_string(),
                "place": place,
                "uid": uid.map(|uid| uid.0),
                "why": why.code(),
                "detail": why.to_string(),
                "fields": fields.collect::<Vec<_>>(),
            })
        }
    }
}
