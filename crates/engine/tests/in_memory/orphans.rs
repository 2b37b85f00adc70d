//! Message files that no record names.

use model::FindingKind;

use super::account::{Account, EPOCH, Mailbox};
use super::archive::Archive;

/// The UIDs of the orphans that a full snapshot finds, if a record of each of these is lost and
/// each of those arrived after the index was copied.
fn orphans(lost: &[u32], late: &[u32]) -> Vec<u32> {
    let mut mailbox = Mailbox::new("user.glad", "id0", 17);
    for n in 0..5 {
        mailbox.add(format!("Subject: {n}\r\n\r\n").as_bytes(), EPOCH + n);
    }
    mailbox.records.retain(|record| !lost.contains(&record.uid.0));
    for uid in late {
        mailbox.bodies.insert(*uid, b"Subject: late\r\n\r\n".to_vec());
    }
    let mut account = Account::new("glad");
    account.mailboxes = vec![mailbox];
    let findings = Archive::default().take(&account).summary.findings;
    let orphans = findings.iter().filter(|finding| finding.kind == FindingKind::OrphanFile);
    let uids: Vec<u32> = orphans.map(|finding| finding.uid.expect("a message")).collect();
    assert_eq!(uids.len(), findings.len(), "{findings:?}");
    uids
}

#[test]
fn a_file_whose_record_is_lost_is_an_orphan() {
    assert_eq!(orphans(&[], &[]), [] as [u32; 0]);
    assert_eq!(orphans(&[2, 5], &[]), [2, 5]);
    assert_eq!(orphans(&[1, 2, 3, 4, 5], &[]), [1, 2, 3, 4, 5]);
}

#[test]
fn a_message_that_arrived_while_others_were_read_is_none() {
    assert_eq!(orphans(&[], &[6, 7]), [] as [u32; 0]);
    assert_eq!(orphans(&[5], &[6]), [5]);
}
