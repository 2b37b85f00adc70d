//! Taking a restore back, by its undo file.

use std::path::Path;

use engine::restore::undo::{Options, Outcome, undo};
use model::{Timestamp, Userid};
use serde_json::{Value, json};

use super::live::{connect, problem_json, say};
use super::undo_file::Notes;
use crate::args::RestoreArgs;
use crate::error::{CliError, Exit};
use crate::render::{self, count, plain};
use crate::when;

/// Runs the command.
pub fn run(args: &RestoreArgs, path: &Path) -> Result<Exit, CliError> {
    let notes = Notes::read(path)?;
    if notes.account != args.account {
        let (place, account) = (path.display(), &notes.account);
        return Err(CliError::plain(format!("{place} is about {account}, not {}", args.account)));
    }
    let options = Options { now: Timestamp::from_secs(when::now()), dry_run: args.dry_run };
    let (target, mut session) = connect(args)?;
    let userid = Userid::from(args.account.as_str());
    let outcome = undo(&userid, &notes.entries, &mut session, options)
        .map_err(|error| target.explain(error).hint("run it again: it goes on from there"))?;
    session.close();
    match args.talk.json {
        true => render::print("the report", format!("{:#}\n", document(args, &outcome)))?,
        false => tell(args, &outcome)?,
    }
    let is_clean = outcome.problems.is_empty() && outcome.plan.left.is_empty();
    Ok(if is_clean { Exit::Done } else { Exit::Findings })
}

fn tell(args: &RestoreArgs, outcome: &Outcome) -> Result<(), CliError> {
    for left in &outcome.plan.left {
        say(&format!("left alone: {left}"));
    }
    for problem in &outcome.problems {
        say(&format!("problem: {}: {}", problem.mailbox, problem.trouble));
    }
    if args.dry_run {
        let steps = outcome.plan.steps.iter();
        let lines: String = steps.map(|step| plain(&step.to_string()) + "\n").collect();
        return render::print("the plan", lines);
    }
    if outcome.plan.steps.is_empty() {
        say(&format!("{}: nothing to take back", args.account));
        return Ok(());
    }
    let done = &outcome.done;
    let flags = count(done.flags, "message");
    say(&format!(
        "{}: {} and {} removed again, former flags for {flags}",
        args.account,
        count(done.messages, "message"),
        count(done.mailboxes, "mailbox"),
    ));
    Ok(())
}

fn document(args: &RestoreArgs, outcome: &Outcome) -> Value {
    let (plan, done) = (&outcome.plan, &outcome.done);
    let left = plan.left.iter().map(|left| {
        json!({
            "mailbox": left.mailbox.to_string(),
            "uid": left.uid.map(|uid| uid.0),
            "code": left.why.code(),
            "detail": left.why.to_string(),
        })
    });
    json!({
        "account": args.account,
        "to": args.to,
        "dry_run": args.dry_run,
        "plan": plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "left": left.collect::<Vec<_>>(),
        "problems": outcome.problems.iter().map(problem_json).collect::<Vec<_>>(),
        "done": {
            "messages": done.messages,
            "flags": done.flags,
            "mailboxes": done.mailboxes,
        },
    })
}
