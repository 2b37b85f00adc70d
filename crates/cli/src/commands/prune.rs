//! `cylinder prune`: forgets old snapshots of a vault, and reclaims what nobody needs.

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use vault::policy::Rules;
use vault::{Account, Note, SegmentName, Vault, What};

use crate::args::PruneArgs;
use crate::error::{CliError, Exit};
use crate::render::{self, bytes, count, plain};
use crate::vaults::prune::{Options, Plan, PruneError, erase};
use crate::vaults::{account, explain, open_itself};
use crate::when::rfc3339;
use crate::{PROGRAM, archive, processors, vaults, when};

/// Runs the command.
pub fn run(args: &PruneArgs) -> Result<Exit, CliError> {
    let rules = Rules {
        last: args.keep_last,
        hourly: args.keep_hourly,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
        yearly: args.keep_yearly,
    };
    let options = Options {
        rules,
        zone: TimeZone::system(),
        grace: i64::try_from(args.grace.as_secs()).unwrap_or(i64::MAX),
        garbage: u64::from(args.max_garbage),
        accept_removals: args.accept_removals,
        now: when::now(),
        host: vaults::host(),
        workers: processors(),
    };
    let opened = open_itself(&args.vault)?;
    if let Some(userid) = &args.hold {
        return hold(&opened, userid, &options);
    }
    if let Some(userid) = &args.release {
        return release(&opened, userid);
    }
    if let Some(userid) = &args.forget {
        return forget(args, &opened, userid, &options);
    }
    if rules.is_empty() {
        return Err(CliError::usage("no rule says what to keep")
            .hint("use --keep-last, --keep-hourly, --keep-daily and so on; they add up"));
    }
    prune(args, &opened, &options)
}

fn prune(args: &PruneArgs, opened: &Vault, options: &Options) -> Result<Exit, CliError> {
    let components = vaults::components(opened, &args.accounts)?;
    let mut exit = Exit::Done;
    let mut documents = Vec::new();
    for component in components {
        let one = opened.account_by_component(&component);
        match prune_account(args, &one, options) {
            Ok(plan) => {
                if !args.json {
                    print(&text(&component, &plan, args.dry_run))?;
                }
                documents.push(document(&component, &plan));
            }
            Err(PruneError::Held) => {
                if !args.json {
                    print(&format!("{}: under a legal hold\n", plain(&component)))?;
                }
                documents.push(json!({ "account": component, "hold": true }));
            }
            Err(error) => {
                let error =
                    explain_prune(error).in_front(format!("{} was not pruned", plain(&component)));
                exit = if args.json { error.exit_code() } else { error.report(false) };
                documents.push(json!({ "account": component, "error": error.document() }));
            }
        }
    }
    let mut report = json!({ "accounts": documents, "dry_run": args.dry_run });
    if !args.dry_run {
        let swept = sweep(opened, options)?;
        report["swept"] = json!(swept);
    }
    if args.json {
        print(&format!("{report:#}\n"))?;
    }
    Ok(exit)
}

fn prune_account(
    args: &PruneArgs,
    account: &Account,
    options: &Options,
) -> Result<Plan, PruneError> {
    let history = account.history()?;
    let plan = Plan::new(account, &history, options)?;
    if !args.dry_run {
        plan.apply(account, &history, options)?;
    }
    Ok(plan)
}

/// Removes what interrupted writers left in a directory, as long ago as dropped segments.
fn sweep(opened: &Vault, options: &Options) -> Result<Vec<String>, CliError> {
    // To the moment: what was written within this very second counts too.
    let grace = Duration::from_secs(u64::try_from(options.grace).unwrap_or(0));
    let before = SystemTime::now().checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    let swept = opened.store().sweep(before).map_err(explain)?;
    Ok(swept.iter().map(|path| path.display().to_string()).collect())
}

/// Puts an account under a legal hold.
fn hold(opened: &Vault, userid: &str, options: &Options) -> Result<Exit, CliError> {
    let (account, history) = account(opened, userid)?;
    if !history.is_held() {
        let note = Note::new(What::Hold, options.now, &options.host, PROGRAM, Vec::new());
        account.put_note(&note).map_err(explain)?;
    }
    print(&format!("{userid} is under a legal hold\n"))?;
    Ok(Exit::Done)
}

