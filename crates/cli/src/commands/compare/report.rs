//! What was found, for people and for programs.

use engine::compare::difference::{Both, Difference, Side, What};
use engine::compare::{Comparison, Unclear, Verdict};
use serde_json::{Value, json};

use super::Done;
use crate::args::CompareArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::queue::LOST_MAX;
use crate::render::{self, count, plain};

/// So many differences of an account are printed; the rest is counted. A document has them all.
const LINES_MAX: usize = 50;

/// Adds up what was found.
pub struct Report<'r> {
    args: &'r CompareArgs,
    accounts: usize,
    documents: Vec<Value>,
    /// Of people.
    text: String,
    equal: u64,
    differ: u64,
    unclear: u64,
    /// Those of them that were still changing.
    moving: u64,
    failures: Vec<Exit>,
}

impl<'r> Report<'r> {
    /// Of so many accounts.
    pub fn new(args: &'r CompareArgs, accounts: usize) -> Self {
        Self {
            args,
            accounts,
            documents: Vec::new(),
            text: String::new(),
            equal: 0,
            differ: 0,
            unclear: 0,
            moving: 0,
            failures: Vec::new(),
        }
    }

    /// Takes what was found of one.
    pub fn take(&mut self, done: Done, progress: &Progress) {
        let account = done.userid.to_string();
        let mut document = json!({ "account": account });
        match done.result {
            Ok(comparison) => self.comparison(&account, &comparison, &mut document),
            Err(error) => {
                let error = error.in_front(format!("{} was not compared", plain(&account)));
                let exit = match self.args.talk.json {
                    true => error.exit_code(),
                    false => progress.report(&error),
                };
                self.failures.push(exit);
                document["error"] = error.document();
            }
        }
        self.documents.push(document);
    }

    fn comparison(&mut self, account: &str, found: &Comparison, document: &mut Value) {
        let verdict = found.verdict();
        match verdict {
            Verdict::Equal => self.equal += 1,
            Verdict::Differs => self.differ += 1,
            Verdict::CannotTell if found.unclear.iter().all(|unclear| unclear.side.is_none()) => {
                self.moving += 1;
            }
            Verdict::CannotTell => self.unclear += 1,
        }
        let mending = mending(account, found, [&self.args.a, &self.args.b]);
        document["verdict"] = json!(code(verdict));
        document["differences"] = found.differences.iter().map(difference_json).collect();
        document["unclear"] = found.unclear.iter().map(unclear_json).collect();
        document["mailboxes"] = json!(found.mailboxes);
        document["messages"] = json!(found.messages);
        document["mend"] = json!(mending);
        let names = [self.args.a.as_str(), self.args.b.as_str()];
        let mut lines: Vec<String> =
            found.differences.iter().take(LINES_MAX).map(|d| d.line(names).to_string()).collect();
        if found.differences.len() > LINES_MAX {
            let more = found.differences.len() - LINES_MAX;
            lines.push(format!("{} more; --json has them all", count(more as u64, "difference")));
        }
        lines.extend(found.unclear.iter().map(|unclear| unclear_line(unclear, names)));
        lines.extend(mending.iter().map(|command| format!("to mend it: {command}")));
        if verdict != Verdict::Equal {
            self.text.push_str(&format!("{}: {}\n", plain(account), words(verdict)));
            for line in lines {
                self.text.push_str(&format!("    {}\n", plain(&line)));
            }
        }
    }

    /// Says all in all.
    pub fn finish(mut self) -> Result<Exit, CliError> {
        let not_tried = self.accounts - self.documents.len();
        if not_tried > 0 && !self.args.talk.json {
            let what = count(not_tried as u64, "account");
            CliError::plain(format!("{what} not tried: no connection, {LOST_MAX} times in a row"))
                .report(false);
        }
        let failed = self.failures.len() + not_tried;
        let unclear = self.unclear + self.moving;
        let text = if self.args.talk.json {
            self.documents.sort_by(|a, b| a["account"].as_str().cmp(&b["account"].as_str()));
            let report = json!({
                "a": self.args.a,
                "b": self.args.b,
                "accounts": self.documents,
                "equal": self.equal,
                "differ": self.differ,
                "cannot_tell": unclear,
                "failed": self.failures.len(),
                "not_tried": not_tried,
            });
            format!("{report:#}\n")
        } else {
            format!(
                "{}{}: {} equal, {} differ, {unclear} cannot be told, {failed} failed\n",
                self.text,
                count(self.accounts as u64, "account"),
                self.equal,
                self.differ,
            )
        };
        render::print("the report", &text)?;
        Ok(self.exit(not_tried))
    }

