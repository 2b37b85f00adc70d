//! Accounts at two places of whatever kind: what was made to differ is found, with its side, and nothing
//! else is.

use std::collections::{BTreeMap, BTreeSet};

use cyrus_format::names::NameRules;
use engine::compare::difference::{Both, Difference, Side, What};
use engine::compare::{Comparison, Depth, Verdict, compare};
use engine::place::{Kept, Place, Told};
use engine::ports::Silent;
use engine::replicate::local::Local;
use model::{Guid, SystemFlags, Timestamp, Uid, Userid};
use proptest::prelude::*;

use super::account::guid_of;
use super::replica::MemoryReplica;
use super::replicate::Master;

/// The mailboxes that messages differ in, and those that differ themselves.
const FOLDERS: [&str; 2] = ["user.glad", "user.glad.a"];
const OTHERS: [&str; 5] =
    ["user.glad.b", "user.glad.c", "user.glad.d", "user.glad.e", "user.glad.f"];

/// Messages in each folder.
const MESSAGES: u8 = 6;

/// One that nobody has by that name before.
const RENAMED: &str = "user.glad.z";

/// What both sides have in the beginning.
fn account() -> Master {
    let mut master = Master::new();
    for name in FOLDERS[1..].iter().chain(&OTHERS) {
        master.create(name);
    }
    for (number, name) in (0..).zip(FOLDERS.iter().chain(&OTHERS)) {
        (0..MESSAGES).for_each(|body| master.append(name, number * MESSAGES + body));
    }
    master.subscriptions.insert(FOLDERS[0].to_owned());
    master
}

/// What is made to differ in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Flag,
    Expunge,
    Remove,
    Body,
    Arrival,
    Damage,
    Loss,
}

impl Change {
    /// Whether records tell of it; nobody but the bytes does otherwise.
    fn is_told(self) -> bool {
        !matches!(self, Change::Damage | Change::Loss)
    }
}

/// What is made to differ in a mailbox, or in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upheaval {
    Delete,
    Rename,
    Rights,
    Validity,
    Create,
    Subscribe,
}

/// All that is made to differ; of each message, and each mailbox, one thing at most.
#[derive(Clone, Debug, Default)]
struct Injected {
    messages: BTreeMap<(usize, u8), (Side, Change)>,
    mailboxes: BTreeMap<usize, (Side, Upheaval)>,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::A), Just(Side::B)]
}

fn injected() -> impl Strategy<Value = Injected> {
    use Change::{Arrival, Body, Damage, Expunge, Flag, Loss, Remove};
    let change = prop::sample::select(vec![Flag, Expunge, Remove, Body, Arrival, Damage, Loss]);
    let place = (0..FOLDERS.len(), 0..MESSAGES);
    let messages = prop::collection::btree_map(place, (side(), change), 0..5);
    use Upheaval::{Create, Delete, Rename, Rights, Subscribe, Validity};
    let upheavals = [Delete, Rename, Rights, Validity, Create, Subscribe];
    let upheaval = prop::sample::select(upheavals.to_vec());
    let mailboxes = prop::collection::btree_map(0..OTHERS.len(), (side(), upheaval), 0..4);
    (messages, mailboxes).prop_map(|(messages, mut mailboxes)| {
        // There is one name to be renamed to, and one to be made anew.
        let mut seen = BTreeSet::new();
        mailboxes.retain(|_, (_, upheaval)| {
            !matches!(upheaval, Rename | Create) || seen.insert(*upheaval as u8)
        });
        Injected { messages, mailboxes }
    })
}

