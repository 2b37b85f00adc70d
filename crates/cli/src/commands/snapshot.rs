//! `cylinder snapshot`: one account of a live server, as a tar.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use engine::base::Base;
use engine::live::live;
use engine::snapshot::{self, SnapshotError, Summary};
use model::Userid;
use segment::chain::Chain;
use segment::compress::{Compression, Writer};
use spool::{Options, Server};

use crate::archive::{self, Archives};
use crate::args::{Compress, SnapshotArgs};
use crate::error::{CliError, Exit};
use crate::output::Output;
use crate::progress::Progress;
use crate::{PROGRAM, processors, render, spool_error, when};

/// Runs the command.
pub fn run(args: &SnapshotArgs) -> Result<Exit, CliError> {
    check_output(args)?;
    // Files named on the command line are the caller's, so they are opened before acting as the
    // cyrus user, and published after.
    let archives = Archives::open(&args.since)?;
    let userid = Userid::from(args.account.as_str());
    let chain = match args.since.is_empty() {
        true => None,
        false => Some(archive::newest_chain(&archives.segments()?, &userid)?),
    };
    let output = Output::open(args.output.as_deref())?;
    let options = Options {
        lock_timeout: args.server.lock_wait,
        cyrus_version: args.server.cyrus_version.clone(),
    };
    let server = Server::open(&args.server.config, &options).map_err(spool_error::explain)?;
    let acting = server.act_as_cyrus().map_err(spool_error::explain)?;
    let progress = Progress::new(args.talk);
    let taken = take(args, &server, &userid, chain.as_ref(), output, &progress);
    progress.clear();
    drop(acting);
    let (output, summary) = taken?;
    output.finish().map_err(|error| {
        let what = args.output.as_deref().unwrap_or(Path::new("standard output"));
        CliError::failed(format!("cannot finish {}", what.display()), error)
    })?;
    render::snapshot(&summary, args.talk.json);
    Ok(if summary.findings.is_empty() { Exit::Done } else { Exit::Findings })
}

/// Refuses to replace what the snapshot continues: nothing could be restored from the result.
fn check_output(args: &SnapshotArgs) -> Result<(), CliError> {
    let identity = |path: &Path| {
        let found = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some((found.dev(), found.ino()))
    };
    let Some(output) = args.output.as_deref().and_then(identity) else { return Ok(()) };
    match args.since.iter().find(|since| identity(since) == Some(output)) {
        None => Ok(()),
        Some(since) => Err(CliError::usage(format!(
            "the snapshot would replace {}, which it continues",
            since.display()
        ))
        .hint("name another file; or leave --output out and append with >>")),
    }
}

fn take(
    args: &SnapshotArgs,
    server: &Server,
    userid: &Userid,
    chain: Option<&Chain<'_>>,
    output: Output,
    progress: &Progress,
) -> Result<(Output, Summary), CliError> {
    let base = chain.map(Base::new).transpose().map_err(archive::explain)?;
    let frozen = server.freeze(userid).map_err(spool_error::explain)?;
    let taken_at = when::now();
    let (account, messages) = live(frozen);
    let workers = args.jobs.map_or_else(processors, usize::from);
    let options = snapshot::Options {
        taken_at,
        taken_at_text: when::rfc3339(taken_at),
        program: PROGRAM.to_owned(),
        workers,
        seq: None,
        rewritten_at: None,
        catalog: false,
    };
    let how = match args.compress {
        Compress::None => Compression::None,
        Compress::Gzip => Compression::Gzip,
        Compress::Zstd => Compression::Zstd,
    };
    let out = Writer::new(output, how, workers);
    let (out, summary) =
        snapshot::snapshot(account, &messages, base.as_ref(), out, &options, progress)
            .map_err(explain)?;
    let output =
        out.finish().map_err(|error| CliError::failed("cannot write the output", error))?;
    Ok((output, summary))
}

fn explain(error: SnapshotError) -> CliError {
    let hint = match &error {
        SnapshotError::ForeignAccount { .. } => {
            Some("--since takes an archive of the same account")
        }
        SnapshotError::Archive(_) => Some("without --since a full snapshot is taken"),
        SnapshotError::Write(_) => None,
    };
    let explained = CliError::failed("no snapshot was taken", error);
    match hint {
        Some(hint) => explained.hint(hint),
        None => explained,
    }
}
