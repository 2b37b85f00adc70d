//! mailboxes.db: which mailboxes there are, where, whose, and what kind (`imap/mboxlist.c`).
//!
//! Three eras write three forms. Text and dlist values stand under the internal name; since 3.6
//! each mailbox has two records, `N` with its dbname and `I` with its uniqueid. Nothing in the
//! database says which form it is in, so the structure is asked.

use std::fmt;

use model::{MboxName, Modseq, UidValidity, UniqueId, Userid};

use crate::dlist::Dlist;
use crate::error::FormatError;
use crate::names::{DB_SEPARATOR, NameError, NameRules};

/// A key and its value, as they are stored.
pub type DbRecord = (Vec<u8>, Vec<u8>);

/// Which form the values have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MboxListEra {
    /// Up to 2.4: type bits, partition and ACL, under the internal name.
    Text,
    /// 2.5 to 3.4: a dlist under the internal name.
    Dlist,
    /// 3.6 and later: a dlist under the dbname and one under the uniqueid.
    ById,
}

/// What kind of mailbox it is: one letter, and what is true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MailboxType {
    /// `e` mail, `n` netnews, `b` collection, `c` calendar, `a` addressbook, `s` submissions,
    /// `p` push subscriptions, `f` sieve scripts, `j` notifications.
    pub kind: u8,
    /// `d`: a tombstone; there is no mailbox of this name (any more).
    pub deleted: bool,
    /// `m`: being moved to another server.
    pub moving: bool,
    /// `r`: on another server.
    pub remote: bool,
    /// `z`: a name that is kept free.
    pub reserved: bool,
    /// `i`: only a level between others, without a directory (3.2+).
    pub intermediate: bool,
    /// `l`: in a directory of its name, though new ones are placed by uniqueid (3.6+).
    pub legacy_dirs: bool,
}

impl Default for MailboxType {
    /// Plain mail.
    fn default() -> Self {
        Self {
            kind: b'e',
            deleted: false,
            moving: false,
            remote: false,
            reserved: false,
            intermediate: false,
            legacy_dirs: false,
        }
    }
}

impl MailboxType {
    /// Reads the letters; those that this program does not know are passed over, as Cyrus does.
    pub fn from_letters(letters: &[u8]) -> Self {
        let mut mbtype = Self::default();
        for letter in letters {
            match letter {
                b'e' | b'n' | b'b' | b'c' | b'a' | b's' | b'p' | b'f' | b'j' => {
                    mbtype.kind = *letter;
                }
                b'd' => mbtype.deleted = true,
                b'm' => mbtype.moving = true,
                b'r' => mbtype.remote = true,
                b'z' => mbtype.reserved = true,
                b'i' => mbtype.intermediate = true,
                b'l' => mbtype.legacy_dirs = true,
                _ => {}
            }
        }
        mbtype
    }

    /// Reads the bits of the text form; calendar and addressbook bits came with 2.4 snapshots.
    fn from_bits(bits: u64) -> Self {
        let kind = if bits & 4 != 0 { b'n' } else { b'e' };
        Self {
            kind,
            remote: bits & 1 != 0,
            reserved: bits & 2 != 0,
            moving: bits & 8 != 0,
            deleted: bits & 16 != 0,
            ..Self::default()
        }
    }

    fn to_bits(self) -> u64 {
        let bit = |set: bool, bit: u64| if set { bit } else { 0 };
        bit(self.remote, 1)
            | bit(self.reserved, 2)
            | bit(self.kind == b'n', 4)
            | bit(self.moving, 8)
            | bit(self.deleted, 16)
    }

    /// The letters as 2.5 to 3.4 write them, where plain mail has none.
    fn old_letters(self) -> Vec<u8> {
        let letters = [
            (self.deleted, b'd'),
            (self.moving, b'm'),
            (self.kind == b'n', b'n'),
            (self.remote, b'r'),
            (self.reserved, b'z'),
            (matches!(self.kind, b'c' | b'b' | b'a'), self.kind),
            (self.intermediate, b'i'),
            (matches!(self.kind, b's' | b'p'), self.kind),
        ];
        letters.into_iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect()
    }

    /// Whether there is a directory with mail behind it on this server.
    pub fn has_data(self) -> bool {
        !(self.deleted || self.remote || self.reserved || self.intermediate)
    }
}