impl Injected {
    /// One side's account.
    fn account(&self, side: Side) -> Master {
        let mut master = account();
        let told = self.messages.iter().filter(|(_, of)| of.0 == side && of.1.is_told());
        for ((folder, nth), (_, change)) in told {
            let at = master.at(FOLDERS[*folder]).expect("a folder");
            let modseq = master.next();
            let mailbox = &mut master.account.mailboxes[at];
            mailbox.highestmodseq = modseq;
            let uid = u32::from(*nth) + 1;
            let found = mailbox.records.iter().position(|record| record.uid.0 == uid);
            let found = found.expect("a record");
            let record = &mut mailbox.records[found];
            match change {
                Change::Flag => record.system_flags.0 |= SystemFlags::FLAGGED.0,
                Change::Expunge => record.system_flags.0 |= SystemFlags::EXPUNGED.0,
                Change::Arrival => record.internaldate = Timestamp::from_secs(77),
                Change::Body => {
                    let body = [b'o', *nth];
                    record.guid = guid_of(&body);
                    mailbox.bodies.insert(uid, body.to_vec());
                }
                Change::Remove => {
                    mailbox.records.remove(found);
                    mailbox.bodies.remove(&uid);
                }
                Change::Damage | Change::Loss => unreachable!("no record tells of it"),
            }
        }
        for (at, (_, upheaval)) in self.mailboxes.iter().filter(|(_, of)| of.0 == side) {
            let name = OTHERS[*at];
            let place = master.at(name).expect("a folder");
            match upheaval {
                Upheaval::Delete => master.delete(name),
                Upheaval::Rename => master.rename(name, RENAMED),
                Upheaval::Rights => {
                    master.account.mailboxes[place].acl.push((b"iris".to_vec(), b"lr".to_vec()));
                }
                Upheaval::Validity => master.account.mailboxes[place].uidvalidity += 1,
                Upheaval::Create => {
                    master.create("user.glad.new");
                    let made = master.account.mailboxes.last_mut().expect("it was made");
                    made.id = Some("made".to_owned());
                }
                Upheaval::Subscribe => drop(master.subscriptions.insert(name.to_owned())),
            }
        }
        master
    }

    /// Messages whose bytes are wrong at a side, or not there.
    fn damaged(&self, side: Side) -> impl Iterator<Item = (usize, u8, Change)> {
        let all = self.messages.iter().filter(move |(_, of)| of.0 == side);
        let all = all.map(|((folder, nth), (_, change))| (*folder, *nth, *change));
        all.filter(|(.., change)| !change.is_told())
    }

    /// What has to be found.
    fn expected(&self, depth: Depth) -> BTreeSet<Found> {
        let mut expected = BTreeSet::new();
        for ((folder, nth), (side, change)) in &self.messages {
            let code = match change {
                _ if depth == Depth::Quick => continue,
                Change::Flag => "flags",
                Change::Expunge => "expunged",
                Change::Remove => "message-only",
                Change::Body => "guid",
                Change::Arrival => "internaldate",
                Change::Damage | Change::Loss if depth == Depth::Full => "content",
                Change::Damage | Change::Loss => continue,
            };
            let side = match change {
                Change::Remove => Some(side.other()),
                Change::Expunge | Change::Damage | Change::Loss => Some(*side),
                Change::Flag | Change::Body | Change::Arrival => None,
            };
            expected.insert((FOLDERS[*folder].to_owned(), u32::from(*nth) + 1, code, side));
        }
        for (at, (side, upheaval)) in &self.mailboxes {
            let name = OTHERS[*at].to_owned();
            expected.insert(match upheaval {
                Upheaval::Delete => (name, 0, "mailbox-only", Some(side.other())),
                Upheaval::Rename => (name, 0, "mboxname", None),
                Upheaval::Rights => (name, 0, "acl", None),
                Upheaval::Validity => (name, 0, "uidvalidity", None),
                Upheaval::Create => ("user.glad.new".to_owned(), 0, "mailbox-only", Some(*side)),
                Upheaval::Subscribe => (String::new(), 0, "subscribed", Some(*side)),
            });
        }
        expected
    }

    /// Whether the checksums of a folder cannot be the same.
    fn is_changed(&self, folder: usize) -> bool {
        self.messages.iter().any(|((at, _), (_, change))| *at == folder && change.is_told())
    }
}

