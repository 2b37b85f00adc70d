//! What of a stored snapshot is wanted: mailboxes by their names, messages by their GUIDs.

use std::collections::BTreeSet;

use cyrus_format::annotations::{Annotated, Annotation, AnnotationDb, AnnotationKey, Audience};
use cyrus_format::db;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, RecordKey, Tally, patch_header, sizes};
use model::crc::{self, ThridText};
use model::{Guid, Uid};

use crate::archive::ArchiveError;
use crate::folder::is_named;
use crate::records::{EXPUNGE, INDEX, Records};
use crate::source::{SourceAccount, SourceMailbox};

/// What is wanted. Where both kinds are given, both must hold; what is not given is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of mailboxes, as [`is_named`] takes them; none means all.
    pub mailboxes: Vec<Vec<u8>>,
    /// Messages by what is stored of them; none means all.
    pub guids: BTreeSet<Guid>,
}

impl Selection {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether messages of this mailbox may be wanted; `name` is its internal name.
    pub fn takes_mailbox(&self, name: &[u8], userid: &[u8]) -> bool {
        let named = |pick: &Vec<u8>| is_named(name, userid, pick);
        self.mailboxes.is_empty() || self.mailboxes.iter().any(named)
    }

    /// The GUIDs that were asked for and are of no message of this account.
    pub fn missing_from(&self, account: &SourceAccount) -> Vec<Guid> {
        let mut missing = self.guids.clone();
        for mailbox in &account.mailboxes {
            for record in Records::read(&mailbox.files).linked() {
                if let Some(guid) = mailbox.contents.stored(record.uid, record.guid) {
                    missing.remove(&guid);
                }
            }
        }
        missing.into_iter().collect()
    }

    /// The mailbox with nothing in it but the messages that are wanted; `None` if there are none.
    ///
    /// # Errors
    ///
    /// If its index cannot be written any more.
    pub(crate) fn cut(
        &self,
        mut mailbox: SourceMailbox,
        userid: &[u8],
    ) -> Result<Option<SourceMailbox>, ArchiveError> {
        if self.guids.is_empty() {
            return Ok(Some(mailbox));
        }
        let wanted = |record: &RecordKey| {
            let stored = mailbox.contents.stored(record.uid, record.guid);
            stored.is_some_and(|guid| self.guids.contains(&guid))
        };
        let records = Records::read(&mailbox.files);
        let kept: BTreeSet<Uid> = records.linked().filter(wanted).map(|key| key.uid).collect();
        drop(records);
        if kept.is_empty() {
            return Ok(None);
        }
        for file in [INDEX, EXPUNGE] {
            if let Some(bytes) = cut_index(&mailbox, file, userid, &kept)? {
                mailbox.files.insert(file.to_owned(), bytes);
            }
        }
        Ok(Some(mailbox))
    }
}

/// A cyrus.index or cyrus.expunge with these records alone, byte for byte, behind a header that
/// counts them; `None` if there is no such file.
fn cut_index(
    mailbox: &SourceMailbox,
    file: &str,
    userid: &[u8],
    kept: &BTreeSet<Uid>,
) -> Result<Option<Vec<u8>>, ArchiveError> {
    let Some(bytes) = mailbox.files.get(file) else { return Ok(None) };
    // One that cannot be read has no record that is kept.
    let Ok(index) = Index::parse(bytes) else { return Ok(None) };
    let version = index.minor_version();
    let header = mailbox.files.get("cyrus.header");
    let header = header.and_then(|bytes| MailboxHeader::parse(bytes).ok()).unwrap_or_default();
    let flags = header.flag_crcs();
    let thrid = if version >= 20 { ThridText::Padded } else { ThridText::Short };
    let tally = |wanted: &dyn Fn(Uid) -> bool| {
        let records = index.records().filter(|record| wanted(record.uid));
        Tally::of(records, version, &flags, thrid)
    };
    let (stays, goes) = (tally(&|uid| kept.contains(&uid)), tally(&|uid| !kept.contains(&uid)));
    // What each message adds is XORed, so that what goes is taken away by the same.
    let annots = index.header().sync_crc_annot
        ^ stays.virtual_annots
        ^ goes.virtual_annots
        ^ annotations_of_others(mailbox, &index, userid, kept);
    let (header_size, _) = sizes(version).unwrap_or_default();
    let mut cut = bytes.get(..header_size).unwrap_or_default().to_vec();
    for (raw, key) in index.raw_records().zip(index.keys()) {
        if kept.contains(&key.uid) {
            cut.extend_from_slice(raw);
        }
    }
    let patched = patch_header(version, &mut cut, |header| stays.apply(header, annots));
    let what = || format!("{file} of {}", mailbox.name);
    patched.map_err(|source| ArchiveError::Cut { what: what(), source })?;
    Ok(Some(cut))
}