impl fmt::Display for MailboxType {
    /// The letters, the kind first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", char::from(self.kind))?;
        let flags = [
            (self.deleted, 'd'),
            (self.moving, 'm'),
            (self.remote, 'r'),
            (self.reserved, 'z'),
            (self.intermediate, 'i'),
            (self.legacy_dirs, 'l'),
        ];
        flags.iter().filter(|(set, _)| *set).try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

/// A name that a mailbox had before (3.6+).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormerName {
    /// The name.
    pub name: MboxName,
    /// The rest of what is kept about it, as it stands there.
    pub rest: Vec<(Vec<u8>, Dlist)>,
}

/// One mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxEntry {
    /// Its internal name.
    pub name: MboxName,
    /// Its identity; the text form has none.
    pub uniqueid: Option<UniqueId>,
    /// Its kind.
    pub mbtype: MailboxType,
    /// Its partition; none for levels without a directory and for tombstones.
    pub partition: Option<Vec<u8>>,
    /// The server that has it, if not this one.
    pub server: Option<Vec<u8>>,
    /// Identifiers and their rights.
    pub acl: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its UIDVALIDITY (2.5+).
    pub uidvalidity: Option<UidValidity>,
    /// When it was created (3.2+).
    pub createdmodseq: Option<Modseq>,
    /// When the entry last changed, in the account's counting (3.0+).
    pub foldermodseq: Option<Modseq>,
    /// When the entry last changed, seconds since 1970 (2.5+).
    pub mtime: Option<i64>,
    /// Its JMAP id (3.13+).
    pub jmapid: Option<Vec<u8>>,
    /// Former names, newest first (3.6+).
    pub history: Vec<FormerName>,
}

/// All of mailboxes.db.
#[derive(Clone, Debug)]
pub struct MboxList {
    /// Its form.
    pub era: MboxListEra,
    /// All mailboxes, tombstones included, sorted by internal name.
    pub entries: Vec<MailboxEntry>,
    /// Keys whose values make no sense, and why.
    pub unreadable: Vec<(Vec<u8>, String)>,
    /// Mailboxes with data of which there is no record under their uniqueid, or one that is about
    /// another name (3.6+); sorted.
    pub unpaired: Vec<MboxName>,
}

impl MboxList {
    /// Reads the records of a database, in any order.
    pub fn parse<'a>(
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        rules: &NameRules,
    ) -> Self {
        let records: Vec<(&[u8], &[u8])> = records.into_iter().collect();
        Self::parse_as(era_of(&records), records, rules)
    }

    /// The same of a database whose form is known: one with tombstones alone may not tell.
    pub fn parse_as<'a>(
        era: MboxListEra,
        records: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        rules: &NameRules,
    ) -> Self {
        let mut list =
            Self { era, entries: Vec::new(), unreadable: Vec::new(), unpaired: Vec::new() };
        let mut by_id = Vec::new();
        for (key, value) in records {
            let parsed = match (era, key) {
                // Reverse ACLs and marks of work under way.
                (_, [b'$', ..]) => continue,
                (MboxListEra::ById, [b'N', dbname @ ..]) => parse_by_name(dbname, value, rules),
                (MboxListEra::ById, [b'I', id @ ..]) => match parse_by_id(id, value, rules) {
                    Ok(entry) => {
                        by_id.push(entry);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                (MboxListEra::ById, _) => continue,
                (MboxListEra::Dlist | MboxListEra::Text, name) => parse_under_name(name, value),
            };
            match parsed {
                Ok(entry) => list.entries.push(entry),
                Err(error) => list.unreadable.push((key.to_vec(), error.to_string())),
            }
        }
        list.entries.sort_by(|a, b| a.name.cmp(&b.name));
        list.join(by_id);
        list
    }

    /// Adds the history, which only the records under a uniqueid tell.
    ///
    /// Such a record alone is no mailbox: Cyrus finds mailboxes by name, and 3.6 leaves the other
    /// record behind for ever when cleanup removes a deleted mailbox (`imap/mboxlist.c`:
    /// mboxlist_update_entry, Cyrus 3.6.1).
    fn join(&mut self, by_id: Vec<MailboxEntry>) {
        let mut paired = vec![false; self.entries.len()];
        for entry in by_id {
            let at = self.entries.binary_search_by(|known| known.name.cmp(&entry.name));
            // A tombstone of a name may point to the mailbox's former identity.
            if let Ok(at) = at
                && let Some(known) = self.entries.get_mut(at)
                && known.uniqueid == entry.uniqueid
            {
                known.history = entry.history;
                paired[at] = true;
            }
        }
        if self.era == MboxListEra::ById {
            let unpaired = self.entries.iter().zip(paired);
            let unpaired = unpaired.filter(|(entry, paired)| entry.mbtype.has_data() && !paired);
            self.unpaired = unpaired.map(|(entry, _)| entry.name.clone()).collect();
        }
    }

    /// The mailboxes of an account that have data, deleted but kept ones included.
    pub fn of_account<'a>(
        &'a self,
        userid: &'a Userid,
        rules: &'a NameRules,
    ) -> impl Iterator<Item = &'a MailboxEntry> {
        self.entries.iter().filter(move |entry| {
            entry.mbtype.has_data() && rules.owner(&entry.name).as_ref() == Some(userid)
        })
    }

    /// The accounts that have an INBOX, sorted.
    pub fn accounts(&self, rules: &NameRules) -> Vec<Userid> {
        let mut accounts = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.mbtype.has_data()) {
            let owner = rules.owner(&entry.name);
            accounts.extend(
                owner.filter(|owner| rules.inbox_of(owner).is_ok_and(|inbox| inbox == entry.name)),
            );
        }
        accounts.sort();
        accounts.dedup();
        accounts
    }

    /// The entry of this name.
    pub fn get(&self, name: &MboxName) -> Option<&MailboxEntry> {
        let at = self.entries.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
        self.entries.get(at)
    }
}

