//! `cylinder promote`: the spool of a replica becomes that of a Cyrus.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cyrus_format::imapd_conf::{ImapdConf, VirtDomains};
use cyrus_format::names::NameEra;
use engine::audit::{self, Depth, Examined};
use model::Finding;
use rustix::process::geteuid;
use serde_json::{Value, json};
use spool::replica::{Replica, ReplicaError};
use spool::tree::Owner;

use crate::args::PromoteArgs;
use crate::error::{CliError, Exit};
use crate::render::{self, bytes, count, plain};
use crate::{processors, spool_error};

/// Runs the command.
pub fn run(args: &PromoteArgs) -> Result<Exit, CliError> {
    let conf = spool::read_conf(&args.config).map_err(spool_error::explain)?;
    let replica = match Replica::open_existing(&args.spool) {
        Err(ReplicaError::Promoted { .. }) => return report(args, &conf, &Outcome::Before),
        opened => opened.map_err(|error| explain(args, error))?,
    };
    let looked = look(args, &conf, &replica);
    let outcome = match looked {
        looked if !looked.may_go_on(args) => Outcome::Refused(looked),
        looked if args.dry_run => Outcome::Looked(looked),
        looked => {
            let owner = geteuid().is_root().then(|| Owner::of_conf(&conf)).flatten();
            replica.promote(&conf, owner).map_err(|error| explain(args, error))?;
            Outcome::Promoted(looked)
        }
    };
    report(args, &conf, &outcome)
}

fn explain(args: &PromoteArgs, error: ReplicaError) -> CliError {
    let headline = format!("cannot promote {}", args.spool.display());
    let (exit, hint) = match &error {
        ReplicaError::InUse { .. } => (Exit::TryAgain, "stop the cylinder serve that has it"),
        ReplicaError::NoReplica { .. } => (Exit::Failed, "--spool is that of cylinder serve"),
        _ => (Exit::Failed, "run it again: nothing is done by half"),
    };
    CliError::failed(headline, error).exit(exit).hint(hint)
}

/// What was found out beforehand.
struct Looked {
    examined: Examined,
    /// Of the mail: with consent it can be promoted all the same.
    losses: Vec<Finding>,
    /// Of the configuration: Cyrus would not find its mail.
    misplaced: Vec<Finding>,
}

impl Looked {
    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.misplaced.iter().chain(&self.losses)
    }

    fn may_go_on(&self, args: &PromoteArgs) -> bool {
        self.misplaced.is_empty() && (self.losses.is_empty() || args.accept_losses)
    }
}

enum Outcome {
    /// It had been promoted before.
    Before,
    Refused(Looked),
    /// Only looked at.
    Looked(Looked),
    Promoted(Looked),
}

impl Outcome {
    fn looked(&self) -> Option<&Looked> {
        match self {
            Outcome::Before => None,
            Outcome::Refused(looked) | Outcome::Looked(looked) | Outcome::Promoted(looked) => {
                Some(looked)
            }
        }
    }

    fn is_promoted(&self) -> bool {
        matches!(self, Outcome::Before | Outcome::Promoted(_))
    }

    fn exit(&self) -> Exit {
        match self.looked() {
            Some(looked) if looked.findings().next().is_some() => Exit::Findings,
            _ => Exit::Done,
        }
    }
}

fn look(args: &PromoteArgs, conf: &ImapdConf, replica: &Replica) -> Looked {
    let say = |finding: &Finding| {
        if !args.json {
            let (what, remedy) = (plain(&finding.to_string()), finding.kind.remedy());
            // Nobody is left to be told when standard error itself is gone.
            let _ = writeln!(io::stderr(), "finding: {what}\n  to do: {remedy}");
        }
    };
    let state = replica.lock();
    let misplaced = state.misplaced(conf);
    misplaced.iter().for_each(say);
    let depth = if args.full { Depth::Full } else { Depth::Quick };
    let mut losses = Vec::new();
    let examined = audit::examine(&state, depth, processors(), &mut |finding| {
        say(&finding);
        losses.push(finding);
    });
    Looked { examined, losses, misplaced }
}

