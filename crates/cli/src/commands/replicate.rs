//! `cylinder replicate`: accounts of a live server to a replica.

mod report;
mod rolling;
mod split;
pub mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;

use engine::live::apart;
use engine::ports::Monitor;
use engine::replicate::split::Beside;
use engine::replicate::{self, Outcome, ReplicateError, Replication, Told};
use model::{MboxName, Partition, Userid};
use peer::{Session, SessionError};
use spool::{Frozen, Server, SpoolError};
use thiserror::Error;

use crate::args::ReplicateArgs;
use crate::error::{CliError, Exit, chain_of};
use crate::progress::Progress;
use crate::queue::{Queue, on_threads};
use crate::{processors, spool_error};
use report::Report;
use split::Split;
use target::{Target, Url};

/// How often an account is looked at anew because the master goes on while both sides are brought
/// together.
const STALE_MAX: usize = 5;

/// What is replicated in one piece.
struct Item {
    userid: Userid,
    /// These of its mailboxes only.
    mailboxes: Option<BTreeSet<MboxName>>,
}

/// What became of it.
struct Done {
    userid: Userid,
    result: Result<Outcome, Failed>,
}

/// Why an account was not replicated.
#[derive(Debug, Error)]
enum Failed {
    #[error(transparent)]
    Spool(SpoolError),
    #[error("cannot act as Cyrus' user: {0}")]
    Act(String),
    #[error("connect to the replica")]
    Connect(#[source] SessionError),
    #[error(transparent)]
    Replicate(ReplicateError),
}

/// Runs the command.
pub fn run(args: &ReplicateArgs) -> Result<Exit, CliError> {
    if args.rolling.status {
        return rolling::status(args);
    }
    let options = spool::Options {
        lock_timeout: args.server.lock_wait,
        cyrus_version: args.server.cyrus_version.clone(),
    };
    let server = Server::open(&args.server.config, &options).map_err(spool_error::explain)?;
    let target = Target::new(args, &server)?;
    if args.rolling.rolling {
        let sending = Sending::new(args, server, target, args.jobs.into(), Split::default());
        return rolling::run(args, sending);
    }
    let items = items(args, &server)?;
    if items.is_empty() {
        return Err(CliError::plain("this server has no accounts")
            .hint("check mailboxes_db and configdirectory in imapd.conf"));
    }
    let progress = Progress::new(args.talk);
    let jobs = usize::from(args.jobs).min(items.len());
    let split = Split::new(args, &server, &target)?;
    let sending = Sending::new(args, server, target, jobs, split);
    let mut report = Report::new(args, &sending, items.len());
    let work = Work { sending: &sending, queue: Queue::new(&items) };
    on_threads(jobs, |results| work.run(results, &progress), |done| report.take(done, &progress));
    progress.clear();
    report.finish()
}

/// What the arguments name.
fn items(args: &ReplicateArgs, server: &Server) -> Result<Vec<Item>, CliError> {
    let whole = |userid| Item { userid, mailboxes: None };
    if args.all {
        let accounts = server.accounts().map_err(spool_error::explain)?;
        return Ok(accounts.into_iter().map(whole).collect());
    }
    let users: BTreeSet<&str> = args.user.iter().map(String::as_str).collect();
    let mut items: Vec<Item> = users.iter().map(|user| whole(Userid::from(*user))).collect();
    let rules = server.name_rules();
    let mut by_owner: BTreeMap<Userid, BTreeSet<MboxName>> = BTreeMap::new();
    for named in &args.mailbox {
        let name = rules.from_external(named.as_bytes());
        let name = name.map_err(|error| CliError::failed("cannot use a name", error))?;
        let owner = rules.owner(&name).unwrap_or_else(Userid::shared);
        by_owner.entry(owner).or_default().insert(name);
    }
    by_owner.retain(|owner, _| !items.iter().any(|item| item.userid == *owner));
    items.extend(
        by_owner.into_iter().map(|(userid, names)| Item { userid, mailboxes: Some(names) }),
    );
    Ok(items)
}

/// How accounts are sent: the same for all of them.
struct Sending {
    server: Server,
    target: Target,
    split: Split,
    options: replicate::Options,
}

impl Sending {
    /// As the arguments say, so many accounts at the same time.
    fn new(
        args: &ReplicateArgs,
        server: Server,
        target: Target,
        jobs: usize,
        split: Split,
    ) -> Self {
        let options = replicate::Options {
            mailboxes: None,
            accept_removals: args.accept_removals,
            removals_max: args.max_removals.into(),
            kinds_left_out: Vec::new(),
            moved: BTreeSet::new(),
            partition: args.partition.as_deref().map(Partition::from),
            resolve: split.resolve,
            closely: args.dry_run || split.looks_closely(),
            workers: processors().div_ceil(jobs),
            dry_run: args.dry_run,
        };
        Self { server, target, split, options }
    }

