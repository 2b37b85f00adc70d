//! `cylinder verify --drill`: the newest snapshot of each account, restored and compared.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vault::note::DRILL;
use vault::{Account, History, Vault};

use super::{TOLD, Verified, note};
use crate::args::VerifyArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::render::{self, bytes, count, plain};
use crate::vaults::drill::{Difference, DrillError, Report, account, prepare};
use crate::vaults::{self, explain, open};
use crate::when::{self, rfc3339};

/// Runs the command.
pub fn run(args: &VerifyArgs, place: &Path) -> Result<Exit, CliError> {
    // Mail is nobody else's business, whatever the umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let opened = open(&args.vault)?;
    let components = vaults::components(&opened, &args.accounts)?;
    let is_made = prepare(place).map_err(explain_drill)?;
    let progress = Progress::new(args.talk);
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for component in &components {
        let (document, one) = drill(args, &opened, component, place, &progress);
        documents.push(document);
        // A drill that could not be held weighs more than what another one found.
        if one != Exit::Done && exit != Exit::Failed {
            exit = one;
        }
    }
    progress.clear();
    if is_made && exit == Exit::Done {
        let removed = fs::remove_dir(place);
        removed.map_err(|error| {
            CliError::failed(format!("cannot remove {}", place.display()), error)
        })?;
    }
    let text = match args.talk.json {
        true => format!("{:#}\n", json!({ "accounts": documents })),
        false => format!("{} drilled\n", count(components.len() as u64, "account")),
    };
    render::print("the report", &text)?;
    Ok(exit)
}

fn drill(
    args: &VerifyArgs,
    opened: &Vault,
    component: &str,
    place: &Path,
    progress: &Progress,
) -> (Value, Exit) {
    let one = opened.account_by_component(component);
    let place = place.join(component);
    match hold(&one, &place, progress) {
        Ok((report, kept)) => {
            if !args.talk.json {
                for line in lines(component, &report, kept.as_deref()) {
                    progress.say(&line);
                }
            }
            let exit = if report.is_clean() { Exit::Done } else { Exit::Findings };
            (document(component, &report, kept.as_deref()), exit)
        }
        Err(error) => {
            let error = error.in_front(format!("{} was not drilled", plain(component)));
            let exit = if args.talk.json { error.exit_code() } else { progress.report(&error) };
            (json!({ "account": component, "error": error.document() }), exit)
        }
    }
}

/// Holds the drill and writes it down; what it found, and where that is kept to be looked at.
fn hold(
    one: &Account,
    place: &Path,
    progress: &Progress,
) -> Result<(Report, Option<PathBuf>), CliError> {
    let history = one.history().map_err(explain)?;
    let report = account(one, &history, place, progress).map_err(explain_drill)?;
    if !history.is_empty() {
        write_down(one, &history, &report)?;
    }
    // Where nothing could be restored, nothing was made.
    if !place.exists() {
        return Ok((report, None));
    }
    if !report.is_clean() {
        return Ok((report, Some(place.to_owned())));
    }
    fs::remove_dir_all(place)
        .map_err(|error| CliError::failed(format!("cannot remove {}", place.display()), error))?;
    Ok((report, None))
}

fn write_down(one: &Account, history: &History, report: &Report) -> Result<(), CliError> {
    let newest = history.newest().map(|newest| newest.name.to_string());
    let verified = Verified {
        heads: newest.into_iter().collect(),
        percent: 100,
        how: Some(DRILL.to_owned()),
        findings: report.count(),
    };
    note(one, history, &verified, when::now()).map_err(explain)
}

fn explain_drill(error: DrillError) -> CliError {
    let hint = match &error {
        DrillError::Scratch { source, .. }
            if source.kind() == std::io::ErrorKind::DirectoryNotEmpty =>
        {
            "name a directory that does not exist yet, or an empty one"
        }
        DrillError::Scratch { .. } | DrillError::Restore { .. } => {
            "a drill wants room for twice the mail of its largest account, and for what that had \
             before"
        }
    };
    CliError::failed("cannot hold a drill", error).hint(hint)
}

fn lines(component: &str, report: &Report, kept: Option<&Path>) -> Vec<String> {
    let component = plain(component);
    let mut lines = Vec::new();
    for difference in report.differences.iter().take(TOLD) {
        lines.push(format!("{component}: {}", plain(&told(difference))));
    }
    if let Some(more) = report.count().checked_sub(TOLD as u64).filter(|more| *more > 0) {
        lines.push(format!("{component}: and {more} more"));
    }
    let state = match (report.snapshot, report.is_clean()) {
        (None, true) => "nothing to restore".to_owned(),
        (None, false) => "CANNOT BE RESTORED".to_owned(),
        (Some((seq, _)), true) => format!("snapshot {seq} comes back"),
        (Some((seq, _)), false) => format!("snapshot {seq} DIFFERS"),
    };
    lines.push(format!(
        "{component}: {state}; {} ({}) and {} compared, {} unpacked",
        count(report.messages, "message"),
        bytes(report.bytes),
        count(report.files, "file"),
        count(report.segments, "segment"),
    ));
    if let Some(kept) = kept {
        lines.push(format!("{component}: see {}", plain(&kept.display().to_string())));
    }
    lines
}

fn told(difference: &Difference) -> String {
    let Difference { mailbox, uid, guid, detail } = difference;
    let guid = guid.as_ref().map(|guid| format!(" ({guid})")).unwrap_or_default();
    match (mailbox, uid) {
        (Some(mailbox), Some(uid)) => format!("message {uid} of {mailbox}{guid}: {detail}"),
        (Some(mailbox), None) => format!("{mailbox}{guid}: {detail}"),
        (None, _) if guid.is_empty() => detail.clone(),
        (None, _) => format!("message{guid}: {detail}"),
    }
}

fn document(component: &str, report: &Report, kept: Option<&Path>) -> Value {
    json!({
        "account": component,
        "clean": report.is_clean(),
        "seq": report.snapshot.map(|(seq, _)| seq),
        "taken_at": report.snapshot.map(|(_, taken_at)| rfc3339(taken_at)),
        "segments": report.segments,
        "messages_compared": report.messages,
        "bytes_compared": report.bytes,
        "files_compared": report.files,
        "differences": report.differences.iter().map(|difference| json!({
            "mailbox": difference.mailbox,
            "uid": difference.uid,
            "guid": difference.guid,
            "detail": difference.detail,
        })).collect::<Vec<_>>(),
        "differences_not_listed": report.more,
        "kept": kept.map(|kept| kept.display().to_string()),
    })
}