fn report(args: &PromoteArgs, conf: &ImapdConf, outcome: &Outcome) -> Result<Exit, CliError> {
    let steps = match outcome {
        Outcome::Refused(_) => Vec::new(),
        outcome => next_steps(args, conf, outcome.looked()),
    };
    let text = match args.json {
        true => format!("{:#}\n", document(outcome, &steps)),
        false => text(&args.spool, outcome, &steps),
    };
    render::print("the report", text)?;
    Ok(outcome.exit())
}

/// What Cyrus would not do by itself when it starts.
fn next_steps(args: &PromoteArgs, conf: &ImapdConf, looked: Option<&Looked>) -> Vec<String> {
    let (spool, file) = (shell_word(&args.spool), shell_word(&args.config));
    let mut steps = Vec::new();
    if let Some(owner) = Owner::of_conf(conf).filter(|_| !geteuid().is_root())
        && fs::metadata(&args.spool).is_ok_and(|found| found.uid() != owner.uid)
    {
        steps.push(format!("chown -R {}:{} {spool}    # as root", owner.uid, owner.gid));
    }
    // Of a promotion before, nothing is known; neither does any harm.
    if looked.is_none_or(|looked| looked.examined.sieve_mailboxes > 0) {
        let dot = char::from(conf.name_rules(NameEra::V3).separator.byte());
        let mut names = format!("'user{dot}%{dot}#sieve'");
        if conf.virtdomains() != VirtDomains::Off {
            names.push_str(&format!(" 'user{dot}%{dot}#sieve@*'"));
        }
        steps.push(format!("reconstruct -C {file} {names}    # compiles sieve scripts"));
    }
    if conf.conversations() {
        steps.push(format!("ctl_conversationsdb -C {file} -R -r ''    # so that threads go on"));
    }
    steps.push("systemctl start cyrus-imapd    # or however it is started".to_owned());
    steps
}

/// A path as a shell takes it for one word.
fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |ch: char| ch.is_ascii_alphanumeric() || "/._-+".contains(ch);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

fn text(spool: &Path, outcome: &Outcome, steps: &[String]) -> String {
    let spool = plain(&spool.display().to_string());
    let mut text = String::new();
    if let Some(looked) = outcome.looked() {
        let Examined { mailboxes, messages, bytes: size, .. } = looked.examined;
        let found = match looked.findings().count() {
            0 => "whole".to_owned(),
            n => count(n as u64, "finding"),
        };
        let (mailboxes, messages) = (count(mailboxes, "mailbox"), count(messages, "message"));
        text.push_str(&format!("{spool}: {mailboxes}, {messages} ({}): {found}\n", bytes(size)));
    }
    text.push_str(&match outcome {
        Outcome::Before => format!("{spool} is promoted already; as Cyrus' user:\n"),
        Outcome::Refused(looked) if looked.misplaced.is_empty() => {
            "not promoted; --accept-losses does it all the same\n".to_owned()
        }
        Outcome::Refused(_) => "not promoted\n".to_owned(),
        Outcome::Looked(_) => "it can be promoted; then, as Cyrus' user:\n".to_owned(),
        Outcome::Promoted(_) => "promoted; now, as Cyrus' user:\n".to_owned(),
    });
    steps.iter().for_each(|step| text.push_str(&format!("    {}\n", plain(step))));
    text
}

fn document(outcome: &Outcome, steps: &[String]) -> Value {
    let examined = outcome.looked().map(|looked| &looked.examined);
    let findings = outcome.looked().into_iter().flat_map(Looked::findings);
    json!({
        "promoted": outcome.is_promoted(),
        "mailboxes": examined.map(|examined| examined.mailboxes),
        "messages": examined.map(|examined| examined.messages),
        "bytes": examined.map(|examined| examined.bytes),
        "findings": findings.map(render::finding_json).collect::<Vec<_>>(),
        "next": steps,
    })
}