    /// Sends what there is of an item to a replica, again as long as that changes the master, too.
    fn send(
        &self,
        item: &Item,
        session: &mut Session,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, Failed> {
        let mut hands = self.split.hands(&item.userid);
        let mut outcome = self.pass(item, session, hands.beside(), monitor)?;
        let mut patience = STALE_MAX;
        while outcome.is_stale && patience > 0 {
            let again = self.pass(item, session, hands.beside(), monitor)?;
            if again.done.merged == 0 {
                patience -= 1;
            }
            outcome.done.add(&again.done);
            outcome.plan.brakes.extend(again.plan.brakes);
            (outcome.problems, outcome.is_stale) = (again.problems, again.is_stale);
        }
        hands.close();
        Ok(outcome)
    }

    /// Reads and sends it once. The replica is asked first: nobody waits for it while anything is locked
    /// here.
    fn pass(
        &self,
        item: &Item,
        session: &mut Session,
        beside: Beside<'_>,
        monitor: &dyn Monitor,
    ) -> Result<Outcome, Failed> {
        let server = &self.server;
        let sieve_mailbox = server.has_sieve_mailboxes() && session.banner().sieve_mailbox;
        let mut options = replicate::Options {
            mailboxes: item.mailboxes.clone(),
            kinds_left_out: replicate::kinds_left_out(session.banner(), sieve_mailbox),
            ..self.options.clone()
        };
        let told = Told::ask(&item.userid, session, &options).map_err(Failed::Replicate)?;
        let frozen = self.freeze(item, &told).map_err(Failed::Spool)?;
        options.moved.clone_from(&frozen.moved);
        let (account, untouched) = apart(frozen);
        let rules = server.name_rules();
        let replication =
            Replication::begin(&account, rules, told, &options).map_err(Failed::Replicate)?;
        if let Some(outcome) = replication.settled() {
            return Ok(outcome);
        }
        let messages = untouched.messages();
        replication.run(&messages, session, beside, monitor).map_err(Failed::Replicate)
    }

    /// Reads an account, or what is left here of one that only the replica still has.
    fn freeze(&self, item: &Item, told: &Told) -> Result<Frozen, SpoolError> {
        let (server, userid) = (&self.server, &item.userid);
        if let Some(names) = &item.mailboxes {
            return server.freeze_mailboxes(userid, names);
        }
        match server.freeze(userid) {
            Err(SpoolError::NoSuchAccount { .. }) if told.has_mailboxes() => {
                server.freeze_traces(userid)
            }
            // No replica lists shared mailboxes: it is asked for the names that were here.
            Err(error @ SpoolError::NoSuchAccount { .. }) if userid.is_shared() => {
                let traces = server.freeze_traces(userid)?;
                let mut names = traces.account_files.iter().filter(|file| file.name == "mailboxes");
                if names.any(|file| !file.bytes.is_empty()) { Ok(traces) } else { Err(error) }
            }
            frozen => frozen,
        }
    }
}

/// What all threads share.
struct Work<'w> {
    sending: &'w Sending,
    queue: Queue<'w, Item>,
}

impl Work<'_> {
    /// Replicates one item after the other over one connection, as long as it lasts.
    fn run(&self, results: Sender<Done>, progress: &Progress) {
        // Only this thread becomes Cyrus' user.
        let acting = self.sending.server.act_as_cyrus();
        let mut session = None;
        while let Some(item) = self.queue.next() {
            let result = match &acting {
                Ok(_) => self.item(item, &mut session, progress),
                Err(error) => Err(Failed::Act(error.to_string())),
            };
            if results.send(Done { userid: item.userid.clone(), result }).is_err() {
                return;
            }
        }
        if let Some(session) = session {
            session.close();
        }
    }

    fn item(
        &self,
        item: &Item,
        session: &mut Option<Session>,
        progress: &Progress,
    ) -> Result<Outcome, Failed> {
        let mut connected = match session.take() {
            Some(connected) => connected,
            None => {
                let opened = self.sending.target.open();
                match &opened {
                    Ok(_) => self.queue.note_reached(),
                    Err(_) => self.queue.note_lost(),
                }
                opened.map_err(Failed::Connect)?
            }
        };
        let result = self.sending.send(item, &mut connected, progress);
        // What is broken is of no use to the next one.
        if !result.as_ref().is_err_and(Failed::breaks_the_session) {
            *session = Some(connected);
        }
        result
    }
}

impl Failed {
    /// Whether nothing more can be said over the same connection.
    fn breaks_the_session(&self) -> bool {
        matches!(self, Failed::Replicate(ReplicateError::Peer(error)) if !error.session_goes_on())
    }
}

fn explain(error: Failed, sending: &Sending) -> CliError {
    match error {
        Failed::Spool(error) => spool_error::explain(error),
        error @ Failed::Act(_) => CliError::plain(error)
            .hint("cyrus_user in imapd.conf names the user that Cyrus runs as"),
        Failed::Connect(error) => sending.target.explain(error),
        Failed::Replicate(ReplicateError::Master(error)) => sending.split.explain(error),
        Failed::Replicate(error @ ReplicateError::Keep(_)) => CliError::plain(chain_of(&error))
            .hint("nothing was changed; --export names a directory with room for both variants"),
        Failed::Replicate(error) => {
            let exit = if error.is_busy() { Exit::TryAgain } else { Exit::Failed };
            CliError::plain(chain_of(&error)).exit(exit)
        }
    }
}
