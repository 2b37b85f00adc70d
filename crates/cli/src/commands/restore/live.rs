//! Into a server that runs.

use std::io::{self, Write};

use cyrus_format::quota::Resource;
use engine::archive::StoredMessages;
use engine::restore::journal::{Forgetful, Journal};
use engine::restore::plan::Step;
use engine::restore::room::Shortage;
use engine::restore::wanted::{Messages, Wish as Wanted};
use engine::restore::{Options, Outcome, Placement, Problem, RestoreError, Trouble, restore};
use engine::source::SourceAccount;
use model::{MboxName, Partition, Timestamp, Userid};
use peer::Session;
use segment::manifest::ManifestHead;
use serde_json::{Value, json};

use super::undo_file::UndoFile;
use super::{Goal, Wish};
use crate::args::RestoreArgs;
use crate::commands::replicate::target::{Door, Target};
use crate::error::{CliError, Exit};
use crate::processors;
use crate::progress::Progress;
use crate::render::{self, bytes, count, finding_json, plain};
use crate::when;

/// What may stand in a folder's name besides letters and digits; of what Cyrus takes (`imap/mboxname.c`,
/// GOODCHARS, 3.6), whatever means nothing in a pattern of IMAP.
const NAME_BYTES: &[u8] = b" #$&'()+,-:=@[]^_`{|}~";

/// Refuses options that mean nothing for where mail is to go.
pub fn check(args: &RestoreArgs, goal: &Goal) -> Result<(), CliError> {
    let live = &args.live;
    let given = [
        ("--into", live.into.is_some()),
        ("--in-place", live.in_place),
        ("--accept-mismatch", live.accept_mismatch),
        ("--undo", live.undo.is_some()),
        ("--undo-from", live.undo_from.is_some()),
        ("--partition", live.partition.is_some()),
        ("--password-file", live.password_file.is_some()),
        ("--tls-ca", live.tls_ca.is_some()),
        ("--cleartext", live.cleartext),
    ];
    if let (Goal::Files(_), Some((option, _))) = (goal, given.iter().find(|(_, given)| *given)) {
        return Err(CliError::usage(format!("{option} is for a server that runs"))
            .hint("--to csync://HOST names one"));
    }
    if matches!(goal, Goal::Server) && args.account == Userid::SHARED {
        return Err(CliError::plain("shared mailboxes are not restored into a server that runs")
            .hint("restore them to dir:, and let reconstruct find them"));
    }
    if live.into.is_some() && args.flags_only {
        return Err(CliError::usage("--flags-only makes no folder, so that --into means nothing")
            .hint("leave out one of them"));
    }
    Ok(())
}

/// Connects to the server.
pub fn connect(args: &RestoreArgs) -> Result<(Target, Session), CliError> {
    let target = Target::through(Door {
        limits: peer::Limits::default(),
        url: &args.to,
        name: None,
        password_file: args.live.password_file.as_deref(),
        tls_ca: args.live.tls_ca.as_deref(),
        cleartext: args.live.cleartext,
        sieve_mailbox: false,
    })?;
    let session = target.open().map_err(|error| target.explain(error))?;
    Ok((target, session))
}

/// Gives a snapshot, or what was selected of it.
pub fn give(
    wish: &Wish<'_>,
    account: &SourceAccount,
    messages: &StoredMessages<'_>,
    head: &ManifestHead,
) -> Result<Exit, CliError> {
    let args = wish.args;
    let by_guid = !wish.selection.guids.is_empty() && !args.flags_only;
    let wanted = Wanted::of(account, if by_guid { Messages::Kept } else { Messages::Seen });
    let options = options(args, &wanted, head)?;
    let (target, mut session) = connect(args)?;
    let mut journal: Box<dyn Journal> = match &args.live.undo {
        Some(path) if !args.dry_run => Box::new(UndoFile::open(path, args)?),
        _ => Box::new(Forgetful),
    };
    let progress = Progress::new(args.talk);
    let restored = restore(&wanted, messages, &mut session, &mut *journal, &options, &progress);
    progress.clear();
    let outcome = match restored {
        Ok(outcome) => outcome,
        Err(RestoreError::Peer(error)) => {
            let hint = "what was restored stays; run it again, and it goes on from there";
            return Err(target.explain(error).hint(hint));
        }
        Err(error) => return Err(explain(error, args)),
    };
    session.close();
    report(args, head.seq, &outcome, &options)
}