fn release(opened: &Vault, userid: &str) -> Result<Exit, CliError> {
    let (account, history) = account(opened, userid)?;
    for (name, _) in history.notes_of(What::Hold) {
        account.delete(&name.to_string()).map_err(explain)?;
    }
    print(&format!("{userid} is under no legal hold\n"))?;
    Ok(Exit::Done)
}

/// Erases an account in all generations.
fn forget(
    args: &PruneArgs,
    opened: &Vault,
    userid: &str,
    options: &Options,
) -> Result<Exit, CliError> {
    let account = opened.account(&model::Userid::from(userid));
    let history = account.history().map_err(explain)?;
    let there = history.segments().count();
    if there == 0 && history.notes.is_empty() {
        return Err(CliError::plain(format!("{} holds nothing of {userid}", opened.place()))
            .hint("accounts are named as their users log in"));
    }
    let snapshots = history.snapshots().len() as u64;
    if args.dry_run {
        print(&format!("would erase {userid}: {}\n", count(snapshots, "snapshot")))?;
        return Ok(Exit::Done);
    }
    if !options.accept_removals {
        return Err(CliError::plain(format!(
            "this would erase {userid} for ever: {}",
            count(snapshots, "snapshot")
        ))
        .hint("add --accept-removals if that is meant"));
    }
    erase(&account, &history, options).map_err(explain_prune)?;
    print(&format!("{userid} is erased: {}\n", count(snapshots, "snapshot")))?;
    Ok(Exit::Done)
}

fn explain_prune(error: PruneError) -> CliError {
    match error {
        PruneError::Vault(error) => explain(error),
        PruneError::Archive(error) => {
            archive::explain(error).hint("cylinder verify says what is damaged in the vault")
        }
        error @ PruneError::Held => CliError::plain(error).hint("--release ends a legal hold"),
        error @ PruneError::Brake { .. } => {
            CliError::plain(error).hint("look at it with --dry-run; --accept-removals does it once")
        }
        error @ PruneError::Future(_) => CliError::plain(error).hint(
            "check the clocks of this machine and of the server; --accept-removals does it anyway",
        ),
        error @ (PruneError::Rewrite(_)
        | PruneError::Lossy(_)
        | PruneError::Compress(_)
        | PruneError::ReadBack(_)
        | PruneError::Wrong(..)) => vaults::explain_staging("it was left as it is", error)
            .hint("cylinder verify says what is damaged in the vault"),
    }
}

fn text(component: &str, plan: &Plan, dry_run: bool) -> String {
    let kept = plan.verdicts.iter().filter(|verdict| !verdict.kept.is_empty()).count();
    let (would, forgotten) =
        (if dry_run { "would keep" } else { "kept" }, plan.verdicts.len() - kept);
    let mut text = format!(
        "{}: {would} {} and forget {forgotten}",
        plain(component),
        count(kept as u64, "snapshot")
    );
    if plan.rewrite.is_some() {
        text.push_str(&format!(
            "; {} of {} are garbage: written anew",
            bytes(plan.garbage.unneeded),
            bytes(plan.garbage.all)
        ));
    }
    if !plan.delete.is_empty() {
        text.push_str(&format!("; {} deleted", count(plan.delete.len() as u64, "segment")));
    }
    text.push('\n');
    if dry_run {
        for verdict in &plan.verdicts {
            let (seq, time) = (verdict.entry.name.seq, rfc3339(verdict.entry.name.taken_at));
            let why = if verdict.kept.is_empty() {
                "forget".to_owned()
            } else {
                format!("keep: {}", verdict.kept.join(", "))
            };
            text.push_str(&format!("{seq:>6}  {time}  {why}\n"));
        }
    }
    text
}

fn document(component: &str, plan: &Plan) -> Value {
    let names = |names: &[SegmentName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let snapshots = plan.verdicts.iter().map(|verdict| {
        json!({
            "seq": verdict.entry.name.seq,
            "taken_at": rfc3339(verdict.entry.name.taken_at),
            "kept": verdict.kept,
        })
    });
    json!({
        "account": component,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "delete": names(&plan.delete),
        "drop": names(&plan.drop),
        "hide": names(&plan.hide),
        "rewrite": plan.rewrite.is_some(),
        "bytes": plan.garbage.all,
        "bytes_unneeded": plan.garbage.unneeded,
    })
}

fn print(text: &str) -> Result<(), CliError> {
    render::print("the report", text)
}
