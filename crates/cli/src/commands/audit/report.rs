//! What an audit found, for people and for programs.

use std::fmt::Write;

use engine::audit::{Audited, Custody, Depth, Issue, Links, Place};
use model::{Finding, Timestamp};
use serde_json::{Value, json};

use super::Done;
use super::choice::Chosen;
use crate::args::AuditArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::render::{self, bytes, count, finding_json, longest_lock, micros, plain};
use crate::when::rfc3339;

/// So many findings are kept, with all that is known of them; the rest is a number.
const ISSUES_MAX: usize = 10_000;

/// So many names and messages are told in a line.
const LISTED_MAX: usize = 4;

/// Adds up what was found.
pub struct Report {
    json: bool,
    depth: Depth,
    chosen: usize,
    others: usize,
    resumed: Option<i64>,
    accounts: Vec<Account>,
    /// What concerns several accounts.
    server: Vec<Issue>,
    /// Files with names that no account could explain by itself.
    pub links: Links,
    /// Findings that are not kept.
    more: usize,
    kept: usize,
    failures: Vec<Exit>,
    totals: Totals,
    longest_lock: u64,
    /// What went wrong besides.
    notes: Vec<CliError>,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    mailboxes: u64,
    messages: u64,
    bytes: u64,
    unknown: u64,
    lapsed: u64,
}

/// An account, as far as there is something to say of it.
struct Account {
    name: String,
    totals: Totals,
    issues: Vec<Issue>,
    error: Option<Value>,
}

impl Report {
    /// Of these accounts.
    pub fn new(args: &AuditArgs, depth: Depth, chosen: &Chosen) -> Self {
        Self {
            json: args.talk.json,
            depth,
            chosen: chosen.accounts.len(),
            others: chosen.others,
            resumed: chosen.resumed,
            accounts: Vec::new(),
            server: Vec::new(),
            links: Links::default(),
            more: 0,
            kept: 0,
            failures: Vec::new(),
            totals: Totals::default(),
            longest_lock: 0,
            notes: Vec::new(),
        }
    }

    /// Takes what became of an account.
    pub fn take(&mut self, done: Done, progress: &Progress) {
        let name = done.userid.to_string();
        let mut account =
            Account { name, totals: Totals::default(), issues: Vec::new(), error: None };
        match done.result {
            Ok(audited) => {
                self.links.add(&audited.shared);
                self.add(&mut account, audited);
            }
            Err(error) => {
                let name = plain(&account.name);
                let error = error.in_front(format!("{name} was not looked at"));
                let exit = if self.json { error.exit_code() } else { progress.report(&error) };
                self.failures.push(exit);
                account.error = Some(error.document());
            }
        }
        self.accounts.push(account);
    }

    fn add(&mut self, account: &mut Account, mut audited: Audited) {
        let totals = Totals {
            mailboxes: audited.mailboxes,
            messages: audited.messages,
            bytes: audited.bytes,
            unknown: audited.unknown,
            lapsed: audited.lapsed,
        };
        self.totals.mailboxes += totals.mailboxes;
        self.totals.messages += totals.messages;
        self.totals.bytes += totals.bytes;
        self.totals.unknown += totals.unknown;
        self.totals.lapsed += totals.lapsed;
        let held = longest_lock(&audited.locks).and_then(|lock| lock.held_us);
        self.longest_lock = self.longest_lock.max(held.unwrap_or_default());
        let room = ISSUES_MAX - self.kept;
        self.more += audited.issues.len().saturating_sub(room);
        audited.issues.truncate(room);
        self.kept += audited.issues.len();
        account.totals = totals;
        account.issues = audited.issues;
    }

    /// Takes what concerns several accounts.
    pub fn add_server(&mut self, issues: Vec<Issue>) {
        self.server.extend(issues);
    }

    /// Takes note of something besides the audit that may have gone wrong.
    pub fn note(&mut self, result: Result<(), CliError>) {
        self.notes.extend(result.err());
    }

