//! An account in the words of the protocol.

use std::collections::{BTreeMap, BTreeSet};

use csync::mailbox::Mailbox;
use csync::meta::{Quota, Seen};
use csync::{record, stored};
use cyrus_format::annotations::{Annotated, AnnotationDb, Note};
use cyrus_format::db::Db;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, IndexHeader, RecordKey, Tally};
use cyrus_format::mboxlist::{MailboxEntry, MboxList, MboxListEra};
use cyrus_format::names::NameRules;
use cyrus_format::quota::{self, Resource};
use cyrus_format::{FormatError, db, seen, sieve, subs};
use model::crc::{self, ThridText};
use model::state::MailboxKey;
use model::{Finding, FindingKind, Guid, MboxName, Modseq, Record, Uid, UniqueId, Userid};
use sha1::{Digest, Sha1};

use super::{Problem, Trouble};
use crate::records::{INDEX, Records};
use crate::source::{SourceAccount, SourceMailbox};

/// The first version of cyrus.index that has all that replicas are told.
const INDEX_VERSION_MIN: u32 = 12;

/// Lists, entries and so on of an account.
pub struct Local<'a> {
    /// Whose.
    pub userid: &'a Userid,
    /// The name of its INBOX; shared mailboxes have none.
    pub inbox: Option<MboxName>,
    /// Its mailboxes.
    pub mailboxes: BTreeMap<MailboxKey, LocalMailbox<'a>>,
    /// Its names without data: tombstones, and levels between mailboxes.
    pub names: BTreeMap<MboxName, MailboxEntry>,
    /// Its quota roots.
    pub quotas: BTreeMap<MboxName, Quota>,
    /// What it has read in mailboxes that keep no such state themselves.
    pub seen: BTreeMap<UniqueId, Seen>,
    /// What it is subscribed to; `None` where there is no such list.
    pub subscriptions: Option<BTreeSet<MboxName>>,
    /// Its sieve scripts, unless they are messages of a mailbox (3.6+).
    pub scripts: Option<Scripts<'a>>,
    /// What cannot be replicated.
    pub problems: Vec<Problem>,
    /// What nothing is known of.
    pub unknown: Unknown,
    rules: &'a NameRules,
}

/// What could not be read: that it is not here says nothing, and the replica keeps it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unknown {
    /// Annotations of mailboxes.
    pub annotations: bool,
    /// Quota roots.
    pub quotas: bool,
    /// Sieve scripts.
    pub scripts: bool,
}

/// Sieve scripts as they were up to 3.4.
#[derive(Default)]
pub struct Scripts<'a> {
    /// Their texts, by `<name>.script`.
    pub texts: BTreeMap<Vec<u8>, (Guid, &'a [u8])>,
    /// Which one runs.
    pub active: Option<Vec<u8>>,
}

/// One mailbox of it.
pub struct LocalMailbox<'a> {
    /// Its number.
    pub at: usize,
    /// What a replica is to be told of it, but for its records.
    pub told: Mailbox,
    /// The highest modseq of what is no longer there.
    pub deletedmodseq: Modseq,
    /// How many messages clients see.
    pub exists: u64,
    /// Whether it can be told at all.
    pub is_usable: bool,
    entry: MailboxEntry,
    source: &'a SourceMailbox,
    owner: Option<Userid>,
}

/// A mailbox whose records were read.
pub struct Opened<'a> {
    records: Records<'a>,
    flags: Vec<Option<Vec<u8>>>,
    notes: BTreeMap<Uid, Vec<Note>>,
    /// SYNC_CRC and SYNC_CRC_ANNOT; the latter is 0 where it is not known how replicas count it.
    pub crcs: (u32, u32),
}

