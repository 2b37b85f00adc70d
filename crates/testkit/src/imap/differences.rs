//! What two views disagree about, in lines for people.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::{FolderView, ImapView, MessageView};

impl ImapView {
    /// A line for each thing that `found` has differently; empty if the two are equal. `self` is
    /// what was expected.
    pub fn differences(&self, found: &ImapView) -> Vec<String> {
        let mut report = Report::default();
        report.maps("folder ", &self.folders, &found.folders, folder_differences);
        report.value("subscriptions", &self.subscriptions, &found.subscriptions);
        report.maps("quota ", &self.quotas, &found.quotas, |report, root, want, have| {
            report.value(root, want, have);
        });
        report.lines
    }
}

fn folder_differences(report: &mut Report, name: &str, want: &FolderView, have: &FolderView) {
    report.value(&format!("{name}: mailbox id"), &want.mailbox_id, &have.mailbox_id);
    report.value(&format!("{name}: uidvalidity"), &want.uid_validity, &have.uid_validity);
    report.value(&format!("{name}: uidnext"), &want.uid_next, &have.uid_next);
    report.value(&format!("{name}: highestmodseq"), &want.highest_modseq, &have.highest_modseq);
    report.value(&format!("{name}: purposes"), &want.purposes, &have.purposes);
    report.value(&format!("{name}: quota root"), &want.quota_root, &have.quota_root);
    let annotation = format!("{name}: annotation ");
    report.maps(&annotation, &want.annotations, &have.annotations, |report, entry, want, have| {
        report.value(entry, want, have);
    });
    let right = format!("{name}: rights of ");
    report.maps(&right, &want.acl, &have.acl, |report, user, want, have| {
        report.value(user, want, have);
    });
    let uid = format!("{name}: uid ");
    report.maps(&uid, &want.messages, &have.messages, message_differences);
}

fn message_differences(report: &mut Report, name: &str, want: &MessageView, have: &MessageView) {
    report.value(&format!("{name}: flags"), &want.flags, &have.flags);
    report.value(&format!("{name}: internaldate"), &want.internaldate, &have.internaldate);
    report.value(&format!("{name}: savedate"), &want.savedate, &have.savedate);
    report.value(&format!("{name}: size"), &want.size, &have.size);
    report.value(&format!("{name}: modseq"), &want.modseq, &have.modseq);
    report.value(&format!("{name}: bytes served"), &want.served, &have.served);
    report.value(&format!("{name}: SHA-1"), &want.guid, &have.guid);
    report.value(&format!("{name}: annotations"), &want.annotations, &have.annotations);
}

#[derive(Default)]
struct Report {
    lines: Vec<String>,
}

impl Report {
    fn value<T: PartialEq + Debug>(&mut self, name: &str, want: &T, have: &T) {
        if want != have {
            self.lines.push(format!("{name}: expected {want:?}, found {have:?}"));
        }
    }

    fn maps<K: Ord + ToString, V>(
        &mut self,
        prefix: &str,
        want: &BTreeMap<K, V>,
        have: &BTreeMap<K, V>,
        both: impl Fn(&mut Self, &str, &V, &V),
    ) {
        for (key, wanted) in want {
            let name = format!("{prefix}{}", key.to_string());
            match have.get(key) {
                Some(found) => both(self, &name, wanted, found),
                None => self.lines.push(format!("{name}: missing")),
            }
        }
        for key in have.keys().filter(|key| !want.contains_key(key)) {
            self.lines.push(format!("{prefix}{}: not expected", key.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_views_have_no_differences_and_each_change_has_a_line() {
        let mut want = ImapView::default();
        want.folders.entry("INBOX".into()).or_default().messages.entry(1).or_default();
        assert_eq!(want.differences(&want.clone()), Vec::<String>::new());

        let mut have = want.clone();
        let inbox = have.folders.entry("INBOX".into()).or_default();
        inbox.uid_next = 7;
        inbox.messages.entry(1).or_default().flags.insert("\\Seen".into());
        inbox.messages.entry(2).or_default();
        have.folders.entry("INBOX/new".into()).or_default();
        assert_eq!(
            want.differences(&have),
            [
                "folder INBOX: uidnext: expected 0, found 7",
                "folder INBOX: uid 1: flags: expected {}, found {\"\\\\Seen\"}",
                "folder INBOX: uid 2: not expected",
                "folder INBOX/new: not expected",
            ]
        );
        assert_eq!(have.differences(&want)[2], "folder INBOX: uid 2: missing");
    }
}
