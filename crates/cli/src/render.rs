//! Results as text for people and as JSON for programs.

use std::io::{self, Write};

use engine::export;
use engine::snapshot::Summary;
use engine::source::LockHeld;
use model::Finding;
use model::diff::Step;
use serde_json::{Value, json};

use crate::args::RestoreArgs;
use crate::error::CliError;
use crate::when;

/// How a snapshot went, on standard error: standard output may be the snapshot itself.
pub fn snapshot(summary: &Summary, json: bool) {
    let mut stderr = io::stderr().lock();
    // Nobody is left to be told when standard error itself is gone.
    let _ = if json {
        writeln!(stderr, "{}", snapshot_json(summary))
    } else {
        snapshot_text(&mut stderr, summary)
    };
}

fn snapshot_text(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let totals = &summary.totals;
    writeln!(
        out,
        "{} {}: {} in {}, {} new ({}), {} linked",
        summary.account,
        summary.seq,
        count(totals.messages, "message"),
        count(totals.mailboxes, "mailbox"),
        totals.messages_new,
        bytes(totals.bytes_new),
        summary.links,
    )?;
    if let Some(longest) = longest_lock(&summary.locks) {
        let held = longest.held_us.unwrap_or_default();
        writeln!(
            out,
            "longest lock: {} lock on {} for {}",
            longest.kind,
            longest.file,
            micros(held)
        )?;
    }
    if !summary.findings.is_empty() {
        let what = count(summary.findings.len() as u64, "finding");
        writeln!(out, "{what}; each is kept in the snapshot, see cylinder list --json")?;
    }
    Ok(())
}

/// The user or index lock that was held longest: the ones that make clients wait.
pub fn longest_lock(locks: &[LockHeld]) -> Option<&LockHeld> {
    let stalling = locks.iter().filter(|lock| lock.kind != "name" && lock.held_us.is_some());
    stalling.max_by_key(|lock| lock.held_us)
}

fn snapshot_json(summary: &Summary) -> Value {
    let steps =
        |wanted: fn(&Step) -> bool| summary.plan.steps.iter().filter(|step| wanted(step)).count();
    json!({
        "account": summary.account,
        "seq": summary.seq,
        "messages": summary.totals.messages,
        "messages_new": summary.totals.messages_new,
        "bytes_new": summary.totals.bytes_new,
        "links_new": summary.links,
        "mailboxes": summary.totals.mailboxes,
        "mailboxes_created": steps(|step| matches!(step, Step::Create { .. })),
        "mailboxes_renamed": steps(|step| matches!(step, Step::Rename { .. })),
        "mailboxes_updated": steps(|step| matches!(step, Step::Update { .. })),
        "mailboxes_removed": steps(|step| matches!(step, Step::Remove { .. })),
        "segment_bytes": summary.segment_bytes,
        "findings": summary.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "locks": summary.locks.iter().map(|lock| json!({
            "kind": lock.kind,
            "file": lock.file,
            "waited_us": lock.waited_us,
            "held_us": lock.held_us,
        })).collect::<Vec<_>>(),
    })
}

/// How a restore went, on standard error.
pub fn restored(args: &RestoreArgs, seq: u32, summary: &export::Summary) {
    let mut stderr = io::stderr().lock();
    let (account, to) = (&args.account, &args.to);
    let _ = if args.talk.json {
        let findings: Vec<Value> = summary.findings.iter().map(finding_json).collect();
        writeln!(
            stderr,
            "{}",
            json!({
                "account": account,
                "seq": seq,
                "to": to,
                "flags_only": args.flags_only,
                "mailboxes": summary.mailboxes,
                "messages": summary.messages,
                "bytes": summary.bytes,
                "findings": findings,
            })
        )
    } else {
        let mailboxes = count(summary.mailboxes, "mailbox");
        let messages = count(summary.messages, "message");
        let what = match args.flags_only {
            true => format!("flags of {messages}"),
            false => format!("{messages} ({})", bytes(summary.bytes)),
        };
        let wrong = match summary.findings.len() as u64 {
            0 => String::new(),
            n => format!("; {}", count(n, "finding")),
        };
        writeln!(stderr, "{account} {seq}: {what} in {mailboxes} restored to {to}{wrong}")
    };
}

/// Writes what a command was asked for to standard output, all of it.
pub fn print(what: &str, bytes: impl AsRef<[u8]>) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(bytes.as_ref()).and_then(|()| stdout.flush());
    printed.map_err(|error| CliError::failed(format!("cannot print {what}"), error))
}

/// What a daemon says: one line on standard error. The journal knows the time; a file does not.
pub fn log(text: &str) {
    let mut line = format!("cylinder: {}\n", plain(text));
    if std::env::var_os("JOURNAL_STREAM").is_none() {
        line = format!("{} {line}", when::rfc3339(when::now()));
    }
    // One call, so that lines of two threads do not mix. Nobody is left to be told when it fails.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// A finding with all that helps to act on it.
pub fn finding_json(finding: &Finding) -> Value {
    json!({
        "code": finding.kind.code(),
        "blame": finding.kind.blame().as_str(),
        "place": finding.place,
        "uid": finding.uid,
        "detail": finding.detail,
        "remedy": finding.kind.remedy(),
    })
}

/// Text that comes from elsewhere, without what a terminal would obey.
pub fn plain(text: &str) -> String {
    let escaped = |ch: char| match ch.is_control() {
        true => ch.escape_default().to_string(),
        false => ch.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// "1 message", "2 mailboxes".
pub fn count(n: u64, noun: &str) -> String {
    match (n, noun.ends_with('x')) {
        (1, _) => format!("1 {noun}"),
        (_, true) => format!("{n} {noun}es"),
        (_, false) => format!("{n} {noun}s"),
    }
}

/// A size in the largest unit that leaves at least one digit before the point.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A duration given in microseconds.
pub fn micros(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} us"),
        1_000..1_000_000 => format!("{:.1} ms", n as f64 / 1e3),
        _ => format!("{:.2} s", n as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(plain("a\u{1b}[2J\n\u{e4}"), "a\\u{1b}[2J\\n\u{e4}");
        assert_eq!(count(1, "mailbox"), "1 mailbox");
        assert_eq!(count(0, "mailbox"), "0 mailboxes");
        assert_eq!(count(2, "message"), "2 messages");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
        assert_eq!(micros(999), "999 us");
        assert_eq!(micros(1500), "1.5 ms");
    }
}
