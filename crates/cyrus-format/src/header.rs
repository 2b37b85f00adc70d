//! cyrus.header: who the mailbox is, who may do what with it, and what its user flags are called.
//!
//! The name and the ACL are copies of what mailboxes.db holds, and mailboxes.db wins. The names of
//! the user flags exist nowhere else (`imap/mailbox.c`: mailbox_read_header and
//! mailbox_commit_header, Cyrus 2.2 to 3.13).

use model::{MboxName, UniqueId, UserFlags, crc};

use crate::bytes::Reader;
use crate::dlist::Dlist;
use crate::error::{EncodeError, FormatError};

const WHAT: &str = "cyrus.header";

/// What every cyrus.header starts with, whatever wrote it.
pub const MAGIC: &[u8] = b"\xa1\x02\x8b\x0dCyrus mailbox header\n\
    \"The best thing about this system was that it had lots of goals.\"\n\
    \t--Jim Morris on Andrew\n";

/// How what follows the magic is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderForm {
    /// Three lines: up to Cyrus 3.4.
    Lines,
    /// One dlist: Cyrus 3.6 to 3.12.
    #[default]
    Dlist,
    /// One dlist in which the JMAP id always has a key: Cyrus 3.13.
    DlistWithJmapId,
}

/// What cyrus.header says.
///
/// Only a dlist has the type, the name and the JMAP id; lines leave these empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxHeader {
    /// How it is written.
    pub form: HeaderForm,
    /// The letters of the mailbox's type, as in mailboxes.db.
    pub mbtype: Vec<u8>,
    /// The mailbox's internal name.
    pub name: Option<MboxName>,
    /// The mailbox's identity; the very oldest headers have none.
    pub uniqueid: Option<UniqueId>,
    /// The JMAP id (3.13).
    pub jmapid: Option<Vec<u8>>,
    /// The quota root that the mailbox counts for.
    pub quotaroot: Option<MboxName>,
    /// Identifiers and their rights, in the order of the file.
    pub acl: Vec<(Vec<u8>, Vec<u8>)>,
    /// The name of each user flag; its place is the flag's number. The last one is never `None`,
    /// and there are at most [`UserFlags::MAX`].
    pub user_flags: Vec<Option<Vec<u8>>>,
}

impl MailboxHeader {
    /// Reads a whole cyrus.header.
    ///
    /// # Errors
    /// [`FormatError::Foreign`] without the magic, [`FormatError::Damaged`] if the rest breaks off
    /// or makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(WHAT, bytes);
        if reader.expect(MAGIC).is_err() {
            let detail = "it does not start with the magic lines".to_owned();
            return Err(FormatError::Foreign { what: WHAT, detail });
        }
        match reader.peek() {
            Some(b'%') => parse_dlist(&mut reader),
            _ => parse_lines(&mut reader),
        }
    }

    /// Writes the file as the Cyrus of that form does, byte for byte.
    ///
    /// There is one exception. Where a flag number without a name lies between two with names,
    /// Cyrus up to 3.4 leaves it out, and all names behind it move down one number while the bits
    /// in the records stay. Here an empty name is written instead, which every Cyrus reads as such.
    ///
    /// # Errors
    /// [`EncodeError::Range`] if there are too many flags, or if a value holds a byte that ends it
    /// in the form of lines.
    pub fn write(&self) -> Result<Vec<u8>, EncodeError> {
        if self.user_flags.len() > UserFlags::MAX {
            let value = format!("{} flags", self.user_flags.len());
            return Err(EncodeError::Range { what: WHAT, field: "user flags", value });
        }
        let mut bytes = MAGIC.to_vec();
        match self.form {
            HeaderForm::Lines => self.write_lines(&mut bytes)?,
            HeaderForm::Dlist | HeaderForm::DlistWithJmapId => self.to_dlist().write(&mut bytes),
        }
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The names of the user flags, in the form that [`crc::FlagCrcs`] takes.
    pub fn flag_names(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.user_flags.iter().map(Option::as_deref)
    }

    /// The CRCs of the flag names, from which the sync CRCs of the records are made.
    pub fn flag_crcs(&self) -> crc::FlagCrcs {
        crc::FlagCrcs::new(self.flag_names())
    }

    fn to_dlist(&self) -> Dlist {
        fn pair(key: &str, value: Dlist) -> (Vec<u8>, Dlist) {
            (key.as_bytes().to_vec(), value)
        }
        fn or_nil(value: Option<&[u8]>) -> Dlist {
            value.map_or(Dlist::Nil, Dlist::bytes)
        }
        let mut pairs = vec![
            pair("T", Dlist::bytes(self.mbtype.as_slice())),
            pair("N", or_nil(self.name.as_ref().map(MboxName::as_bytes))),
            pair("I", or_nil(self.uniqueid.as_ref().map(UniqueId::as_bytes))),
        ];
        if self.form == HeaderForm::DlistWithJmapId {
            pairs.push(pair("J", or_nil(self.jmapid.as_deref())));
        }
        if let Some(quotaroot) = &self.quotaroot {
            pairs.push(pair("Q", Dlist::bytes(quotaroot.as_bytes())));
        }
        let acl = self.acl.iter().map(|(who, rights)| (who.clone(), Dlist::bytes(rights.clone())));
        pairs.push(pair("A", Dlist::Kv(acl.collect())));
        if !self.user_flags.is_empty() {
            pairs.push(pair("U", Dlist::List(self.flag_names().map(or_nil).collect())));
        }
        Dlist::Kv(pairs)
    }

    fn write_lines(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let quotaroot = self.quotaroot.as_ref().map_or(b"".as_slice(), MboxName::as_bytes);
        bytes.extend_from_slice(unbroken("quota root", quotaroot, b"\t\n")?);
        if let Some(uniqueid) = &self.uniqueid {
            bytes.push(b'\t');
            bytes.extend_from_slice(unbroken("uniqueid", uniqueid.as_bytes(), b"\t\n")?);
        }
        bytes.push(b'\n');
        for name in self.flag_names() {
            bytes.extend_from_slice(unbroken("user flag", name.unwrap_or_default(), b" \n")?);
            bytes.push(b' ');
        }
        bytes.push(b'\n');
        for (who, rights) in &self.acl {
            for part in [who, rights] {
                bytes.extend_from_slice(unbroken("ACL", part, b"\t\n")?);
                bytes.push(b'\t');
            }
        }
        Ok(())
    }
}

