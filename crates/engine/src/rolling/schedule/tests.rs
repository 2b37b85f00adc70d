use std::collections::BTreeMap;

use cyrus_format::names::NameRules;
use cyrus_format::sync_log::Backlog;
use model::MboxName;
use proptest::prelude::*;

use super::*;

fn work(log: &str) -> Work {
    let rules = NameRules::v3();
    let mut backlog = Backlog::new(&rules);
    backlog.feed(log.as_bytes());
    backlog.finish()
}

fn add(schedule: &mut Schedule, chunk: u64, log: &str, now: i64) -> Vec<ChunkId> {
    schedule.add(ChunkId(chunk), Moment(now), &work(log), Moment(now)).forget
}

fn complaint(mailbox: &str) -> Complaint {
    let mailbox = (!mailbox.is_empty()).then(|| MboxName::from(mailbox));
    Complaint { mailbox, code: "damaged".to_owned(), reason: "it is damaged".to_owned() }
}

fn names(names: &[&str]) -> Scope {
    Scope::Mailboxes(names.iter().map(|name| MboxName::from(*name)).collect())
}

#[track_caller]
fn task(schedule: &mut Schedule, now: i64, account: &str, scope: Scope) -> Task {
    let task = schedule.next(Moment(now)).expect("a task");
    assert_eq!(task, Task { account: Userid::from(account), scope });
    task
}

#[track_caller]
fn finish(schedule: &mut Schedule, task: &Task, ended: Ended, now: i64) -> Effects {
    schedule.finish(task, ended, Moment(now))
}

const DONE: Ended = Ended::Done(Vec::new());

#[test]
fn an_account_is_never_on_two_connections_and_the_oldest_comes_first() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "MAILBOX user.b\nMAILBOX user.b.x\n", 10);
    add(&mut schedule, 2, "MAILBOX user.a\n", 20);
    let b = task(&mut schedule, 20, "b", names(&["user.b", "user.b.x"]));
    add(&mut schedule, 3, "MAILBOX user.b\n", 30);
    let a = task(&mut schedule, 30, "a", names(&["user.a"]));
    assert_eq!(schedule.next(Moment(30)), None);
    assert_eq!((schedule.left(), schedule.running(), schedule.oldest()), (4, 2, Some(Moment(10))));
    assert_eq!(finish(&mut schedule, &b, DONE, 40).forget, [ChunkId(1)]);
    let b = task(&mut schedule, 40, "b", names(&["user.b"]));
    assert_eq!(finish(&mut schedule, &a, DONE, 50).forget, [ChunkId(2)]);
    assert!(!schedule.is_done());
    assert_eq!(finish(&mut schedule, &b, DONE, 50).forget, [ChunkId(3)]);
    assert!(schedule.is_done());
    assert_eq!((schedule.done(), schedule.left(), schedule.oldest()), (4, 0, None));
    assert!(schedule.accounts.is_empty());
}

#[test]
fn what_waits_already_needs_no_second_chunk() {
    let mut schedule = Schedule::default();
    assert_eq!(add(&mut schedule, 1, "MAILBOX user.a\n", 0), []);
    assert_eq!(add(&mut schedule, 2, "MAILBOX user.a\nMAILBOX user.a\n", 0), [ChunkId(2)]);
    assert_eq!(add(&mut schedule, 3, "USER a\n", 0), []);
    assert_eq!(add(&mut schedule, 4, "MAILBOX user.a.x\n", 0), [ChunkId(4)]);
    let a = task(&mut schedule, 0, "a", Scope::Whole);
    // Nobody knows whether that was seen.
    assert_eq!(add(&mut schedule, 5, "MAILBOX user.a.x\n", 0), []);
    assert_eq!(finish(&mut schedule, &a, DONE, 0).forget, [ChunkId(3), ChunkId(1)]);
    task(&mut schedule, 0, "a", names(&["user.a.x"]));
}

#[test]
fn what_does_not_go_by_the_mailbox_is_tried_as_a_whole() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "MAILBOX user.a\nMAILBOX user.a.x\n", 0);
    let a = task(&mut schedule, 0, "a", names(&["user.a", "user.a.x"]));
    let effects = finish(&mut schedule, &a, Ended::Done(vec![complaint("user.a.x")]), 0);
    assert_eq!(effects, Effects::default(), "a chunk is kept, and nobody complains yet");
    let a = task(&mut schedule, 0, "a", Scope::Whole);
    let effects = finish(&mut schedule, &a, DONE, 0);
    assert_eq!((effects.forget, effects.told), (vec![ChunkId(1)], vec![]));
}