/// The form: by id if some record under a uniqueid names its mailbox, or some name is a dbname of more
/// than one component, which no older form has; else dlist if any value is one.
fn era_of(records: &[(&[u8], &[u8])]) -> MboxListEra {
    let dlist = |value: &[u8]| value.starts_with(b"%(");
    let by_id = |(key, value): &(&[u8], &[u8])| match key.first() {
        Some(b'I') if dlist(value) => {
            Dlist::parse_exact(value).is_ok_and(|value| value.get(b"N").is_some())
        }
        Some(b'N') if dlist(value) => key.contains(&DB_SEPARATOR),
        _ => false,
    };
    if records.iter().any(by_id) {
        MboxListEra::ById
    } else if records.iter().any(|(key, value)| !key.starts_with(b"$") && dlist(value)) {
        MboxListEra::Dlist
    } else {
        MboxListEra::Text
    }
}

/// Why an entry is unreadable.
#[derive(Debug, thiserror::Error)]
enum EntryError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{0}")]
    Text(&'static str),
}

fn parse_by_name(
    dbname: &[u8],
    value: &[u8],
    rules: &NameRules,
) -> Result<MailboxEntry, EntryError> {
    let mut entry = from_dlist(&Dlist::parse_exact(value)?);
    entry.name = rules.from_dbname(dbname)?;
    Ok(entry)
}

fn parse_by_id(id: &[u8], value: &[u8], rules: &NameRules) -> Result<MailboxEntry, EntryError> {
    let value = Dlist::parse_exact(value)?;
    let mut entry = from_dlist(&value);
    let dbname = value.get(b"N").and_then(Dlist::as_bytes);
    entry.name = rules.from_dbname(dbname.ok_or(EntryError::Text("it has no name"))?)?;
    entry.uniqueid = Some(UniqueId::new(id));
    for former in value.get(b"H").and_then(Dlist::items).unwrap_or_default() {
        let pairs = former.pairs().unwrap_or_default();
        let dbname = former.get(b"N").and_then(Dlist::as_bytes).unwrap_or_default();
        entry.history.push(FormerName {
            name: rules.from_dbname(dbname)?,
            rest: pairs.iter().filter(|(key, _)| key != b"N").cloned().collect(),
        });
    }
    Ok(entry)
}

