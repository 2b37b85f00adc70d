//! What is to be different, said field by field before anything is.

use std::fmt;

use cyrus_format::index::IndexHeader;
use model::{Record, SystemFlags, Timestamp, Uid};

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// There is none.
    Nothing,
    /// A number.
    Number(u64),
    /// A moment.
    Time(Timestamp),
    /// Anything else.
    Text(String),
}

impl Value {
    pub(super) fn text(value: impl fmt::Display) -> Self {
        Self::Text(value.to_string())
    }
}

/// A field that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, as in [`Record`], [`IndexHeader`] or cyrus.header.
    pub name: &'static str,
    /// What it says now.
    pub old: Value,
    /// What it is to say.
    pub new: Value,
}

impl Field {
    pub(super) fn new(name: &'static str, old: Value, new: Value) -> Self {
        Self { name, old, new }
    }
}

/// Why something changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// One bit was wrong, and the CRC says which.
    BitPutBack,
    /// A record fails its CRC, but its GUID is that of its file: what it says is believed where it can be true.
    RecordBelieved,
    /// A record fails its CRC and is not about its file: it is made anew of the file.
    RecordRemade,
    /// A record fails its CRC, or was wiped, and nothing shows which message it was about.
    RecordDropped,
    /// Another record has the same UID, and the file is that one's.
    UidTwice,
    /// A message came back from behind the last record that is counted.
    FromTail,
    /// What follows the last record that is counted: once it was looked through, it goes.
    Tail,
    /// A message without a record, which keeps its UID.
    Adopted,
    /// A message without a record, whose UID was given out before: it gets the next one.
    Appended,
    /// The file of an expunged message is gone.
    Unlinked,
    /// The file of a message is gone; the message is given up.
    GivenUp,
    /// The file is right by its GUID, and has another size than the record.
    Size,
    /// The GUID becomes that of the file.
    Guid,
    /// The file is on the other partition.
    Partition,
    /// Flags that have no name.
    FlagsUnnamed,
    /// What cyrus.cache has is not what the record says. Cyrus reads the message anew when it is asked.
    Cache,
    /// cyrus.index is made anew.
    IndexRemade,
    /// The header of cyrus.index fails its CRC.
    IndexHeaderBelieved,
    /// What the header of cyrus.index counts is what its records come to.
    Counters,
    /// cyrus.header is made anew, of mailboxes.db.
    HeaderRemade,
    /// The mailbox gets its identity back.
    Identity,
    /// A record is in cyrus.expunge as well as in cyrus.index.
    Overlap,
    /// A quota says what its mailboxes have.
    Quota,
}

