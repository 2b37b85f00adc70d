//! A connection to the replica, and the thread that sends over it.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use engine::ports::{Peer, Silent};
use engine::replicate::{ReplicateError, Trouble};
use engine::rolling::{Complaint, Ended, Loss, Scope, Task};
use model::Userid;
use peer::{LinkError, Session, SessionError};
use spool::SpoolError;

use super::super::{Failed, Item, Sending};
use super::wake::Waker;
use crate::error::chain_of;

/// What a worker is to do.
pub enum Order {
    /// Find out whether the replica can be reached.
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
    /// It has just reached the replica, or found that it still does.
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
            guarded(&order, &mut session, &mut report, |session, report| {
                self.obey(&order, acting.as_ref().err(), session, report);
            });
            report.is_connected = session.is_some();
            if self.reports.send(report).is_err() {
                break;
            }
            self.waker.wake();
        }
        session.into_iter().for_each(Session::close);
    }

    fn obey(
        &self,
        order: &Order,
        cannot_act: Option<&SpoolError>,
        session: &mut Option<Session>,
        report: &mut Report,
    ) {
        match (order, cannot_act) {
            (Order::Send(task), Some(error)) => {
                let complaint = Complaint::of_account("user", error);
                report.ended = Some((task.clone(), Ended::Failed(complaint)));
            }
            (Order::Send(task), None) => {
                let ended = self.send(task, session, report);
                report.ended = Some((task.clone(), ended));
            }
            (Order::Connect, _) => {
                // One that is connected may have been cut off unnoticed.
                if session.as_mut().is_some_and(|session| Peer::restart(session).is_err()) {
                    *session = None;
                }
                report.reached = self.connect(session, report).is_ok();
            }
            (Order::Ask, _) => self.ask(session, report),
            (Order::Close, _) => session.take().into_iter().for_each(Session::close),
        }
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
                    if outcome.is_braked(self.sending.options.accept_removals) {
                        let brakes: Vec<String> =
                            outcome.plan.brakes.iter().map(ToString::to_string).collect();
                        return Ended::Failed(Complaint::of_account("brake", brakes.join("; ")));
                    }
                    // What goes with another account is none of this one's: the log names both.
                    let problems = outcome.problems.iter();
                    let problems = problems.filter(|problem| problem.trouble != Trouble::Elsewhere);
                    let complaints = problems.map(Complaint::from);
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

/// Obeys. If that panics, the account is not tried again at once, and the connection, of which nobody knows
/// how far it is, is dropped; the panic itself has said what it is about.
fn guarded<S>(
    order: &Order,
    session: &mut Option<S>,
    report: &mut Report,
    obey: impl FnOnce(&mut Option<S>, &mut Report),
) {
    if catch_unwind(AssertUnwindSafe(|| obey(session, report))).is_ok() {
        return;
    }
    let why = "the program itself has failed";
    *session = None;
    *report = Report { number: report.number, ..Report::default() };
    match order {
        Order::Send(task) => {
            let complaint = Complaint::of_account("bug", why);
            report.ended = Some((task.clone(), Ended::Failed(complaint)));
        }
        Order::Connect | Order::Ask => report.lost = Some((why.to_owned(), Loss::Soft)),
        Order::Close => {}
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
        Failed::Spool(SpoolError::NoSuchAccount { .. }) => Trouble::NotHere.code(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_panics_over_an_account_goes_on_with_others() {
        let task = Task { account: Userid::from("glad"), scope: Scope::Whole };
        let orders = [Order::Send(task.clone()), Order::Connect, Order::Ask, Order::Close];
        for order in orders {
            let mut session = Some(());
            let mut report = Report { number: 3, messages: 1, ..Report::default() };
            guarded(&order, &mut session, &mut report, |_, report| {
                report.reached = true;
                panic!("as a test wants it");
            });
            assert!(session.is_none() && report.number == 3 && !report.reached);
            match order {
                Order::Send(_) => {
                    let Some((ended, Ended::Failed(complaint))) = report.ended else {
                        panic!("its account is stuck");
                    };
                    assert_eq!((ended, complaint.code.as_str()), (task.clone(), "bug"));
                }
                Order::Connect | Order::Ask => assert!(report.lost.is_some()),
                Order::Close => assert!(report.lost.is_none()),
            }
        }
    }
}
