//! `cylinder verify`: whether what a vault holds can be given back.

mod drill;

use serde_json::{Value, json};
use vault::{Account, History, Note, Vault, VaultError, What};

use crate::args::VerifyArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::render::{self, bytes, count, plain};
use crate::vaults::verify::{Affected, Depth, Report, account};
use crate::vaults::{explain, open_itself};
use crate::when::rfc3339;
use crate::{PROGRAM, vaults, when};

/// Losses that are told one by one; the JSON report has them all.
const TOLD: usize = 20;

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<Exit, CliError> {
    if let Some(place) = &args.drill {
        return drill::run(args, place);
    }
    let opened = open_itself(&args.vault)?;
    let components = vaults::components(&opened, &args.accounts)?;
    let now = when::now();
    let depth = match args.read_data {
        None | Some(0) => Depth::Structure,
        Some(1..=99) => Depth::Sample { percent: args.read_data.unwrap_or(0), day: now / 86_400 },
        Some(_) => Depth::All,
    };
    let progress = Progress::new(args.talk);
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for component in &components {
        let (document, one) = verify(args, &opened, component, depth, now, &progress);
        documents.push(document);
        // A vault that cannot be read weighs more than damage in it.
        if one != Exit::Done && exit != Exit::Failed {
            exit = one;
        }
    }
    progress.clear();
    let text = match args.talk.json {
        true => format!("{:#}\n", json!({ "accounts": documents })),
        false => format!("{} verified\n", count(components.len() as u64, "account")),
    };
    render::print("the report", &text)?;
    Ok(exit)
}

fn verify(
    args: &VerifyArgs,
    opened: &Vault,
    component: &str,
    depth: Depth,
    now: i64,
    progress: &Progress,
) -> (Value, Exit) {
    let one = opened.account_by_component(component);
    let done = one.history().and_then(|history| {
        let report = account(&one, &history, depth)?;
        note(&one, &history, &Verified::at(depth, &history, &report), now)?;
        Ok((history, report))
    });
    let (history, report) = match done {
        Ok(done) => done,
        Err(error) => {
            let error = explain(error).in_front(format!("{} was not verified", plain(component)));
            let exit = if args.talk.json { error.exit_code() } else { progress.report(&error) };
            return (json!({ "account": component, "error": error.document() }), exit);
        }
    };
    if !args.talk.json {
        for line in lines(component, &history, &report, now) {
            progress.say(&line);
        }
    }
    let exit = if report.is_clean() { Exit::Done } else { Exit::Findings };
    (document(component, &history, &report), exit)
}

/// What is written down of a verification.
struct Verified {
    /// Names of the last segments of what was verified.
    heads: Vec<String>,
    /// How many of the messages were read.
    percent: u8,
    /// Whether it was a drill.
    how: Option<String>,
    findings: u64,
}

impl Verified {
    fn at(depth: Depth, history: &History, report: &Report) -> Self {
        let percent = match depth {
            Depth::Structure => 0,
            Depth::Sample { percent, .. } => percent,
            Depth::All => 100,
        };
        let heads = history.heads().iter().map(|head| head.name.to_string()).collect();
        let findings = (report.damage.len() + report.affected.len()) as u64;
        Self { heads, percent, how: None, findings }
    }
}

/// Writes down that this was verified, in place of what was written down before.
fn note(
    account: &Account,
    history: &History,
    verified: &Verified,
    now: i64,
) -> Result<(), VaultError> {
    let heads = verified.heads.clone();
    let mut note = Note::new(What::Verified, now, &vaults::host(), PROGRAM, heads);
    note.percent = Some(verified.percent);
    note.how = verified.how.clone();
    note.findings = Some(verified.findings);
    account.put_note(&note)?;
    let written = note.encode()?.0;
    for (name, old) in history.notes_of(What::Verified) {
        // A thorough verification says more than a later one that is not; a drill and one that
        // reads the objects say different things.
        let is_less = old.how == note.how && old.percent.unwrap_or(0) <= verified.percent;
        if *name != written && is_less {
            account.delete(&name.to_string())?;
        }
    }
    Ok(())
}

fn lines(component: &str, history: &History, report: &Report, now: i64) -> Vec<String> {
    let mut lines = Vec::new();
    let component = plain(component);
    for damage in &report.damage {
        lines.push(format!("{component}: {}: {}", plain(&damage.object), plain(&damage.detail)));
    }
    for affected in report.affected.iter().take(TOLD) {
        lines.push(format!("{component}: lost: {}", told(affected)));
    }
    if report.affected.len() > TOLD {
        let more = report.affected.len() - TOLD;
        lines.push(format!("{component}: and {more} more, see --json"));
    }
    let state = if report.is_clean() { "whole" } else { "DAMAGED" };
    let age = history.newest().map_or("no snapshot".to_owned(), |newest| {
        let days = now.saturating_sub(newest.name.taken_at).max(0) / 86_400;
        format!("newest snapshot {} old", count(u64::try_from(days).unwrap_or(0), "day"))
    });
    lines.push(format!(
        "{component}: {state}; {}, {} read ({}); {age}",
        count(report.segments, "segment"),
        count(report.messages, "message"),
        bytes(report.bytes),
    ));
    lines
}

fn told(affected: &Affected) -> String {
    match &affected.message {
        None => format!("snapshot {}", affected.seq),
        Some(placed) => format!(
            "message {} of {} in snapshot {}",
            placed.uid,
            plain(&placed.mailbox.to_string()),
            affected.seq
        ),
    }
}

fn document(component: &str, history: &History, report: &Report) -> Value {
    let newest = history.newest().map(|newest| rfc3339(newest.name.taken_at));
    json!({
        "account": component,
        "clean": report.is_clean(),
        "segments": report.segments,
        "messages_read": report.messages,
        "bytes_read": report.bytes,
        "newest": newest,
        "damage": report.damage.iter().map(|damage| json!({
            "object": damage.object,
            "detail": damage.detail,
            "guid": damage.guid.map(|guid| guid.to_string()),
        })).collect::<Vec<_>>(),
        "affected": report.affected.iter().map(|affected| json!({
            "seq": affected.seq,
            "mailbox": affected.message.as_ref().map(|placed| placed.mailbox.to_string()),
            "uid": affected.message.as_ref().map(|placed| placed.uid.0),
            "guid": affected.message.as_ref().map(|placed| placed.guid.to_string()),
        })).collect::<Vec<_>>(),
    })
}