/// What the stored annotations of live messages that are not kept add to the annotation CRC.
fn annotations_of_others(
    mailbox: &SourceMailbox,
    index: &Index<'_>,
    userid: &[u8],
    kept: &BTreeSet<Uid>,
) -> u32 {
    let Some(bytes) = mailbox.files.get("cyrus.annotations") else { return 0 };
    let Ok(read) = db::read(bytes) else { return 0 };
    let mut sum = 0;
    for (key, value) in &read.entries {
        let key = AnnotationKey::parse(AnnotationDb::Messages, key);
        let (Ok(key), Ok(value)) = (key, Annotation::parse(value)) else { continue };
        let Annotated::Message(uid) = key.annotated else { continue };
        let live = index.position(uid).and_then(|at| index.key(at));
        let counts = live.is_some_and(|key| !key.is_expunged()) && !kept.contains(&uid);
        let is_gone = value.deleted == Some(true);
        if !counts || is_gone || crc::is_virtual(&key.entry, index.minor_version()) {
            continue;
        }
        let reader = match &key.audience {
            Audience::Shared | Audience::Unsaid => b"".as_slice(),
            Audience::Owner => userid,
            Audience::User(reader) => reader.as_bytes(),
        };
        sum ^= crc::annotation(uid, &key.entry, reader, &value.value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use cyrus_format::db::twoskip;
    use cyrus_format::index::{IndexHeader, versions, write_index};
    use model::{Modseq, Record, SystemFlags, Timestamp};

    use super::*;

    const USER: &[u8] = b"glad";
    const ENTRY: &[u8] = b"/comment";

    fn record(uid: u32) -> Record {
        let flags = if uid == 2 { SystemFlags::FLAGGED } else { SystemFlags::EXPUNGED };
        Record {
            uid: Uid(uid),
            // Before version 10 there is none, and all are zero.
            guid: Guid([uid as u8; 20]),
            size: u64::from(uid) * 10,
            internaldate: Timestamp::from_secs(1_400_000_000),
            last_updated: Timestamp::from_secs(1_400_000_000),
            modseq: Modseq(u64::from(uid)),
            cid: u64::from(uid) << 8,
            system_flags: if uid > 3 { flags } else { SystemFlags::FLAGGED },
            ..Record::default()
        }
    }

    /// What the annotation of a message adds to the CRC of its mailbox.
    fn comment(uid: u32) -> u32 {
        crc::annotation(Uid(uid), ENTRY, USER, b"mine")
    }

    /// A mailbox of these messages, each of which its owner has commented.
    fn mailbox(version: u32, uids: &[u32]) -> SourceMailbox {
        let records: Vec<Record> = uids.iter().map(|uid| record(*uid)).collect();
        let mut header = IndexHeader::fresh(version).expect("a version that there is");
        let flags = MailboxHeader::default().flag_crcs();
        let thrid = if version >= 20 { ThridText::Padded } else { ThridText::Short };
        let tally = Tally::of(records.iter().cloned(), version, &flags, thrid);
        let live = records.iter().filter(|record| !record.is_expunged());
        let comments = live.fold(header.sync_crc_annot, |sum, live| sum ^ comment(live.uid.0));
        tally.apply(&mut header, comments);
        header.last_uid = Uid(9);
        header.highestmodseq = Modseq(9);
        let key = |uid: u32| AnnotationKey {
            annotated: Annotated::Message(Uid(uid)),
            entry: ENTRY.to_vec(),
            audience: Audience::Owner,
        };
        let value = Annotation::new(b"mine", Modseq(1)).write();
        let all = (1..6).map(|uid| (key(uid).write(), value.clone())).collect::<Vec<_>>();
        let mut mailbox = SourceMailbox { name: "user.glad".into(), ..SourceMailbox::default() };
        let index = write_index(&header, &records).expect("an index");
        mailbox.files.insert(INDEX.to_owned(), index);
        let annotations = twoskip::write_fresh(&all).expect("a database");
        mailbox.files.insert("cyrus.annotations".to_owned(), annotations);
        mailbox
    }

    #[test]
    fn an_index_of_some_messages_is_what_cyrus_would_have_written_for_them() {
        for version in versions().filter(|version| *version >= 10) {
            for kept in [[1, 4].as_slice(), &[2], &[3, 4, 5], &[1, 2, 3, 4, 5]] {
                let guids = kept.iter().map(|uid| record(*uid).guid).collect();
                let selection = Selection { guids, ..Selection::all() };
                let cut = selection.cut(mailbox(version, &[1, 2, 3, 4, 5]), USER);
                let cut = cut.expect("an index").expect("some messages");
                let want = mailbox(version, kept);
                let (cut, want) = (&cut.files[INDEX], &want.files[INDEX]);
                let (cut, want) =
                    (Index::parse(cut).expect("one"), Index::parse(want).expect("one"));
                let mut header = cut.header().clone();
                // When the oldest was expunged is not forgotten.
                header.first_expunged = want.header().first_expunged;
                assert_eq!(&header, want.header(), "version {version}, {kept:?}");
                assert_eq!(
                    cut.raw_records().collect::<Vec<_>>(),
                    want.raw_records().collect::<Vec<_>>()
                );
                assert!(cut.problems().is_empty());
            }
        }
    }

    #[test]
    fn a_mailbox_without_such_messages_is_not_wanted() {
        let selection = Selection { guids: [Guid([9; 20])].into(), ..Selection::all() };
        let cut = selection.cut(mailbox(17, &[1, 2]), USER).expect("nothing to fail");
        assert!(cut.is_none());
        assert!(Selection::all().cut(mailbox(17, &[]), USER).expect("untouched").is_some());
    }
}
