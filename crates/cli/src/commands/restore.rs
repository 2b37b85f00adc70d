//! `cylinder restore`: an account, or some of its mailboxes or messages, given back.

mod flags;
mod live;
mod take_back;
mod undo_file;

use std::io;
use std::path::{Path, PathBuf};

use engine::archive::{StoredMessages, stored};
use engine::export::{self, ExportError, Expunged, Form, SpoolOptions, Tree, export};
use engine::folder::is_named;
use engine::ports::Monitor;
use engine::selection::Selection;
use engine::snapshot;
use engine::source::SourceAccount;
use model::Userid;
use segment::chain::{Chain, Snapshot};
use segment::manifest::ManifestHead;
use spool::tree::{DirTree, Owner};

use self::flags::TarTree;
use crate::archive::{self, Archives};
use crate::args::{Layout, RestoreArgs};
use crate::directory::Directory;
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::progress::Progress;
use crate::vaults::{folders, parse_guid};
use crate::{processors, render, vaults};

/// Where mail goes, as typed after `--to`.
enum Target {
    Dir(PathBuf),
    Maildir(PathBuf),
    Mbox(PathBuf),
    Tar(PathBuf),
}

/// Whether that is files, or a server that runs.
enum Goal {
    Files(Target),
    Server,
}

/// What was typed.
struct Wish<'a> {
    args: &'a RestoreArgs,
    goal: Goal,
    selection: Selection,
}

/// Runs the command.
pub fn run(args: &RestoreArgs) -> Result<Exit, CliError> {
    let goal = parse_goal(&args.to)?;
    live::check(args, &goal)?;
    if let Some(path) = &args.live.undo_from {
        return take_back::run(args, path);
    }
    let wish = Wish { args, goal, selection: selection(args)? };
    let no_flags_alone = matches!(wish.goal, Goal::Files(Target::Maildir(_) | Target::Mbox(_)));
    if args.flags_only && no_flags_alone {
        return Err(CliError::usage(
            "--flags-only gives no messages, and maildir: and mbox: have \
             flags only with messages",
        )
        .hint("use dir:PATH or tar:FILE, and set the flags on the server from flags.jsonl"));
    }
    match &args.vault {
        Some(location) => from_vault(&wish, location),
        None => from_archives(&wish),
    }
}

fn from_vault(wish: &Wish<'_>, location: &str) -> Result<Exit, CliError> {
    let args = wish.args;
    let opened = vaults::open(location)?;
    let (account, history) = vaults::account(&opened, &args.account)?;
    let entry = vaults::choose(&history, &args.account, args.at.as_deref())?;
    let lineage = account.open(&history.lineage(&entry.name.own));
    let chain = lineage.chain();
    let snapshot = chain.at(entry.name.seq).map_err(|error| archive::explain(error.into()))?;
    restore(wish, &chain, snapshot)
}

fn from_archives(wish: &Wish<'_>) -> Result<Exit, CliError> {
    let args = wish.args;
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
    let snapshot = match (archive::choose(&chain, args.at.as_deref()), last) {
        (Err(error), Some(last)) if args.salvage && args.at.is_none() => {
            error.report(args.talk.json);
            exit = Exit::Findings;
            last
        }
        (chosen, _) => chosen?,
    };
    let restored = restore(wish, &chain, snapshot)?;
    Ok(if restored == Exit::Done { exit } else { restored })
}

/// Gives one snapshot, or what was selected of it.
fn restore(wish: &Wish<'_>, chain: &Chain<'_>, snapshot: &Snapshot<'_>) -> Result<Exit, CliError> {
    let args = wish.args;
    let (account, messages, head) =
        stored(chain, snapshot, &wish.selection).map_err(archive::explain)?;
    check_mailboxes(args, &head)?;
    check_guids(wish, &account, &head)?;
    let target = match &wish.goal {
        Goal::Files(target) => target,
        Goal::Server => return live::give(wish, &account, &messages, &head),
    };
    let job = Job { wish, target, account, messages: &messages, head: &head };
    if args.dry_run {
        job.announce()?;
        return Ok(Exit::Done);
    }
    let progress = Progress::new(args.talk);
    let summary = job.give(&progress);
    progress.clear();
    let summary = summary?;
    render::restored(args, head.seq, &summary);
    Ok(if summary.findings.is_empty() { Exit::Done } else { Exit::Findings })
}

