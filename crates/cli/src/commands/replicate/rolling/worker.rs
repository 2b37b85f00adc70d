//! A connection to the replica, and the thread that sends over it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use engine::ports::{Peer, Silent};
use engine::replicate::ReplicateError;
use engine::rolling::{Complaint, Ended, Loss, Scope, Task};
use model::Userid;
use peer::{LinkError, Session, SessionError};
use spool::SpoolError;

use super::super::{Failed, Item, Sending};
use super::wake::Waker;
use crate::error::chain_of;

/// What a worker is to do.
pub enum Order {
    /// Connect, unless it is connected.
    Connect,
    /// Replicate.
    Send(Task),
    /// Ask whether the replica is still there.
    Ask,
    /// Hang up.
    Close,
}

/// What it did.
#[derive(Default)]
pub struct Report {
    /// Which of them.
    pub number: usize,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// It has just reached the replica.
    pub reached: bool,
    /// It has not.
    pub lost: Option<(String, Loss)>,
    /// What became of a task.
    pub ended: Option<(Task, Ended)>,
    /// Messages that the replica did not have.
    pub messages: u64,
    /// Mailboxes of a kind that the replica cannot keep.
    pub left_out: u64,
}

/// One of them.
pub struct Worker {
    pub number: usize,
    pub sending: Arc<Sending>,
    pub orders: Receiver<Order>,
    pub reports: Sender<Report>,
    pub waker: Waker,
}

impl Worker {
    /// Does what it is told until nobody tells it any more.
    pub fn run(self) {
        // Only this thread becomes Cyrus' user.
        let acting = self.sending.server.act_as_cyrus();
        let mut session = None;
        while let Ok(order) = self.orders.recv() {
            let mut report = Report { number: self.number, ..Report::default() };
            match (order, &acting) {
                (Order::Send(task), Err(error)) => {
                    let complaint = Complaint::of_account("user", error);
                    report.ended = Some((task, Ended::Failed(complaint)));
                }
                (Order::Send(task), Ok(_)) => {
                    let ended = self.send(&task, &mut session, &mut report);
                    report.ended = Some((task, ended));
                }
                (Order::Connect, _) => drop(self.connect(&mut session, &mut report)),
                (Order::Ask, _) => self.ask(&mut session, &mut report),
                (Order::Close, _) => session.take().into_iter().for_each(Session::close),
            }
            report.is_connected = session.is_some();
            if self.reports.send(report).is_err() {
                break;
            }
            self.waker.wake();
        }
        session.into_iter().for_each(Session::close);
    }

    /// Sees to it that there is a connection; whether it is a new one.
    fn connect(&self, session: &mut Option<Session>, report: &mut Report) -> Result<bool, ()> {
        if session.is_some() {
            return Ok(false);
        }
        match self.sending.target.open() {
            Ok(opened) => {
                *session = Some(opened);
                report.reached = true;
                Ok(true)
            }
            Err(error) => {
                report.lost = Some((chain_of(&error), loss_of(&error)));
                Err(())
            }
        }
    }

    fn ask(&self, session: &mut Option<Session>, report: &mut Report) {
        if let Some(asked) = session
            && let Err(error) = Peer::restart(asked)
        {
            *session = None;
            report.lost = Some((chain_of(&error), Loss::Soft));
        }
    }

    fn send(&self, task: &Task, session: &mut Option<Session>, report: &mut Report) -> Ended {
        let item = item_of(task);
        loop {
            let Ok(is_new) = self.connect(session, report) else { return Ended::NotReached };
            let Some(connected) = session.as_mut() else { return Ended::NotReached };
            let result = self.sending.send(&item, connected, &Silent);
            if result.as_ref().is_err_and(Failed::breaks_the_session) {
                *session = None;
                // It may have been dead for long, and nobody noticed.
                if !is_new {
                    continue;
                }
            }
            return match result {
                Ok(outcome) => {
                    report.messages = outcome.done.messages;
                    if !outcome.plan.brakes.is_empty() {
                        let brakes: Vec<String> =
                            outcome.plan.brakes.iter().map(ToString::to_string).collect();
                        return Ended::Failed(Complaint::of_account("brake", brakes.join("; ")));
                    }
                    let complaints = outcome.problems.iter().map(Complaint::from);
                    // It is the same as long as the replica is.
                    let (left_out, complaints): (Vec<_>, Vec<_>) =
                        complaints.partition(|complaint| complaint.code == "not-supported");
                    report.left_out = left_out.len() as u64;
                    Ended::Done(complaints)
                }
                Err(error) => ended_by(error, &task.scope),
            };
        }
    }
}

fn item_of(task: &Task) -> Item {
    let userid: Userid = task.account.clone();
    let mailboxes: Option<BTreeSet<_>> = match &task.scope {
        Scope::Whole => None,
        Scope::Mailboxes(names) => Some(names.clone()),
    };
    Item { userid, mailboxes }
}

fn ended_by(error: Failed, scope: &Scope) -> Ended {
    let code = match &error {
        // Neither side has anything of it.
        Failed::Spool(SpoolError::NoSuchAccount { .. }) if *scope == Scope::Whole => {
            return Ended::Done(Vec::new());
        }
        Failed::Replicate(ReplicateError::Peer(error)) if !error.session_goes_on() => {
            return Ended::Broken(chain_of(error));
        }
        Failed::Spool(SpoolError::NoSuchAccount { .. }) => "not-here",
        Failed::Spool(
            SpoolError::LockTimeout { .. }
            | SpoolError::KeepsBeingReplaced { .. }
            | SpoolError::KeepsChanging { .. },
        ) => "busy",
        Failed::Spool(_) => "spool",
        Failed::Act(_) => "user",
        Failed::Connect(_) => "connection",
        Failed::Replicate(ReplicateError::Local(_)) => "damaged",
        Failed::Replicate(ReplicateError::Peer(_)) => "refused",
        // Nobody asks for either here.
        Failed::Replicate(ReplicateError::Master(_) | ReplicateError::Keep(_)) => "diverged",
    };
    Ended::Failed(Complaint::of_account(code, chain_of(&error)))
}

/// Whether it is of any use to try again soon.
fn loss_of(error: &SessionError) -> Loss {
    match error {
        SessionError::Login { .. }
        | SessionError::NoTls
        | SessionError::NoPlain { .. }
        | SessionError::NoTrust
        | SessionError::NoName(_)
        | SessionError::Injected
        | SessionError::Link(LinkError::Tls(_)) => Loss::Hard,
        _ => Loss::Soft,
    }
}
