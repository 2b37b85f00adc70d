//! Catalogues: the envelopes of what a segment holds.

use engine::catalog::{Envelope, read};

use super::account::{Account, EPOCH, Mailbox, guid_of};
use super::archive::{Archive, count};

/// The catalogue of every segment.
fn catalogs(archive: &Archive, account: &Account) -> Vec<Vec<Envelope>> {
    let chain = archive.chain(account).expect("a chain");
    let read = |snapshot| read(&chain, snapshot).expect("a catalogue");
    chain.snapshots().iter().map(read).collect()
}

fn message(subject: &str) -> String {
    format!(
        "From: iris\r\nSubject: {subject}\r\n folded\r\nMessage-ID: <{subject}>\r\n\r\nbody\r\n"
    )
}

fn envelope(subject: &str) -> Envelope {
    Envelope {
        guid: guid_of(message(subject).as_bytes()),
        from: b"iris".to_vec(),
        subject: format!("{subject} folded").into_bytes(),
        message_id: format!("<{subject}>").into_bytes(),
        ..Envelope::default()
    }
}

fn account(subjects: &[&str]) -> Account {
    let mut account = Account::new("glad");
    let mut inbox = Mailbox::new("user.glad", "id0", 17);
    for subject in subjects {
        inbox.add(message(subject).as_bytes(), EPOCH);
    }
    account.mailboxes.push(inbox);
    account
}

#[test]
fn each_segment_lists_what_it_holds_in_the_order_of_storing() {
    let mut account = account(&["one", "two", "one", "three"]);
    let mut archive = Archive { is_lazy: true, has_catalogs: true, ..Archive::default() };
    archive.part(&account, 1).expect("a part");
    archive.take(&account);
    account.mailboxes[0].add(message("two").as_bytes(), EPOCH);
    archive.take(&account);
    let large = format!("To: glad\r\n\r\n{}", "line\r\n".repeat(1_000_000));
    account.mailboxes[0].add(large.as_bytes(), EPOCH);
    archive.take(&account);
    let large =
        Envelope { guid: guid_of(large.as_bytes()), to: b"glad".to_vec(), ..Envelope::default() };
    assert_eq!(
        catalogs(&archive, &account),
        [vec![envelope("one")], vec![envelope("two"), envelope("three")], Vec::new(), vec![large]]
    );
    let files: Vec<usize> = archive.segments.iter().map(|s| count(s).account_files).collect();
    assert_eq!(files, [1, 1, 0, 1], "without messages there is no catalogue");
    for (segment, seq) in archive.all_segments().iter().zip(1..) {
        let catalog = segment.head().expect("a manifest").catalog;
        let name = catalog.map(|file| (file.name, file.seq));
        assert_eq!(name, (seq != 3).then(|| (format!("catalog/{seq:08}"), seq)));
        segment::verify::segment(segment, &|_| true, &mut |problem| panic!("{problem}"))
            .expect("sound");
    }
}

#[test]
fn nobody_gets_a_catalogue_who_did_not_ask() {
    let account = account(&["one"]);
    let mut archive = Archive::default();
    archive.take(&account);
    assert_eq!(catalogs(&archive, &account), [Vec::new()]);
    assert_eq!(count(&archive.segments[0]).account_files, 0);
}

#[test]
fn a_damaged_catalogue_is_told() {
    let account = account(&["one"]);
    let mut archive = Archive { has_catalogs: true, ..Archive::default() };
    archive.take(&account);
    let segment = &mut archive.segments[0];
    let at = segment.windows(10).position(|w| w == b"one folded").expect("the catalogue");
    segment[at] ^= 1;
    let chain = archive.chain(&account).expect("a chain");
    let error = read(&chain, chain.newest().expect("a snapshot")).expect_err("damage");
    assert!(error.to_string().contains("file catalog/00000001 of glad 1 is damaged"), "{error}");
}
