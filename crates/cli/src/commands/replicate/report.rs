//! What became of accounts, for people and for programs.

use csync::record::Record;
use engine::replicate::apply::Done as Counts;
use engine::replicate::compare::{Difference, DifferenceKind};
use engine::replicate::plan::Step;
use engine::replicate::split::Merge;
use engine::replicate::{Outcome, Problem, Trouble};
use engine::restore::journal::Flags;
use serde_json::{Value, json};

use super::split::record_json;
use super::{Done, Sending, explain};
use crate::args::ReplicateArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::queue::LOST_MAX;
use crate::render::{self, count, finding_json, plain};
use crate::when;

/// So many messages of a mailbox that both sides have changed are named; the rest is counted.
const DIFFERENCES_MAX: usize = 20;

/// Adds up what became of the accounts.
pub struct Report<'r> {
    args: &'r ReplicateArgs,
    sending: &'r Sending,
    accounts: usize,
    documents: Vec<Value>,
    /// Of a dry run.
    plan: String,
    done: Counts,
    unchanged: u64,
    problems: u64,
    failures: Vec<Exit>,
}

impl<'r> Report<'r> {
    /// Of so many accounts.
    pub fn new(args: &'r ReplicateArgs, sending: &'r Sending, accounts: usize) -> Self {
        Self {
            args,
            sending,
            accounts,
            documents: Vec::new(),
            plan: String::new(),
            done: Counts::default(),
            unchanged: 0,
            problems: 0,
            failures: Vec::new(),
        }
    }

    /// Takes what became of one.
    pub fn take(&mut self, done: Done, progress: &Progress) {
        let account = done.userid.to_string();
        let mut document = json!({ "account": account });
        match done.result {
            Ok(outcome) => self.outcome(&account, &outcome, &mut document, progress),
            Err(error) => {
                let error = explain(error, self.sending);
                self.failed(&account, error, &mut document, progress);
            }
        }
        self.documents.push(document);
    }

    fn outcome(
        &mut self,
        account: &str,
        outcome: &Outcome,
        document: &mut Value,
        progress: &Progress,
    ) {
        let steps: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
        let brakes: Vec<String> = outcome.plan.brakes.iter().map(ToString::to_string).collect();
        let problems: Vec<Value> = outcome.problems.iter().map(problem_json).collect();
        document["plan"] = json!(steps);
        document["brakes"] = json!(brakes);
        document["problems"] = json!(problems);
        let merges = outcome.plan.steps.iter().filter_map(|step| match step {
            Step::Merge(merge) => Some(&**merge),
            _ => None,
        });
        document["merges"] = json!(merges.clone().map(merge_json).collect::<Vec<_>>());
        if !self.args.talk.json {
            let most = if self.args.dry_run { usize::MAX } else { DIFFERENCES_MAX };
            let lines = merges.flat_map(|merge| merge_lines(merge, most));
            lines.for_each(|line| progress.say(&plain(&line)));
            let lines = outcome.problems.iter().flat_map(|problem| problem_lines(problem, most));
            lines.for_each(|line| progress.say(&format!("problem: {}", plain(&line))));
            if self.args.dry_run {
                let lines = steps.iter().map(|step| plain(&format!("{account}: {step}")) + "\n");
                self.plan.extend(lines);
            }
        }
        self.problems += outcome.problems.len() as u64;
        self.done.add(&outcome.done);
        // It may have been stopped in the middle.
        let is_braked = outcome.is_braked(self.args.accept_removals);
        if !is_braked || outcome.done != Counts::default() {
            document["done"] = done_json(&outcome.done);
        }
        if is_braked {
            let error = CliError::plain(brakes.join("; "))
                .hint("look at it with --dry-run; --accept-removals does it once");
            return self.failed(account, error, document, progress);
        }
        self.unchanged += u64::from(outcome.plan.is_empty());
        if !self.args.talk.json && !self.args.dry_run && !outcome.plan.is_empty() {
            progress.say(&format!("{}: {}", plain(account), done_text(&outcome.done)));
        }
    }

    fn failed(
        &mut self,
        account: &str,
        error: CliError,
        document: &mut Value,
        progress: &Progress,
    ) {
        let error = error.in_front(format!("{} was not replicated", plain(account)));
        let exit = if self.args.talk.json { error.exit_code() } else { progress.report(&error) };
        self.failures.push(exit);
        document["error"] = error.document();
    }

    /// Says all in all.
    pub fn finish(mut self) -> Result<Exit, CliError> {
        let not_tried = self.accounts - self.documents.len();
        if not_tried > 0 && !self.args.talk.json {
            let what = count(not_tried as u64, "account");
            CliError::plain(format!("{what} not tried: no connection, {LOST_MAX} times in a row"))
                .report(false);
        }
        let failed = self.failures.len() + not_tried;
        let export = self.sending.split.finish();
        let text = if self.args.talk.json {
            self.documents.sort_by(|a, b| a["account"].as_str().cmp(&b["account"].as_str()));
            let report = json!({
                "accounts": self.documents,
                "dry_run": self.args.dry_run,
                "unchanged": self.unchanged,
                "failed": self.failures.len(),
                "not_tried": not_tried,
                "problems": self.problems,
                "export": export,
                "done": done_json(&self.done),
            });
            format!("{report:#}\n")
        } else {
            format!(
                "{}{}: {} unchanged, {failed} failed; {}{}{}\n",
                self.plan,
                count(self.accounts as u64, "account"),
                self.unchanged,
                done_text(&self.done),
                if self.args.dry_run { "; nothing was sent" } else { "" },
                export.map(|path| format!("; both variants are in {path}")).unwrap_or_default(),
            )
        };
        render::print("the report", &text)?;
        Ok(self.exit(not_tried))
    }