/// The mailbox, the message or 0, what differs, and the side that it is at.
type Found = (String, u32, &'static str, Option<Side>);

/// What follows from other differences of the same mailbox.
const COUNTERS: [&str; 6] =
    ["highestmodseq", "last_uid", "recentuid", "sync_crc", "sync_crc_annot", "modseq"];

fn found(comparison: &Comparison) -> BTreeSet<Found> {
    let found = comparison.differences.iter().map(|difference| {
        let name = difference.mailbox.as_ref().map(ToString::to_string).unwrap_or_default();
        let uid = difference.uid.map_or(0, |uid| uid.0);
        (name, uid, difference.code(), difference.side())
    });
    found.collect()
}

/// How an account is had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// From its files: a spool, a vault, an archive.
    Files,
    /// From a server.
    Server,
}

/// Hands over one side as a place of that kind; returns what a server was asked.
fn at(
    injected: &Injected,
    side: Side,
    kind: Kind,
    then: &mut dyn FnMut(&mut dyn Place),
) -> Vec<String> {
    let mut master = injected.account(side);
    let userid = Userid::from("glad");
    match kind {
        Kind::Files => {
            for (folder, nth, change) in injected.damaged(side) {
                let at = master.at(FOLDERS[folder]).expect("a folder");
                let bodies = &mut master.account.mailboxes[at].bodies;
                match change {
                    Change::Loss => drop(bodies.remove(&(u32::from(nth) + 1))),
                    _ => drop(bodies.insert(u32::from(nth) + 1, b"wrong".to_vec())),
                }
            }
            let (account, messages) = master.account().source();
            let rules = NameRules::v3();
            let local = Local::of(&account, &rules).expect("an account");
            then(&mut Kept::new(local, Some(&messages), 1));
            Vec::new()
        }
        Kind::Server => {
            let mut server = MemoryReplica::default();
            assert_eq!(master.sync(&mut server).problems, []);
            for (folder, nth, change) in injected.damaged(side) {
                let at = master.at(FOLDERS[folder]).expect("a folder");
                let guid = guid_of(&master.account.mailboxes[at].bodies[&(u32::from(nth) + 1)]);
                match change {
                    Change::Loss => drop(server.bodies.remove(&guid)),
                    _ => drop(server.bodies.insert(guid, b"wrong".to_vec())),
                }
            }
            server.log.clear();
            then(&mut Told::ask(&userid, &mut server).expect("it answers"));
            server.log
        }
    }
}

/// Compares both sides; returns what was found, and what servers were asked.
fn looked(
    injected: &Injected,
    sides: [(Side, Kind); 2],
    depth: Depth,
) -> (Comparison, Vec<String>) {
    let [(a, a_kind), (b, b_kind)] = sides;
    let mut comparison = None;
    let mut log = Vec::new();
    let more = at(injected, a, a_kind, &mut |a| {
        log = at(injected, b, b_kind, &mut |b| {
            comparison = Some(compare(a, b, depth, &Silent).expect("both answer"));
        });
    });
    log.extend(more);
    (comparison.expect("it was compared"), log)
}

/// The same, with sides exchanged.
fn mirrored(comparison: &Comparison) -> Vec<Difference> {
    fn swap<T>(Both { a, b }: Both<T>) -> Both<T> {
        Both { a: b, b: a }
    }
    let turned = comparison.differences.iter().cloned().map(|difference| {
        let what = match difference.what {
            What::OnlyAt(side, guid) => What::OnlyAt(side.other(), guid),
            What::ExpungedAt(side) => What::ExpungedAt(side.other()),
            What::Guid(both) => What::Guid(swap(both)),
            What::Flags(both) => What::Flags(swap(both)),
            What::Value(name, both) => What::Value(name, swap(both)),
            What::Content { at, recorded, found } => {
                What::Content { at: at.other(), recorded, found }
            }
            What::Subscribed(side, name) => What::Subscribed(side.other(), name),
            What::File(name, side) => What::File(name, side.map(Side::other)),
        };
        Difference { what, ..difference }
    });
    sorted(turned)
}

