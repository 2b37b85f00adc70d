//! Annotations: keys and values of annotations.db and of cyrus.annotations (`imap/annotate.c`).
//!
//! annotations.db holds those of the server and of mailboxes; up to 2.4 there are no others.
//! Since 2.5 each mailbox has a cyrus.annotations for its messages.

use std::collections::BTreeMap;

use model::{Modseq, Uid, Userid};

use crate::db;
use crate::error::FormatError;

const KEY: &str = "annotation key";
const VALUE: &str = "annotation";

/// Stands for the mailbox's owner (3.6+).
const OWNER: &[u8] = b"[.OwNeR.]";

/// The bit of the flags that marks a deleted annotation (3.0+).
const DELETED: u8 = 1;

/// Which of the two kinds of databases a key is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnnotationDb {
    /// annotations.db
    Global,
    /// cyrus.annotations of one mailbox
    Messages,
}

/// What is annotated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Annotated {
    /// The whole server.
    Server,
    /// A mailbox: up to 3.4 by its internal name, since 3.6 by its uniqueid.
    Mailbox(Vec<u8>),
    /// A message of the database's mailbox.
    Message(Uid),
}

/// Who sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Everybody.
    Shared,
    /// The mailbox's owner only, by token (3.6+).
    Owner,
    /// One user only.
    User(Userid),
    /// Not said: the key ends early. Some versions wrote such by mistake.
    Unsaid,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnnotationKey {
    /// What is annotated.
    pub annotated: Annotated,
    /// The entry, `/comment` for example.
    pub entry: Vec<u8>,
    /// Who sees it.
    pub audience: Audience,
}

impl AnnotationKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] if a part is missing, or is not what the database holds.
    pub fn parse(db: AnnotationDb, key: &[u8]) -> Result<Self, FormatError> {
        let mut parts = key.split(|byte| *byte == 0);
        let damaged =
            |detail: &str| FormatError::Damaged { what: KEY, offset: 0, detail: detail.to_owned() };
        let place = parts.next().unwrap_or_default();
        let annotated = match db {
            AnnotationDb::Messages => {
                let uid = std::str::from_utf8(place).ok().and_then(|uid| uid.parse().ok());
                let uid = uid.filter(|uid| *uid > 0 && !place.starts_with(b"+"));
                Annotated::Message(Uid(uid.ok_or_else(|| damaged("it begins with no UID"))?))
            }
            AnnotationDb::Global if place.is_empty() => Annotated::Server,
            AnnotationDb::Global => Annotated::Mailbox(place.to_vec()),
        };
        let entry = parts.next().ok_or_else(|| damaged("it has no entry"))?.to_vec();
        let audience = match parts.next() {
            None => Audience::Unsaid,
            Some(b"") => Audience::Shared,
            Some(OWNER) => Audience::Owner,
            Some(userid) => Audience::User(Userid::new(userid)),
        };
        // A NUL ends the key as well.
        match (parts.next(), parts.next()) {
            (None | Some(b""), None) => Ok(Self { annotated, entry, audience }),
            _ => Err(damaged("it has more than three parts")),
        }
    }

    /// The key, as Cyrus writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut key = match &self.annotated {
            Annotated::Server => Vec::new(),
            Annotated::Mailbox(name) => name.clone(),
            Annotated::Message(uid) => uid.to_string().into_bytes(),
        };
        key.push(0);
        key.extend_from_slice(&self.entry);
        let userid = match &self.audience {
            Audience::Unsaid => return key,
            Audience::Shared => b"".as_slice(),
            Audience::Owner => OWNER,
            Audience::User(userid) => userid.as_bytes(),
        };
        key.push(0);
        key.extend_from_slice(userid);
        key.push(0);
        key
    }
}

