//! What an incremental holds: what changed, and nothing else.

use std::sync::Mutex;

use engine::base::Base;
use engine::ports::Monitor;
use engine::snapshot::snapshot;
use model::diff::Step;
use model::{Guid, SystemFlags};
use segment::names::{EntryName, Part};

use super::account::{Account, EPOCH, Mailbox, MemoryMessages, guid_of};
use super::archive::{Archive, Counts, Taken, chain_of, count, entries, options, stored_messages};

const NOTHING: Counts = Counts {
    messages: 0,
    hard_links: 0,
    symlinks: 0,
    directories: 0,
    metadata: 0,
    account_files: 0,
};

/// An INBOX of five messages and a folder of three, two of which are in INBOX too. The release is
/// one that keeps no name in cyrus.header.
fn account() -> Account {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 16);
    for n in 0..5 {
        inbox.add(body(n).as_bytes(), EPOCH + n);
    }
    let mut work = Mailbox::new("user.glad.Work", "id1", 16);
    for n in 3..6 {
        work.add(body(n).as_bytes(), EPOCH + n);
    }
    account.mailboxes = vec![inbox, work];
    account.files.insert("sub".to_owned(), b"INBOX.Work\t\n".to_vec());
    account
}

fn body(n: i64) -> String {
    format!("Subject: {n}\r\n\r\n{}", "line\r\n".repeat(100))
}

/// A full snapshot, and an incremental of it after `change`.
fn changed(change: impl FnOnce(&mut Account)) -> (Counts, Taken) {
    let mut account = account();
    let mut archive = Archive::default();
    archive.take(&account);
    change(&mut account);
    let taken = archive.take(&account);
    (count(&archive.segments[1]), taken)
}

#[test]
fn a_full_snapshot_holds_everything_once() {
    let mut archive = Archive::default();
    let taken = archive.take(&account());
    let everything = Counts {
        messages: 6,
        hard_links: 8,
        symlinks: 2,
        directories: 2,
        metadata: 4,
        account_files: 1,
    };
    assert_eq!(count(&archive.segments[0]), everything);
    assert_eq!(taken.summary.totals.messages, 8);
    assert_eq!(taken.summary.totals.messages_new, 6);
    assert!(taken.summary.findings.is_empty());
}

#[test]
fn where_nothing_changed_nothing_is_read_or_written() {
    let (counts, taken) = changed(|_| {});
    assert_eq!(counts, NOTHING);
    assert!(taken.summary.plan.is_empty());
    assert_eq!(taken.messages.opened(), []);
    assert_eq!(taken.summary.totals.messages, 8);
    assert_eq!(taken.summary.totals.messages_new, 0);
}

#[test]
fn a_copy_costs_one_hard_link_and_one_index() {
    let (counts, taken) = changed(|account| {
        account.mailboxes[1].add(body(0).as_bytes(), EPOCH);
    });
    assert_eq!(counts, Counts { hard_links: 1, metadata: 1, ..NOTHING });
    assert_eq!(taken.messages.opened(), [], "its bytes are known");
}

#[test]
fn a_rename_costs_one_symlink() {
    let (counts, taken) = changed(|account| {
        account.mailboxes[1].name = "user.glad.Play".to_owned();
    });
    assert_eq!(counts, Counts { symlinks: 1, ..NOTHING });
    assert_eq!(taken.messages.opened(), []);
    let renames = |step: &Step| matches!(step, Step::Rename { .. });
    assert_eq!(taken.summary.plan.steps.iter().filter(|step| renames(step)).count(), 1);
}

#[test]
fn a_name_of_before_costs_nothing() {
    let mut account = account();
    let mut archive = Archive::default();
    for name in ["user.glad.Work", "user.glad.Play", "user.glad.Work"] {
        account.mailboxes[1].name = name.to_owned();
        archive.take(&account);
    }
    assert_eq!(count(&archive.segments[1]).symlinks, 1);
    assert_eq!(count(&archive.segments[2]).symlinks, 0, "the old link is still right");
}

