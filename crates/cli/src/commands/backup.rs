//! `cylinder backup`: accounts of a live server into a vault.

use std::sync::mpsc::Sender;

use model::Userid;
use serde_json::{Value, json};
use spool::{Options, Server};
use vault::VaultError;

use crate::args::BackupArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::queue::{LOST_MAX, Queue, on_threads};
use crate::render::{bytes, count, finding_json, micros, plain};
use crate::vaults::backup::{Backup, BackupError, Outcome, PART, Stored};
use crate::when::{self, age, rfc3339};
use crate::{archive, processors, render, spool_error, vaults};

const NOT_STORED: &str = "no snapshot was stored";

/// What became of one account.
struct Done {
    userid: Userid,
    result: Result<Outcome, Failed>,
}

/// An account that was not backed up.
struct Failed {
    error: CliError,
    last: Last,
}

/// The newest snapshot that there is of an account all the same. Ordered by how much worse it is to
/// have nothing newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Last {
    /// There is none.
    Never,
    /// It was taken then, seconds since 1970.
    At(i64),
    /// The vault does not say.
    Unknown,
}

/// Runs the command.
pub fn run(args: &BackupArgs) -> Result<Exit, CliError> {
    // Mail is nobody else's business, whatever the umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let vault = vaults::open_or_create(&args.vault)?;
    let options = Options {
        lock_timeout: args.server.lock_wait,
        cyrus_version: args.server.cyrus_version.clone(),
    };
    let server = Server::open(&args.server.config, &options).map_err(spool_error::explain)?;
    let accounts = match args.all {
        true => server.accounts().map_err(spool_error::explain)?,
        false => args.accounts.iter().map(|account| Userid::from(account.as_str())).collect(),
    };
    let jobs = args.jobs.map_or_else(processors, usize::from).min(accounts.len()).max(1);
    let host = vaults::host();
    // Several accounts at a time share the processors.
    let workers = processors().div_ceil(jobs);
    let backup = Backup {
        vault: &vault,
        server: &server,
        host: &host,
        workers,
        accepts_removals: args.accept_removals,
        part: PART,
        clock: &when::now,
    };
    let progress = Progress::new(args.talk);

    let mut report = Report::new(args, accounts.len());
    let queue = Queue::new(&accounts);
    let work = |results| work(&backup, &queue, results, &progress);
    on_threads(jobs, work, |done| report.take(done, &progress));
    progress.clear();
    report.finish()
}

/// Notes whether a far store is still there. A directory fails at once: nothing is waited for.
fn note(queue: &Queue<'_, Userid>, backup: &Backup<'_>, outcome: &Result<Outcome, BackupError>) {
    match outcome {
        Err(BackupError::Vault(VaultError::Store { .. })) if !backup.vault.store().is_near() => {
            queue.note_lost();
        }
        // Something else is wrong, which says nothing of the store.
        Err(_) => {}
        Ok(_) => queue.note_reached(),
    }
}

/// Backs up one account after the other until there are no more.
fn work(
    backup: &Backup<'_>,
    queue: &Queue<'_, Userid>,
    results: Sender<Done>,
    progress: &Progress,
) {
    // Only this thread becomes Cyrus' user; the vault is written by others.
    let acting = backup.server.act_as_cyrus();
    while let Some(userid) = queue.next() {
        let result = match &acting {
            Ok(_) => {
                let outcome = backup.account(userid, progress);
                note(queue, backup, &outcome);
                outcome.map_err(|error| {
                    let last = match &error {
                        // It would not tell now either, after as long a wait.
                        BackupError::Vault(_) => Last::Unknown,
                        _ => last(backup, userid),
                    };
                    Failed { error: explain(error), last }
                })
            }
            Err(error) => {
                let error = CliError::plain(format!("cannot act as Cyrus' user: {error}"))
                    .hint("cyrus_user in imapd.conf names the user that Cyrus runs as");
                Err(Failed { error, last: last(backup, userid) })
            }
        };
        if results.send(Done { userid: userid.clone(), result }).is_err() {
            return;
        }
    }
}

fn last(backup: &Backup<'_>, userid: &Userid) -> Last {
    match backup.vault.account(userid).history() {
        Ok(history) => history.newest().map_or(Last::Never, |entry| Last::At(entry.name.taken_at)),
        Err(_) => Last::Unknown,
    }
}

fn explain(error: BackupError) -> CliError {
    match error {
        BackupError::Spool(error) => spool_error::explain(error),
        BackupError::Vault(error) => vaults::explain(error),
        BackupError::Base(error) => {
            archive::explain(error).hint("cylinder verify says what is damaged in the vault")
        }
        BackupError::Snapshot(error) => vaults::explain_staging(NOT_STORED, error),
        error @ BackupError::Compress(_) => vaults::explain_staging(NOT_STORED, error),
        error @ BackupError::AnotherServer => CliError::failed(NOT_STORED, error).hint(
            "give each server a vault of its own; if all its shared mailboxes were replaced, \
             --accept-removals goes on",
        ),
        error @ BackupError::Removed(_) => CliError::failed(NOT_STORED, error).hint("try again"),
    }
}

/// Adds up what became of the accounts.
struct Report {
    json: bool,
    accounts: usize,
    documents: Vec<Value>,
    stored: u64,
    unchanged: u64,
    bytes: u64,
    messages: u64,
    findings: u64,
    failures: Vec<Exit>,
    /// Of the accounts that failed, the one whose last snapshot is oldest.
    oldest: Option<(Last, String)>,
}

