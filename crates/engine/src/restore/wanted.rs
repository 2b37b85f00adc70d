//! What is wanted of a stored snapshot, in the words of the protocol.

use std::collections::BTreeMap;

use csync::record::Annotation;
use csync::{record, stored};
use cyrus_format::annotations::Note;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::Index;
use cyrus_format::mboxlist::MailboxType;
use cyrus_format::names::NameRules;
use cyrus_format::seen::UidSet;
use model::{Finding, FindingKind, Guid, MboxName, Modseq, Record, SystemFlags, Timestamp};
use model::{Uid, UidValidity, UniqueId, Userid};

use super::{Problem, Trouble};
use crate::exceptions::Exceptions;
use crate::flags;
use crate::folder::relative_name;
use crate::records::{INDEX, Records};
use crate::replicate::local::mailbox_notes;
use crate::source::{SourceAccount, SourceMailbox};

/// What the INBOX of an account is called within it.
pub const INBOX: &[u8] = b"INBOX";

/// A mailbox of the snapshot.
pub struct Wanted<'a> {
    /// Its number there, by which its messages are opened.
    pub at: usize,
    /// The name it had.
    pub name: &'a MboxName,
    /// Its name within its account, which begins with `INBOX`.
    pub relative: Vec<u8>,
    /// Its identity; empty where it had none.
    pub uniqueid: UniqueId,
    /// What its UIDs were valid for.
    pub uidvalidity: UidValidity,
    /// Who may do what with it: `id TAB rights TAB`, as often as needed.
    pub acl: Vec<u8>,
    /// Its options, as letters.
    pub options: Vec<u8>,
    /// Its own annotations.
    pub annotations: Vec<Annotation>,
    /// Where it lay.
    pub partition: &'a [u8],
    records: Records<'a>,
    contents: &'a Exceptions,
    flags: Vec<Option<Vec<u8>>>,
    notes: BTreeMap<Uid, Vec<Note>>,
    /// What its owner has read, where the records do not tell.
    seen: Option<UidSet>,
    expunged: bool,
}

/// All that is wanted.
pub struct Wish<'a> {
    /// Whose.
    pub userid: &'a Userid,
    /// Mailboxes, parents before their children.
    pub mailboxes: Vec<Wanted<'a>>,
    /// What of it cannot be restored.
    pub problems: Vec<Problem>,
    /// The name of the account's INBOX.
    pub inbox: MboxName,
}

/// Which messages are wanted of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// Those that clients saw.
    Seen,
    /// Also those that were expunged and kept.
    Kept,
}

impl<'a> Wish<'a> {
    /// Reads what was selected of a snapshot.
    pub fn of(account: &'a SourceAccount, which: Messages) -> Self {
        let rules = NameRules::v3();
        let (mut mailboxes, mut problems) = (Vec::new(), Vec::new());
        let notes = mailbox_notes(account, &rules).unwrap_or_else(|error| {
            let damaged = Finding::new(FindingKind::MetadataUnreadable, "annotations", error);
            problems.push(Problem::new(&"annotations".into(), Trouble::Damaged(vec![damaged])));
            BTreeMap::new()
        });
        let seen = flags::seen(account);
        for (at, source) in account.mailboxes.iter().enumerate() {
            let read = Wanted::read(at, source, account, which).map(|mut wanted| {
                let names = [source.name.as_bytes(), wanted.uniqueid.as_bytes()];
                let own = names.iter().flat_map(|name| notes.get(*name).into_iter().flatten());
                wanted.annotations = own.map(stored::annotation).collect();
                // Of these, masters always say 0.
                wanted.annotations.iter_mut().for_each(|note| note.modseq = Modseq(0));
                let read = seen.iter().find(|seen| seen.uniqueid == wanted.uniqueid);
                if wanted.records.version() < flags::SEEN_IN_INDEX {
                    wanted.seen = read.map(|seen| seen.seen.uids.clone());
                }
                wanted
            });
            match read {
                Ok(wanted) => mailboxes.push(wanted),
                Err(trouble) => problems.push(Problem::new(&source.name, trouble)),
            }
        }
        mailboxes.sort_by(|a: &Wanted<'_>, b| a.name.cmp(b.name));
        let inbox = mailboxes.iter().find_map(|wanted| {
            let below = wanted.relative.strip_prefix(INBOX)?;
            Some(MboxName::new(wanted.name.as_bytes().strip_suffix(below)?))
        });
        let by_rules = || rules.inbox_of(&account.userid).unwrap_or_default();
        let inbox = inbox.unwrap_or_else(by_rules);
        Self { userid: &account.userid, mailboxes, problems, inbox }
    }
}

impl<'a> Wanted<'a> {
    fn read(
        at: usize,
        source: &'a SourceMailbox,
        account: &SourceAccount,
        which: Messages,
    ) -> Result<Self, Trouble> {
        let kind = MailboxType::from_letters(source.mbtype.as_bytes());
        if kind.kind != MailboxType::default().kind || !kind.has_data() {
            return Err(Trouble::NotMail);
        }
        let relative = relative_name(source.name.as_bytes(), account.userid.as_bytes());
        let below = relative.strip_prefix(INBOX);
        if !source.deleted && !below.is_some_and(|rest| rest.is_empty() || rest[0] == b'.') {
            return Err(Trouble::NotOwn);
        }
        let unreadable =
            |kind, detail: String| Trouble::Damaged(vec![Finding::new(kind, &source.name, detail)]);
        let index = source.files.get(INDEX).map(|bytes| Index::parse(bytes));
        let index = match index {
            Some(Ok(index)) => index,
            Some(Err(error)) => {
                return Err(unreadable(FindingKind::IndexUnreadable, error.to_string()));
            }
            None => {
                let why = format!("there is no {INDEX}");
                return Err(unreadable(FindingKind::IndexUnreadable, why));
            }
        };
        let header = source.files.get("cyrus.header").map(|bytes| MailboxHeader::parse(bytes));
        // Without it, only the names of flags are lost, and who else may do what.
        let header = header.and_then(Result::ok).unwrap_or_default();
        let notes = source.files.get("cyrus.annotations");
        let notes = notes.map(|bytes| Note::of_messages(bytes, Some(&account.userid))).transpose();
        let notes = notes
            .map_err(|error| unreadable(FindingKind::MetadataUnreadable, error.to_string()))?;
        let told = &index.header().options;
        let options = stored::OPTIONS.iter().filter(|(_, option)| told.contains(*option));
        let acl = header.acl.iter().map(|(who, rights)| [who, &b"\t"[..], rights, b"\t"].concat());
        Ok(Self {
            at,
            name: &source.name,
            relative,
            uniqueid: source.uniqueid.clone().or(header.uniqueid).unwrap_or_default(),
            uidvalidity: index.header().uidvalidity,
            acl: acl.collect::<Vec<_>>().concat(),
            options: options.map(|(letter, _)| *letter).collect(),
            annotations: Vec::new(),
            partition: &source.partition,
            records: Records::read(&source.files),
            contents: &source.contents,
            flags: header.user_flags,
            notes: notes.unwrap_or_default(),
            seen: None,
            expunged: which == Messages::Kept,
        })
    }

