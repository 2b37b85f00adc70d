//! The state of one message, and annotations.

use cyrus_format::dlist::{Dlist, DlistRef, Literals};
use model::{Guid, Modseq, SystemFlags, Timestamp, Uid, Userid};

use crate::wire::{Fields, ValueError, Writer, as_bytes};

/// In front of the names of annotations that Cyrus answers from the record itself.
pub(crate) const VIRTUAL: &[u8] = b"/vendor/cmu/cyrus-imapd/";

/// System flags in the order in which Cyrus writes them (`imap/sync_support.c`,
/// sync_print_flags). Others of its internal flags do not travel.
const SYSTEM_FLAGS: [(&[u8], SystemFlags); 6] = [
    (b"\\Deleted", SystemFlags::DELETED),
    (b"\\Answered", SystemFlags::ANSWERED),
    (b"\\Flagged", SystemFlags::FLAGGED),
    (b"\\Draft", SystemFlags::DRAFT),
    (b"\\Expunged", SystemFlags::EXPUNGED),
    (b"\\Seen", SystemFlags::SEEN),
];

/// One message of a mailbox, as replication knows it: an item of RECORD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its number in the mailbox.
    pub uid: Uid,
    /// When it last changed.
    pub modseq: Modseq,
    /// Likewise, in seconds.
    pub last_updated: Timestamp,
    /// System flags, `\Seen` of the mailbox's owner among them.
    pub system_flags: SystemFlags,
    /// User flags in the order of the mailbox. Flags that begin with a backslash and are no system
    /// flags are left out on reading, as Cyrus does.
    pub user_flags: Vec<Vec<u8>>,
    /// When it arrived.
    pub internaldate: Timestamp,
    /// Bytes of the message.
    pub size: u32,
    /// SHA-1 of the message.
    pub guid: Guid,
    /// All annotations, also those that Cyrus keeps in the record: [`Record::thrid`] and so on.
    /// They replace what the replica has.
    pub annotations: Vec<Annotation>,
}

/// An annotation of a message or of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Its name: `/comment`.
    pub entry: Vec<u8>,
    /// Whose it is; empty if everybody's.
    pub userid: Userid,
    /// When it last changed; 0 up to Cyrus 3.0, and in practice.
    pub modseq: Modseq,
    /// What it says.
    pub value: Vec<u8>,
}

impl Record {
    /// Reads a value of the [framer](crate::framer::Event::Record).
    ///
    /// # Errors
    /// If a field is missing or ill-formed. Cyrus answers that with IMAP_PROTOCOL_ERROR.
    pub fn parse(value: &[u8]) -> Result<Self, ValueError> {
        let value = DlistRef::parse_exact(value).map_err(|_| ValueError::Shape("well-formed"))?;
        Self::from_value(&value)
    }

    fn from_value(value: &DlistRef<'_>) -> Result<Self, ValueError> {
        let fields = Fields::of(value)?;
        let (system_flags, user_flags) = read_flags(fields.list("FLAGS")?)?;
        Ok(Self {
            uid: Uid(fields.num("UID")?),
            modseq: Modseq(fields.num("MODSEQ")?),
            last_updated: fields.date("LAST_UPDATED")?,
            system_flags,
            user_flags,
            internaldate: fields.date("INTERNALDATE")?,
            size: fields.num("SIZE")?,
            guid: fields.guid("GUID")?,
            annotations: read_annotations(fields)?,
        })
    }