impl<'a> Local<'a> {
    /// Reads an account's files.
    ///
    /// # Errors
    /// If those are missing or damaged that tell which mailboxes there are.
    pub fn of(account: &'a SourceAccount, rules: &'a NameRules) -> Result<Self, FormatError> {
        let foreign = |detail: String| FormatError::Foreign { what: "account", detail };
        let inbox = account.userid.user().map(|user| rules.inbox_of(user)).transpose();
        let inbox = inbox.map_err(|error| foreign(error.to_string()))?;
        let list = file(account, "mailboxes")
            .ok_or_else(|| foreign("its mailboxes are not listed".to_owned()))?;
        let records = db::read(list)?;
        let pairs = records.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        let list = MboxList::parse(pairs, rules);
        let mut local = Self {
            userid: &account.userid,
            inbox,
            mailboxes: BTreeMap::new(),
            names: BTreeMap::new(),
            quotas: BTreeMap::new(),
            seen: BTreeMap::new(),
            subscriptions: None,
            scripts: None,
            problems: Vec::new(),
            unknown: Unknown::default(),
            rules,
        };
        local.take_findings(account);
        local.read_mailboxes(account, &list);
        // A mailbox that went to another account leaves its name behind, too, but takes the record
        // of its id along (3.6).
        let ids = records.entries.iter().filter_map(|(key, _)| key.strip_prefix(b"I"));
        let ids: BTreeSet<&[u8]> = ids.collect();
        let is_here = |id: &UniqueId| list.era != MboxListEra::ById || ids.contains(id.as_bytes());
        let is_gone = |entry: &&MailboxEntry| entry.uniqueid.as_ref().is_none_or(is_here);
        let without_data = list.entries.iter().filter(|entry| !entry.mbtype.has_data());
        let names = without_data.filter(|entry| !entry.mbtype.deleted || is_gone(entry));
        local.names.extend(names.map(|entry| (entry.name.clone(), entry.clone())));
        local.read_quotas(account);
        local.read_seen(account);
        local.read_subscriptions(account);
        if list.era != MboxListEra::ById {
            local.scripts = Some(scripts(account));
        }
        Ok(local)
    }

    /// Leaves all out but these mailboxes.
    pub fn keep_only(&mut self, names: &BTreeSet<MboxName>) {
        let known: BTreeSet<&MboxName> =
            self.mailboxes.values().map(|mailbox| &mailbox.told.mboxname).collect();
        let missing: Vec<&MboxName> = names.iter().filter(|name| !known.contains(name)).collect();
        let missing = missing.into_iter().map(|name| Problem::new(name, Trouble::NotHere));
        self.problems.extend(missing.collect::<Vec<_>>());
        self.mailboxes.retain(|_, mailbox| names.contains(&mailbox.told.mboxname));
        self.problems.retain(|problem| names.contains(&problem.mailbox));
        self.names.retain(|name, _| names.iter().any(|kept| is_below(kept, name)));
        self.quotas.clear();
        self.seen.clear();
        self.subscriptions = None;
        self.scripts = None;
    }

