//! Heal: give damaged messages the bytes back that their records tell of.
//!
//! What is damaged, an [audit](crate::audit) says. Good bytes come from another message of the same spool,
//! or from another [place](crate::place). They are gathered and compared with the GUID before anything is
//! changed; where there are none, nothing is. Where nobody is at work, [the file is replaced](heal_all); a server
//! that runs gets a good copy [through its protocol](through::heal_through).

mod gathered;
pub mod through;

use std::collections::HashSet;
use std::{fmt, io};

use model::{Guid, Uid};
use peer::SessionError;
use spool::{Exchanged, Mending, Server};

use crate::audit::{Audited, Custody, Nature, Place as Message};
use crate::place::Place;
use gathered::Gathered;

/// Where good bytes were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file of another message of this spool.
    Message(Message),
    /// At the other place.
    Place,
}

/// What became of a damaged message.
#[derive(Debug)]
pub enum Outcome {
    /// It has its bytes again, or would have.
    Healed(Origin),
    /// A good copy has this number, and the damaged one is expunged; or would be.
    Replaced(Origin, Uid),
    /// It is expunged already: clients do not see it, and the server will remove it.
    Expunged,
    /// Nobody has its bytes. It is as it was.
    NoCopy,
    /// Its bytes were found, and could not be given to it. It is as it was.
    Failed(Origin, io::Error),
    /// The server that runs cannot have them. It is as it was.
    Left(Left),
}

/// Why a server that runs cannot have a good copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It has no mailbox of that name any more.
    NotThere,
    /// What is in the mailbox is known elsewhere by its number.
    NotMail,
    /// It has the message whole, or another one by that number.
    OtherServer,
    /// All numbers of the mailbox are given out.
    NoUids,
    /// It does not take it.
    Refused(String),
    /// The mailbox changed each time before anything could be done.
    Busy,
}

/// Keeps notes of what is done to damaged messages. A note is durable when its function returns.
pub trait Notes {
    /// Notes that one is about to get its bytes back: in its file, or in a copy of this number.
    ///
    /// # Errors
    /// If it cannot be kept: then nothing is done.
    fn note(&mut self, wound: &Custody, origin: &Origin, to: Option<Uid>) -> io::Result<()>;

    /// Notes that the server did not take the copy of this number, which was noted before.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn withdraw(&mut self, wound: &Custody, to: Uid) -> io::Result<()>;
}

/// The damaged messages of an account whose bytes are known by their GUID. Where it is the record that is wrong,
/// its GUID tells of another message's: to go by it would be the end of this one.
pub fn wounds(audited: &Audited) -> impl Iterator<Item = &Custody> {
    let custodies = audited.issues.iter().filter_map(|issue| issue.custody.as_deref());
    custodies.filter(|custody| {
        let is_of_record = matches!(custody.nature, Nature::WrongSize | Nature::WrongRecord);
        !custody.recorded.guid.is_zero() && !is_of_record
    })
}

