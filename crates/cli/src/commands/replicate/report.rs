//! What became of accounts, for people and for programs.

use engine::replicate::apply::Done as Counts;
use engine::replicate::{Outcome, Problem, Trouble};
use serde_json::{Value, json};

use super::target::Target;
use super::{Done, explain};
use crate::args::ReplicateArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::queue::LOST_MAX;
use crate::render::{self, count, finding_json, plain};

/// So many messages of a mailbox that both sides have changed are named; the rest is counted.
const DIFFERENCES_MAX: usize = 20;

/// Adds up what became of the accounts.
pub struct Report<'r> {
    args: &'r ReplicateArgs,
    target: &'r Target,
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
    pub fn new(args: &'r ReplicateArgs, target: &'r Target, accounts: usize) -> Self {
        Self {
            args,
            target,
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
                let error = explain(error, self.target);
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
        if !self.args.talk.json {
            let lines = outcome.problems.iter().flat_map(problem_lines);
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
        let text = if self.args.talk.json {
            self.documents.sort_by(|a, b| a["account"].as_str().cmp(&b["account"].as_str()));
            let report = json!({
                "accounts": self.documents,
                "dry_run": self.args.dry_run,
                "unchanged": self.unchanged,
                "failed": self.failures.len(),
                "not_tried": not_tried,
                "problems": self.problems,
                "done": done_json(&self.done),
            });
            format!("{report:#}\n")
        } else {
            format!(
                "{}{}: {} unchanged, {failed} failed; {}{}\n",
                self.plan,
                count(self.accounts as u64, "account"),
                self.unchanged,
                done_text(&self.done),
                if self.args.dry_run { "; nothing was sent" } else { "" },
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
    let others =
        [(done.renamed, "renamed"), (done.removed, "removed"), (done.others, "other steps")];
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
    })
}

fn problem_lines(problem: &Problem) -> Vec<String> {
    let mut lines = vec![format!("{}: {}", problem.mailbox, problem.trouble)];
    match &problem.trouble {
        Trouble::Diverged(differences) => {
            let named = differences.iter().take(DIFFERENCES_MAX);
            lines.extend(named.map(|difference| format!("{}: {difference}", problem.mailbox)));
        }
        Trouble::Damaged(findings) => {
            let named = findings.iter().skip(1).take(DIFFERENCES_MAX);
            lines.extend(named.map(ToString::to_string));
        }
        _ => {}
    }
    lines
}

fn problem_json(problem: &Problem) -> Value {
    let mut document = json!({
        "mailbox": problem.mailbox.to_string(),
        "code": problem.trouble.code(),
        "detail": problem.trouble.to_string(),
    });
    match &problem.trouble {
        Trouble::Diverged(differences) => {
            let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
            document["differences"] = json!(all);
        }
        Trouble::Damaged(findings) => {
            document["findings"] = json!(findings.iter().map(finding_json).collect::<Vec<_>>());
        }
        _ => {}
    }
    document
}