    /// Its messages, UIDs ascending, each with the GUID of the bytes that are stored for it.
    pub fn messages(&self) -> impl Iterator<Item = Record> + '_ {
        self.listed().filter_map(|record| {
            let guid = self.stored(&record)?;
            Some(Record { guid, ..self.alive(record) })
        })
    }

    /// One of them.
    pub fn message(&self, uid: Uid) -> Option<Record> {
        let record = self.records.record(uid)?;
        let guid = self.stored(&record)?;
        Some(Record { guid, ..self.alive(record) })
    }

    /// A finding for each message whose bytes the snapshot does not have.
    pub fn not_stored(&self) -> Vec<Finding> {
        let missing = self.listed().filter(|record| self.stored(record).is_none());
        let finding = |record: Record| {
            let detail = "the snapshot does not have its bytes";
            Finding::new(FindingKind::MessageMissing, self.name, detail).at_uid(record.uid.0)
        };
        missing.map(finding).collect()
    }

    /// A message as it is told, newly come into its mailbox at this moment.
    pub fn tell(&self, record: &Record, to: Uid, moment: Moment) -> record::Record {
        let notes = self.notes.get(&record.uid).map(Vec::as_slice).unwrap_or_default();
        let arriving = Record {
            uid: to,
            modseq: moment.modseq,
            createdmodseq: moment.modseq,
            last_updated: moment.now,
            savedate: moment.now,
            ..record.clone()
        };
        stored::record(&arriving, &self.flags, notes)
    }

    fn listed(&self) -> impl Iterator<Item = Record> + '_ {
        let wanted =
            |record: &Record| !record.is_unlinked() && (self.expunged || !record.is_expunged());
        self.records.wholes().filter(wanted)
    }

    fn stored(&self, record: &Record) -> Option<Guid> {
        let is_known = |guid: &Guid| !guid.is_zero();
        let is_sendable = u32::try_from(record.size).is_ok();
        self.contents.stored(record.uid, record.guid).filter(is_known).filter(|_| is_sendable)
    }

    /// What was expunged comes back without the flag that had it expunged.
    fn alive(&self, mut record: Record) -> Record {
        if record.is_expunged() {
            record.system_flags.0 &= !(SystemFlags::EXPUNGED.0 | SystemFlags::DELETED.0);
        }
        if self.seen.as_ref().is_some_and(|seen| seen.contains(record.uid)) {
            record.system_flags.0 |= SystemFlags::SEEN.0;
        }
        record
    }
}

/// When something changes on the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// In the account's counting.
    pub modseq: Modseq,
    /// By the clock.
    pub now: Timestamp,
}