    /// What failed counts more than what was only busy, and that more than what was found.
    fn exit(&self, not_tried: usize) -> Exit {
        if not_tried > 0 || self.failures.iter().any(|exit| *exit != Exit::TryAgain) {
            Exit::Failed
        } else if !self.failures.is_empty() {
            Exit::TryAgain
        } else if self.problems > 0 {
            Exit::Findings
        } else {
            Exit::Done
        }
    }
}

fn done_text(done: &Counts) -> String {
    let mut text = format!(
        "{} in {}",
        count(done.messages, "new message"),
        count(done.mailboxes, "changed mailbox"),
    );
    let others = [
        (done.renamed, "renamed"),
        (done.removed, "removed"),
        (done.others, "other steps"),
        (done.merged, "brought together"),
        (done.brought, "new here"),
    ];
    for (number, what) in others.into_iter().filter(|(number, _)| *number > 0) {
        text.push_str(&format!(", {number} {what}"));
    }
    text
}

fn done_json(done: &Counts) -> Value {
    json!({
        "mailboxes": done.mailboxes,
        "messages": done.messages,
        "renamed": done.renamed,
        "removed": done.removed,
        "others": done.others,
        "merged": done.merged,
        "brought": done.brought,
    })
}

fn problem_lines(problem: &Problem, most: usize) -> Vec<String> {
    let mailbox = problem.mailbox.to_string();
    let mut lines = vec![format!("{mailbox}: {}", problem.trouble)];
    match &problem.trouble {
        Trouble::Diverged(differences) => {
            lines.extend(difference_lines(&mailbox, differences, most));
        }
        Trouble::Damaged(findings) | Trouble::DamagedThere(findings) => {
            let named = findings.iter().skip(1).take(DIFFERENCES_MAX);
            lines.extend(named.map(ToString::to_string));
        }
        _ => {}
    }
    lines
}

fn merge_lines(merge: &Merge, most: usize) -> Vec<String> {
    let mailbox = merge.name.to_string();
    let number = count(merge.differences.len() as u64, "message");
    let mut lines = vec![format!("{mailbox}: both sides have changed it: {number}")];
    lines.extend(difference_lines(&mailbox, &merge.differences, most));
    let moved = merge.moved().take(most).map(|(to, numbers)| {
        let sides = [(numbers.here, "here"), (numbers.there, "on the replica")];
        let from = sides.iter().filter_map(|(uid, side)| Some(format!("{} {side}", (*uid)?)));
        format!("{mailbox}: uid {} becomes {to}", from.collect::<Vec<_>>().join(" and "))
    });
    lines.extend(moved);
    lines
}

fn difference_lines<'d>(
    mailbox: &'d str,
    differences: &'d [Difference],
    most: usize,
) -> impl Iterator<Item = String> + 'd {
    let named = differences.iter().take(most).flat_map(move |difference| {
        let both = [(&difference.here, "here"), (&difference.there, "on the replica")];
        let records =
            both.into_iter().filter_map(|(record, side)| Some((record.as_deref()?, side)));
        let lines = records.map(move |(record, side)| {
            format!("{mailbox}: uid {}: {side}: {}", difference.uid, record_text(record))
        });
        std::iter::once(format!("{mailbox}: {difference}")).chain(lines)
    });
    let rest = differences.len().saturating_sub(most);
    let rest = (rest > 0).then(|| format!("{mailbox}: {rest} more; --dry-run names all of them"));
    named.chain(rest)
}

fn record_text(record: &Record) -> String {
    let flags = Flags::of(record).names();
    let flags: Vec<_> = flags.iter().map(|flag| String::from_utf8_lossy(flag)).collect();
    let flags = flags.join(" ");
    let expunged = if record.is_expunged() { ", expunged" } else { "" };
    let date = when::rfc3339(record.internaldate.secs);
    format!("{}, {date}, {} bytes, ({flags}){expunged}", record.guid, record.size)
}

fn difference_json(difference: &Difference) -> Value {
    let side = match difference.kind {
        DifferenceKind::OnlyHere => "master",
        DifferenceKind::OnlyThere => "replica",
        _ => "both",
    };
    json!({
        "uid": difference.uid.0,
        "code": difference.kind.code(),
        "detail": difference.to_string(),
        "side": side,
        "master": difference.here.as_deref().map(record_json),
        "replica": difference.there.as_deref().map(record_json),
    })
}

fn merge_json(merge: &Merge) -> Value {
    let moved = merge.moved().map(|(to, numbers)| {
        json!({
            "guid": numbers.guid.to_string(),
            "master_uid": numbers.here.map(|uid| uid.0),
            "replica_uid": numbers.there.map(|uid| uid.0),
            "uid": to.0,
        })
    });
    json!({
        "mailbox": merge.name.to_string(),
        "differences": merge.differences.iter().map(difference_json).collect::<Vec<_>>(),
        "to_master": merge.new.0,
        "to_replica": merge.new.1,
        "moved": moved.collect::<Vec<_>>(),
    })
}

fn problem_json(problem: &Problem) -> Value {
    let mut document = json!({
        "mailbox": problem.mailbox.to_string(),
        "code": problem.trouble.code(),
        "detail": problem.trouble.to_string(),
    });
    match &problem.trouble {
        Trouble::Diverged(differences) => {
            let all: Vec<Value> = differences.iter().map(difference_json).collect();
            document["differences"] = json!(all);
        }
        Trouble::Damaged(findings) | Trouble::DamagedThere(findings) => {
            document["findings"] = json!(findings.iter().map(finding_json).collect::<Vec<_>>());
        }
        _ => {}
    }
    document
}