#[test]
fn a_bad_mailbox_is_told_once_and_the_others_go_on() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "USER a\n", 0);
    let a = task(&mut schedule, 0, "a", Scope::Whole);
    let effects = finish(&mut schedule, &a, Ended::Done(vec![complaint("user.a.x")]), 0);
    assert!(effects.keep_ill && effects.forget == [ChunkId(1)] && effects.told.is_empty());
    // Its news is no reason to try it again at once, that of others is one.
    assert_eq!(add(&mut schedule, 2, "MAILBOX user.a.x\n", 10), [ChunkId(2)]);
    assert_eq!(schedule.next(Moment(10)), None);
    add(&mut schedule, 3, "MAILBOX user.a.y\n", 10);
    let y = task(&mut schedule, 10, "a", names(&["user.a.y"]));
    assert_eq!(finish(&mut schedule, &y, DONE, 10).forget, [ChunkId(3)]);
    assert!(schedule.is_done() && schedule.ill().len() == 1);
    // It is tried again, less and less often.
    let mut pauses = Vec::new();
    let mut now = 0;
    for number in 1..12 {
        let due = schedule.due().expect("a time").0;
        pauses.push((due - now) / 1000);
        now = due;
        assert_eq!(schedule.next(Moment(now - 1)), None);
        let a = task(&mut schedule, now, "a", Scope::Whole);
        let effects = finish(&mut schedule, &a, Ended::Done(vec![complaint("user.a.x")]), now);
        assert_eq!(effects.told.len(), usize::from(number == 1), "it is known");
        assert!(!effects.keep_ill && effects.forget.is_empty());
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    // News brings it forward, but not to at once.
    add(&mut schedule, 4, "MAILBOX user.a.x\n", now + 1);
    assert_eq!(schedule.due(), Some(Moment(now + 60_000)));
    let a = task(&mut schedule, now + 60_000, "a", Scope::Whole);
    let effects = finish(&mut schedule, &a, DONE, now + 60_000);
    assert!(matches!(effects.told[..], [Told::Well(_, Moment(0))]) && effects.keep_ill);
    assert!(schedule.accounts.is_empty());
}

#[test]
fn news_that_comes_while_the_ill_is_tried_is_not_lost() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "USER a\n", 0);
    let a = task(&mut schedule, 0, "a", Scope::Whole);
    finish(&mut schedule, &a, Ended::Done(vec![complaint("user.a.x")]), 0);
    let a = task(&mut schedule, 2_000, "a", Scope::Whole);
    assert_eq!(add(&mut schedule, 2, "MAILBOX user.a.x\n", 2_000), []);
    finish(&mut schedule, &a, DONE, 2_001);
    task(&mut schedule, 2_001, "a", names(&["user.a.x"]));
}

#[test]
fn an_account_that_cannot_be_replicated_is_ill_as_a_whole_but_its_mailboxes_are_tried() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "MAILBOX user.a\n", 0);
    let failed = || Ended::Failed(Complaint::of_account("braked", "half of it would go"));
    let a = task(&mut schedule, 0, "a", names(&["user.a"]));
    assert_eq!(finish(&mut schedule, &a, failed(), 0), Effects::default());
    let a = task(&mut schedule, 0, "a", Scope::Whole);
    let effects = finish(&mut schedule, &a, failed(), 0);
    assert!(effects.forget == [ChunkId(1)] && effects.keep_ill && effects.told.is_empty());
    assert_eq!(add(&mut schedule, 2, "RENAME user.a.x user.a.y\n", 0), [ChunkId(2)]);
    for expected in [1, 0] {
        let chunks = add(&mut schedule, 3, "MAILBOX user.a\n", 0).len();
        assert_eq!(chunks, 1 - expected, "once, and then it is ill itself");
        if expected == 1 {
            let a = task(&mut schedule, 0, "a", names(&["user.a"]));
            let effects = finish(&mut schedule, &a, failed(), 0);
            assert!(effects.forget == [ChunkId(3)] && effects.keep_ill);
        }
    }
    assert_eq!(schedule.ill()[0].things.len(), 2);
}