/// In one order. A mailbox that has two names is called by that of the first side.
fn sorted(differences: impl Iterator<Item = Difference>) -> Vec<Difference> {
    let named = differences.map(|mut difference| {
        let has_two = matches!(difference.what, What::Value("mboxname", _));
        difference.mailbox.take_if(|_| has_two);
        difference
    });
    let mut sorted: Vec<Difference> = named.collect();
    sorted.sort();
    sorted
}

const KINDS: [Kind; 2] = [Kind::Files, Kind::Server];
const DEPTHS: [Depth; 3] = [Depth::Quick, Depth::Records, Depth::Full];

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn what_differs_is_found_and_nothing_else(injected in injected()) {
        let renamed = injected.mailboxes.iter().find(|(_, of)| of.1 == Upheaval::Rename);
        let renamed = renamed.map(|(at, _)| OTHERS[*at]);
        for (a, b, depth) in all() {
            let (comparison, _) = looked(&injected, [(Side::A, a), (Side::B, b)], depth);
            let found: BTreeSet<Found> = found(&comparison)
                .into_iter()
                .map(|(name, uid, code, side)| match renamed {
                    Some(was) if name == RENAMED => (was.to_owned(), uid, code, side),
                    _ => (name, uid, code, side),
                })
                .collect();
            let (counters, told): (BTreeSet<Found>, BTreeSet<Found>) =
                found.into_iter().partition(|(_, _, code, _)| COUNTERS.contains(code));
            prop_assert_eq!(&told, &injected.expected(depth), "{:?} {:?} {:?}", a, b, depth);
            // Counters differ where something of the mailbox does, and only there.
            let of: BTreeSet<&str> = counters.iter().map(|(name, ..)| name.as_str()).collect();
            let changed: BTreeSet<&str> =
                (0..2).filter(|at| injected.is_changed(*at)).map(|at| FOLDERS[at]).collect();
            prop_assert_eq!(&of, &changed, "{:?} {:?} {:?}", a, b, depth);
            prop_assert_eq!(&comparison.unclear, &vec![]);
            let (turned, _) = looked(&injected, [(Side::B, b), (Side::A, a)], depth);
            prop_assert_eq!(mirrored(&turned), sorted(comparison.differences.iter().cloned()));
        }
    }

    #[test]
    fn what_is_equal_to_itself_is_so_at_any_place(injected in injected(), side in side()) {
        // What is damaged is so at both.
        let whole = Injected {
            messages: injected
                .messages
                .into_iter()
                .filter(|(_, of)| of.1.is_told())
                .collect(),
            ..injected
        };
        for (a, b, depth) in all() {
            let (comparison, log) = looked(&whole, [(side, a), (side, b)], depth);
            prop_assert_eq!(comparison.verdict(), Verdict::Equal, "{:?}", comparison);
            // Without a closer look, one question to each server is enough.
            let servers = [a, b].into_iter().filter(|kind| *kind == Kind::Server).count();
            if depth == Depth::Quick {
                prop_assert_eq!(log, vec!["GET USER".to_owned(); servers]);
            }
        }
    }
}

/// Every pair of kinds, at every depth.
fn all() -> impl Iterator<Item = (Kind, Kind, Depth)> {
    KINDS.into_iter().flat_map(|a| {
        KINDS.into_iter().flat_map(move |b| DEPTHS.into_iter().map(move |depth| (a, b, depth)))
    })
}

/// The numbers and hashes that a difference has are those of the sides that it names.
#[test]
fn a_difference_says_what_each_side_has() {
    let messages = BTreeMap::from([((0, 0), (Side::B, Change::Body))]);
    let injected = Injected { messages, ..Injected::default() };
    let sides = [(Side::A, Kind::Files), (Side::B, Kind::Server)];
    let (comparison, _) = looked(&injected, sides, Depth::Records);
    let guids = comparison.differences.iter().find_map(|difference| match &difference.what {
        What::Guid(both) => Some((difference.uid, both.clone())),
        _ => None,
    });
    let [a, b]: [Guid; 2] = [guid_of(b"m\0"), guid_of(b"o\0")];
    assert_eq!(guids, Some((Some(Uid(1)), Both { a, b })));
}