impl Why {
    /// A stable code for JSON.
    pub fn code(self) -> &'static str {
        self.said().0
    }

    fn said(self) -> (&'static str, &'static str) {
        match self {
            Self::BitPutBack => ("bit-put-back", "one bit was flipped, and its CRC tells which"),
            Self::RecordBelieved => {
                ("record-believed", "its record fails its CRC, but has the GUID of its file")
            }
            Self::RecordRemade => {
                ("record-remade", "its record fails its CRC, and is made anew from its file")
            }
            Self::RecordDropped => {
                ("record-dropped", "a record is damaged or wiped, and no file shows what it was")
            }
            Self::UidTwice => ("uid-twice", "another record with this UID fits the file better"),
            Self::FromTail => ("from-tail", "its record is behind those that are counted"),
            Self::Tail => ("tail", "cyrus.index goes on behind the records that it counts"),
            Self::Adopted => ("adopted", "its file has no record, and keeps its UID"),
            Self::Appended => {
                ("appended", "its file has no record, and its UID was given out before")
            }
            Self::Unlinked => ("unlinked", "it is expunged, and its file is gone"),
            Self::GivenUp => ("given-up", "its file is gone"),
            Self::Size => ("size", "its file is right, and the size in its record is not"),
            Self::Guid => ("guid", "its record gets the GUID of its file"),
            Self::Partition => ("partition", "its file is on the other partition"),
            Self::FlagsUnnamed => ("flags-unnamed", "it has flags that cyrus.header does not name"),
            Self::Cache => ("cache", "cyrus.cache is not what its record says"),
            Self::IndexRemade => ("index-remade", "cyrus.index cannot be read, and is made anew"),
            Self::IndexHeaderBelieved => (
                "index-header-believed",
                "the header of cyrus.index fails its CRC; what it says is believed where it can be true",
            ),
            Self::Counters => ("counters", "cyrus.index does not say what its records come to"),
            Self::HeaderRemade => {
                ("header-remade", "cyrus.header cannot be read, and is made anew from mailboxes.db")
            }
            Self::Identity => ("identity", "cyrus.header has not the uniqueid of mailboxes.db"),
            Self::Overlap => ("overlap", "it is in cyrus.expunge, and in cyrus.index as well"),
            Self::Quota => ("quota", "it does not say what its mailboxes have"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.said().1)
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The mailbox, or the quota root.
    pub place: String,
    /// The message, if it is one, by the number that it has now.
    pub uid: Option<Uid>,
    /// Why.
    pub why: Why,
    /// What.
    pub fields: Vec<Field>,
}

/// The fields of two values that differ.
macro_rules! differences {
    ($old:expr, $new:expr, $($way:ident $($field:ident)+;)*) => {{
        let mut fields = Vec::new();
        $($(
            if $old.$field != $new.$field {
                let (old, new) = ($way(&$old.$field), $way(&$new.$field));
                fields.push(Field::new(stringify!($field), old, new));
            }
        )+)*
        fields
    }};
}

fn number<N: Copy + Into<u64>>(number: &N) -> Value {
    Value::Number((*number).into())
}

fn time(time: &Timestamp) -> Value {
    Value::Time(*time)
}

fn text(value: &impl fmt::Display) -> Value {
    Value::text(value)
}

fn debug(value: &impl fmt::Debug) -> Value {
    Value::Text(format!("{value:?}"))
}

fn system_flags(flags: &SystemFlags) -> Value {
    Value::Text(names_of(*flags))
}

/// What is different about a record. User flags are told by number.
pub(super) fn of_records(old: &Record, new: &Record) -> Vec<Field> {
    let numbers = |record: &Record| debug(&record.user_flags.iter().collect::<Vec<_>>());
    let mut fields = differences!(old, new,
        text uid guid;
        number size header_size content_lines;
        system_flags system_flags;
        time internaldate sentdate gmtime last_updated savedate;
        text modseq createdmodseq;
        number cid basecid cache_offset cache_version cache_crc;
    );
    if old.user_flags != new.user_flags {
        fields.push(Field::new("user_flags", numbers(old), numbers(new)));
    }
    fields
}

/// What is different about the header of an index.
pub(super) fn of_headers(old: &IndexHeader, new: &IndexHeader) -> Vec<Field> {
    differences!(old, new,
        number generation minor_version start_offset record_size num_records;
        time last_appenddate pop3_last_login first_expunged last_repack_time recenttime
            pop3_show_after changes_epoch;
        text last_uid recentuid uidvalidity highestmodseq deletedmodseq createdmodseq;
        number exists answered deleted flagged unseen leaked_cache header_file_crc sync_crc_basic
            sync_crc_annot quota_mailbox_used quota_annot_used quota_deleted_used
            quota_expunged_used;
        debug options;
    )
}

/// If nothing that is read differs, the sum does, or what nobody reads.
pub(super) fn or_sum(fields: Vec<Field>) -> Vec<Field> {
    match fields.is_empty() {
        true => vec![Field::new("crc", Value::text("wrong"), Value::text("right"))],
        false => fields,
    }
}

/// The names of system and internal flags.
fn names_of(flags: SystemFlags) -> String {
    const NAMES: [(SystemFlags, &str); 11] = [
        (SystemFlags::ANSWERED, "\\Answered"),
        (SystemFlags::FLAGGED, "\\Flagged"),
        (SystemFlags::DELETED, "\\Deleted"),
        (SystemFlags::DRAFT, "\\Draft"),
        (SystemFlags::SEEN, "\\Seen"),
        (SystemFlags::SNOOZED, "snoozed"),
        (SystemFlags::SPLIT_CONVERSATION, "split"),
        (SystemFlags::NEEDS_CLEANUP, "needs-cleanup"),
        (SystemFlags::ARCHIVED, "archived"),
        (SystemFlags::UNLINKED, "unlinked"),
        (SystemFlags::EXPUNGED, "expunged"),
    ];
    let mut left = flags.0;
    let mut names = Vec::new();
    for (flag, name) in NAMES {
        if left & flag.0 != 0 {
            names.push(name.to_owned());
            left &= !flag.0;
        }
    }
    if left != 0 {
        names.push(format!("{left:#x}"));
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_a_code_of_its_own() {
        let all = [
            Why::BitPutBack,
            Why::RecordBelieved,
            Why::RecordRemade,
            Why::RecordDropped,
            Why::UidTwice,
            Why::FromTail,
            Why::Tail,
            Why::Adopted,
            Why::Appended,
            Why::Unlinked,
            Why::GivenUp,
            Why::Size,
            Why::Guid,
            Why::Partition,
            Why::FlagsUnnamed,
            Why::Cache,
            Why::IndexRemade,
            Why::IndexHeaderBelieved,
            Why::Counters,
            Why::HeaderRemade,
            Why::Identity,
            Why::Overlap,
            Why::Quota,
        ];
        let codes: BTreeSet<&str> = all.into_iter().map(Why::code).collect();
        assert_eq!(codes.len(), all.len());
    }

    #[test]
    fn flags_are_told_by_name() {
        let old = Record { system_flags: SystemFlags(0x11), ..Record::default() };
        let new = Record { system_flags: SystemFlags(0xe000_0020), ..Record::default() };
        let [field] = &of_records(&old, &new)[..] else { panic!("one field") };
        assert_eq!(field.name, "system_flags");
        assert_eq!(field.old, Value::text("\\Answered \\Seen"));
        assert_eq!(field.new, Value::text("archived unlinked expunged 0x20"));
    }
}
