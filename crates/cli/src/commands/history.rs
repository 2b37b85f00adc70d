//! `cylinder history`: the snapshots of an account in a vault, or all accounts.

mod all;

use std::io::Write;

use segment::manifest::ManifestHead;
use serde_json::{Value, json};
use vault::note::DRILL;
use vault::{Account, Entry, History, Note, What};

use crate::args::HistoryArgs;
use crate::error::{CliError, Exit};
use crate::render::{self, bytes, count, plain};
use crate::vaults;
use crate::when::rfc3339;

/// Runs the command. What is damaged is named, and the rest is listed.
pub fn run(args: &HistoryArgs) -> Result<Exit, CliError> {
    match &args.account {
        Some(userid) => one(args, userid),
        None => all::run(args),
    }
}

fn one(args: &HistoryArgs, userid: &str) -> Result<Exit, CliError> {
    let opened = vaults::open(&args.vault)?;
    let (account, history) = vaults::account(&opened, userid)?;
    let mut exit = Exit::Done;
    let mut out = Vec::new();
    let mut documents = Vec::new();
    for entry in history.snapshots() {
        let (told, damage) = told(&account, &history, entry);
        for error in damage {
            exit = error.report(args.json);
        }
        documents.push(document(entry, told.as_ref()));
        text(&mut out, entry, told.as_ref());
    }
    let heads = history.heads();
    if let ([.., _, _], false) = (heads.as_slice(), args.json) {
        let _ = writeln!(out, "{} heads: the next backup joins them", heads.len());
    }
    let verified = history.notes_of(What::Verified).last().map(|(_, note)| note);
    if let (Some(note), false) = (verified, args.json) {
        let _ = writeln!(
            out,
            "last verified {}, {}: {}",
            rfc3339(note.at),
            match how(note) {
                DRILL => "by a drill".to_owned(),
                _ => format!("{} % of the messages read", note.percent.unwrap_or(0)),
            },
            count(note.findings.unwrap_or(0), "finding"),
        );
    }
    if args.json {
        let report = json!({
            "account": userid,
            "snapshots": documents,
            "heads": heads.iter().map(|head| head.name.to_string()).collect::<Vec<_>>(),
            "hold": history.is_held(),
            "verified": verified.map(verified_json),
        });
        out = format!("{report:#}\n").into_bytes();
    }
    render::print("the history", &out)?;
    Ok(exit)
}

/// How an account was verified, in one word.
fn how(note: &Note) -> &str {
    match (note.how.as_deref(), note.percent) {
        (Some(how), _) => how,
        (None, None | Some(0)) => "structure",
        (None, Some(_)) => "data",
    }
}

fn verified_json(note: &Note) -> Value {
    json!({
        "at": rfc3339(note.at),
        "how": how(note),
        "percent": note.percent,
        "findings": note.findings,
    })
}

/// What is told of a snapshot.
struct Told {
    head: ManifestHead,
    /// Messages that were new in it, those that parts held in advance included; without the ones in
    /// parts that are damaged.
    messages_new: u64,
    /// Segments of such parts.
    parts: usize,
    /// How many of them cannot be read.
    damaged: usize,
    /// Bytes of its segment and of theirs.
    bytes: u64,
}

/// Reads what is to be told of a snapshot, and whatever is in the way of that.
fn told(account: &Account, history: &History, entry: &Entry) -> (Option<Told>, Vec<CliError>) {
    let head = match head(account, entry) {
        Ok(head) => head,
        Err(error) => return (None, vec![error]),
    };
    let parts = history.parts_of(&entry.name);
    let mut told = Told {
        messages_new: head.totals.messages_new,
        parts: parts.len(),
        damaged: 0,
        bytes: entry.size,
        head,
    };
    let mut damage = Vec::new();
    for part in parts {
        told.bytes += part.size;
        match self::head(account, part) {
            Ok(head) => told.messages_new += head.totals.messages_new,
            Err(error) => damage.push(error),
        }
    }
    told.damaged = damage.len();
    (Some(told), damage)
}

fn head(account: &Account, entry: &Entry) -> Result<ManifestHead, CliError> {
    // The manifest is in its own segment; what that continues need not be opened.
    let opened = account.open_alone(entry);
    let chain = opened.chain();
    // It may be a part, which is no snapshot.
    let segment = chain.tip().map_err(|error| crate::archive::explain(error.into()))?;
    segment.head().map_err(|error| {
        CliError::failed(format!("cannot read {}", entry.name), error)
            .hint("the object is damaged; cylinder verify says what that means")
    })
}

// Writing into a Vec cannot fail, so the results below are dropped.

fn text(out: &mut Vec<u8>, entry: &Entry, told: Option<&Told>) {
    let time = rfc3339(entry.name.taken_at);
    let size = told.map_or(entry.size, |told| told.bytes);
    let _ = write!(out, "{:>6}  {time}  {:>10}", entry.name.seq, bytes(size));
    let Some(Told { head, messages_new, damaged, .. }) = told else {
        let _ = writeln!(out, "  damaged");
        return;
    };
    let _ = write!(
        out,
        "  {} in {}, {messages_new} new",
        count(head.totals.messages, "message"),
        count(head.totals.mailboxes, "mailbox"),
    );
    if *damaged > 0 {
        let _ = write!(out, " and those of {} damaged", count(*damaged as u64, "part"));
    }
    for gone in &head.gone {
        let _ = write!(out, ", {} gone", plain(&gone.name.to_string()));
    }
    match head.findings.len() as u64 {
        0 => drop(writeln!(out)),
        n => drop(writeln!(out, "; {}", count(n, "finding"))),
    }
}

fn document(entry: &Entry, told: Option<&Told>) -> Value {
    let mut document = json!({
        "seq": entry.name.seq,
        "taken_at": rfc3339(entry.name.taken_at),
        "object": entry.name.to_string(),
        "bytes": told.map_or(entry.size, |told| told.bytes),
    });
    if let Some(Told { head, messages_new, parts, damaged, .. }) = told {
        document["messages"] = json!(head.totals.messages);
        // Of parts that cannot be read, nobody knows how many there are.
        document["messages_new"] = json!((*damaged == 0).then_some(messages_new));
        document["parts"] = json!(parts);
        document["damaged_parts"] = json!(damaged);
        document["mailboxes"] = json!(head.totals.mailboxes);
        document["gone"] =
            head.gone.iter().map(|gone| json!(gone.name.to_string())).collect::<Vec<_>>().into();
        document["findings"] = json!(head.findings.len());
    }
    document
}
