//! `cylinder reconstruct`: the metadata of a spool made right again, where no server runs.

mod report;

use engine::ports::Unhurried;
use engine::reconstruct::{self, Options, Planned};
use model::{Timestamp, Userid};
use spool::{Server, SpoolError};

use crate::args::ReconstructArgs;
use crate::error::{CliError, Exit};
use crate::progress::Progress;
use crate::{at_work, processors, spool_error, when};
use report::Report;

/// What to do about somebody who is at work.
const HINT: &str =
    "stop the server first; what is wrong beside a server that runs, cylinder audit tells";

/// Runs the command.
pub fn run(args: &ReconstructArgs) -> Result<Exit, CliError> {
    let options = spool::Options {
        lock_timeout: args.server.lock_wait,
        cyrus_version: args.server.cyrus_version.clone(),
    };
    let server = Server::open(&args.server.config, &options).map_err(spool_error::explain)?;
    at_work::refuse(&server, HINT)?;
    let _alone = match args.apply {
        true => Some(server.lock_for_rewriting().map_err(|error| {
            spool_error::explain(error).hint("another cylinder reconstruct is at work there")
        })?),
        false => None,
    };
    let accounts = match args.all {
        true => server.accounts().map_err(spool_error::explain)?,
        false => args.accounts.iter().map(|account| Userid::from(account.as_str())).collect(),
    };
    let progress = Progress::new(args.talk);
    let mut report = Report::new(args, &progress);
    for userid in &accounts {
        match account(args, &server, userid, &mut report) {
            Ok(planned) => report.add(&planned),
            Err(error) => report.failed(userid, error),
        }
    }
    report.finish()
}

/// Tells all of an account, and then does it.
fn account(
    args: &ReconstructArgs,
    server: &Server,
    userid: &Userid,
    report: &mut Report<'_>,
) -> Result<Planned, CliError> {
    let acting = server.act_as_cyrus().map_err(spool_error::explain)?;
    let options = Options {
        guids: args.guids,
        accept_losses: args.accept_losses,
        is_replica: args.replica || server.is_replica(),
        workers: processors(),
        pace: &Unhurried,
        now: Timestamp::from_secs(when::now()),
    };
    let progress = report.progress();
    let mut tell = |told: reconstruct::Told<'_>| report.tell(userid, told);
    let planned = reconstruct::plan(server, userid, &options, &mut tell, progress);
    let planned = planned.map_err(spool_error::explain)?;
    report.said()?;
    if args.apply && planned.changes > 0 {
        // To read it may have taken hours.
        at_work::refuse(server, HINT)?;
        reconstruct::apply(server, &planned, &mut |error: SpoolError| {
            let hint = "what was done so far is sound: see to the cause, and run it again";
            report.failed(userid, spool_error::explain(error).hint(hint));
        });
    }
    drop(acting);
    Ok(planned)
}
