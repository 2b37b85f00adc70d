//! `cylinder restore`: an account, or some of its mailboxes, given back.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use engine::archive::{StoredMessages, stored};
use engine::export::{self, ExportError, Form, SpoolOptions, Tree, export};
use engine::folder::is_named;
use engine::snapshot;
use engine::source::SourceAccount;
use jiff::tz::TimeZone;
use model::Userid;
use segment::chain::{Chain, Snapshot};
use segment::manifest::{ManifestHead, StoredMailbox};
use spool::tree::{DirTree, Owner};

use crate::archive::{self, Archives};
use crate::args::{Layout, RestoreArgs};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::progress::Progress;
use crate::vaults::folders;
use crate::when::{At, parse_at};
use crate::{processors, render, vaults};

/// Where mail goes, as typed after `--to`.
enum Target {
    Dir(PathBuf),
    Maildir(PathBuf),
    Mbox(PathBuf),
    Tar(PathBuf),
}

/// Runs the command.
pub fn run(args: &RestoreArgs) -> Result<Exit, CliError> {
    let target = parse_target(&args.to)?;
    match &args.vault {
        Some(location) => from_vault(args, location, target),
        None => from_archives(args, target),
    }
}

fn from_vault(args: &RestoreArgs, location: &str, target: Target) -> Result<Exit, CliError> {
    let opened = vaults::open(location)?;
    let (account, history) = vaults::account(&opened, &args.account)?;
    let entry = vaults::choose(&history, &args.account, args.at.as_deref())?;
    let lineage = account.open(&history.lineage(&entry.name.own));
    let chain = lineage.chain();
    let snapshot = chain.at(entry.name.seq).map_err(|error| archive::explain(error.into()))?;
    restore(args, target, &chain, snapshot)
}

fn from_archives(args: &RestoreArgs, target: Target) -> Result<Exit, CliError> {
    let archives = Archives::open(&args.from)?;
    let mut exit = Exit::Done;
    let segments = if args.salvage {
        let found = archives.search();
        for trouble in &found.trouble {
            trouble.report(args.talk.json);
            exit = Exit::Findings;
        }
        found.segments
    } else {
        archives.segments()?
    };
    let chain = archive::newest_chain(&segments, &Userid::from(args.account.as_str()))?;
    let last = chain.snapshots().iter().rfind(|snapshot| !snapshot.is_part());
    let snapshot = match (choose(&chain, args), last) {
        (Err(error), Some(last)) if args.salvage && args.at.is_none() => {
            error.report(args.talk.json);
            exit = Exit::Findings;
            last
        }
        (chosen, _) => chosen?,
    };
    let restored = restore(args, target, &chain, snapshot)?;
    Ok(if restored == Exit::Done { exit } else { restored })
}

/// Gives one snapshot, or some mailboxes of it.
fn restore(
    args: &RestoreArgs,
    target: Target,
    chain: &Chain<'_>,
    snapshot: &Snapshot<'_>,
) -> Result<Exit, CliError> {
    let picks: Vec<&[u8]> = args.mailbox.iter().map(|name| name.as_bytes()).collect();
    let (account, messages, head) =
        stored(chain, snapshot, |mailbox| wanted(mailbox, args.account.as_bytes(), &picks))
            .map_err(archive::explain)?;
    check_picks(args, &head)?;
    if args.dry_run {
        announce(&account, &head)?;
        return Ok(Exit::Done);
    }
    let progress = Progress::new(args.talk);
    let summary = give(args, target, &account, &messages, &head, &progress);
    progress.clear();
    let summary = summary?;
    render::restored(&args.account, head.seq, &args.to, &summary, args.talk.json);
    Ok(if summary.findings.is_empty() { Exit::Done } else { Exit::Findings })
}

fn parse_target(text: &str) -> Result<Target, CliError> {
    let wrong = || {
        CliError::usage(format!("--to {text} names no target"))
            .hint("use dir:PATH, maildir:PATH, mbox:PATH or tar:FILE")
    };
    let (kind, path) = text.split_once(':').ok_or_else(wrong)?;
    if path.is_empty() {
        return Err(wrong());
    }
    let path = PathBuf::from(path);
    match kind {
        "dir" => Ok(Target::Dir(path)),
        "maildir" => Ok(Target::Maildir(path)),
        "mbox" => Ok(Target::Mbox(path)),
        "tar" => Ok(Target::Tar(path)),
        _ => Err(wrong()),
    }
}

fn choose<'c, 'a>(chain: &'c Chain<'a>, args: &RestoreArgs) -> Result<&'c Snapshot<'a>, CliError> {
    let Some(at) = args.at.as_deref() else {
        return chain.newest().map_err(|error| archive::explain(error.into()));
    };
    let chosen = match parse_at(at, &TimeZone::system()) {
        Some(At::Seq(seq)) => chain.at(u32::try_from(seq).unwrap_or(u32::MAX)),
        Some(At::Time(time)) => chain.at_time(time),
        None => {
            return Err(CliError::usage(format!("--at {at} is neither a number nor a time")).hint(
                "use a snapshot's number, or a time like 2026-11-23 or 2026-11-23T19:00:00Z",
            ));
        }
    };
    chosen.map_err(|error| archive::explain(error.into()))
}

/// Whether a mailbox was asked for: by its internal name, its name below INBOX, or the
/// administrator's name.
fn wanted(mailbox: &StoredMailbox, userid: &[u8], picks: &[&[u8]]) -> bool {
    picks.is_empty() || picks.iter().any(|pick| is_named(mailbox.name.as_bytes(), userid, pick))
}