#[test]
fn what_is_gone_with_its_account_is_not_ill_beside_it() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "UNUSER a\n", 0);
    let a = task(&mut schedule, 0, "a", Scope::Whole);
    let brake = Complaint::of_account("brake", "the whole account would go");
    finish(&mut schedule, &a, Ended::Failed(brake), 0);
    // The log says it twice, and the second time comes too late to be taken with the first.
    add(&mut schedule, 2, "MAILBOX user.a\n", 0);
    let a = task(&mut schedule, 0, "a", names(&["user.a"]));
    let gone = Complaint::of_account("not-here", "there is no account a");
    let effects = finish(&mut schedule, &a, Ended::Failed(gone), 0);
    assert_eq!((effects.forget, effects.keep_ill), (vec![ChunkId(2)], false));
    let ill = schedule.ill();
    assert!(ill.len() == 1 && ill[0].things.len() == 1, "{ill:?}");
    assert_eq!(ill[0].things[0].complaint.code, "brake");
}

#[test]
fn who_breaks_the_connection_waits_and_is_ill_in_the_end() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "USER a\n", 0);
    let mut now = 0;
    let mut told = Vec::new();
    for _ in 0..=STRIKES_MAX {
        let a = task(&mut schedule, now, "a", Scope::Whole);
        told = finish(&mut schedule, &a, Ended::Broken("it hung up".to_owned()), now).told;
        assert_eq!(schedule.next(Moment(now)), None, "no hot loop");
        now = schedule.due().expect("a time").0;
    }
    assert!(matches!(told[..], [Told::Ill(..)]), "{told:?}");
    let a = task(&mut schedule, now, "a", Scope::Whole);
    assert_eq!(finish(&mut schedule, &a, Ended::NotReached, now), Effects::default());
    let a = task(&mut schedule, now, "a", Scope::Whole);
    assert_eq!(finish(&mut schedule, &a, DONE, now).told.len(), 1);
}

#[test]
fn a_connection_that_holds_in_between_does_not_break_because_of_the_account() {
    let mut schedule = Schedule::default();
    add(&mut schedule, 1, "USER a\n", 0);
    let mut now = 0;
    for number in 1..=3 * STRIKES_MAX {
        let a = task(&mut schedule, now, "a", Scope::Whole);
        let ended = match number % STRIKES_MAX {
            0 => Ended::Failed(Complaint::of_account("busy", "somebody is at it")),
            _ => Ended::Broken("it hung up".to_owned()),
        };
        finish(&mut schedule, &a, ended, now);
        now = schedule.due().map_or(now, |due| due.0);
        let ill = schedule.ill();
        let codes = ill.iter().flat_map(|ill| &ill.things).map(|thing| &thing.complaint.code);
        assert!(codes.clone().all(|code| code == "busy"), "{:?}", codes.collect::<Vec<_>>());
    }
}

/// A master and its replica: of each mailbox a number that only grows. What waits to be heard of is in
/// chunks, and who is ill is on a list, as they are on a disk.
#[derive(Default)]
struct World {
    here: BTreeMap<MboxName, u64>,
    there: BTreeMap<MboxName, u64>,
    bad: BTreeSet<MboxName>,
    chunks: BTreeMap<ChunkId, String>,
    ill: Vec<IllAccount>,
    schedule: Schedule,
    running: Vec<(Task, BTreeMap<MboxName, u64>)>,
    made: u64,
    now: i64,
}

#[derive(Clone, Debug)]
enum Event {
    Change(Vec<(u8, u8)>, bool),
    Start,
    End(u8, u8),
    Harm(u8, u8),
    Mend(u8, u8),
    Wait(u16),
    Kill,
}

fn mailbox(account: u8, number: u8) -> MboxName {
    MboxName::from(format!("user.{}.m{}", char::from(b'a' + account % 3), number % 3).as_str())
}

fn account_of(name: &MboxName) -> Userid {
    NameRules::v3().owner(name).expect("an owner")
}

impl World {
    fn act(&mut self, event: &Event) {
        match event {
            Event::Change(mailboxes, whole) => self.change(mailboxes, *whole),
            Event::Start => {
                if let Some(task) = self.schedule.next(Moment(self.now)) {
                    let twice = self.running.iter().any(|(other, _)| other.account == task.account);
                    assert!(!twice, "{task:?} is on two connections");
                    // What is sent is what was there when it began.
                    self.running.push((task, self.here.clone()));
                }
            }
            Event::End(which, how) if !self.running.is_empty() => {
                let at = usize::from(*which) % self.running.len();
                let (task, seen) = self.running.swap_remove(at);
                self.end(&task, &seen, *how);
            }
            Event::End(..) => {}
            Event::Harm(account, number) => drop(self.bad.insert(mailbox(*account, *number))),
            Event::Mend(account, number) => drop(self.bad.remove(&mailbox(*account, *number))),
            Event::Wait(time) => self.now += i64::from(*time),
            Event::Kill => self.kill(),
        }
        self.check();
    }