/// An annotation by the name of its reader, whatever stands for him in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Its name: `/comment`.
    pub entry: Vec<u8>,
    /// Whose it is; empty if everybody's.
    pub userid: Userid,
    /// What it says.
    pub value: Vec<u8>,
    /// When it changed, in the mailbox's counting.
    pub modseq: Modseq,
}

impl Note {
    /// Reads one of a mailbox of `owner`, along with what it is about; `None` for a tombstone.
    ///
    /// # Errors
    /// As for [`AnnotationKey::parse`] and [`Annotation::parse`].
    pub fn parse(
        db: AnnotationDb,
        key: &[u8],
        value: &[u8],
        owner: Option<&Userid>,
    ) -> Result<Option<(Annotated, Self)>, FormatError> {
        let AnnotationKey { annotated, entry, audience } = AnnotationKey::parse(db, key)?;
        let Annotation { value, modseq, deleted, .. } = Annotation::parse(value)?;
        let userid = match audience {
            Audience::Shared | Audience::Unsaid => Userid::default(),
            Audience::Owner => owner.cloned().unwrap_or_default(),
            Audience::User(userid) => userid,
        };
        let note = Self { entry, userid, value, modseq: modseq.unwrap_or_default() };
        Ok((deleted != Some(true)).then_some((annotated, note)))
    }

    /// Reads all of a cyrus.annotations, those of each message in order.
    ///
    /// # Errors
    /// If it is no database, or holds something else.
    pub fn of_messages(
        bytes: &[u8],
        owner: Option<&Userid>,
    ) -> Result<BTreeMap<Uid, Vec<Self>>, FormatError> {
        let mut notes: BTreeMap<Uid, Vec<Self>> = BTreeMap::new();
        for (key, value) in &db::read(bytes)?.entries {
            let parsed = Self::parse(AnnotationDb::Messages, key, value, owner)?;
            if let Some((Annotated::Message(uid), note)) = parsed {
                notes.entry(uid).or_default().push(note);
            }
        }
        notes.values_mut().for_each(|notes| notes.sort());
        Ok(notes)
    }

    /// Its key in a database of Cyrus 3.6 and later.
    pub fn key(&self, annotated: Annotated, owner: Option<&Userid>) -> Vec<u8> {
        let audience = match &self.userid {
            userid if userid.is_empty() => Audience::Shared,
            userid if Some(userid) == owner => Audience::Owner,
            userid => Audience::User(userid.clone()),
        };
        AnnotationKey { annotated, entry: self.entry.clone(), audience }.write()
    }

    /// Its value there.
    pub fn stored(&self) -> Vec<u8> {
        Annotation::new(self.value.as_slice(), self.modseq).write()
    }
}

/// The machine word of the host that wrote a value: lengths are written in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostWord {
    /// 64 bits, little endian: the number is big endian all the same, in the first half.
    Little64,
    /// 64 bits, big endian.
    Big64,
    /// 32 bits.
    Any32,
}

impl HostWord {
    const ALL: [HostWord; 3] = [HostWord::Little64, HostWord::Big64, HostWord::Any32];

    /// Takes a number off the front of `bytes`; `None` if this host would not write it so.
    fn take(self, bytes: &[u8]) -> Option<(u32, &[u8])> {
        let (first, rest) = bytes.split_first_chunk::<4>()?;
        if self == HostWord::Any32 {
            return Some((u32::from_be_bytes(*first), rest));
        }
        let (second, rest) = rest.split_first_chunk::<4>()?;
        let (number, zeros) = match self {
            HostWord::Big64 => (second, first),
            _ => (first, second),
        };
        (*zeros == [0; 4]).then_some((u32::from_be_bytes(*number), rest))
    }