    /// What failed counts more than what was found, and that more than what may be tried again.
    fn exit(&self, not_tried: usize) -> Exit {
        if not_tried > 0 || self.failures.iter().any(|exit| *exit != Exit::TryAgain) {
            Exit::Failed
        } else if self.differ + self.unclear > 0 {
            Exit::NotWhole
        } else if self.moving > 0 || !self.failures.is_empty() {
            Exit::TryAgain
        } else {
            Exit::Done
        }
    }
}

fn code(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Equal => "equal",
        Verdict::Differs => "differs",
        Verdict::CannotTell => "cannot-tell",
    }
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Equal => "the same",
        Verdict::Differs => "differs",
        Verdict::CannotTell => "cannot be told",
    }
}

fn side_name(side: Side) -> &'static str {
    match side {
        Side::A => "a",
        Side::B => "b",
    }
}

fn unclear_line(unclear: &Unclear, [a, b]: [&str; 2]) -> String {
    let place = match unclear.side {
        Some(Side::A) => format!(" at {a}"),
        Some(Side::B) => format!(" at {b}"),
        None => String::new(),
    };
    match unclear.mailbox.is_empty() {
        true => format!("cannot be compared{place}: {}", unclear.why),
        false => format!("{} cannot be compared{place}: {}", unclear.mailbox, unclear.why),
    }
}

fn unclear_json(unclear: &Unclear) -> Value {
    json!({
        "mailbox": Some(&unclear.mailbox).filter(|name| !name.is_empty()).map(ToString::to_string),
        "side": unclear.side.map(side_name),
        "why": unclear.why,
    })
}

fn difference_json(difference: &Difference) -> Value {
    let mut document = json!({
        "mailbox": difference.mailbox.as_ref().map(ToString::to_string),
        "uid": difference.uid.map(|uid| uid.0),
        "code": difference.code(),
        "side": difference.side().map(side_name),
    });
    match &difference.what {
        What::OnlyAt(_, guid) => document["guid"] = json!(guid.map(|guid| guid.to_string())),
        What::Guid(Both { a, b }) => {
            document["a"] = json!(a.to_string());
            document["b"] = json!(b.to_string());
        }
        What::Flags(Both { a, b }) => {
            document["a"] = json!(a);
            document["b"] = json!(b);
        }
        What::Value(_, Both { a, b }) => {
            document["a"] = json!(a);
            document["b"] = json!(b);
        }
        What::Content { recorded, found, .. } => {
            document["guid"] = json!(recorded.to_string());
            match found {
                Ok(found) => document["found"] = json!(found.to_string()),
                Err(why) => document["why"] = json!(why),
            }
        }
        What::Subscribed(_, name) => document["name"] = json!(name.to_string()),
        What::File(name, _) => document["name"] = json!(name),
        What::ExpungedAt(_) => {}
    }
    document
}

/// The commands that mend what differs, as far as these places allow for any.
fn mending(account: &str, found: &Comparison, [a, b]: [&String; 2]) -> Vec<String> {
    let mut commands = Vec::new();
    let is_server = |place: &str| place.starts_with("csync://") || place.starts_with("csyncs://");
    let conf = |place: &str| match place.strip_prefix("spool:") {
        None | Some("") => String::new(),
        Some(path) => format!(" -C {path}"),
    };
    let content = |side| {
        found.differences.iter().any(|d| matches!(d.what, What::Content { at, .. } if at == side))
    };
    let others = found.differences.iter().any(|d| !matches!(d.what, What::Content { .. }));
    for (side, own, other) in [(Side::A, a, b), (Side::B, b, a)] {
        if content(side) && own.starts_with("spool:") {
            commands.push(format!("cylinder heal{} {account} --from {other}", conf(own)));
        }
        if others && own.starts_with("spool:") && is_server(other) {
            let user = format!("--user {account}");
            commands.push(format!("cylinder replicate{} --to {other} {user}", conf(own)));
        }
    }
    if let (true, Some(vault)) = (others, a.strip_prefix("vault:")) {
        let to = if is_server(b) { b.as_str() } else { "csync://HOST" };
        commands.push(format!("cylinder restore --vault {vault} {account} --in-place --to {to}"));
    }
    commands
}
