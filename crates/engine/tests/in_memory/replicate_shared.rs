//! Mailboxes that no user owns are replicated, to a replica that cannot list them.

use std::collections::BTreeSet;

use engine::replicate::brake::Brake;
use engine::replicate::{Options, Trouble};
use model::MboxName;

use super::replica::MemoryReplica;
use super::replicate::{Master, options};

/// Two hierarchies, and what the replica has of them.
fn pair() -> (Master, MemoryReplica) {
    let (mut master, mut replica) = (Master::of("%shared"), MemoryReplica::default());
    for (body, name) in (1..).zip(["shared", "shared.a", "shared.b", "other.com!lists"]) {
        master.create(name);
        master.append(name, body);
    }
    assert_eq!(master.sync(&mut replica).problems, []);
    master.assert_same(&replica);
    replica.log.clear();
    (master, replica)
}

#[test]
fn an_account_without_news_costs_one_question() {
    let (master, mut replica) = pair();
    assert!(master.sync(&mut replica).plan.is_empty());
    assert_eq!(replica.log, ["GET MAILBOXES"]);
}

#[test]
fn what_happens_to_shared_mailboxes_happens_there() {
    let (mut master, mut replica) = pair();
    master.rename("shared.a", "lists");
    master.swap("shared", "shared.b");
    master.append("lists", 7);
    master.delete("other.com!lists");
    let outcome = master.sync(&mut replica);
    assert_eq!(outcome.problems, []);
    let steps: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
    assert!(steps.iter().any(|step| step.contains("-cylinder-id")), "{steps:?}");
    assert!(steps.contains(&"remove other.com!lists".to_owned()), "{steps:?}");
    master.assert_same(&replica);
    assert!(master.sync(&mut replica).plan.is_empty());
}

#[test]
fn a_mailbox_that_is_another_one_there_stays_until_somebody_consents() {
    let (mut master, mut replica) = pair();
    master.delete("shared.a");
    master.create("shared.a");
    let outcome = master.sync(&mut replica);
    assert!(matches!(outcome.plan.brakes[..], [Brake::OtherIdentity { .. }]), "{outcome:?}");
    assert_eq!(replica.applied(), 0);
    // It has left no trace here: nobody asks for its name any more.
    let (mut master, mut replica) = pair();
    let at = master.at("shared.a").expect("it is there");
    master.account.mailboxes.remove(at);
    assert!(master.sync(&mut replica).plan.is_empty());
    // Its name is that of a tombstone of another one.
    master.create("shared.a");
    master.delete("shared.a");
    let outcome = master.sync(&mut replica);
    let troubles: Vec<_> = outcome.problems.iter().map(|problem| &problem.trouble).collect();
    assert_eq!((troubles, replica.applied()), (vec![&Trouble::ReplicaOnly], 0));
}

/// Its name stays behind, but not the record of its id.
#[test]
fn a_mailbox_that_went_to_a_user_is_left_to_him() {
    let (mut master, mut replica) = pair();
    master.delete("shared.a");
    master.went_away.insert("shared.a".to_owned());
    let outcome = master.sync(&mut replica);
    assert!(outcome.plan.is_empty() && outcome.problems.is_empty(), "{outcome:?}");
}

#[test]
fn most_shared_mailboxes_do_not_go_at_once() {
    let (mut master, mut replica) = (Master::of("%shared"), MemoryReplica::default());
    let names: Vec<String> = (0..6).map(|number| format!("shared.{number}")).collect();
    for name in &names {
        master.create(name);
        master.append(name, 1);
    }
    assert_eq!(master.sync(&mut replica).problems, []);
    replica.log.clear();
    names[..4].iter().for_each(|name| master.delete(name));
    let outcome = master.sync(&mut replica);
    let expected = Brake::Removals { what: "mailboxes", gone: 4, of: 6 };
    assert_eq!((&outcome.plan.brakes[..], replica.applied()), (&[expected][..], 0));
    master.sync_with(&mut replica, &Options { removals_max: 70, ..options() });
    master.assert_same(&replica);
}

#[test]
fn limits_of_shared_mailboxes_are_set() {
    let (mut master, mut replica) = pair();
    master.account.files.insert("quota/shared".to_owned(), b"0\n10000\n".to_vec());
    assert_eq!(master.sync(&mut replica).done.others, 1);
    let roots: BTreeSet<&MboxName> = replica.quotas.keys().collect();
    assert_eq!(roots, [&MboxName::from("shared")].into());
    replica.log.clear();
    assert!(master.sync(&mut replica).plan.is_empty());
    assert_eq!(replica.log, ["GET MAILBOXES", "GET QUOTA"]);
}

#[test]
fn one_shared_mailbox_is_sent_and_nothing_else() {
    let (mut master, mut replica) = pair();
    master.append("shared", 8);
    master.append("shared.b", 9);
    let mailboxes = Some([MboxName::from("shared.b")].into());
    let outcome = master.sync_with(&mut replica, &Options { mailboxes, ..options() });
    let steps: Vec<String> = outcome.plan.steps.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["update shared.b: 1 new, 0 changed, 0 expunged"]);
}