fn parse_under_name(name: &[u8], value: &[u8]) -> Result<MailboxEntry, EntryError> {
    let mut entry = match value.starts_with(b"%(") {
        true => from_dlist(&Dlist::parse_exact(value)?),
        false => parse_text(value)?,
    };
    entry.name = MboxName::new(name);
    Ok(entry)
}

/// What any dlist value says; the name is known from elsewhere.
fn from_dlist(value: &Dlist) -> MailboxEntry {
    let bytes = |key: &[u8]| value.get(key).and_then(Dlist::as_bytes).map(<[u8]>::to_vec);
    let number = |key: &[u8]| value.get(key).and_then(Dlist::as_num);
    let acl = value.get(b"A").and_then(Dlist::pairs).unwrap_or_default();
    let acl =
        acl.iter().filter_map(|(who, rights)| Some((who.clone(), rights.as_bytes()?.to_vec())));
    MailboxEntry {
        name: MboxName::default(),
        uniqueid: bytes(b"I").map(UniqueId::new),
        mbtype: bytes(b"T").map(|t| MailboxType::from_letters(&t)).unwrap_or_default(),
        partition: bytes(b"P"),
        server: bytes(b"S"),
        acl: acl.collect(),
        uidvalidity: number(b"V").and_then(|v| u32::try_from(v).ok()).map(UidValidity),
        createdmodseq: number(b"C").map(Modseq),
        foldermodseq: number(b"F").map(Modseq),
        mtime: number(b"M").and_then(|m| i64::try_from(m).ok()),
        jmapid: bytes(b"J"),
        history: Vec::new(),
    }
}

/// `TYPEBITS SP PARTITION SP ACL`; some vendor branches put a list in parentheses before it.
fn parse_text(value: &[u8]) -> Result<MailboxEntry, EntryError> {
    let mut value = value;
    let mut uniqueid = None;
    if let Some(list) = value.strip_prefix(b"(") {
        let end = list.iter().position(|byte| *byte == b')');
        let end = end.ok_or(EntryError::Text("its list has no end"))?;
        let mut words = list[..end].split(|byte| *byte == b' ');
        while let Some(word) = words.next() {
            if word == b"uniqueid" {
                uniqueid = words.next().map(UniqueId::new);
            }
        }
        value = list[end + 1..].strip_prefix(b" ").unwrap_or(&list[end + 1..]);
    }
    let mut words = value.splitn(3, |byte| *byte == b' ');
    let bits = words.next().and_then(|bits| std::str::from_utf8(bits).ok()?.parse().ok());
    let bits = bits.ok_or(EntryError::Text("it does not begin with type bits"))?;
    let place = words.next().ok_or(EntryError::Text("it has no partition"))?;
    let (server, partition) = match place.iter().position(|byte| *byte == b'!') {
        Some(at) => (Some(place[..at].to_vec()), &place[at + 1..]),
        None => (None, place),
    };
    let mut acl = Vec::new();
    let mut fields = words.next().unwrap_or_default().split(|byte| *byte == b'\t');
    while let (Some(who), Some(rights)) = (fields.next(), fields.next()) {
        acl.push((who.to_vec(), rights.to_vec()));
    }
    Ok(MailboxEntry {
        uniqueid,
        mbtype: MailboxType::from_bits(bits),
        partition: Some(partition.to_vec()).filter(|partition| !partition.is_empty()),
        server,
        acl,
        ..MailboxEntry::default()
    })
}

impl MailboxEntry {
    /// The two records of 3.6 and later: under the dbname, and under the uniqueid.
    ///
    /// # Errors
    /// A name without a dbname. An entry without a uniqueid has only the first record.
    pub fn to_by_id(&self, rules: &NameRules) -> Result<Vec<DbRecord>, NameError> {
        let dbname = rules.to_dbname(&self.name)?;
        let id = self.uniqueid.as_ref().map(UniqueId::as_bytes);
        let mut under_name = self.pairs_by_id(b"I", id);
        under_name.extend(self.acl_pair());
        let mut records = vec![(prefixed(b'N', &dbname), Dlist::Kv(under_name).to_vec())];
        // A tombstone's id may by now be that of a mailbox with another name.
        if let (Some(id), false) = (id, self.mbtype.deleted) {
            let mut under_id = self.pairs_by_id(b"N", Some(&dbname));
            under_id.extend(self.acl_pair());
            let former = self.history.iter().map(|former| former.to_dlist(rules));
            let former = former.collect::<Result<Vec<_>, _>>()?;
            under_id.push((b"H".to_vec(), Dlist::List(former)));
            records.push((prefixed(b'I', id), Dlist::Kv(under_id).to_vec()));
        }
        Ok(records)
    }

