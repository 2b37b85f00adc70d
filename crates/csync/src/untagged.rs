//! What a replica tells before it says OK: `* NAME value`.

use cyrus_format::dlist::{DlistRef, Literals};
use model::{Guid, MboxName, Userid};
use thiserror::Error;

use crate::framer::{Data, FileHead};
use crate::mailbox::{Mailbox, Use};
use crate::message::write_head;
use crate::meta::{AnnotationOf, Quota, Seen, SieveFile, WithValue};
use crate::record::RecordWriter;
use crate::wire::{Fields, ValueError, Writer, as_guid, as_list, strings};

/// An untagged reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untagged {
    /// A mailbox. Its records, if any, come before it when read.
    Mailbox(Box<Mailbox>),
    /// The messages of a RESERVE that are not there, in its order. Said only if there are any.
    Missing(Vec<Guid>),
    /// A user's subscriptions. Said only if there are any.
    Lsub(Vec<MboxName>),
    /// What a user has read in a mailbox.
    Seen(Seen),
    /// A file of a user's sieve directory.
    Sieve(SieveFile),
    /// A sieve script: the answer to GET FETCH_SIEVE.
    SieveScript {
        /// Whose.
        userid: Userid,
        /// `<name>.script`.
        filename: Vec<u8>,
        /// Its text.
        content: Vec<u8>,
    },
    /// A quota root.
    Quota(Quota),
    /// An annotation.
    Annotation(AnnotationOf),
    /// The capabilities of a master that the replica will count on.
    Enabled(Vec<Vec<u8>>),
    /// A message, whose file comes before it when read. Without a file: the replica has it, but not
    /// as it should be.
    Message,
}

/// What is no untagged reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UntaggedError {
    /// A name that is unknown. Real masters give up, too.
    #[error("an unknown reply {0:?}")]
    Unknown(String),
    /// A value that is not what belongs there.
    #[error("read the reply {name}")]
    Value {
        /// Which reply.
        name: String,
        /// What is wrong with it.
        #[source]
        source: ValueError,
    },
}

impl Untagged {
    /// Reads one.
    ///
    /// # Errors
    /// If it is unknown, or its value is not what it should be.
    pub fn from_data(data: Data<'_>) -> Result<Self, UntaggedError> {
        let name = || String::from_utf8_lossy(data.name).into_owned();
        if data.verb != b"*" {
            return Err(UntaggedError::Unknown(name()));
        }
        let value = DlistRef::parse_exact(data.value).map_err(|_| ValueError::Shape("well-formed"));
        let read = value.and_then(|value| Self::read(data.name, &value));
        match read {
            Ok(Some(untagged)) => Ok(untagged),
            Ok(None) => Err(UntaggedError::Unknown(name())),
            Err(source) => Err(UntaggedError::Value { name: name(), source }),
        }
    }

    fn read(name: &[u8], value: &DlistRef<'_>) -> Result<Option<Self>, ValueError> {
        let items = || as_list("value", value);
        Ok(Some(match name {
            b"MAILBOX" => Untagged::Mailbox(Box::new(Mailbox::from_value(value, Use::Reply)?)),
            b"MISSING" => {
                let guids = items()?.iter().map(|item| as_guid("value", item));
                Untagged::Missing(guids.collect::<Result<_, _>>()?)
            }
            b"LSUB" => Untagged::Lsub(strings(items()?)?.map(MboxName::new).collect()),
            b"ENABLED" => Untagged::Enabled(strings(items()?)?.map(<[u8]>::to_vec).collect()),
            b"SEEN" => Untagged::Seen(Seen::from_fields(Fields::of(value)?)?),
            b"SIEVE" => Self::read_sieve(Fields::of(value)?)?,
            b"QUOTA" => Untagged::Quota(Quota::from_value(value)?),
            b"ANNOTATION" => Untagged::Annotation(AnnotationOf::from_value(value, WithValue::Yes)?),
            b"MESSAGE" => Untagged::Message,
            _ => return Ok(None),
        }))
    }

    fn read_sieve(fields: Fields<'_>) -> Result<Self, ValueError> {
        if !fields.has("CONTENT") {
            return SieveFile::from_fields(fields).map(Untagged::Sieve);
        }
        Ok(Untagged::SieveScript {
            userid: Userid::new(fields.bytes("USERID")?),
            filename: fields.bytes("FILENAME")?.to_vec(),
            content: fields.bytes("CONTENT")?.to_vec(),
        })
    }

    /// Appends the line, without a file and records.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("* {} ", self.name()).as_bytes());
        let mut w = Writer::new(out, Literals::Plain);
        match self {
            Untagged::Mailbox(mailbox) => mailbox.write(&mut w),
            Untagged::Message => w.nil(),
            Untagged::Missing(guids) => w.list(|w| guids.iter().for_each(|guid| w.guid(*guid))),
            Untagged::Lsub(names) => w.strings(names.iter().map(MboxName::as_bytes)),
            Untagged::Enabled(names) => w.strings(names),
            Untagged::Seen(seen) => w.pairs(|w| seen.write_fields(w)),
            Untagged::Sieve(file) => file.write(&mut w),
            Untagged::SieveScript { userid, filename, content } => w.pairs(|w| {
                w.key("USERID").string(userid.as_bytes());
                w.key("FILENAME").string(filename);
                w.key("CONTENT").string(content);
            }),
            Untagged::Quota(quota) => quota.write(&mut w),
            Untagged::Annotation(annotation) => annotation.write(WithValue::Yes, &mut w),
        }
        out.extend_from_slice(b"\r\n");
    }

    fn name(&self) -> &'static str {
        match self {
            Untagged::Mailbox(_) => "MAILBOX",
            Untagged::Missing(_) => "MISSING",
            Untagged::Lsub(_) => "LSUB",
            Untagged::Seen(_) => "SEEN",
            Untagged::Sieve(_) | Untagged::SieveScript { .. } => "SIEVE",
            Untagged::Quota(_) => "QUOTA",
            Untagged::Annotation(_) => "ANNOTATION",
            Untagged::Enabled(_) => "ENABLED",
            Untagged::Message => "MESSAGE",
        }
    }
}

/// Appends the beginning of a mailbox; its records are to follow, one by one: there may be a million.
pub fn begin_mailbox(mailbox: &Mailbox, out: &mut Vec<u8>) -> RecordWriter {
    out.extend_from_slice(b"* MAILBOX ");
    mailbox.begin(Literals::Plain, out)
}

/// Appends what announces the answer to GET FETCH. The file's bytes, exactly as many as it says, are
/// to follow, and [`end_message`].
pub fn begin_message(head: &FileHead, out: &mut Vec<u8>) {
    out.extend_from_slice(b"* MESSAGE ");
    write_head(head, out);
}

/// Appends what follows the bytes of a message.
pub fn end_message(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}
