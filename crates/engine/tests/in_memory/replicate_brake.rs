//! What is not done to a replica without consent.

use engine::replicate::Options;
use engine::replicate::brake::Brake;
use model::{Modseq, SystemFlags};

use super::account::EPOCH;
use super::replica::MemoryReplica;
use super::replicate::{Master, inbox, options, pair};

#[test]
fn the_brake_stops_what_would_cost_much() {
    let removed = |brakes: &[Brake]| format!("{brakes:?}");
    // A mailbox that was made anew.
    let (mut master, mut replica) = pair();
    master.delete("user.glad.a");
    master.create("user.glad.a");
    let outcome = master.sync(&mut replica);
    assert!(matches!(outcome.plan.brakes[..], [Brake::OtherIdentity { .. }]), "{outcome:?}");
    assert_eq!(replica.applied(), 0);
    // An account without an INBOX.
    let (mut master, mut replica) = pair();
    master.delete("user.glad");
    let outcome = master.sync(&mut replica);
    assert!(outcome.plan.brakes.contains(&Brake::WholeAccount), "{outcome:?}");
    assert_eq!(replica.applied(), 0);
    // UIDs that start over.
    let (mut master, mut replica) = pair();
    master.account.mailboxes[0].uidvalidity += 5;
    let outcome = master.sync(&mut replica);
    let brakes = removed(&outcome.plan.brakes);
    assert!(brakes.contains("OtherUidValidity"), "{brakes}");
    assert_eq!(replica.applied(), 0);
    master.sync_with(&mut replica, &Options { accept_removals: true, ..options() });
    master.assert_same(&replica);
}

#[test]
fn most_of_an_account_does_not_go_at_once() {
    let (mut master, mut replica) = (Master::new(), MemoryReplica::default());
    (0..1500_u32).for_each(|n| {
        let modseq = master.next();
        let record = master.account.mailboxes[0].add(format!("m{n}").as_bytes(), EPOCH);
        record.modseq = Modseq(modseq);
    });
    assert_eq!(master.sync(&mut replica).problems, []);
    replica.log.clear();
    (0..1100).for_each(|_| master.change("user.glad", 0, SystemFlags::EXPUNGED));
    let outcome = master.sync(&mut replica);
    let expected = Brake::Removals { what: "messages", gone: 1100, of: 1500 };
    assert_eq!((&outcome.plan.brakes[..], replica.applied()), (&[expected][..], 0));
    assert_eq!(
        master.sync_with(&mut replica, &Options { removals_max: 80, ..options() }).problems,
        []
    );
    master.assert_same(&replica);
}

/// The counters promise one new message. Only the checksum shows that most of what the replica has is
/// gone here, and that is known when the account is looked at for the second time.
#[test]
fn what_a_second_look_shows_is_stopped_by_the_brake_as_well() {
    let (mut master, mut replica) = (Master::new(), MemoryReplica::default());
    (0..1500_u32).for_each(|n| {
        let modseq = master.next();
        let record = master.account.mailboxes[0].add(format!("m{n}").as_bytes(), EPOCH);
        record.modseq = Modseq(modseq);
    });
    assert_eq!(master.sync(&mut replica).problems, []);
    replica.log.clear();
    let mailbox = &mut master.account.mailboxes[0];
    mailbox.deletedmodseq = mailbox.records.last().expect("a message").modseq.0;
    mailbox.records.drain(..1100);
    master.append("user.glad", 7);
    let outcome = master.sync(&mut replica);
    let expected = Brake::Removals { what: "messages", gone: 1100, of: 1501 };
    assert_eq!(outcome.plan.brakes, [expected]);
    assert!(outcome.is_braked(false));
    assert!(replica.log.contains(&"GET FULLMAILBOX".to_owned()), "{:?}", replica.log);
    assert!(!replica.log.contains(&"APPLY EXPUNGE".to_owned()), "{:?}", replica.log);
    let alive = inbox(&mut replica).records.values().filter(|record| !record.is_expunged());
    assert_eq!(alive.count(), 1500);
    // With consent, the brakes are told all the same.
    let consent = Options { accept_removals: true, ..options() };
    let outcome = master.sync_with(&mut replica, &consent);
    assert!(!outcome.is_braked(true) && outcome.plan.brakes.len() == 1, "{outcome:?}");
    master.assert_same(&replica);
}

/// With delete_mode: delayed, a user who is deleted is renamed, mailbox by mailbox; later on, what was kept
/// is expired. Neither needs consent.
#[test]
fn a_user_who_is_deleted_is_renamed_and_expired_without_a_brake() {
    let (mut master, mut replica) = pair();
    for name in ["user.glad.b", "user.glad.c", "user.glad.d", "user.glad.e"] {
        master.create(name);
        master.append(name, 7);
    }
    assert_eq!(master.sync(&mut replica).problems, []);
    let names: Vec<String> =
        master.account.mailboxes.iter().map(|mailbox| mailbox.name.clone()).collect();
    let kept = |name: &str| format!("DELETED.{name}.6B045DF8");
    for name in &names {
        master.rename(name, &kept(name));
    }
    let outcome = master.sync(&mut replica);
    assert_eq!((&outcome.plan.brakes[..], &outcome.problems[..]), (&[][..], &[][..]));
    assert_eq!(outcome.done.renamed, names.len() as u64);
    assert!(replica.mailboxes.keys().all(|name| name.as_bytes().starts_with(b"DELETED.")));
    for name in &names {
        master.delete(&kept(name));
    }
    let outcome = master.sync(&mut replica);
    assert_eq!((&outcome.plan.brakes[..], &outcome.problems[..]), (&[][..], &[][..]));
    assert_eq!(outcome.done.removed, names.len() as u64);
    assert!(replica.mailboxes.is_empty());
}