    /// Whether all accounts that were chosen have been looked at.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty() && self.accounts.len() == self.chosen
    }

    /// All that is wrong, to be completed.
    pub fn issues_mut(&mut self) -> Vec<&mut Issue> {
        self.accounts.iter_mut().flat_map(|account| &mut account.issues).collect()
    }

    fn findings(&self) -> usize {
        self.kept + self.more + self.server.len()
    }

    /// Prints it.
    pub fn finish(mut self) -> Result<Exit, CliError> {
        self.accounts.sort_by(|a, b| a.name.cmp(&b.name));
        let text = if self.json { format!("{:#}\n", self.document()) } else { self.text() };
        render::print("the report", text)?;
        if !self.json {
            for note in &self.notes {
                note.report(false);
            }
        }
        Ok(self.exit())
    }

    /// That something is wrong weighs more than that something could not be looked at; that it was only
    /// busy is said if nothing worse is to be said.
    fn exit(&self) -> Exit {
        let only_busy = self.failures.iter().all(|exit| *exit == Exit::TryAgain);
        match (self.findings(), self.failures.is_empty() && self.notes.is_empty(), only_busy) {
            (0, true, _) => Exit::Done,
            (0, false, true) if self.notes.is_empty() => Exit::TryAgain,
            (0, false, _) => Exit::Failed,
            _ => Exit::NotWhole,
        }
    }

    // Writing into a String cannot fail, so the results below are dropped.

    fn text(&self) -> String {
        let mut out = String::new();
        let issues = self.accounts.iter().flat_map(|account| &account.issues).chain(&self.server);
        issues.for_each(|issue| text_of(&mut out, issue));
        if self.more > 0 {
            let _ = writeln!(out, "{} more findings are not listed", self.more);
        }
        let totals = &self.totals;
        let looked = (self.accounts.len() - self.failures.len()) as u64;
        let _ = write!(
            out,
            "{}, {}, {}",
            count(looked, "account"),
            count(totals.mailboxes, "mailbox"),
            count(totals.messages, "message"),
        );
        let _ = match self.depth {
            Depth::Quick => write!(out, ", by their sizes"),
            Depth::Full => write!(out, " ({} read)", bytes(totals.bytes)),
        };
        if totals.unknown > 0 && self.depth == Depth::Full {
            let _ = write!(out, "; {} of unknown GUID", totals.unknown);
        }
        let _ = match self.findings() as u64 {
            0 => write!(out, ": whole"),
            n => write!(out, ": {}", count(n, "finding")),
        };
        if !self.failures.is_empty() {
            let failed = count(self.failures.len() as u64, "account");
            let _ = write!(out, "; {failed} not looked at");
        }
        if self.others > 0 {
            let _ = write!(out, "; {} left for other times", self.others);
        }
        if self.longest_lock > 0 {
            let _ = write!(out, "; longest lock {}", micros(self.longest_lock));
        }
        out.push('\n');
        out
    }

    fn document(&self) -> Value {
        let accounts = self.accounts.iter().map(|account| {
            json!({
                "account": account.name,
                "mailboxes": account.totals.mailboxes,
                "messages": account.totals.messages,
                "bytes_read": account.totals.bytes,
                "unknown_guids": account.totals.unknown,
                "lapsed": account.totals.lapsed,
                "findings": account.issues.iter().map(issue_json).collect::<Vec<_>>(),
                "error": account.error,
            })
        });
        json!({
            "depth": match self.depth { Depth::Quick => "quick", Depth::Full => "full" },
            "accounts": accounts.collect::<Vec<_>>(),
            "server_findings": self.server.iter().map(issue_json).collect::<Vec<_>>(),
            "findings": self.findings(),
            "findings_not_listed": self.more,
            "failed": self.failures.len(),
            "others": self.others,
            "resumed_from": self.resumed.map(rfc3339),
            "mailboxes": self.totals.mailboxes,
            "messages": self.totals.messages,
            "bytes_read": self.totals.bytes,
            "unknown_guids": self.totals.unknown,
            "lapsed": self.totals.lapsed,
            "longest_lock_us": self.longest_lock,
            "notes": self.notes.iter().map(CliError::document).collect::<Vec<_>>(),
        })
    }
}

