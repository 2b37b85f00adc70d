//! `cylinder history`: the snapshots of an account in a vault, or all accounts.

mod all;

use std::io::Write;

use segment::manifest::ManifestHead;
use serde_json::{Value, json};
use vault::note::DRILL;
use vault::{Account, Entry, Note, What};

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
        let head = head(&account, entry);
        if let Err(error) = &head {
            exit = error.report(args.json);
        }
        documents.push(document(entry, head.as_ref().ok()));
        text(&mut out, entry, head.as_ref().ok());
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

fn head(account: &Account, entry: &Entry) -> Result<ManifestHead, CliError> {
    // The manifest is in its own segment; what that continues need not be opened.
    let opened = account.open_alone(entry);
    let chain = opened.chain();
    let snapshot =
        chain.at(entry.name.seq).map_err(|error| crate::archive::explain(error.into()))?;
    snapshot.head().map_err(|error| {
        CliError::failed(format!("cannot read {}", entry.name), error)
            .hint("the object is damaged; cylinder verify says what that means")
    })
}

// Writing into a Vec cannot fail, so the results below are dropped.

fn text(out: &mut Vec<u8>, entry: &Entry, head: Option<&ManifestHead>) {
    let time = rfc3339(entry.name.taken_at);
    let _ = write!(out, "{:>6}  {time}  {:>10}", entry.name.seq, bytes(entry.size));
    let Some(head) = head else {
        let _ = writeln!(out, "  damaged");
        return;
    };
    let _ = write!(
        out,
        "  {} in {}, {} new",
        count(head.totals.messages, "message"),
        count(head.totals.mailboxes, "mailbox"),
        head.totals.messages_new,
    );
    for gone in &head.gone {
        let _ = write!(out, ", {} gone", plain(&gone.name.to_string()));
    }
    match head.findings.len() as u64 {
        0 => drop(writeln!(out)),
        n => drop(writeln!(out, "; {}", count(n, "finding"))),
    }
}

fn document(entry: &Entry, head: Option<&ManifestHead>) -> Value {
    let mut document = json!({
        "seq": entry.name.seq,
        "taken_at": rfc3339(entry.name.taken_at),
        "object": entry.name.to_string(),
        "bytes": entry.size,
    });
    if let Some(head) = head {
        document["messages"] = json!(head.totals.messages);
        document["messages_new"] = json!(head.totals.messages_new);
        document["mailboxes"] = json!(head.totals.mailboxes);
        document["gone"] =
            head.gone.iter().map(|gone| json!(gone.name.to_string())).collect::<Vec<_>>().into();
        document["findings"] = json!(head.findings.len());
    }
    document
}