    fn change(&mut self, mailboxes: &[(u8, u8)], whole: bool) {
        let mut log = String::new();
        for (account, number) in mailboxes {
            let name = mailbox(*account, *number);
            *self.here.entry(name.clone()).or_default() += 1;
            log += &match whole {
                true => format!("USER {}\n", account_of(&name)),
                false => format!("MAILBOX {name}\n"),
            };
        }
        self.made += 1;
        self.chunks.insert(ChunkId(self.made), log.clone());
        let now = Moment(self.now);
        let effects = self.schedule.add(ChunkId(self.made), now, &work(&log), now);
        self.effects(&effects);
    }

    fn end(&mut self, task: &Task, seen: &BTreeMap<MboxName, u64>, how: u8) {
        let ended = match how {
            0..10 => Ended::NotReached,
            10..25 => Ended::Broken("it hung up".to_owned()),
            25..30 => Ended::Failed(Complaint::of_account("busy", "somebody is at it")),
            _ => {
                let mut complaints = Vec::new();
                for (name, number) in seen {
                    let is_in = match &task.scope {
                        Scope::Whole => account_of(name) == task.account,
                        Scope::Mailboxes(names) => names.contains(name),
                    };
                    match is_in {
                        true if self.bad.contains(name) => {
                            complaints.push(complaint(&name.to_string()));
                        }
                        true => drop(self.there.insert(name.clone(), *number)),
                        false => {}
                    }
                }
                Ended::Done(complaints)
            }
        };
        let effects = self.schedule.finish(task, ended, Moment(self.now));
        self.effects(&effects);
    }

    fn effects(&mut self, effects: &Effects) {
        if effects.keep_ill {
            self.ill = self.schedule.ill();
        }
        for chunk in &effects.forget {
            assert!(self.chunks.remove(chunk).is_some(), "{chunk:?} was forgotten before");
        }
    }

    /// All that is in memory is gone.
    fn kill(&mut self) {
        self.running.clear();
        self.schedule = Schedule::default();
        let now = Moment(self.now);
        self.schedule.restore(&self.ill, now);
        for (chunk, log) in self.chunks.clone() {
            let effects = self.schedule.add(chunk, now, &work(&log), now);
            self.effects(&effects);
        }
    }

    /// Whatever the replica lacks is in a chunk, or on the list.
    fn check(&self) {
        let logs: Vec<Work> = self.chunks.values().map(|log| work(log)).collect();
        for (name, number) in &self.here {
            if self.there.get(name) == Some(number) {
                continue;
            }
            let account = account_of(name);
            let is_in = |work: &Work| match work.accounts.get(&account) {
                Some(Scope::Whole) => true,
                Some(Scope::Mailboxes(names)) => names.contains(name),
                None => false,
            };
            let is_kept = logs.iter().any(is_in);
            let is_ill = self.ill.iter().any(|ill| ill.account == account);
            assert!(is_kept || is_ill, "{name} is lost");
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let at = || (0..3u8, 0..3u8);
    prop_oneof![
        4 => (proptest::collection::vec(at(), 1..4), proptest::bool::weighted(0.2))
            .prop_map(|(mailboxes, whole)| Event::Change(mailboxes, whole)),
        4 => Just(Event::Start),
        4 => (any::<u8>(), 0..100u8).prop_map(|(which, how)| Event::End(which, how)),
        1 => at().prop_map(|(account, number)| Event::Harm(account, number)),
        1 => at().prop_map(|(account, number)| Event::Mend(account, number)),
        2 => any::<u16>().prop_map(Event::Wait),
        1 => Just(Event::Kill),
    ]
}

proptest! {
    #[test]
    fn nothing_is_lost_in_any_history(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::default();
        events.iter().for_each(|event| world.act(event));
        // All is mended; it takes no more than time.
        world.bad.clear();
        for _ in 0..200 {
            world.act(&Event::End(0, 99));
            world.act(&Event::Start);
            if world.schedule.running() == 0 {
                if world.schedule.due().is_none() {
                    break;
                }
                world.act(&Event::Wait(60_000));
            }
        }
        prop_assert_eq!(&world.there, &world.here);
        prop_assert_eq!((world.schedule.ill(), world.ill), (vec![], vec![]));
        prop_assert!(world.chunks.is_empty() && world.schedule.accounts.is_empty());
    }
}