fn options(
    args: &RestoreArgs,
    wanted: &Wanted<'_>,
    head: &ManifestHead,
) -> Result<Options, CliError> {
    let placement = match args.live.in_place || args.flags_only {
        true => Placement::InPlace,
        false => Placement::Tree {
            snapshot: format!("{}\0{}", head.seq, head.taken_at.unix).into_bytes(),
            tops: tops(args, &wanted.inbox, head)?,
        },
    };
    Ok(Options {
        placement,
        flags_only: args.flags_only,
        accept_mismatch: args.live.accept_mismatch,
        partition: args.live.partition.as_deref().map(Partition::from),
        now: Timestamp::from_secs(when::now()),
        workers: processors(),
        dry_run: args.dry_run,
    })
}

/// The folders that mail may go to, in internal form.
fn tops(
    args: &RestoreArgs,
    inbox: &MboxName,
    head: &ManifestHead,
) -> Result<Vec<MboxName>, CliError> {
    let below = |folder: &[u8]| MboxName::new([inbox.as_bytes(), b".", folder].concat());
    if let Some(into) = &args.live.into {
        let folder = folder(into).ok_or_else(|| {
            CliError::usage(format!("--into {into} is no name for a folder")).hint(
                "levels are parted by / or, without one, by dots; letters that are not ASCII are \
                 written as LIST shows them",
            )
        })?;
        return Ok(vec![below(&folder)]);
    }
    let taken_at = when::rfc3339(head.taken_at.unix);
    let date = taken_at.split('T').next().unwrap_or_default();
    let named = |name: String| below(format!("Restored.{name}").as_bytes());
    // A second one of the same day has its number.
    Ok(vec![named(date.to_owned()), named(format!("{date}-{}", head.seq))])
}

/// The internal form of a folder below the INBOX.
fn folder(text: &str) -> Option<Vec<u8>> {
    let by_slash = text.contains('/');
    let separator = if by_slash { '/' } else { '.' };
    let mut levels: Vec<&str> = text.split(separator).collect();
    if levels.len() > 1 && levels[0].eq_ignore_ascii_case("INBOX") {
        levels.remove(0);
    }
    let mut internal = Vec::new();
    for level in levels {
        let level: Vec<u8> =
            level.bytes().map(|byte| if byte == b'.' { b'^' } else { byte }).collect();
        let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || NAME_BYTES.contains(byte);
        if level.is_empty() || !level.iter().all(is_good) {
            return None;
        }
        internal.push(level);
    }
    Some(internal.join(&b'.'))
}

fn explain(error: RestoreError, args: &RestoreArgs) -> CliError {
    let hint = match &error {
        RestoreError::NoInbox(_) => {
            "make the user first; or restore the INBOX as well, with --in-place"
        }
        RestoreError::Journal(_) => {
            "what was noted before has been done; --undo-from takes it back"
        }
        RestoreError::Peer(_) => "run it again, and it goes on from there",
    };
    CliError::failed(format!("cannot restore {}", plain(&args.account)), error).hint(hint)
}

fn report(
    args: &RestoreArgs,
    seq: u32,
    outcome: &Outcome,
    options: &Options,
) -> Result<Exit, CliError> {
    let is_stopped = outcome.is_stopped(options);
    if args.talk.json {
        let document = document(args, seq, outcome);
        render::print("the report", format!("{document:#}\n"))?;
    } else {
        for line in outcome.problems.iter().flat_map(problem_lines) {
            say(&line);
        }
        if args.dry_run || is_stopped {
            let steps = outcome.plan.steps.iter();
            let lines: String = steps.map(|step| plain(&step.to_string()) + "\n").collect();
            render::print("the plan", lines)?;
        }
        if !is_stopped {
            let text = summary(args, seq, outcome);
            say(&text);
        }
    }
    if is_stopped {
        return Err(stopped(outcome));
    }
    let is_clean = outcome.problems.is_empty() && outcome.findings.is_empty();
    Ok(if is_clean { Exit::Done } else { Exit::Findings })
}

/// Says a line to people.
pub fn say(line: &str) {
    // Nobody is left to be told when standard error itself is gone.
    let _ = writeln!(io::stderr().lock(), "{}", plain(line));
}

fn summary(args: &RestoreArgs, seq: u32, outcome: &Outcome) -> String {
    let account = &args.account;
    let steps = &outcome.plan.steps;
    if steps.is_empty() {
        return match args.flags_only {
            true => format!("{account} {seq}: nothing to set"),
            false => format!("{account} {seq}: nothing to restore"),
        };
    }
    if args.dry_run {
        let messages = steps.iter().map(|step| step.back.len() as u64).sum();
        let flags = steps.iter().map(|step| step.flags.len() as u64).sum();
        let size = bytes(steps.iter().map(|step| step.bytes).sum());
        let mailboxes = count(steps.len() as u64, "mailbox");
        return match args.flags_only {
            true => format!(
                "{account} {seq}: flags of {} in {mailboxes} would be set; nothing was sent",
                count(flags, "message")
            ),
            false => format!(
                "{account} {seq}: {} ({size}) in {mailboxes} would come back; nothing was sent",
                count(messages, "message")
            ),
        };
    }
    let done = &outcome.done;
    let mailboxes = count(done.created + done.updated, "mailbox");
    match args.flags_only {
        true => {
            format!("{account} {seq}: flags of {} in {mailboxes} set", count(done.flags, "message"))
        }
        false => format!(
            "{account} {seq}: {} ({}) in {mailboxes} restored, {} of them made",
            count(done.messages, "message"),
            bytes(done.bytes),
            done.created
        ),
    }
}