fn selection(args: &RestoreArgs) -> Result<Selection, CliError> {
    let mailboxes = args.mailbox.iter().map(|name| name.as_bytes().to_vec()).collect();
    let guids = args.guid.iter().map(|guid| parse_guid(guid)).collect::<Result<_, _>>()?;
    Ok(Selection { mailboxes, guids })
}

fn parse_goal(text: &str) -> Result<Goal, CliError> {
    match text.starts_with("csync://") || text.starts_with("csyncs://") {
        true => Ok(Goal::Server),
        false => parse_target(text).map(Goal::Files),
    }
}

fn parse_target(text: &str) -> Result<Target, CliError> {
    let wrong = || {
        CliError::usage(format!("--to {text} names no target"))
            .hint("use dir:PATH, maildir:PATH, mbox:PATH, tar:FILE or csync://HOST")
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

fn check_mailboxes(args: &RestoreArgs, head: &ManifestHead) -> Result<(), CliError> {
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

fn check_guids(
    wish: &Wish<'_>,
    account: &SourceAccount,
    head: &ManifestHead,
) -> Result<(), CliError> {
    let (args, missing) = (wish.args, wish.selection.missing_from(account));
    let Some(guid) = missing.first() else { return Ok(()) };
    let (seq, taken_at) = (head.seq, &head.taken_at.text);
    let place = match args.mailbox.as_slice() {
        [] => String::new(),
        names => format!(" in {}", names.join(" or ")),
    };
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(", nor {more} others that were asked for"),
    };
    let error = format!(
        "snapshot {seq} of {}, taken {taken_at}, holds no message {guid}{place}{more}",
        args.account
    );
    Err(CliError::plain(error).hint(match &args.vault {
        Some(_) => "cylinder find tells in which snapshots and mailboxes it was",
        None => "another snapshot may have it: cylinder list shows which there are, --at names one",
    }))
}

/// What is to be given back.
struct Job<'a> {
    wish: &'a Wish<'a>,
    target: &'a Target,
    account: SourceAccount,
    messages: &'a StoredMessages<'a>,
    head: &'a ManifestHead,
}

impl Job<'_> {
    fn announce(&self) -> Result<(), CliError> {
        let (seq, taken_at) = (self.head.seq, render::plain(&self.head.taken_at.text));
        let what = if self.wish.args.flags_only { "the flags of snapshot" } else { "snapshot" };
        let userid = &self.account.userid;
        let mut text = format!("would restore {what} {seq} of {userid}, taken {taken_at}\n");
        for mailbox in &self.account.mailboxes {
            let messages = match self.expunged() {
                Expunged::WhereMarked => mailbox.exists(),
                Expunged::Wanted => mailbox.kept(),
            };
            let messages = render::count(messages, "message");
            text.push_str(&format!("    {:<40} {messages}\n", mailbox.name.to_string()));
        }
        render::print("what would be restored", text)
    }

    /// Who names a message by its GUID wants it, whatever became of it.
    fn expunged(&self) -> Expunged {
        let is_named = !self.wish.selection.guids.is_empty() && !self.wish.args.flags_only;
        if is_named { Expunged::Wanted } else { Expunged::WhereMarked }
    }

    fn give(self, progress: &Progress) -> Result<export::Summary, CliError> {
        let is_whole = !self.wish.args.flags_only;
        let (path, form) = match self.target {
            Target::Tar(path) if is_whole => return self.give_tar(path, progress),
            Target::Tar(path) => return self.give_flags_tar(path, progress),
            Target::Maildir(path) => (path, Form::Maildir),
            Target::Mbox(path) => (path, Form::Mbox),
            Target::Dir(path) if is_whole => (path, Form::Spool(self.spool_options(path))),
            Target::Dir(path) => (path, Form::Metadata(self.spool_options(path))),
        };
        // Only a spool is Cyrus' own; other forms belong to whoever asked for them.
        let owner = match form {
            Form::Spool(_) => Owner::for_cyrus(),
            Form::Metadata(_) | Form::Maildir | Form::Mbox => None,
        };
        let tree = DirTree::create(path, owner).map_err(|error| {
            CliError::failed(format!("cannot restore into {}", path.display()), error)
                .hint("name a directory that does not exist yet, or an empty one")
        })?;
        let mut tree = Directory::new(tree);
        let summary = self.export(path, &form, &mut tree, progress)?;
        tree.sync().map_err(|error| {
            CliError::failed(format!("cannot make {} durable", path.display()), error)
        })?;
        Ok(summary)
    }

    fn export(
        &self,
        path: &Path,
        form: &Form,
        tree: &mut dyn Tree,
        progress: &Progress,
    ) -> Result<export::Summary, CliError> {
        let taken_at = self.head.taken_at.unix;
        let expunged = self.expunged();
        let options = export::Options { taken_at, workers: processors(), expunged };
        let mut summary = export(&self.account, self.messages, form, tree, &options, progress)
            .map_err(|error| explain_export(path, error))?;
        if self.wish.args.flags_only {
            summary.findings = engine::flags::unreadable(&self.account);
            summary.findings.iter().for_each(|finding| progress.finding(finding));
            let put = flags::put(&self.account, taken_at, tree);
            summary.messages = put.map_err(|source| {
                let what = "the list of flags".to_owned();
                explain_export(path, ExportError::Write { what, source })
            })?;
        }
        Ok(summary)
    }

    fn spool_options(&self, path: &Path) -> SpoolOptions {
        let root = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let layout = match self.wish.args.layout {
            Layout::Source => export::Layout::Source,
            Layout::Uuid => export::Layout::Uuid,
            Layout::Name => export::Layout::Name,
        };
        SpoolOptions { layout, root }
    }

    /// A tar of what a directory would hold. No archive: there are no messages to make one of.
    fn give_flags_tar(
        &self,
        path: &Path,
        progress: &Progress,
    ) -> Result<export::Summary, CliError> {
        let form = Form::Metadata(self.spool_options(path));
        let mut tree = TarTree::new(open_tar(path)?, self.head.taken_at.unix);
        let summary = self.export(path, &form, &mut tree, progress)?;
        let finished = tree.finish().and_then(Output::finish);
        finished.map_err(|error| CliError::failed("cannot finish the tar", error))?;
        Ok(summary)
    }

    /// One full snapshot, as it would have been taken then. Each mailbox's metadata is dropped as
    /// soon as it is written.
    fn give_tar(self, path: &Path, progress: &Progress) -> Result<export::Summary, CliError> {
        let options = snapshot::Options {
            taken_at: self.head.taken_at.unix,
            taken_at_text: self.head.taken_at.text.clone(),
            program: crate::PROGRAM.to_owned(),
            workers: processors(),
            seq: None,
            rewritten_at: None,
            catalog: false,
        };
        let output = open_tar(path)?;
        let (output, summary) =
            snapshot::snapshot(self.account, self.messages, None, output, &options, progress)
                .map_err(|error| CliError::failed("cannot write the tar", error))?;
        output.finish().map_err(|error| CliError::failed("cannot finish the tar", error))?;
        Ok(export::Summary {
            mailboxes: summary.totals.mailboxes,
            messages: summary.totals.messages,
            bytes: summary.totals.bytes_new,
            findings: summary.findings,
        })
    }
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

/// Opens the file of a tar, which must not be there yet, or standard output for `-`.
fn open_tar(path: &Path) -> Result<Output, CliError> {
    let path = Some(path).filter(|path| *path != Path::new("-"));
    if let Some(path) = path.filter(|path| path.exists()) {
        return Err(CliError::plain(format!("{} exists already", path.display()))
            .hint("name a file that does not exist yet"));
    }
    Output::open(path)
}