fn check_picks(args: &RestoreArgs, head: &ManifestHead) -> Result<(), CliError> {
    for pick in &args.mailbox {
        let userid = args.account.as_bytes();
        if !head
            .mailboxes
            .iter()
            .any(|mailbox| is_named(mailbox.name.as_bytes(), userid, pick.as_bytes()))
        {
            let there = folders(head, &args.account);
            return Err(CliError::plain(format!(
                "snapshot {} of {} has no mailbox {pick}",
                head.seq, args.account
            ))
            .hint(format!("it has {there}")));
        }
    }
    Ok(())
}

fn announce(account: &SourceAccount, head: &ManifestHead) -> Result<(), CliError> {
    let (seq, taken_at) = (head.seq, render::plain(&head.taken_at.text));
    let mut text =
        format!("would restore snapshot {seq} of {}, taken {taken_at}\n", account.userid);
    for mailbox in &account.mailboxes {
        let stored = head.mailboxes.iter().find(|m| m.name.as_bytes() == mailbox.name.as_bytes());
        let messages = stored.map_or(0, |stored| stored.exists);
        let messages = render::count(messages, "message");
        text.push_str(&format!("    {:<40} {messages}\n", mailbox.name.to_string()));
    }
    render::print("what would be restored", text)
}

fn give(
    args: &RestoreArgs,
    target: Target,
    account: &SourceAccount,
    messages: &StoredMessages<'_>,
    head: &ManifestHead,
    progress: &Progress,
) -> Result<export::Summary, CliError> {
    let (path, form) = match target {
        Target::Tar(path) => return give_tar(&path, account, messages, head, progress),
        Target::Maildir(path) => (path, Form::Maildir),
        Target::Mbox(path) => (path, Form::Mbox),
        Target::Dir(path) => {
            let root = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
            let layout = match args.layout {
                Layout::Source => export::Layout::Source,
                Layout::Uuid => export::Layout::Uuid,
                Layout::Name => export::Layout::Name,
            };
            (path, Form::Spool(SpoolOptions { layout, root }))
        }
    };
    // Only a spool is Cyrus' own; other forms belong to whoever asked for them.
    let owner = match form {
        Form::Spool(_) => Owner::for_cyrus(),
        Form::Maildir | Form::Mbox => None,
    };
    let tree = DirTree::create(&path, owner).map_err(|error| {
        CliError::failed(format!("cannot restore into {}", path.display()), error)
            .hint("name a directory that does not exist yet, or an empty one")
    })?;
    let mut tree = Directory(tree);
    let taken_at = head.taken_at.unix;
    let summary = export(account, messages, &form, &mut tree, taken_at, processors(), progress)
        .map_err(|error| explain_export(&path, error))?;
    tree.0.sync().map_err(|error| {
        CliError::failed(format!("cannot make {} durable", path.display()), error)
    })?;
    Ok(summary)
}

fn explain_export(path: &Path, error: ExportError) -> CliError {
    let hint = match &error {
        ExportError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            "make room, remove what was restored so far, and try again"
        }
        ExportError::Write { .. } => "what was restored so far is incomplete; remove it",
        ExportError::Layout { .. } => "try another --layout, or maildir:",
    };
    CliError::failed(format!("cannot restore into {}", path.display()), error).hint(hint)
}

/// One full snapshot, as it would have been taken then.
fn give_tar(
    path: &Path,
    account: &SourceAccount,
    messages: &StoredMessages<'_>,
    head: &ManifestHead,
    progress: &Progress,
) -> Result<export::Summary, CliError> {
    let path = Some(path).filter(|path| *path != Path::new("-"));
    if let Some(path) = path.filter(|path| path.exists()) {
        return Err(CliError::plain(format!("{} exists already", path.display()))
            .hint("name a file that does not exist yet"));
    }
    let options = snapshot::Options {
        taken_at: head.taken_at.unix,
        taken_at_text: head.taken_at.text.clone(),
        program: crate::PROGRAM.to_owned(),
        workers: processors(),
        seq: None,
        rewritten_at: None,
        catalog: false,
    };
    let output = Output::open(path)?;
    let (output, summary) =
        snapshot::snapshot(account.clone(), messages, None, output, &options, progress)
            .map_err(|error| CliError::failed("cannot write the tar", error))?;
    output.finish().map_err(|error| CliError::failed("cannot finish the tar", error))?;
    Ok(export::Summary {
        mailboxes: summary.totals.mailboxes,
        messages: summary.totals.messages,
        bytes: summary.totals.bytes_new,
        findings: summary.findings,
    })
}

/// A directory as the engine's port.
struct Directory(DirTree);

impl Tree for Directory {
    fn dir(&mut self, path: &Path) -> io::Result<()> {
        self.0.dir(path)
    }

    fn file(&mut self, path: &Path, mtime: i64, bytes: &[u8]) -> io::Result<()> {
        self.0.file(path, mtime, bytes)
    }

    fn copy(&mut self, path: &Path, mtime: i64, bytes: &mut dyn Read) -> io::Result<()> {
        self.0.copy(path, mtime, bytes)
    }

    fn append(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.0.append(path, bytes)
    }

    fn link(&mut self, existing: &Path, path: &Path) -> io::Result<()> {
        self.0.link(existing, path)
    }

    fn symlink(&mut self, target: &Path, path: &Path) -> io::Result<()> {
        self.0.symlink(target, path)
    }
}