    /// The record of 2.5 to 3.4.
    pub fn to_dlist(&self) -> DbRecord {
        let mut pairs: Vec<_> = self.acl_pair().into_iter().collect();
        let mut put = |key: &[u8], value: Option<Dlist>| {
            pairs.extend(value.map(|value| (key.to_vec(), value)));
        };
        put(b"I", self.uniqueid.as_ref().map(|id| Dlist::bytes(id.as_bytes())));
        put(b"P", self.partition.clone().map(Dlist::Bytes));
        put(b"S", self.server.clone().map(Dlist::Bytes));
        let letters = self.mbtype.old_letters();
        put(b"T", (!letters.is_empty()).then(|| Dlist::bytes(letters)));
        put(b"V", self.uidvalidity.map(|v| Dlist::num(v.0.into())));
        put(b"C", self.createdmodseq.map(|modseq| Dlist::num(modseq.0)));
        put(b"F", self.foldermodseq.map(|modseq| Dlist::num(modseq.0)));
        put(b"M", self.mtime.map(|m| Dlist::num(m.unsigned_abs())));
        (self.name.as_bytes().to_vec(), Dlist::Kv(pairs).to_vec())
    }

    /// The record of 2.4 and before.
    pub fn to_text(&self) -> DbRecord {
        let mut value = format!("{} ", self.mbtype.to_bits()).into_bytes();
        if let Some(server) = &self.server {
            value.extend_from_slice(server);
            value.push(b'!');
        }
        value.extend_from_slice(self.partition.as_deref().unwrap_or_default());
        value.push(b' ');
        for (who, rights) in &self.acl {
            value.extend_from_slice(&[who.as_slice(), b"\t", rights.as_slice(), b"\t"].concat());
        }
        (self.name.as_bytes().to_vec(), value)
    }

    /// All but ACL and history, in Cyrus' order; `other` is the key that points to the other
    /// record.
    fn pairs_by_id(&self, other: &[u8], value: Option<&[u8]>) -> Vec<(Vec<u8>, Dlist)> {
        let mut pairs = vec![(b"T".to_vec(), Dlist::bytes(self.mbtype.to_string()))];
        let mut put = |key: &[u8], value: Option<Dlist>| {
            pairs.extend(value.map(|value| (key.to_vec(), value)));
        };
        put(other, value.map(Dlist::bytes));
        put(b"P", self.partition.clone().map(Dlist::Bytes));
        put(b"S", self.server.clone().map(Dlist::Bytes));
        put(b"J", self.jmapid.clone().map(Dlist::Bytes));
        put(b"V", self.uidvalidity.map(|v| Dlist::num(v.0.into())));
        put(b"C", self.createdmodseq.map(|modseq| Dlist::num(modseq.0)));
        put(b"F", self.foldermodseq.map(|modseq| Dlist::num(modseq.0)));
        put(b"M", self.mtime.map(|m| Dlist::num(m.unsigned_abs())));
        pairs
    }

    /// The ACL under its key; tombstones have none.
    fn acl_pair(&self) -> Option<(Vec<u8>, Dlist)> {
        if self.mbtype.deleted && self.acl.is_empty() {
            return None;
        }
        let pairs =
            self.acl.iter().map(|(who, rights)| (who.clone(), Dlist::bytes(rights.clone())));
        Some((b"A".to_vec(), Dlist::Kv(pairs.collect())))
    }
}

impl FormerName {
    fn to_dlist(&self, rules: &NameRules) -> Result<Dlist, NameError> {
        let mut pairs = vec![(b"N".to_vec(), Dlist::Bytes(rules.to_dbname(&self.name)?))];
        pairs.extend(self.rest.iter().cloned());
        Ok(Dlist::Kv(pairs))
    }
}

fn prefixed(letter: u8, rest: &[u8]) -> Vec<u8> {
    [&[letter], rest].concat()
}

#[cfg(test)]
mod tests;
