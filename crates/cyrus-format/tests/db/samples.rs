//! Files that a real Cyrus wrote: `fixtures/db`, see the README there.

use cyrus_format::db::{self, DbFormat};

use crate::batch::{Command, Pairs, parse, states};
use crate::{check_clean, pairs};

macro_rules! sample {
    ($name:literal) => {
        include_bytes!(concat!("../fixtures/db/", $name))
    };
}

pub const HISTORY_TWOSKIP: &[u8] = sample!("history.twoskip");
pub const UNFINISHED_TWOSKIP: &[u8] = sample!("unfinished.twoskip");
pub const FINISHED_TWOSKIP: &[u8] = sample!("finished.twoskip");
pub const REPACKED_TWOSKIP: &[u8] = sample!("repacked.twoskip");
pub const MAILBOXES_TWOSKIP: &[u8] = sample!("mailboxes.twoskip");
pub const HISTORY_SKIPLIST: &[u8] = sample!("history.skiplist");
pub const UNFINISHED_SKIPLIST: &[u8] = sample!("unfinished.skiplist");
pub const FINISHED_SKIPLIST: &[u8] = sample!("finished.skiplist");
pub const REPACKED_SKIPLIST: &[u8] = sample!("repacked.skiplist");
const HISTORY_FLAT: &[u8] = sample!("history.flat");

/// All that was done to the samples, from none to `repacked`.
pub fn all_commands() -> Vec<Command> {
    let mut commands = parse(sample!("history.batch"));
    commands.extend(parse(sample!("unfinished.batch")));
    commands.push(Command::Commit);
    commands.extend(parse(sample!("later.batch")));
    commands
}

/// The states that the samples went through.
pub fn all_states() -> Vec<Pairs> {
    states(&Pairs::new(), &all_commands())
}

pub fn history() -> Pairs {
    let states = states(&Pairs::new(), &parse(sample!("history.batch")));
    states.last().expect("the empty one at least").clone()
}

pub fn finished() -> Pairs {
    let mut commands = parse(sample!("unfinished.batch"));
    commands.push(Command::Commit);
    states(&history(), &commands).remove(1)
}

fn repacked() -> Pairs {
    all_states().pop().expect("many states")
}

#[test]
fn clean_files() {
    assert_ne!(history(), finished());
    check_clean(HISTORY_TWOSKIP, DbFormat::Twoskip, &history());
    check_clean(FINISHED_TWOSKIP, DbFormat::Twoskip, &finished());
    check_clean(REPACKED_TWOSKIP, DbFormat::Twoskip, &repacked());
    check_clean(HISTORY_SKIPLIST, DbFormat::Skiplist, &history());
    check_clean(FINISHED_SKIPLIST, DbFormat::Skiplist, &finished());
    check_clean(REPACKED_SKIPLIST, DbFormat::Skiplist, &repacked());
    check_clean(HISTORY_FLAT, DbFormat::Flat, &history());
}

#[test]
fn a_flat_file_comes_out_as_cyrus_wrote_it() {
    let list: Vec<_> = history().into_iter().collect();
    assert_eq!(db::flat::write(&list).as_deref(), Ok(HISTORY_FLAT));
}

#[test]
fn a_list_in_the_order_of_mailboxes() {
    check_clean(MAILBOXES_TWOSKIP, DbFormat::Twoskip, &history());
}

#[test]
fn an_unfinished_transaction_is_left_out() {
    for file in [UNFINISHED_TWOSKIP, UNFINISHED_SKIPLIST] {
        let db = db::read(file).expect("nothing is damaged");
        assert_eq!(pairs(&db), history());
        let told = db.recovered.expect("an unclean file");
        assert!(told.contains("transaction"), "{told}");
        assert!(!told.contains("rebuilt"), "{told}");
    }
}

#[test]
fn the_samples_hold_what_they_are_meant_to_test() {
    // A filler, a deletion, and levels above the lowest.
    let filler = |file: &[u8]| file.windows(8).any(|bytes| bytes == b" BLANK\x07\xa0");
    assert!(filler(HISTORY_TWOSKIP) && filler(FINISHED_TWOSKIP));
    assert!(HISTORY_TWOSKIP.chunks(8).any(|head| head == b"-\0\0\0\0\0\0\0"));
    // Bit 0 of the flags.
    assert_eq!(UNFINISHED_TWOSKIP[59], 1);
    // The log starts behind the sorted part.
    assert_ne!(REPACKED_SKIPLIST[40..44], HISTORY_SKIPLIST[40..44]);
}
