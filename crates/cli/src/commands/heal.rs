//! `cylinder heal`: damaged messages get the bytes back that their records tell of.

mod journal;
mod report;
mod through;

use engine::audit::Custody;
use engine::audit::{self, Audited, Depth};
use engine::heal::through::HealError;
use engine::heal::{heal_all, wounds};
use engine::place::Place as AccountAt;
use engine::ports::Unhurried;
use model::Userid;
use spool::{Options, Server};

use crate::args::HealArgs;
use crate::error::{CliError, Exit};
use crate::places::{Access, Looking, Place, Thread};
use crate::progress::Progress;
use crate::{at_work, processors, spool_error};
use journal::{Journal, NotesOf};
use report::Report;
use through::Own;

/// Runs the command.
pub fn run(args: &HealArgs) -> Result<Exit, CliError> {
    if args.list {
        return journal::list(&args.journal, args.talk.json);
    }
    let options = || Options {
        lock_timeout: args.server.lock_wait,
        cyrus_version: args.server.cyrus_version.clone(),
    };
    let server = Server::open(&args.server.config, &options()).map_err(spool_error::explain)?;
    if !args.dry_run && args.through.is_none() {
        at_work::refuse(&server, HINT)?;
    }
    let from = args.from.as_deref().unwrap_or_default();
    let from = Place::open(
        from,
        &Access {
            password_file: args.password_file.as_deref(),
            tls_ca: args.tls_ca.as_deref(),
            cleartext: args.cleartext,
            spool: options(),
        },
    )?;
    let own = args.through.as_deref().map(|url| Own::open(url, args, &from)).transpose()?;
    let accounts = match args.all {
        true => server.accounts().map_err(spool_error::explain)?,
        false => args.accounts.iter().map(|account| Userid::from(account.as_str())).collect(),
    };
    let mut journal = (!args.dry_run).then(|| Journal::open(&args.journal)).transpose()?;
    let progress = Progress::new(args.talk);
    let mut report = Report::new(args);
    let thread = Thread::default();
    let mut healer = Healer { args, server: &server, from: &from, thread, own };
    for userid in &accounts {
        let healed = healer.account(userid, journal.as_mut(), &progress, &mut report);
        if let Err(error) = healed {
            report.failed(userid, error, &progress);
        }
    }
    healer.thread.close();
    healer.own.into_iter().for_each(Own::close);
    progress.clear();
    report.finish()
}

/// What to do about somebody who is at work: files are only replaced where nobody else is.
const HINT: &str = "a master can be healed while it runs: --through csync://cyrus@localhost names its own sync_server; \
                    a replica, which nobody reads, is stopped meanwhile";

struct Healer<'h> {
    args: &'h HealArgs,
    server: &'h Server,
    from: &'h Place,
    thread: Thread,
    own: Option<Own>,
}

impl Healer<'_> {
    fn account(
        &mut self,
        userid: &Userid,
        journal: Option<&mut Journal>,
        progress: &Progress,
        report: &mut Report,
    ) -> Result<(), CliError> {
        let acting = self.server.act_as_cyrus().map_err(spool_error::explain)?;
        let options =
            audit::Options { depth: Depth::Full, workers: processors(), pace: &Unhurried };
        // What it finds is told with what becomes of it.
        let audited = audit::account(self.server, userid, &options, &engine::ports::Silent);
        let mut audited = audited.map_err(spool_error::explain)?;
        audit::find_elsewhere(
            self.server,
            &mut audited.issues.iter_mut().collect::<Vec<_>>(),
            &Unhurried,
        )
        .map_err(spool_error::explain)?;
        report.audited(&audited);
        let is_hurt = wounds(&audited).next().is_some();
        let done =
            if is_hurt { self.heal(userid, &audited, journal, progress, report) } else { Ok(()) };
        drop(acting);
        done
    }

    fn heal(
        &mut self,
        userid: &Userid,
        audited: &Audited,
        journal: Option<&mut Journal>,
        progress: &Progress,
        report: &mut Report,
    ) -> Result<(), CliError> {
        let Self { args, server, from, thread, own } = self;
        let looking = Looking { at: args.at.as_deref(), messages: true, workers: 1 };
        let through = args.through.as_deref();
        let from_name = args.from.as_deref().unwrap_or_default();
        let mut notes = NotesOf { journal, userid, from: from_name, through };
        let wounds: Vec<&Custody> = wounds(audited).collect();
        let mut take = |wound: &Custody, outcome| report.take(userid, wound, &outcome, progress);
        let mut done = Ok(());
        from.account(userid, thread, &looking, &mut |other: &mut dyn AccountAt| {
            done = match own {
                Some(own) => {
                    let what = (userid, &wounds[..]);
                    own.heal(server, what, other, &mut notes, args.dry_run, &mut take)
                }
                None => heal_all(server, &wounds, other, args.dry_run, &mut notes, &mut take)
                    .map_err(HealError::Place),
            };
        })?;
        match (done, own) {
            (Err(HealError::Server(error)), Some(own)) => Err(own.explain(error)),
            (Err(HealError::Place(error) | HealError::Server(error)), _) => {
                *thread = Thread::default();
                Err(from.explain(error))
            }
            (Ok(()), _) => Ok(()),
        }
    }
}