#[test]
fn a_flag_costs_one_index() {
    let (counts, taken) = changed(|account| {
        account.mailboxes[0].records[2].system_flags.0 |= SystemFlags::FLAGGED.0;
    });
    assert_eq!(counts, Counts { metadata: 1, ..NOTHING });
    assert_eq!(taken.messages.opened(), []);
}

#[test]
fn a_new_message_costs_itself_its_link_and_one_index() {
    let (counts, taken) = changed(|account| {
        account.mailboxes[0].add(body(9).as_bytes(), EPOCH + 9);
    });
    assert_eq!(counts, Counts { messages: 1, hard_links: 1, metadata: 1, ..NOTHING });
    assert_eq!(taken.messages.opened(), [(0, 6)]);
}

#[test]
fn a_mailbox_that_is_gone_costs_nothing() {
    let (counts, taken) = changed(|account| {
        account.mailboxes.pop();
    });
    assert_eq!(counts, NOTHING);
    assert_eq!(taken.summary.plan.mailboxes_removed(), 1);
}

#[test]
fn an_account_file_costs_itself() {
    let (counts, _) = changed(|account| {
        account.files.insert("sub".to_owned(), Vec::new());
        account.files.insert("seen".to_owned(), b"x".to_vec());
    });
    assert_eq!(counts, Counts { account_files: 2, ..NOTHING });
}

#[test]
fn a_folder_made_anew_gets_a_link_of_its_own() {
    let mut account = account();
    let mut archive = Archive::default();
    archive.take(&account);
    account.mailboxes[1] = Mailbox::new("user.glad.Work", "id2", 16);
    archive.take(&account);
    let links: Vec<String> = archive.segments.iter().flat_map(|s| folder_links(s)).collect();
    assert_eq!(links, ["INBOX", "INBOX.Work", "INBOX.Work~2"]);
}

#[test]
fn a_mailbox_that_comes_back_costs_its_links_and_what_no_other_one_had() {
    let mut account = account();
    let mut archive = Archive::default();
    archive.take(&account);
    let gone = account.mailboxes.pop().expect("a mailbox");
    archive.take(&account);
    account.mailboxes.push(gone);
    let taken = archive.take(&account);
    let cost =
        Counts { messages: 1, hard_links: 3, symlinks: 1, directories: 1, metadata: 2, ..NOTHING };
    assert_eq!(count(&archive.segments[2]), cost);
    assert_eq!(taken.messages.opened(), [(1, 3)], "two of three are in INBOX");
    assert_eq!(folder_links(&archive.segments[2]), ["INBOX.Work~2"]);
}

#[test]
fn a_guid_that_was_made_right_costs_one_index() {
    let mut account = account();
    account.mailboxes[0].records[0].guid = Guid::ZERO;
    account.mailboxes[0].records[1].guid = guid_of(b"something else");
    let mut archive = Archive::default();
    archive.take(&account);
    let list = count(&archive.segments[0]).account_files;
    assert_eq!(list, 2, "the list of exceptional messages counts as one");
    for (record, n) in (0..2).zip(0..) {
        account.mailboxes[0].records[record].guid = guid_of(body(n).as_bytes());
    }
    let taken = archive.take(&account);
    assert_eq!(count(&archive.segments[1]), Counts { metadata: 1, ..NOTHING });
    assert_eq!(taken.messages.opened(), []);
}

#[test]
fn a_mailbox_that_starts_over_gets_a_directory_of_its_own() {
    let mut account = account();
    let mut archive = Archive::default();
    archive.take(&account);
    let mut anew = Mailbox::new("user.glad.Work", "id1", 16);
    anew.uidvalidity += 1;
    anew.add(b"another first message", EPOCH);
    account.mailboxes[1] = anew;
    archive.take(&account);
    let cost = Counts {
        messages: 1,
        hard_links: 1,
        symlinks: 1,
        directories: 1,
        metadata: 2,
        account_files: 0,
    };
    assert_eq!(count(&archive.segments[1]), cost);
}