    /// Appends the record as a value that [`Record::parse`] reads, for whoever keeps it for a while.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_value(&mut Writer::new(out, Literals::Plain));
    }

    fn write_value(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("UID").num(self.uid.0.into());
            w.key("MODSEQ").num(self.modseq.0);
            w.key("LAST_UPDATED").date(self.last_updated);
            w.key("FLAGS").list(|w| {
                for (name, flag) in SYSTEM_FLAGS {
                    if self.system_flags.contains(flag) {
                        w.raw(name);
                    }
                }
                self.user_flags.iter().for_each(|flag| w.flag(flag));
            });
            w.key("INTERNALDATE").date(self.internaldate);
            w.key("SIZE").num(self.size.into());
            w.key("GUID").guid(self.guid);
            write_annotations(&self.annotations, w);
        });
    }

    /// The conversation it belongs to; 0 if none or not told.
    pub fn thrid(&self) -> u64 {
        let text = self.virtual_annotation(b"thrid").and_then(|text| str::from_utf8(text).ok());
        text.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0)
    }

    /// When it was saved into the mailbox, if told.
    pub fn savedate(&self) -> Option<Timestamp> {
        let secs = Dlist::bytes(self.virtual_annotation(b"savedate")?).as_num()?;
        i64::try_from(secs).ok().map(Timestamp::from_secs)
    }

    /// When it was created, in the account's counting; 0 if not told.
    pub fn createdmodseq(&self) -> Modseq {
        let value = self.virtual_annotation(b"createdmodseq").map(Dlist::bytes);
        Modseq(value.and_then(|value| value.as_num()).unwrap_or(0))
    }

    /// Says when it was created, if it says so at all: replicas before 3.2 do not know of it.
    pub fn set_createdmodseq(&mut self, modseq: Modseq) {
        let is_it = |annotation: &&mut Annotation| {
            annotation.userid.is_empty()
                && annotation.entry.strip_prefix(VIRTUAL) == Some(b"createdmodseq")
        };
        if let Some(annotation) = self.annotations.iter_mut().find(is_it) {
            annotation.value = modseq.to_string().into_bytes();
        }
    }

    fn virtual_annotation(&self, name: &[u8]) -> Option<&[u8]> {
        let mut found = self.annotations.iter().filter(|annotation| annotation.userid.is_empty());
        found
            .find(|annotation| annotation.entry.strip_prefix(VIRTUAL) == Some(name))
            .map(|annotation| annotation.value.as_slice())
    }

    /// Whether it no longer shows to clients.
    pub fn is_expunged(&self) -> bool {
        self.system_flags.contains(SystemFlags::EXPUNGED)
    }
}

fn read_flags(items: &[DlistRef<'_>]) -> Result<(SystemFlags, Vec<Vec<u8>>), ValueError> {
    let (mut system, mut user) = (SystemFlags::default(), Vec::new());
    for item in items {
        let name = as_bytes("FLAGS", item)?;
        let known = SYSTEM_FLAGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        match known {
            Some((_, flag)) => system.0 |= flag.0,
            None if name.starts_with(b"\\") => {}
            None => user.push(name.to_vec()),
        }
    }
    Ok((system, user))
}

/// The annotations of a message or mailbox; none if the field is not there.
pub(crate) fn read_annotations(fields: Fields<'_>) -> Result<Vec<Annotation>, ValueError> {
    if fields.opt("ANNOTATIONS").is_none() {
        return Ok(Vec::new());
    }
    let read = |item| {
        let fields = Fields::of(item)?;
        Ok(Annotation {
            entry: fields.bytes("ENTRY")?.to_vec(),
            userid: Userid::new(fields.bytes_or_nil("USERID")?),
            modseq: Modseq(fields.opt_num("MODSEQ")?.unwrap_or(0)),
            value: fields.bytes_or_nil("VALUE")?.to_vec(),
        })
    };
    fields.list("ANNOTATIONS")?.iter().map(read).collect()
}

/// Writes the field, unless there is nothing to say.
pub(crate) fn write_annotations(annotations: &[Annotation], w: &mut Writer<'_>) {
    if annotations.is_empty() {
        return;
    }
    w.key("ANNOTATIONS").list(|w| {
        for annotation in annotations {
            w.pairs(|w| {
                w.key("ENTRY").string(&annotation.entry);
                w.key("USERID").string(annotation.userid.as_bytes());
                w.key("MODSEQ").num(annotation.modseq.0);
                w.key("VALUE").string(&annotation.value);
            });
        }
    });
}

/// Writes the records of a mailbox one by one: what stands between `RECORD (` and `)`.
#[derive(Debug)]
#[must_use = "the mailbox is not complete before it is finished"]
pub struct RecordWriter {
    literals: Literals,
    begun: bool,
}

impl RecordWriter {
    pub(crate) fn new(literals: Literals) -> Self {
        Self { literals, begun: false }
    }

    /// Appends the next record; UIDs have to ascend.
    pub fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        if self.begun {
            out.push(b' ');
        }
        self.begun = true;
        record.write_value(&mut Writer::new(out, self.literals));
    }

    /// Appends what ends the records and the mailbox.
    pub fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"))\r\n");
    }
}