    /// Leaves mailboxes of these kinds out.
    pub fn leave_out(&mut self, kinds: &[u8]) {
        let is_one = |mailbox: &&mut LocalMailbox<'_>| {
            mailbox.told.mboxtype.iter().any(|letter| kinds.contains(letter))
        };
        for mailbox in self.mailboxes.values_mut().filter(is_one) {
            mailbox.is_usable = false;
            let problem = Problem::new(&mailbox.told.mboxname, Trouble::NotSupported);
            self.problems.push(problem);
        }
    }

    /// Whether this name is the account's, not counting what is deleted but kept.
    pub fn owns(&self, name: &MboxName) -> bool {
        match &self.inbox {
            Some(inbox) => name == inbox || is_below(name, inbox),
            None => self.rules.owner(name).is_none() && !self.rules.is_deleted(name),
        }
    }

    /// What could not be read of the account as a whole.
    fn take_findings(&mut self, account: &SourceAccount) {
        use FindingKind::{EntryUnreadable, MetadataUnreadable};
        let findings = account.findings.iter();
        for finding in findings.filter(|f| matches!(f.kind, EntryUnreadable | MetadataUnreadable)) {
            // It does not say of which file.
            self.unknown = Unknown { annotations: true, quotas: true, scripts: true };
            let place = MboxName::from(finding.place.as_str());
            let trouble = Trouble::Damaged(vec![finding.clone()]);
            self.problems.push(Problem::new(&place, trouble));
        }
    }

    fn read_mailboxes(&mut self, account: &'a SourceAccount, list: &MboxList) {
        let rules = self.rules;
        let notes = mailbox_notes(account, rules).unwrap_or_else(|error| {
            self.unknown.annotations = true;
            self.report_file("annotations", error);
            BTreeMap::new()
        });
        for (at, source) in account.mailboxes.iter().enumerate() {
            // Only the header tells which quota root counts a mailbox.
            let header = source.files.get("cyrus.header");
            self.unknown.quotas |= header.is_none_or(|bytes| MailboxHeader::parse(bytes).is_err());
            let Some(entry) = list.get(&source.name) else { continue };
            let Some(id) = source.uniqueid.as_ref().filter(|id| !id.is_empty()) else {
                self.problems.push(Problem::new(&source.name, Trouble::NoIdentity));
                continue;
            };
            let key = MailboxKey(id.as_bytes().to_vec());
            if let Some(other) = self.mailboxes.get(&key) {
                let twin = other.told.mboxname.clone();
                self.problems.push(Problem::new(&source.name, Trouble::SameIdentity(twin)));
                continue;
            }
            let mut entry = entry.clone();
            entry.uniqueid = Some(id.clone());
            // Where it lies here is nobody else's business.
            entry.mbtype.legacy_dirs = false;
            let owner = rules.owner(&source.name);
            match LocalMailbox::read(at, source, &entry, owner.clone()) {
                Ok(mut mailbox) => {
                    let mut own = Vec::new();
                    for name in [source.name.as_bytes(), id.as_bytes()] {
                        own.extend(notes.get(name).into_iter().flatten().map(stored::annotation));
                    }
                    if let Some(contents) = &mut mailbox.told.contents {
                        // Of these, masters always say 0.
                        own.iter_mut().for_each(|note| note.modseq = Modseq(0));
                        contents.annotations = own;
                    }
                    self.mailboxes.insert(key, mailbox);
                }
                Err(trouble) => {
                    self.problems.push(Problem::new(&source.name, trouble));
                    self.mailboxes.insert(key, LocalMailbox::unusable(at, source, &entry));
                }
            }
        }
    }

    fn read_quotas(&mut self, account: &SourceAccount) {
        for file in &account.files {
            let Some(root) = file.name.strip_prefix("quota/") else { continue };
            let root = MboxName::from(root);
            match quota::Quota::parse(&file.bytes) {
                Ok(found) => {
                    let limits = Resource::ALL.map(|resource| found.usage(resource).limit);
                    let quota = Quota { root: root.clone(), limits, modseq: found.modseq };
                    self.quotas.insert(root, quota);
                }
                Err(error) => {
                    self.unknown.quotas = true;
                    self.report_file(&file.name, error);
                }
            }
        }
    }

    fn read_seen(&mut self, account: &SourceAccount) {
        let Some(bytes) = file(account, "seen") else { return };
        let db = match whole(bytes) {
            Ok(db) => db,
            Err(error) => return self.report_file("seen", error),
        };
        for (key, value) in &db.entries {
            // Cyrus keeps what it cannot read, and so does the replica.
            let Ok(state) = seen::Seen::parse(value) else { continue };
            let uniqueid = UniqueId::new(key.as_ref());
            self.seen.insert(uniqueid.clone(), Seen { uniqueid, state });
        }
    }

    fn read_subscriptions(&mut self, account: &SourceAccount) {
        let Some(bytes) = file(account, "sub") else { return };
        let db = match whole(bytes) {
            Ok(db) => db,
            Err(error) => return self.report_file("sub", error),
        };
        let pairs = db.entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        match subs::Subscriptions::parse(pairs, self.userid, self.rules) {
            Ok(found) => self.subscriptions = Some(found.mailboxes.into_iter().collect()),
            Err(error) => self.report_file("sub", error),
        }
    }

    fn report_file(&mut self, name: &str, error: impl std::fmt::Display) {
        let finding = Finding::new(FindingKind::MetadataUnreadable, name, error);
        self.problems.push(Problem::new(&MboxName::from(name), Trouble::Damaged(vec![finding])));
    }
}

