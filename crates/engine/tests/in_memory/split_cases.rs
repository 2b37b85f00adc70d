//! What becomes of single messages that both sides have changed, by the three ways to resolve it.

use std::io::{self, Read};

use csync::record::Record;
use engine::ports::Peer;
use engine::replicate::compare::DifferenceKind;
use engine::replicate::split::{Beside, Keep, Master, Resolve, Side};
use engine::replicate::{Options, ReplicateError, Trouble};
use model::{Guid, MboxName, SystemFlags, Uid};
use peer::SessionError;

use super::account::guid_of;
use super::replica::MemoryReplica;
use super::replicate::options;
use super::split::{Brains, alive, guid, held, highest, inbox, resolving, uids};

/// Two messages that both have, 1 and 2; then one more on each side, 3 on the master, 4 on the replica.
fn split() -> Brains {
    let mut brains = Brains::new();
    brains.deliver(true);
    brains.deliver(true);
    brains.resolve(Resolve::Renumber);
    brains.deliver(true);
    brains.deliver(false);
    brains
}

fn flags_of(server: &MemoryReplica, body: u32) -> SystemFlags {
    let records = alive(held(server));
    records.iter().find(|record| record.guid == guid(body)).expect("it is there").system_flags
}

#[test]
fn a_number_that_means_two_messages_is_given_up() {
    for mode in [Resolve::Renumber, Resolve::Master, Resolve::Replica] {
        let mut brains = split();
        let before = highest(&brains.master).max(highest(&brains.replica));
        let outcome = brains.resolve(mode);
        assert_eq!(outcome.problems, []);
        brains.assert_same();
        let mut moved = [guid(3), guid(4)];
        moved.sort();
        let expected = [(1, guid(1)), (2, guid(2)), (4, moved[0]), (5, moved[1])];
        assert_eq!(uids(&brains.master), expected.map(|(uid, guid)| (Uid(uid), guid)));
        // Clients learn of it: both numbers are gone since, and both messages are new.
        let records = &held(&brains.master).records;
        let new = [&records[&Uid(4)], &records[&Uid(5)]];
        assert!(new.iter().all(|r| r.modseq > before && r.createdmodseq() > before), "{new:?}");
        assert!(records[&Uid(3)].is_expunged() && records[&Uid(3)].modseq > before);
    }
}

#[test]
fn what_the_replica_alone_has_keeps_a_number_that_is_free() {
    let mut brains = split();
    brains.change(true, 2, SystemFlags::EXPUNGED);
    inbox(&mut brains.master).records.remove(&Uid(3));
    // The master has given out 3, and does not know it any more; 4 is free.
    brains.deliver(false);
    brains.resolve(Resolve::Renumber);
    brains.assert_same();
    let uids: Vec<u32> = uids(&brains.master).iter().map(|(uid, _)| uid.0).collect();
    assert_eq!(uids, [1, 2, 4, 5]);
}

/// What each way makes of it: flags of message 1 on both sides, and whether message 2 is there.
fn judged(mode: Resolve, prepare: impl Fn(&mut Brains)) -> (SystemFlags, bool) {
    let mut brains = split();
    prepare(&mut brains);
    let outcome = brains.resolve(mode);
    assert_eq!(outcome.problems, []);
    brains.assert_same();
    let is_there = uids(&brains.master).iter().any(|(_, known)| *known == guid(2));
    (flags_of(&brains.master, 1), is_there)
}

#[test]
fn the_later_change_wins_unless_a_side_is_preferred() {
    use SystemFlags as Flags;
    let replica_later = |brains: &mut Brains| {
        brains.change(true, 0, Flags::SEEN);
        brains.change(false, 0, Flags::FLAGGED);
        brains.change(false, 0, Flags::FLAGGED);
    };
    let master_later = |brains: &mut Brains| {
        brains.change(false, 0, Flags::FLAGGED);
        brains.change(true, 0, Flags::SEEN);
        brains.change(true, 0, Flags::SEEN);
    };
    for (mode, first, second) in [
        (Resolve::Renumber, Flags::FLAGGED, Flags::SEEN),
        (Resolve::Master, Flags::SEEN, Flags::SEEN),
        (Resolve::Replica, Flags::FLAGGED, Flags::FLAGGED),
    ] {
        assert_eq!(judged(mode, replica_later), (first, true), "{mode:?}");
        assert_eq!(judged(mode, master_later), (second, true), "{mode:?}");
    }
}