/// Heals all of them in their files. First those whose files are those of others of them, or go round in a circle:
/// these are exchanged, since whoever wrote one of them anew would destroy what another one needs. Then the rest.
///
/// # Errors
/// If the other place no longer answers.
pub fn heal_all<'w>(
    server: &Server,
    wounds: &[&'w Custody],
    other: &mut dyn Place,
    dry_run: bool,
    notes: &mut dyn Notes,
    take: &mut dyn FnMut(&'w Custody, Outcome),
) -> Result<(), SessionError> {
    let mut has: Vec<Option<Guid>> =
        wounds.iter().map(|wound| wound.found.map(|found| found.guid)).collect();
    let mut is_done = vec![false; wounds.len()];
    // Few are, of many that are damaged.
    let wanted: HashSet<Guid> = wounds.iter().map(|wound| wound.recorded.guid).collect();
    let is_holder = |at: &usize| has[*at].is_some_and(|guid| wanted.contains(&guid));
    let holders: Vec<usize> = (0..wounds.len()).filter(is_holder).collect();
    for (at, wound) in wounds.iter().enumerate() {
        let wanted = wound.recorded.guid;
        let holds =
            |other: &usize| has[*other] == Some(wanted) && wounds[*other].recorded.guid != wanted;
        let holder = holders.iter().copied().find(holds).filter(|_| !is_done[at]);
        // What has no file has none to give, and another one keeps what it holds until this one has a copy.
        let Some(holder) = holder.filter(|_| has[at].is_some()) else { continue };
        let origin = Origin::Message(wounds[holder].place.clone());
        let is_mutual = has[at] == Some(wounds[holder].recorded.guid);
        let back = is_mutual.then(|| Origin::Message(wound.place.clone()));
        let done = match dry_run {
            true => Ok(()),
            false => exchange(server, (wound, &origin), (wounds[holder], back.as_ref()), notes),
        };
        is_done[at] = true;
        match done {
            Ok(()) => {
                has.swap(at, holder);
                take(wound, Outcome::Healed(origin));
                if let Some(back) = back {
                    is_done[holder] = true;
                    take(wounds[holder], Outcome::Healed(back));
                }
            }
            // What it has may be what another one needs.
            Err(error) => take(wound, Outcome::Failed(origin, error)),
        }
    }
    // Those without a file first: what they need may be what others hold.
    let (without, with): (Vec<usize>, Vec<usize>) =
        (0..wounds.len()).filter(|at| !is_done[*at]).partition(|at| has[*at].is_none());
    for at in without.into_iter().chain(with) {
        let outcome = heal(server, wounds[at], Some(&mut *other), dry_run, notes)?;
        take(wounds[at], outcome);
    }
    Ok(())
}

/// Gives a message the file that another one has, and that one its own, which may be what it needs.
fn exchange(
    server: &Server,
    (wound, origin): (&Custody, &Origin),
    (holder, back): (&Custody, Option<&Origin>),
    notes: &mut dyn Notes,
) -> io::Result<()> {
    let wanted = (wound.recorded.guid, wound.recorded.size);
    let mut gathered = Gathered::new(wanted);
    let mut file = server.open_message(&holder.place.mailbox, holder.place.uid)?;
    if !gathered.pour(&mut file) || !gathered.is_good() {
        return Err(io::Error::other("its file has changed since it was looked at"));
    }
    notes.note(wound, origin, None)?;
    if let Some(back) = back {
        notes.note(holder, back, None)?;
    }
    let [first, second] = [wound, holder].map(|message| Exchanged {
        mailbox: &message.place.mailbox,
        uid: message.place.uid,
        archived: message.recorded.archived,
    });
    server.exchange(first, second).map_err(io::Error::other)
}

/// Heals one in its file. What is about to be done is noted first.
///
/// # Errors
/// If the other place no longer answers.
fn heal(
    server: &Server,
    wound: &Custody,
    other: Option<&mut dyn Place>,
    dry_run: bool,
    notes: &mut dyn Notes,
) -> Result<Outcome, SessionError> {
    let Some((gathered, origin)) = find(server, wound, other)? else { return Ok(Outcome::NoCopy) };
    if dry_run {
        return Ok(Outcome::Healed(origin));
    }
    let done = notes.note(wound, &origin, None).and_then(|()| mend(server, wound, gathered));
    Ok(match done {
        Ok(()) => Outcome::Healed(origin),
        Err(error) => Outcome::Failed(origin, error),
    })
}

/// Looks for the bytes of a damaged message, first in the spool itself.
fn find(
    server: &Server,
    wound: &Custody,
    other: Option<&mut dyn Place>,
) -> Result<Option<(Gathered, Origin)>, SessionError> {
    let wanted = (wound.recorded.guid, wound.recorded.size);
    for copy in &wound.copies {
        let mut gathered = Gathered::new(wanted);
        let read = server.open_message(&copy.mailbox, copy.uid);
        if read.is_ok_and(|mut file| gathered.pour(&mut file)) && gathered.is_good() {
            return Ok(Some((gathered, Origin::Message(copy.clone()))));
        }
    }
    let Some(other) = other else { return Ok(None) };
    let mut gathered = Gathered::new(wanted);
    let told = other.bytes_of(&wanted.0, &mut |bytes| gathered.take(bytes))?;
    Ok((told && gathered.is_good()).then_some((gathered, Origin::Place)))
}

fn mend(server: &Server, wound: &Custody, gathered: Gathered) -> io::Result<()> {
    let mending = Mending {
        mailbox: &wound.place.mailbox,
        uid: wound.place.uid,
        archived: wound.recorded.archived,
        guid: wound.recorded.guid,
        size: wound.recorded.size,
        internaldate: wound.recorded.internaldate,
    };
    let mut bytes = gathered.into_reader()?;
    server.mend(&mending, &mut *bytes).map_err(io::Error::other)
}

impl Left {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Left::NotThere => "not-there",
            Left::NotMail => "not-mail",
            Left::OtherServer => "other-server",
            Left::NoUids => "no-uids",
            Left::Refused(_) => "refused",
            Left::Busy => "busy",
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Left::NotThere => write!(f, "the server has no such mailbox any more; run it again"),
            Left::NotMail => {
                write!(f, "its mailbox holds no mail; it can be healed when the server is stopped")
            }
            Left::OtherServer => write!(
                f,
                "the server that --through names has it whole, or another message by that number: it \
                 is not the server of this spool, or something has changed meanwhile"
            ),
            Left::NoUids => write!(f, "the mailbox has given out its last UID"),
            Left::Refused(why) => write!(f, "the server does not take it: {why}"),
            Left::Busy => write!(f, "its mailbox changed each time before a copy could be added"),
        }
    }
}