fn stopped(outcome: &Outcome) -> CliError {
    let plan = &outcome.plan;
    if !plan.shortages.is_empty() {
        let why: Vec<String> = plan.shortages.iter().map(shortage).collect();
        return CliError::plain(format!("nothing was restored: {}", why.join("; ")))
            .hint("raise the quota for the time being, or restore less: --mailbox, --guid");
    }
    let why: Vec<String> = plan.brakes.iter().map(ToString::to_string).collect();
    CliError::plain(format!("nothing was restored: {}", why.join("; "))).hint(
        "--accept-mismatch restores there what is missing, by content; without --in-place it goes \
         into a tree of its own",
    )
}

fn shortage(shortage: &Shortage) -> String {
    let Shortage { root, resource, used, added, limit } = shortage;
    let amount = |number: u64| match resource {
        Resource::Storage | Resource::AnnotationStorage => bytes(number),
        Resource::Messages => count(number, "message"),
        Resource::Folders => count(number, "mailbox"),
    };
    let (used, added, limit) = (amount(*used), amount(*added), amount(*limit));
    format!("the quota of {root} allows {limit}; {used} are there, and {added} would be added")
}

fn problem_lines(problem: &Problem) -> Vec<String> {
    let mut lines = vec![format!("problem: {}: {}", problem.mailbox, problem.trouble)];
    if let Trouble::Damaged(findings) = &problem.trouble {
        lines.extend(findings.iter().skip(1).map(ToString::to_string));
    }
    lines
}

fn document(args: &RestoreArgs, seq: u32, outcome: &Outcome) -> Value {
    let (plan, done) = (&outcome.plan, &outcome.done);
    let texts = |texts: Vec<String>| json!(texts);
    json!({
        "account": args.account,
        "seq": seq,
        "to": args.to,
        "dry_run": args.dry_run,
        "flags_only": args.flags_only,
        "plan": plan.steps.iter().map(step_json).collect::<Vec<_>>(),
        "brakes": texts(plan.brakes.iter().map(ToString::to_string).collect()),
        "shortages": texts(plan.shortages.iter().map(shortage).collect()),
        "problems": outcome.problems.iter().map(problem_json).collect::<Vec<_>>(),
        "findings": outcome.findings.iter().map(finding_json).collect::<Vec<_>>(),
        "done": {
            "mailboxes_created": done.created,
            "mailboxes_updated": done.updated,
            "messages": done.messages,
            "bytes": done.bytes,
            "flags": done.flags,
        },
    })
}

fn step_json(step: &Step) -> Value {
    let changed = step.back.iter().filter(|back| back.uid != back.to);
    json!({
        "mailbox": step.told.mboxname.to_string(),
        "uniqueid": step.told.uniqueid.to_string(),
        "create": step.is_new,
        "other_uidvalidity": step.other_uids,
        "messages": step.back.len(),
        "bytes": step.bytes,
        "flags": step.flags.len(),
        "new_uids": changed.map(|back| [back.uid.0, back.to.0]).collect::<Vec<_>>(),
    })
}

/// What is not done, for programs.
pub fn problem_json(problem: &Problem) -> Value {
    json!({
        "mailbox": problem.mailbox.to_string(),
        "code": problem.trouble.code(),
        "detail": problem.trouble.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_as_people_name_it() {
        for (text, internal) in [
            ("Restored", Some("Restored")),
            ("INBOX/Old mail/2026", Some("Old mail.2026")),
            ("inbox.Old.2026", Some("Old.2026")),
            ("Old/v1.2", Some("Old.v1^2")),
            ("R&APw-ck", Some("R&APw-ck")),
            ("INBOX", Some("INBOX")),
            ("", None),
            ("a//b", None),
            (".a", None),
            ("a/", None),
            ("a%", None),
            ("a\nb", None),
            ("R\u{fc}ck", None),
        ] {
            let internal = internal.map(|name| name.as_bytes().to_vec());
            assert_eq!(folder(text), internal, "{text:?}");
        }
    }
}