impl<'a> LocalMailbox<'a> {
    fn read(
        at: usize,
        source: &'a SourceMailbox,
        entry: &MailboxEntry,
        owner: Option<Userid>,
    ) -> Result<Self, Trouble> {
        let missing = source.findings.iter();
        let missing = missing.filter(|finding| finding.kind == FindingKind::MailboxMissing);
        let missing: Vec<Finding> = missing.cloned().collect();
        if !missing.is_empty() {
            return Err(Trouble::Damaged(missing));
        }
        let Some(index) = source.files.get(INDEX) else {
            return Err(Trouble::Damaged(source.findings.clone()));
        };
        let index = Index::parse(index).map_err(|error| {
            let kind = match error {
                FormatError::TooNew { .. } => FindingKind::IndexTooNew,
                _ => FindingKind::IndexUnreadable,
            };
            Trouble::Damaged(vec![Finding::new(kind, &source.name, error)])
        })?;
        let header = index.header();
        if header.minor_version < INDEX_VERSION_MIN {
            return Err(Trouble::TooOld { version: header.minor_version });
        }
        // Counters that cannot be relied on must not be compared with anything.
        let problems = index.problems_of_header();
        let findings = problems.iter().map(|problem| problem.finding(&source.name));
        let findings: Vec<Finding> = findings.filter(is_lasting).collect();
        if !findings.is_empty() {
            return Err(Trouble::Damaged(findings));
        }
        let mut told = stored::mailbox(entry, header);
        let cyrus_header = source.files.get("cyrus.header");
        let cyrus_header = cyrus_header.and_then(|bytes| MailboxHeader::parse(bytes).ok());
        if let Some(contents) = &mut told.contents {
            contents.quotaroot = cyrus_header.and_then(|header| header.quotaroot);
        }
        Ok(Self {
            at,
            told,
            deletedmodseq: header.deletedmodseq,
            exists: header.exists.into(),
            is_usable: true,
            entry: entry.clone(),
            source,
            owner,
        })
    }

    /// One that is there, and no more can be said.
    fn unusable(at: usize, source: &'a SourceMailbox, entry: &MailboxEntry) -> Self {
        Self {
            at,
            told: stored::name(entry),
            deletedmodseq: Modseq(0),
            exists: 0,
            is_usable: false,
            entry: entry.clone(),
            source,
            owner: None,
        }
    }

    /// It as it would be without messages; `None` if nobody knows its UIDVALIDITY.
    pub fn hollow(&self) -> Option<Mailbox> {
        let told = self.told.contents.as_ref().map(|contents| contents.uidvalidity);
        let mut header = IndexHeader::fresh(INDEX_VERSION_MIN).ok()?;
        header.uidvalidity = self.entry.uidvalidity.or(told).filter(|known| known.0 != 0)?;
        header.highestmodseq = Modseq(1);
        let mut hollow = stored::mailbox(&self.entry, &header);
        if let Some(contents) = &mut hollow.contents {
            contents.records = csync::mailbox::Records::Listed;
        }
        Some(hollow)
    }

    /// Reads and checks its records.
    ///
    /// # Errors
    /// If they cannot be relied on.
    pub fn open(&self) -> Result<Opened<'a>, Trouble> {
        let records = Records::read(&self.source.files);
        let header = self.source.files.get("cyrus.header").map(Vec::as_slice);
        let mut findings = records.check(&self.source.name, header);
        // Some file of it could not be read.
        findings.extend(self.source.findings.iter().cloned());
        // A record behind the end is one that was never confirmed, unless one is missing in front.
        let alive = records.linked().filter(|record| !record.is_expunged()).count() as u64;
        let is_short = alive < self.exists;
        findings.retain(|f| is_short && f.kind == FindingKind::IndexTail || is_lasting(f));
        let header = header.and_then(|bytes| MailboxHeader::parse(bytes).ok());
        if header.is_none() && findings.is_empty() {
            let why = "there is no cyrus.header";
            findings.push(Finding::new(FindingKind::HeaderUnreadable, &self.source.name, why));
        }
        let bytes = self.source.files.get("cyrus.annotations");
        let notes = bytes.map(|bytes| Note::of_messages(bytes, self.owner.as_ref())).transpose();
        let notes = notes.unwrap_or_else(|error| {
            let kind = FindingKind::MetadataUnreadable;
            findings.push(Finding::new(kind, &self.source.name, error));
            None
        });
        let Some(header) = header.filter(|_| findings.is_empty()) else {
            return Err(Trouble::Damaged(findings));
        };
        let nameless = records.linked().find(|record| record.guid.is_zero());
        if let Some(record) = nameless {
            return Err(Trouble::NoGuid(record.uid));
        }
        if let Some(record) = records.linked().find(|record| u32::try_from(record.size).is_err()) {
            return Err(Trouble::TooLarge(record.uid));
        }
        let (flags, notes) = (header.user_flags, notes.unwrap_or_default());
        let mut opened = Opened { records, flags, notes, crcs: (0, 0) };
        opened.crcs =
            opened.count(self.told.contents.as_ref().and_then(|told| told.sync_crc_annot));
        Ok(opened)
    }
}