#[test]
fn a_message_that_is_found_again_costs_itself_and_no_metadata() {
    let mut account = account();
    let lost = account.mailboxes[0].bodies.remove(&1).expect("a message");
    let mut archive = Archive::default();
    let taken = archive.take(&account);
    assert_eq!(taken.summary.findings.len(), 1);
    let taken = archive.take(&account);
    assert_eq!(taken.summary.findings.len(), 1, "it is still missing");
    assert_eq!(count(&archive.segments[1]), NOTHING);
    account.mailboxes[0].bodies.insert(1, lost);
    let taken = archive.take(&account);
    assert!(taken.summary.findings.is_empty());
    assert_eq!(count(&archive.segments[2]), Counts { messages: 1, hard_links: 1, ..NOTHING });
}

#[test]
fn a_file_without_a_record_is_told_until_it_has_one() {
    let mut account = account();
    let lost = account.mailboxes[0].records.remove(1);
    let mut archive = Archive::default();
    let orphans = |taken: Taken| -> Vec<Option<u32>> {
        taken.summary.findings.iter().map(|finding| finding.uid).collect()
    };
    assert_eq!(orphans(archive.take(&account)), [Some(2)]);
    assert_eq!(orphans(archive.take(&account)), [Some(2)], "nothing changed");
    account.mailboxes[0].records[0].system_flags.0 |= SystemFlags::FLAGGED.0;
    assert_eq!(orphans(archive.take(&account)), [Some(2)], "something else changed");
    account.mailboxes[0].name = "user.glad.Renamed".to_owned();
    assert_eq!(orphans(archive.take(&account)), [Some(2)], "it has another name");
    account.mailboxes[0].records.insert(1, lost);
    assert_eq!(orphans(archive.take(&account)), []);
}

#[test]
fn the_same_message_in_any_number_of_mailboxes_is_stored_once() {
    let mut account = Account::new("glad");
    for n in 0..300_i64 {
        let mut mailbox = Mailbox::new(&format!("user.glad.f{n}"), &format!("id{n}"), 17);
        // More than what is read at a time, twice in the same mailbox.
        mailbox.add(b"the very same", EPOCH + n);
        mailbox.add(b"the very same", EPOCH - n);
        account.mailboxes.push(mailbox);
    }
    let mut archive = Archive::default();
    let taken = archive.take(&account);
    let stored = stored_messages(&archive.segments[0]);
    assert_eq!(stored.into_iter().collect::<Vec<_>>(), [(guid_of(b"the very same"), 1)]);
    assert_eq!(count(&archive.segments[0]).hard_links, 600);
    assert_eq!(taken.summary.links, 600);
}

fn folder_links(segment: &[u8]) -> Vec<String> {
    let mut links = Vec::new();
    for (entry, _) in entries(segment) {
        if let Ok(EntryName { part: Part::Folder(link), .. }) = EntryName::parse(&entry.name) {
            links.push(link.to_owned());
        }
    }
    links.sort();
    links
}

/// Notes which mailboxes are still held when the first message is written.
struct AtFirstMessage<'a> {
    messages: &'a MemoryMessages,
    held: Mutex<Option<Vec<bool>>>,
}

impl Monitor for AtFirstMessage<'_> {
    fn advance(&self, _messages: u64, _bytes: u64) {
        let held = (0..2).map(|mailbox| self.messages.is_held(mailbox)).collect();
        self.held.lock().expect("no thread panicked").get_or_insert(held);
    }
}

#[test]
fn a_mailbox_without_anything_new_is_released_before_the_others_are_read() {
    let mut account = account();
    let mut archive = Archive::default();
    archive.take(&account);
    account.mailboxes[1].add(b"\r\n", EPOCH);
    let segments = archive.all_segments();
    let chain = chain_of(&segments, &account);
    let base = Base::new(&chain).expect("a base");
    let (source, messages) = account.source();
    let monitor = AtFirstMessage { messages: &messages, held: Mutex::default() };
    snapshot(source, &messages, Some(&base), Vec::new(), &options(2), &monitor)
        .expect("a snapshot");
    let held = monitor.held.into_inner().expect("no thread panicked");
    assert_eq!(held, Some(vec![false, true]));
}
