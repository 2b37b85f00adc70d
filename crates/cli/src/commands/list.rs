//! `cylinder list`: what an archive holds.

use std::io::Write;

use engine::archive::Listed;
use engine::folder::relative_name;
use model::{MboxName, Userid};
use segment::manifest::ManifestHead;
use segment::reader::ReadError;
use serde_json::{Value, json};

use crate::archive::Archives;
use crate::args::ListArgs;
use crate::error::{CliError, Exit};
use crate::render::{self, bytes, count, plain};

/// Runs the command. What is whole is listed even if something else is not; the error follows.
pub fn run(args: &ListArgs) -> Result<Exit, CliError> {
    let archives = Archives::open(&args.files)?;
    let mut found = archives.search();
    let wanted = args.account.as_deref();
    found.segments.retain(|segment| {
        wanted.is_none_or(|wanted| segment.account() == segment::names::account(wanted.as_bytes()))
    });
    let mut listed = Vec::new();
    for segment in found.segments {
        match segment.head() {
            Ok(head) => listed.push(Listed { segment, head }),
            Err(error) => found.trouble.push(unreadable(error)),
        }
    }
    let mut out = Vec::new();
    if args.json {
        let documents: Vec<Value> = listed.iter().map(document).collect();
        let _ = writeln!(out, "{:#}", json!({ "snapshots": documents }));
    } else {
        for snapshot in &listed {
            text(&mut out, snapshot);
        }
        footer(&mut out, &listed);
    }
    render::print("the list", &out)?;
    if let Some(trouble) = found.trouble.into_iter().next() {
        return Err(trouble);
    }
    if let (Some(wanted), true) = (wanted, listed.is_empty()) {
        return Err(CliError::plain(format!("the archive holds no snapshot of {wanted}")));
    }
    Ok(Exit::Done)
}

fn unreadable(error: ReadError) -> CliError {
    CliError::failed("cannot list a snapshot", error)
        .hint("the archive is damaged there; try another copy of the file")
}

// Writing into a Vec cannot fail, so the results below are dropped.

fn text(out: &mut Vec<u8>, listed: &Listed<'_>) {
    let head = &listed.head;
    let kind = match &head.parent {
        _ if head.part => "part",
        Some(_) => "incremental",
        None => "full",
    };
    let _ = writeln!(
        out,
        "{}  {}  {}  {kind}, {}: {} in {}, {} new ({})",
        account(head),
        head.seq,
        plain(&head.taken_at.text),
        bytes(listed.segment.bytes()),
        count(head.totals.messages, "message"),
        count(head.totals.mailboxes, "mailbox"),
        head.totals.messages_new,
        bytes(head.totals.bytes_new),
    );
    for mailbox in &head.mailboxes {
        let _ = writeln!(
            out,
            "    {:<40} {:>8}{}",
            folder(head, mailbox.name.as_bytes()),
            mailbox.exists,
            match mailbox.expunged {
                0 => String::new(),
                kept => format!("  and {kept} expunged but kept"),
            },
        );
    }
    for gone in &head.gone {
        let _ = writeln!(out, "    {:<40}     gone", folder(head, gone.name.as_bytes()));
    }
    if !head.findings.is_empty() {
        let _ = writeln!(out, "    {}:", count(head.findings.len() as u64, "finding"));
        for finding in &head.findings {
            let uid = finding.uid.map(|uid| format!(" uid {uid}")).unwrap_or_default();
            let text = format!("{}: {}{uid}: {}", finding.code, finding.place, finding.detail);
            let _ = writeln!(out, "      {}", plain(&text));
        }
    }
}

fn footer(out: &mut Vec<u8>, listed: &[Listed<'_>]) {
    let mut accounts: Vec<&str> = listed.iter().map(|l| l.head.account.as_str()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let size = listed.iter().map(|listed| listed.segment.bytes()).sum();
    let _ = writeln!(
        out,
        "{} of {}, {}",
        count(listed.len() as u64, "snapshot"),
        count(accounts.len() as u64, "account"),
        bytes(size),
    );
}

/// The account as it is typed, but for control characters.
fn account(head: &ManifestHead) -> String {
    Userid::new(head.userid.as_bytes()).to_string()
}

/// A mailbox's name within its account, for people: whatever its bytes, they do a terminal no harm.
fn folder(head: &ManifestHead, name: &[u8]) -> String {
    MboxName::new(relative_name(name, head.userid.as_bytes())).to_string()
}

fn document(listed: &Listed<'_>) -> Value {
    let head = &listed.head;
    json!({
        "account": account(head),
        "seq": head.seq,
        "taken_at": head.taken_at.text,
        "full": head.parent.is_none(),
        "part": head.part,
        "cyrus": head.cyrus.era,
        "program": head.program,
        "segment_bytes": listed.segment.bytes(),
        "manifest_sha256": listed.segment.manifest_sha256().to_string(),
        "parent_sha256": head.parent.as_ref().map(|parent| parent.sha256.to_string()),
        "messages": head.totals.messages,
        "messages_new": head.totals.messages_new,
        "bytes_new": head.totals.bytes_new,
        "mailboxes": head.mailboxes.iter().map(|mailbox| json!({
            "folder": folder(head, mailbox.name.as_bytes()),
            "name": mailbox.name.to_string(),
            "uniqueid": mailbox.uniqueid.to_string(),
            "uidvalidity": mailbox.uidvalidity,
            "partition": mailbox.partition.to_string(),
            "type": mailbox.mbtype,
            "index_version": mailbox.index_version,
            "exists": mailbox.exists,
            "expunged": mailbox.expunged,
            "last_uid": mailbox.last_uid,
            "highestmodseq": mailbox.highestmodseq,
            "deleted": mailbox.deleted,
        })).collect::<Vec<_>>(),
        "gone": head.gone.iter().map(|gone| gone.name.to_string()).collect::<Vec<_>>(),
        "findings": head.findings.iter().map(|finding| json!({
            "code": finding.code,
            "place": finding.place,
            "uid": finding.uid,
            "detail": finding.detail,
        })).collect::<Vec<_>>(),
        "locks": head.locks.iter().map(|lock| json!({
            "kind": lock.kind,
            "file": lock.file,
            "waited_us": lock.waited_us,
            "held_us": lock.held_us,
        })).collect::<Vec<_>>(),
    })
}
