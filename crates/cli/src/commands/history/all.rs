//! `cylinder history` of all accounts: how old what they have is, one line each.

use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};
use vault::{History, Note, Vault, VaultError, What};

use super::{how, verified_json};
use crate::args::HistoryArgs;
use crate::error::{CliError, Exit};
use crate::render::{self, bytes, count, plain};
use crate::vaults;
use crate::when::{age, now, rfc3339};

/// Accounts that are looked at at the same time: it is waiting for the store, mostly.
const AT_ONCE: usize = 16;

/// What the names and notes of one account tell.
struct Line {
    account: String,
    /// When its newest snapshot was taken.
    newest: Option<i64>,
    verified: Option<Note>,
    snapshots: u64,
    bytes: u64,
    heads: u64,
    is_held: bool,
}

/// Runs the command. No segment is opened.
pub fn run(args: &HistoryArgs) -> Result<Exit, CliError> {
    let opened = vaults::open(&args.vault)?;
    let components = vaults::components(&opened, &[])?;
    let (mut lines, mut exit) = (Vec::new(), Exit::Done);
    for (component, looked) in components.iter().zip(look(&opened, &components)) {
        match looked {
            Some(Ok(history)) if history.is_empty() => {}
            Some(Ok(history)) => lines.push(Line::of(component, &history)),
            Some(Err(error)) => {
                let error = vaults::explain(error);
                exit =
                    error.in_front(format!("{} is left out", plain(component))).report(args.json);
            }
            None => {}
        }
    }
    lines.sort_by(|one, next| (one.newest, &one.account).cmp(&(next.newest, &next.account)));
    let now = now();
    let text = match args.json {
        true => {
            let accounts = lines.iter().map(|line| line.document(now)).collect::<Vec<_>>();
            format!("{:#}\n", json!({ "accounts": accounts }))
        }
        false => lines.iter().map(|line| line.text(now)).collect(),
    };
    render::print("the accounts", &text)?;
    Ok(exit)
}

/// The histories of these accounts, in their order.
fn look(opened: &Vault, components: &[String]) -> Vec<Option<Result<History, VaultError>>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(components.iter().map(|_| None).collect::<Vec<_>>());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(components.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(component) = components.get(at) else { return };
                    let history = opened.account_by_component(component).history();
                    found.lock().unwrap_or_else(PoisonError::into_inner)[at] = Some(history);
                }
            });
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn of(component: &str, history: &History) -> Self {
        Self {
            account: component.to_owned(),
            newest: history.newest().map(|newest| newest.name.taken_at),
            verified: history.notes_of(What::Verified).last().map(|(_, note)| note.clone()),
            snapshots: history.snapshots().len() as u64,
            bytes: history.segments().map(|segment| segment.size).sum(),
            heads: history.heads().len() as u64,
            is_held: history.is_held(),
        }
    }

    fn text(&self, now: i64) -> String {
        let newest = self.newest.map_or("never".to_owned(), |at| age(now, at));
        let verified = match &self.verified {
            None => "not verified".to_owned(),
            Some(note) => {
                let wrong = match note.findings.unwrap_or(0) {
                    0 => String::new(),
                    findings => format!(", {}", count(findings, "finding")),
                };
                format!("{} {} ago{wrong}", how(note), age(now, note.at))
            }
        };
        let mut text = format!(
            "{:<24} {newest:>9}  {verified:<22}  {:>14}  {:>10}",
            plain(&self.account),
            count(self.snapshots, "snapshot"),
            bytes(self.bytes),
        );
        if self.heads > 1 {
            // Writing into a String cannot fail.
            let _ = write!(text, "  {} heads", self.heads);
        }
        if self.is_held {
            text.push_str("  on hold");
        }
        text.push('\n');
        text
    }

    fn document(&self, now: i64) -> Value {
        let age = |at: i64| now.saturating_sub(at).max(0);
        let mut verified = self.verified.as_ref().map_or(Value::Null, verified_json);
        if let Some(note) = &self.verified {
            verified["age_s"] = json!(age(note.at));
        }
        json!({
            "account": self.account,
            "newest": self.newest.map(rfc3339),
            "age_s": self.newest.map(age),
            "verified": verified,
            "snapshots": self.snapshots,
            "bytes": self.bytes,
            "heads": self.heads,
            "hold": self.is_held,
        })
    }
}