    fn put(self, number: u32, bytes: &mut Vec<u8>) {
        let number = number.to_be_bytes();
        match self {
            HostWord::Any32 => bytes.extend_from_slice(&number),
            HostWord::Little64 => bytes.extend_from_slice(&[number, [0; 4]].concat()),
            HostWord::Big64 => bytes.extend_from_slice(&[[0; 4], number].concat()),
        }
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The annotation itself; empty for a tombstone.
    pub value: Vec<u8>,
    /// Its content type, which nobody has asked for since 2.5.
    pub content_type: Option<Vec<u8>>,
    /// When it changed, seconds since 1970; 0 since 2.5.
    pub modified_since: Option<u32>,
    /// When it changed, in the mailbox's counting (2.5+).
    pub modseq: Option<Modseq>,
    /// Whether it is a tombstone; `None` where the value has no flags (before 3.0).
    pub deleted: Option<bool>,
    /// What kind of host wrote it.
    pub word: HostWord,
}

impl Annotation {
    /// An annotation as 3.x writes it on today's hosts; an empty value is a tombstone.
    pub fn new(value: impl Into<Vec<u8>>, modseq: Modseq) -> Self {
        let value = value.into();
        Self {
            content_type: Some(b"text/plain".to_vec()),
            modified_since: Some(0),
            modseq: Some(modseq),
            deleted: Some(value.is_empty()),
            word: HostWord::Little64,
            value,
        }
    }

    /// Reads a value of any version and host. The parts behind the annotation itself came one
    /// after the other, so it may end after each of them; but it must end there.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] if no reading comes out even.
    pub fn parse(value: &[u8]) -> Result<Self, FormatError> {
        HostWord::ALL.into_iter().find_map(|word| walk(value, word)).ok_or_else(|| {
            FormatError::Damaged {
                what: VALUE,
                offset: 0,
                detail: format!("its {} bytes do not come out even", value.len()),
            }
        })
    }

    /// The value. A part whose predecessor is missing is left out.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.value.len() + 40);
        // Cyrus holds values in memory with a length of 32 bits; no longer one can be read.
        let length = u32::try_from(self.value.len()).unwrap_or(u32::MAX);
        self.word.put(length, &mut bytes);
        bytes.extend_from_slice(&self.value);
        bytes.push(0);
        let Some(content_type) = &self.content_type else { return bytes };
        bytes.extend_from_slice(content_type);
        bytes.push(0);
        let Some(modified_since) = self.modified_since else { return bytes };
        self.word.put(modified_since, &mut bytes);
        let Some(modseq) = self.modseq else { return bytes };
        bytes.extend_from_slice(&modseq.0.to_be_bytes());
        bytes.extend(self.deleted.map(|deleted| if deleted { DELETED } else { 0 }));
        bytes
    }
}

/// Reads a value as hosts of one kind write it; `None` if it does not come out even.
fn walk(bytes: &[u8], word: HostWord) -> Option<Annotation> {
    let (length, rest) = word.take(bytes)?;
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let rest = rest.strip_prefix(&[0])?;
    let mut found = Annotation {
        value: value.to_vec(),
        content_type: None,
        modified_since: None,
        modseq: None,
        deleted: None,
        word,
    };
    if rest.is_empty() {
        return Some(found);
    }
    let end = rest.iter().position(|byte| *byte == 0)?;
    // A reading for the wrong host may come out even by chance, but not with text just here.
    let content_type = &rest[..end];
    if content_type.is_empty() || !content_type.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    found.content_type = Some(content_type.to_vec());
    let rest = &rest[end + 1..];
    if rest.is_empty() {
        return Some(found);
    }
    let (modified_since, rest) = word.take(rest)?;
    found.modified_since = Some(modified_since);
    if rest.is_empty() {
        return Some(found);
    }
    let (modseq, rest) = rest.split_first_chunk()?;
    found.modseq = Some(Modseq(u64::from_be_bytes(*modseq)));
    match rest {
        [] => {}
        [flags] => {
            found.deleted = Some(flags & DELETED != 0);
            if flags & DELETED != 0 {
                found.value.clear();
            }
        }
        _ => return None,
    }
    Some(found)
}

#[cfg(test)]
mod tests;