#[test]
fn an_expunge_wins_unless_a_side_is_preferred() {
    let expunge = |brains: &mut Brains, is_master| {
        brains.change(is_master, 1, SystemFlags::EXPUNGED).expect("it is there");
    };
    let on_master = |brains: &mut Brains| expunge(brains, true);
    let on_replica = |brains: &mut Brains| expunge(brains, false);
    for (mode, first, second) in [
        (Resolve::Renumber, false, false),
        (Resolve::Master, false, true),
        (Resolve::Replica, true, false),
    ] {
        assert_eq!(judged(mode, on_master).1, first, "{mode:?}");
        assert_eq!(judged(mode, on_replica).1, second, "{mode:?}");
    }
}

/// A replica that has counted on by itself has a modseq for its own message that the master has used for
/// something else, which it has cleaned up since.
#[test]
fn what_was_cleaned_up_here_says_nothing_about_what_came_there_since() {
    let mut brains = split();
    brains.deliver(true);
    brains.change(true, 2, SystemFlags::EXPUNGED);
    brains.change(true, 2, SystemFlags::EXPUNGED);
    brains.clean(true);
    brains.deliver(false);
    brains.deliver(false);
    assert!(highest(&brains.master) >= highest(&brains.replica));
    let outcome = brains.resolve(Resolve::Renumber);
    assert_eq!(outcome.problems, []);
    brains.assert_same();
    assert_eq!(uids(&brains.master).len(), 5, "{:?}", uids(&brains.master));
}

#[test]
fn a_large_message_comes_through_in_pieces() {
    let mut brains = split();
    let body = vec![b'x'; 9 << 20];
    brains.deliver_body(false, &body);
    let outcome = brains.resolve(Resolve::Renumber);
    assert_eq!(
        (&outcome.problems[..], brains.master.bodies.contains_key(&guid_of(&body))),
        (&[][..], true)
    );
    brains.assert_same();
    let fetched = brains.replica.log.iter().filter(|command| *command == "GET FETCH").count();
    assert_eq!(fetched, 3, "one message once, the large one twice");
}

#[test]
fn many_messages_go_in_pieces_that_stay() {
    let mut brains = split();
    (0..8200).for_each(|_| {
        brains.deliver(false);
    });
    let outcome = brains.resolve(Resolve::Renumber);
    assert_eq!(outcome.problems, []);
    brains.assert_same();
    assert_eq!(uids(&brains.master).len(), 8204);
    let is_piece = |command: &&String| command.starts_with("APPLY MAILBOX");
    assert!(brains.master.log.iter().filter(is_piece).count() > 2, "{}", brains.master.log.len());
    let fetched = brains.replica.log.iter().filter(|command| *command == "GET FETCH").count();
    assert_eq!(fetched, 8201, "each of them once");
}

#[test]
fn a_message_that_the_replica_has_lost_leaves_all_as_it_is() {
    let mut brains = split();
    brains.replica.bodies.remove(&guid(4));
    let before = brains.clone();
    let outcome = brains.resolve(Resolve::Renumber);
    let [problem] = &outcome.problems[..] else { panic!("{:?}", outcome.problems) };
    assert!(matches!(&problem.trouble, Trouble::DamagedThere(findings) if findings.len() == 1));
    let both = |brains: &Brains| [uids(&brains.master), uids(&brains.replica)];
    assert_eq!(both(&before), both(&brains));
}

/// A server to which a message comes each time before it is asked.
struct Restless<'m> {
    server: &'m mut MemoryReplica,
    deliver: fn(&mut MemoryReplica),
}

impl Master for Restless<'_> {
    fn peer(&mut self) -> Result<&mut dyn Peer, SessionError> {
        (self.deliver)(self.server);
        Ok(self.server)
    }
}

#[test]
fn a_master_that_goes_on_is_read_anew() {
    let mut brains = split();
    let spool = brains.spool();
    brains.replica.log.clear();
    let mut master = Restless {
        server: &mut brains.master,
        deliver: |server| inbox(server).told.highestmodseq.0 += 1,
    };
    let beside = Beside { master: Some(&mut master), keep: None };
    let options = resolving(Resolve::Renumber);
    let outcome = Brains::pass(&spool, &mut brains.replica, beside, &options).expect("it goes on");
    assert!(outcome.is_stale, "{outcome:?}");
    assert_eq!(outcome.done.merged, 0);
    assert_eq!(outcome.problems.len(), 1, "{outcome:?}");
    let changed = brains.replica.log.iter().any(|command| command.starts_with("APPLY MAILBOX"));
    assert!(!changed, "{:?}", brains.replica.log);
    brains.resolve(Resolve::Renumber);
    brains.assert_same();
    assert_eq!(uids(&brains.master).len(), 4);
}

