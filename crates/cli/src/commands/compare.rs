//! `cylinder compare`: accounts at two places, and what differs.

mod report;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use engine::compare::difference::Side;
use engine::compare::{Comparison, Depth, compare};
use model::Userid;

use crate::args::CompareArgs;
use crate::error::{CliError, Exit};
use crate::places::{Access, Looking, Place, Thread};
use crate::processors;
use crate::progress::Progress;
use crate::queue::{Queue, on_threads};
use report::Report;

/// What became of an account.
struct Done {
    userid: Userid,
    result: Result<Comparison, CliError>,
}

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<Exit, CliError> {
    let files = &args.password_file;
    let access = |number: usize| Access {
        password_file: files.get(number).or(files.last()).map(PathBuf::as_path),
        tls_ca: args.tls_ca.as_deref(),
        cleartext: args.cleartext,
        spool: spool::Options {
            lock_timeout: args.lock_wait,
            cyrus_version: args.cyrus_version.clone(),
        },
    };
    let a = Place::open(&args.a, &access(0))?;
    let b = Place::open(&args.b, &access(usize::from(matches!(a, Place::Server(_)))))?;
    let has_snapshots = [&a, &b].iter().any(|p| matches!(p, Place::Vault(_) | Place::Archive(_)));
    if args.at.is_some() && !has_snapshots {
        return Err(CliError::usage("--at names a snapshot, and neither place has any"));
    }
    let accounts = accounts(args, [&a, &b])?;
    let progress = Progress::new(args.talk);
    let jobs = usize::from(args.jobs).min(accounts.len());
    let depth = match (args.records, args.full) {
        (_, true) => Depth::Full,
        (true, false) => Depth::Records,
        (false, false) => Depth::Quick,
    };
    let looking = Looking {
        at: args.at.as_deref(),
        messages: depth == Depth::Full,
        workers: processors().div_ceil(jobs.max(1)),
    };
    let places = [&a, &b];
    let work = Work { args, places, looking, depth, queue: Queue::new(&accounts) };
    let mut report = Report::new(args, accounts.len());
    on_threads(jobs, |results| work.run(results, &progress), |done| report.take(done, &progress));
    progress.clear();
    report.finish()
}

/// What the arguments name.
fn accounts(args: &CompareArgs, places: [&Place; 2]) -> Result<Vec<Userid>, CliError> {
    if !args.all {
        let named: BTreeSet<Userid> =
            args.account.iter().map(|u| Userid::from(u.as_str())).collect();
        return Ok(named.into_iter().collect());
    }
    let [a, b] = [places[0].accounts()?, places[1].accounts()?];
    match (a, b) {
        (None, None) => Err(CliError::usage("a server that speaks csync cannot list its accounts")
            .hint("name the accounts, or compare with the spool of one of them")),
        (a, b) => {
            let all: BTreeSet<Userid> = a.into_iter().chain(b).flatten().collect();
            match all.is_empty() {
                true => Err(CliError::plain("neither place has any account")),
                false => Ok(all.into_iter().collect()),
            }
        }
    }
}

/// What all threads share.
struct Work<'w> {
    args: &'w CompareArgs,
    places: [&'w Place; 2],
    looking: Looking<'w>,
    depth: Depth,
    queue: Queue<'w, Userid>,
}

impl Work<'_> {
    fn run(&self, results: Sender<Done>, progress: &Progress) {
        let mut threads = [Thread::default(), Thread::default()];
        while let Some(userid) = self.queue.next() {
            let result = self.account(userid, &mut threads, progress);
            match &result {
                Ok(_) => self.queue.note_reached(),
                Err(_) if threads.iter().zip(self.places).any(|(t, p)| t.has_lost(p)) => {
                    self.queue.note_lost();
                }
                Err(_) => {}
            }
            if results.send(Done { userid: userid.clone(), result }).is_err() {
                return;
            }
        }
        threads.into_iter().for_each(Thread::close);
    }

    /// Looks at an account until nothing moves any more, or patience ends.
    fn account(
        &self,
        userid: &Userid,
        threads: &mut [Thread; 2],
        progress: &Progress,
    ) -> Result<Comparison, CliError> {
        let begun = Instant::now();
        let mut last = self.look(userid, threads, progress)?;
        let is_settled = last.differences.is_empty() && !last.is_moving();
        if is_settled || !self.places.iter().all(|place| place.is_live()) {
            return Ok(last);
        }
        loop {
            let left = self.args.patience.saturating_sub(begun.elapsed());
            if !self.args.settle.is_zero() {
                thread::sleep(self.args.settle);
            }
            let now = self.look(userid, threads, progress)?;
            let confirmed = last.confirmed_by(&now);
            if !confirmed.is_moving() || left == Duration::ZERO {
                return Ok(confirmed);
            }
            last = now;
        }
    }

    fn look(
        &self,
        userid: &Userid,
        threads: &mut [Thread; 2],
        progress: &Progress,
    ) -> Result<Comparison, CliError> {
        let [a, b] = self.places;
        let [own, other] = threads;
        let mut outcome = None;
        let mut opened = Ok(());
        a.account(userid, own, &self.looking, &mut |at_a| {
            opened = b.account(userid, other, &self.looking, &mut |at_b| {
                outcome = Some(compare(at_a, at_b, self.depth, progress));
            });
        })?;
        opened?;
        let comparison = match outcome {
            Some(Ok(comparison)) => comparison,
            Some(Err(lost)) => {
                if !lost.source.session_goes_on() {
                    // Which of them it was is known; what the other one still has to say is not.
                    *threads = [Thread::default(), Thread::default()];
                }
                let place = if lost.side == Side::A { a } else { b };
                return Err(place.explain(lost.source));
            }
            None => return Err(CliError::plain("nothing was compared")),
        };
        match comparison.is_about_nothing() {
            true => Err(CliError::plain("there is no such account at either place")),
            false => Ok(comparison),
        }
    }
}
