//! `cylinder audit`: the spool of a server against itself.

mod choice;
mod rate;
mod report;
mod state;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use engine::audit::{self, Audited, Depth, Issue, Links};
use engine::ports::{Pace, Unhurried};
use model::Userid;
use spool::{Options, Server, SpoolError};

use crate::args::AuditArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::queue::{Queue, on_threads};
use crate::{processors, spool_error, when};

use choice::{Chosen, Wanted};
use rate::Rate;
use report::Report;
use state::State;

/// What became of one account.
struct Done {
    userid: Userid,
    result: Result<Audited, CliError>,
}

/// Runs the command.
pub fn run(args: &AuditArgs) -> Result<Exit, CliError> {
    let options = Options {
        lock_timeout: args.server.lock_wait,
        cyrus_version: args.server.cyrus_version.clone(),
    };
    let server = Server::open(&args.server.config, &options).map_err(spool_error::explain)?;
    let depth = if args.full { Depth::Full } else { Depth::Quick };
    let mut state = args.state.as_deref().map(State::open).transpose()?;
    let chosen = choose(args, &server, depth, state.as_ref())?;
    let progress = Progress::new(args.talk);
    if let Some(begun_at) = chosen.resumed {
        let rest = chosen.accounts.len();
        let begun_at = when::rfc3339(begun_at);
        if !args.talk.json {
            progress.say(&format!("the audit of {begun_at} goes on: {rest} accounts are left"));
        }
    }
    if let Some(state) = state.as_mut().filter(|_| args.all && chosen.resumed.is_none()) {
        state.begin(depth, chosen.accounts.len(), when::now())?;
    }
    let pace: Box<dyn Pace> = match args.rate {
        Some(mib) => Box::new(Rate::new(u64::from(mib) << 20)),
        None => Box::new(Unhurried),
    };
    let mut report = Report::new(args, depth, &chosen);
    look(args, &server, &chosen, &*pace, &progress, |done| {
        if let (Ok(audited), Some(state)) = (&done.result, state.as_mut()) {
            report.note(state.note(&done.userid, depth, when::now(), audited.issues.len()));
        }
        report.take(done, &progress);
    });
    if args.all {
        let findings = server.list_findings().map_err(spool_error::explain)?;
        report.add_server(findings.into_iter().map(Issue::from).collect());
    }
    conclude(&server, &chosen, &mut report, &*pace)?;
    progress.clear();
    if let Some(state) = state {
        let is_over = args.all && report.is_complete();
        report.note(state.finish(is_over.then_some((depth, when::now()))));
    }
    report.finish()
}

/// Which accounts are looked at this time.
fn choose(
    args: &AuditArgs,
    server: &Server,
    depth: Depth,
    state: Option<&State>,
) -> Result<Chosen, CliError> {
    let accounts = match args.all {
        true => server.accounts().map_err(spool_error::explain)?,
        false => {
            let accounts = args.accounts.iter().map(|account| Userid::from(account.as_str()));
            return Ok(Chosen::these(accounts.collect()));
        }
    };
    let Some(state) = state else { return Ok(Chosen::all(accounts)) };
    let wanted = match (args.share, args.every) {
        (Some(share), _) => Wanted::Share(share.0),
        (_, Some(period)) => Wanted::Every(period.as_secs()),
        _ => Wanted::All,
    };
    Ok(choice::choose(accounts, state.history(), depth, wanted, when::now()))
}

/// Looks at all accounts that were chosen.
fn look(
    args: &AuditArgs,
    server: &Server,
    chosen: &Chosen,
    pace: &dyn Pace,
    progress: &Progress,
    take: impl FnMut(Done),
) {
    let accounts = &chosen.accounts;
    let jobs = args.jobs.map_or_else(processors, usize::from).min(accounts.len()).max(1);
    let (queue, taken) = (Queue::new(accounts), AtomicUsize::new(0));
    let work = |results: Sender<Done>| {
        // Only this thread and those that it starts become Cyrus' user.
        let acting = server.act_as_cyrus();
        while let Some(userid) = queue.next() {
            // Where fewer accounts are left than there are threads, each gets more of them.
            let left = accounts.len() - taken.fetch_add(1, Ordering::Relaxed);
            let workers = processors().div_ceil(jobs.min(left).max(1));
            let depth = if args.full { Depth::Full } else { Depth::Quick };
            let options = audit::Options { depth, workers, pace };
            let result = match &acting {
                Ok(_) => match audit::account(server, userid, &options, progress) {
                    // It was there when all were listed, and has been deleted since.
                    Err(SpoolError::NoSuchAccount { .. }) if args.all => Ok(Audited::default()),
                    audited => audited.map_err(spool_error::explain),
                },
                Err(error) => Err(CliError::plain(format!("cannot act as Cyrus' user: {error}"))
                    .hint("cyrus_user in imapd.conf names the user that Cyrus runs as")),
            };
            if results.send(Done { userid: userid.clone(), result }).is_err() {
                return;
            }
        }
    };
    on_threads(jobs, work, take);
}

/// What can only be said once all accounts were looked at.
fn conclude(
    server: &Server,
    chosen: &Chosen,
    report: &mut Report,
    pace: &dyn Pace,
) -> Result<(), CliError> {
    if chosen.is_whole_server && report.is_complete() && !report.links.is_empty() {
        match audit::explain(server, &report.links) {
            Ok(findings) => report.add_server(findings.into_iter().map(Issue::from).collect()),
            Err(error) => {
                let error = spool_error::explain(error).hint("run it as root, where Cyrus runs");
                report.note(Err(error.in_front("files with more names than records")));
            }
        }
    }
    report.links = Links::default();
    audit::find_elsewhere(server, &mut report.issues_mut(), pace).map_err(spool_error::explain)
}