impl Report {
    fn new(args: &BackupArgs, accounts: usize) -> Self {
        Self {
            json: args.talk.json,
            accounts,
            documents: Vec::new(),
            stored: 0,
            unchanged: 0,
            bytes: 0,
            messages: 0,
            findings: 0,
            failures: Vec::new(),
            oldest: None,
        }
    }

    fn take(&mut self, done: Done, progress: &Progress) {
        let account = done.userid.to_string();
        let mut document = json!({ "account": account });
        match done.result {
            Ok(Outcome::Unchanged(name)) => {
                self.unchanged += 1;
                document["unchanged_since"] = json!(name.seq);
            }
            Ok(Outcome::Stored(stored)) => {
                self.stored += 1;
                self.bytes += stored.bytes;
                self.messages += stored.messages;
                self.findings += stored.summary.findings.len() as u64;
                if !self.json {
                    progress.say(&line(&account, &stored));
                }
                document["snapshot"] = snapshot_json(&stored);
            }
            Err(Failed { error, last }) => {
                let what = error.in_front(format!("{} was not backed up", plain(&account)));
                let exit = if self.json { what.exit_code() } else { progress.report(&what) };
                self.failures.push(exit);
                document["error"] = what.document();
                document["last_snapshot"] = last.document();
                let failed = (last, account);
                self.oldest =
                    Some(self.oldest.take().map_or(failed.clone(), |old| old.min(failed)));
            }
        }
        self.documents.push(document);
    }

    fn finish(mut self) -> Result<Exit, CliError> {
        let not_tried = self.accounts - self.documents.len();
        if not_tried > 0 && !self.json {
            let what = count(not_tried as u64, "account");
            CliError::plain(format!("{what} not tried: the store failed {LOST_MAX} in a row"))
                .hint("the next run goes on from what was stored")
                .report(false);
        }
        let text = if self.json {
            self.documents.sort_by(|a, b| a["account"].as_str().cmp(&b["account"].as_str()));
            let oldest = self.oldest.as_ref().map(
                |(last, account)| json!({ "account": account, "last_snapshot": last.document() }),
            );
            let report = json!({
                "accounts": self.documents,
                "stored": self.stored,
                "unchanged": self.unchanged,
                "failed": self.failures.len(),
                "not_tried": not_tried,
                "messages_new": self.messages,
                "bytes": self.bytes,
                "oldest_of_failed": oldest,
            });
            format!("{report:#}\n")
        } else {
            format!(
                "{}: {} stored, {} unchanged, {} failed; {}, {} written{}\n",
                count(self.accounts as u64, "account"),
                self.stored,
                self.unchanged,
                self.failures.len(),
                count(self.messages, "new message"),
                bytes(self.bytes),
                self.oldest.as_ref().map(oldest_text).unwrap_or_default(),
            )
        };
        render::print("the report", &text)?;
        Ok(self.exit())
    }

    /// That some account could not be backed up weighs more than what was found in others; that
    /// it was only busy is said if nothing worse is to be said.
    fn exit(&self) -> Exit {
        let only_busy = self.failures.iter().all(|exit| *exit == Exit::TryAgain);
        match (self.failures.is_empty(), only_busy, self.findings) {
            (true, _, 0) => Exit::Done,
            (true, _, _) => Exit::Findings,
            (false, true, _) => Exit::TryAgain,
            (false, false, _) => Exit::Failed,
        }
    }
}

impl Last {
    fn document(self) -> Value {
        let at = match self {
            Last::At(at) => Some(at),
            Last::Never | Last::Unknown => None,
        };
        json!({
            "is_known": self != Last::Unknown,
            "taken_at": at.map(rfc3339),
            "age_s": at.map(|at| when::now().saturating_sub(at).max(0)),
        })
    }
}

fn oldest_text((last, account): &(Last, String)) -> String {
    let account = plain(account);
    match last {
        Last::Never => format!("; {account} failed, and has no snapshot"),
        Last::At(at) => {
            format!("; {account} failed, and its last snapshot is {} old", age(when::now(), *at))
        }
        Last::Unknown => String::new(),
    }
}

fn line(account: &str, stored: &Stored) -> String {
    let totals = &stored.summary.totals;
    let mut line = format!(
        "{} {}: {} in {}, {} new; {} written",
        plain(account),
        stored.entry.name.seq,
        count(totals.messages, "message"),
        count(totals.mailboxes, "mailbox"),
        stored.messages,
        bytes(stored.bytes),
    );
    if let Some(longest) = render::longest_lock(&stored.summary.locks) {
        let held = micros(longest.held_us.unwrap_or_default());
        line.push_str(&format!("; longest lock {held}"));
    }
    if !stored.joined.is_empty() {
        let others = count(stored.joined.len() as u64, "other head");
        line.push_str(&format!("; joined {others}: somebody backed it up at the same time"));
    }
    line
}

fn snapshot_json(stored: &Stored) -> Value {
    let summary = &stored.summary;
    json!({
        "seq": stored.entry.name.seq,
        "object": stored.entry.name.to_string(),
        "messages": summary.totals.messages,
        "messages_new": stored.messages,
        "mailboxes": summary.totals.mailboxes,
        "parts": stored.parts,
        "bytes": stored.bytes,
        "joined": stored.joined.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "findings": summary.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "longest_lock_us": render::longest_lock(&summary.locks).and_then(|lock| lock.held_us),
    })
}