fn text_of(out: &mut String, issue: &Issue) {
    let Finding { kind, .. } = issue.finding;
    let _ = writeln!(out, "finding: {}", plain(&issue.finding.to_string()));
    if let Some(custody) = &issue.custody {
        text_of_custody(out, custody);
    }
    let _ = writeln!(out, "  to do: {}", kind.remedy());
}

fn text_of_custody(out: &mut String, custody: &Custody) {
    let recorded = &custody.recorded;
    let expunged = if recorded.expunged { ", expunged" } else { "" };
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<9} {}", plain(&text));
    };
    line(
        "recorded",
        format!(
            "{}, {} bytes, arrived {}, record of {}{expunged}",
            recorded.guid,
            recorded.size,
            time(recorded.internaldate),
            time(recorded.last_updated),
        ),
    );
    if let Some(found) = &custody.found {
        line(
            "found",
            format!(
                "{}, {} bytes, modified {}, changed {}",
                found.guid,
                found.size,
                time(found.modified),
                time(found.changed),
            ),
        );
        let (device, number) = found.inode;
        let names = count(found.links, "name");
        line("file", format!("{}, inode {number} of {device}, {names}", custody.path.display()));
    } else {
        line("file", custody.path.display().to_string());
    }
    line("became", custody.nature.to_string());
    if !custody.found_as.is_empty() {
        line("is", listed(&custody.found_as));
    }
    if !custody.links.is_empty() {
        line("shared by", listed(&custody.links));
    }
    if !custody.other_names.is_empty() {
        let names: Vec<String> =
            custody.other_names.iter().map(|path| path.display().to_string()).collect();
        line("also named", listed(&names));
    }
    match custody.copies.is_empty() {
        true => line("good copy", "none in this spool".to_owned()),
        false => line("good copy", listed(&custody.copies)),
    }
    if let Some(difference) = &custody.difference {
        let (differ, bits) = (count(difference.bytes, "byte"), count(difference.bits, "bit"));
        line("differs", format!("from byte {} on: {differ}, {bits} of them", difference.first));
    }
}

/// The first of some.
fn listed<T: ToString>(all: &[T]) -> String {
    let mut text: Vec<String> = all.iter().take(LISTED_MAX).map(T::to_string).collect();
    if let Some(more) = all.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
        text.push(format!("{more} more"));
    }
    text.join(", ")
}

fn time(time: Timestamp) -> String {
    rfc3339(time.secs)
}

fn issue_json(issue: &Issue) -> Value {
    let mut document = finding_json(&issue.finding);
    document["custody"] = issue.custody.as_deref().map_or(Value::Null, custody_json);
    document
}

fn custody_json(custody: &Custody) -> Value {
    let recorded = &custody.recorded;
    let found = custody.found.map(|found| {
        json!({
            "guid": found.guid.to_string(),
            "size": found.size,
            "device": found.inode.0,
            "inode": found.inode.1,
            "links": found.links,
            "modified_at": time(found.modified),
            "changed_at": time(found.changed),
        })
    });
    let names = custody.other_names.iter().map(|path| path.to_string_lossy().into_owned());
    json!({
        "mailbox": custody.place.mailbox.to_string(),
        "uid": custody.place.uid.0,
        "path": custody.path.to_string_lossy(),
        "recorded": {
            "guid": recorded.guid.to_string(),
            "size": recorded.size,
            "arrived_at": time(recorded.internaldate),
            "updated_at": time(recorded.last_updated),
            "expunged": recorded.expunged,
        },
        "found": found,
        "nature": custody.nature.code(),
        "what": custody.nature.to_string(),
        "bytes_of": places(&custody.found_as),
        "shared_by": places(&custody.links),
        "other_names": names.collect::<Vec<_>>(),
        "good_copies": places(&custody.copies),
        "difference": custody.difference.map(|difference| json!({
            "first": difference.first,
            "bytes": difference.bytes,
            "bits": difference.bits,
        })),
    })
}

fn places(places: &[Place]) -> Vec<Value> {
    let place = |place: &Place| json!({ "mailbox": place.mailbox.to_string(), "uid": place.uid.0 });
    places.iter().map(place).collect()
}