/// Both variants, in memory.
#[derive(Default)]
struct Kept {
    records: Vec<(Side, Uid)>,
    messages: Vec<(Side, Guid)>,
    ended: usize,
    fails: bool,
}

impl Keep for Kept {
    fn begin(&mut self, mailbox: &MboxName) -> io::Result<bool> {
        assert_eq!(mailbox.as_bytes(), b"user.glad");
        Ok(true)
    }

    fn record(&mut self, side: Side, record: &Record) -> io::Result<()> {
        self.records.push((side, record.uid));
        Ok(())
    }

    fn message(&mut self, side: Side, record: &Record, bytes: &mut dyn Read) -> io::Result<()> {
        let mut body = Vec::new();
        bytes.read_to_end(&mut body)?;
        assert_eq!(guid_of(&body), record.guid);
        self.messages.push((side, record.guid));
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.ended += 1;
        if self.fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

#[test]
fn both_variants_are_kept_and_nothing_is_changed() {
    let mut brains = split();
    let before = brains.clone();
    let dry = Options { dry_run: true, closely: true, ..options() };
    for options in [&Options { resolve: Some(Resolve::Renumber), ..dry.clone() }, &dry, &options()]
    {
        let mut kept = Kept::default();
        let outcome = brains.show(&mut kept, options);
        let sides = [Side::Master, Side::Replica];
        let records: Vec<_> =
            sides.iter().flat_map(|side| (1..=3).map(|uid| (*side, Uid(uid)))).collect();
        assert_eq!((kept.records, kept.ended), (records, 1));
        assert_eq!(kept.messages, [(Side::Master, guid(3)), (Side::Replica, guid(4))]);
        let is_shown = outcome.problems.len() + outcome.plan.steps.len();
        assert_eq!(is_shown, 1, "{outcome:?}");
    }
    assert_eq!(brains.replica.applied(), before.replica.applied());
    assert_eq!(format!("{:?}", before.master), format!("{:?}", brains.master));
}

#[test]
fn nothing_is_changed_where_the_variants_cannot_be_kept() {
    let mut brains = split();
    let (spool, applied) = (brains.spool(), brains.replica.applied());
    let mut kept = Kept { fails: true, ..Kept::default() };
    let mut own = super::split::Own(&mut brains.master);
    let beside = Beside { master: Some(&mut own), keep: Some(&mut kept) };
    let options = resolving(Resolve::Renumber);
    let ended = Brains::pass(&spool, &mut brains.replica, beside, &options);
    assert!(matches!(ended, Err(ReplicateError::Keep(_))), "{ended:?}");
    assert_eq!(brains.replica.applied(), applied);
}

#[test]
fn without_a_way_to_the_master_the_mailbox_stays() {
    let mut brains = split();
    let spool = brains.spool();
    let options = resolving(Resolve::Renumber);
    let outcome = Brains::pass(&spool, &mut brains.replica, Beside::default(), &options);
    let outcome = outcome.expect("it goes on");
    let [problem] = &outcome.problems[..] else { panic!("{outcome:?}") };
    let Trouble::Diverged(differences) = &problem.trouble else { panic!("{problem:?}") };
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].kind, DifferenceKind::Others);
    assert!(!outcome.is_stale);
}

/// A number of which the master has expunged its own message still means another one on the replica.
#[test]
fn an_expunge_of_another_message_is_no_expunge() {
    for (is_master, bodies) in [(true, [1, 2, 4]), (false, [1, 2, 3])] {
        let mut brains = split();
        brains.change(is_master, 2, SystemFlags::EXPUNGED);
        let outcome = brains.resolve(Resolve::Renumber);
        assert_eq!(outcome.problems, []);
        brains.assert_same();
        let guids: Vec<Guid> = uids(&brains.replica).into_iter().map(|(_, guid)| guid).collect();
        assert_eq!(guids, bodies.map(guid));
    }
}