/// CRC-32 of a whole cyrus.header, which the index header repeats since version 12. An index that
/// was brought up from an older version holds 0 there until the header is next written.
pub fn file_crc(bytes: &[u8]) -> u32 {
    crc::crc32(bytes)
}

/// Reads the form of Cyrus 3.6 and later.
fn parse_dlist(reader: &mut Reader<'_>) -> Result<MailboxHeader, FormatError> {
    let start = reader.clone();
    let body = Dlist::read(reader)?;
    reader.expect(b"\n")?;
    let string = |key| body.get(key).and_then(Dlist::as_bytes);
    let has_jmapid = body.get(b"J").is_some();
    let mut header = MailboxHeader {
        form: if has_jmapid { HeaderForm::DlistWithJmapId } else { HeaderForm::Dlist },
        mbtype: string(b"T").unwrap_or_default().to_vec(),
        name: string(b"N").map(MboxName::new),
        uniqueid: string(b"I").map(UniqueId::new),
        jmapid: string(b"J").map(<[u8]>::to_vec),
        quotaroot: string(b"Q").map(MboxName::new),
        ..MailboxHeader::default()
    };
    if let Some(acl) = body.get(b"A") {
        let pairs = acl.pairs().ok_or_else(|| start.damaged("the ACL is not a list"))?;
        header.acl = pairs
            .iter()
            .map(|(who, rights)| (who.clone(), rights.as_bytes().unwrap_or_default().to_vec()))
            .collect();
    }
    if let Some(flags) = body.get(b"U") {
        let items = flags.items().ok_or_else(|| start.damaged("the flags are not a list"))?;
        let names = items.iter().map(|name| name.as_bytes().map(<[u8]>::to_vec));
        header.user_flags = flag_slots(names);
    }
    Ok(header)
}

/// Reads the form of Cyrus up to 3.4.
fn parse_lines(reader: &mut Reader<'_>) -> Result<MailboxHeader, FormatError> {
    // Quota root and uniqueid; anything behind a second tab is skipped as Cyrus 2.4 does.
    let mut parts = reader.until(b'\n')?.split(|byte| *byte == b'\t');
    let quotaroot = parts.next().filter(|root| !root.is_empty()).map(MboxName::new);
    let uniqueid = parts.next().filter(|id| !id.is_empty()).map(UniqueId::new);
    let flags = reader.until(b'\n')?.split(|byte| *byte == b' ');
    let flags = flags.map(|name| (!name.is_empty()).then(|| name.to_vec()));
    let acl = acl_pairs(reader.until(b'\n')?);
    Ok(MailboxHeader {
        form: HeaderForm::Lines,
        uniqueid,
        quotaroot,
        acl,
        user_flags: flag_slots(flags),
        ..MailboxHeader::default()
    })
}

/// Takes identifiers and rights, each with a tab behind it, apart.
fn acl_pairs(line: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    if line.is_empty() {
        return Vec::new();
    }
    let mut parts = line.strip_suffix(b"\t").unwrap_or(line).split(|byte| *byte == b'\t');
    let mut pairs = Vec::new();
    while let Some(who) = parts.next() {
        pairs.push((who.to_vec(), parts.next().unwrap_or_default().to_vec()));
    }
    pairs
}

/// At most as many slots as a record has bits for, and none without a name at the end.
fn flag_slots(names: impl Iterator<Item = Option<Vec<u8>>>) -> Vec<Option<Vec<u8>>> {
    let mut slots: Vec<_> = names.take(UserFlags::MAX).collect();
    let used = slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    slots.truncate(used);
    slots
}

/// Passes `value` through if none of the bytes that end it is in it.
fn unbroken<'a>(
    field: &'static str,
    value: &'a [u8],
    ends: &[u8],
) -> Result<&'a [u8], EncodeError> {
    match value.iter().any(|byte| ends.contains(byte)) {
        false => Ok(value),
        true => {
            let value = value.escape_ascii().to_string();
            Err(EncodeError::Range { what: WHAT, field, value })
        }
    }
}