impl Opened<'_> {
    /// Its records as they are stored, UIDs ascending.
    pub fn stored(&self) -> impl Iterator<Item = Record> + '_ {
        self.records.wholes()
    }

    /// What tells where the bytes of its messages are, UIDs ascending.
    pub fn keys(&self) -> impl Iterator<Item = RecordKey> + '_ {
        self.records.linked()
    }

    /// A record as it is told.
    pub fn tell(&self, record: &Record) -> record::Record {
        let notes = self.notes.get(&record.uid).map(Vec::as_slice).unwrap_or_default();
        stored::record(record, &self.flags, notes)
    }

    /// Adds up the CRCs. How conversation ids count depends on the release, which only what stands in
    /// the index tells.
    fn count(&self, stored_annot: Option<u32>) -> (u32, u32) {
        let names = self.flags.iter().map(Option::as_deref);
        let flags = crc::FlagCrcs::new(names);
        let version = self.records.version();
        let mut basic = 0;
        for thrid in [ThridText::Short, ThridText::Padded] {
            let tally = Tally::of(self.stored(), version, &flags, thrid);
            basic = tally.sync_crc_basic;
            let mut annot = crc::ANNOT_START ^ tally.virtual_annots;
            for record in self.stored().filter(|record| !record.is_expunged()) {
                for note in self.notes.get(&record.uid).into_iter().flatten() {
                    if !crc::is_virtual(&note.entry, version) {
                        let userid = note.userid.as_bytes();
                        annot ^= crc::annotation(record.uid, &note.entry, userid, &note.value);
                    }
                }
            }
            if Some(annot) == stored_annot {
                return (basic, annot);
            }
        }
        (basic, 0)
    }
}

/// Whether it stands in the way: neither what a crash leaves behind, nor what is put right in reading.
fn is_lasting(finding: &Finding) -> bool {
    !matches!(finding.kind, FindingKind::IndexTail | FindingKind::IndexSizes)
}

/// Whether a mailbox is below another.
pub fn is_below(name: &MboxName, top: &MboxName) -> bool {
    let rest = name.as_bytes().strip_prefix(top.as_bytes());
    rest.is_some_and(|rest| rest.starts_with(b"."))
}

fn file<'a>(account: &'a SourceAccount, name: &str) -> Option<&'a [u8]> {
    let found = account.files.iter().find(|file| file.name == name);
    found.map(|file| file.bytes.as_slice())
}

/// A database of which nothing is missing.
fn whole(bytes: &[u8]) -> Result<Db<'_>, String> {
    let db = db::read(bytes).map_err(|error| error.to_string())?;
    db.recovered.clone().map_or(Ok(db), Err)
}

/// The annotations of mailboxes, by what names the mailbox: its name, or since 3.6 its id.
pub fn mailbox_notes(
    account: &SourceAccount,
    rules: &NameRules,
) -> Result<BTreeMap<Vec<u8>, Vec<Note>>, String> {
    let mut notes: BTreeMap<Vec<u8>, Vec<Note>> = BTreeMap::new();
    let Some(bytes) = file(account, "annotations") else { return Ok(notes) };
    let db = whole(bytes)?;
    let owners = account.mailboxes.iter().flat_map(|mailbox| {
        let owner = rules.owner(&mailbox.name);
        let id = mailbox.uniqueid.as_ref().map(UniqueId::as_bytes);
        [Some(mailbox.name.as_bytes()), id].map(|name| Some((name?.to_vec(), owner.clone()?)))
    });
    let owners: BTreeMap<Vec<u8>, Userid> = owners.flatten().collect();
    for (key, value) in &db.entries {
        let named = key.split(|byte| *byte == 0).next().unwrap_or_default();
        let parsed = Note::parse(AnnotationDb::Global, key, value, owners.get(named));
        if let Ok(Some((Annotated::Mailbox(name), note))) = parsed {
            notes.entry(name).or_default().push(note);
        }
    }
    notes.values_mut().for_each(|notes| notes.sort());
    Ok(notes)
}

fn scripts(account: &SourceAccount) -> Scripts<'_> {
    let mut scripts = Scripts::default();
    for file in &account.files {
        if let Some(name) = file.name.strip_prefix("sieve/") {
            let guid = Guid(Sha1::digest(&file.bytes).into());
            scripts.texts.insert(name.as_bytes().to_vec(), (guid, &file.bytes));
        }
    }
    let active = file(account, "sieve.active").and_then(sieve::script_file);
    scripts.active = active.filter(|script| scripts.texts.contains_key(script));
    scripts
}
