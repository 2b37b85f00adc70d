//! The fields of a manifest.
//!
//! These types exist to be stored: changing one changes the format. A reader ignores fields that
//! it does not know, so adding one is allowed; a field's meaning never changes, and whatever an
//! older reader must not ignore needs a new format number.

use model::state::Digest;
use serde::{Deserialize, Serialize};

use super::Quoted;

/// All of a manifest but the message table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestHead {
    /// Version of the segment format. The writer fills it in.
    pub format: u32,
    /// The account's component in entry names. The writer fills it in.
    pub account: String,
    /// The segment's number: higher than its parent's. The writer fills it in.
    pub seq: u32,
    /// Whether it holds messages in advance and nothing else: a part, and no snapshot.
    #[serde(default, skip_serializing_if = "is_false")]
    pub part: bool,
    /// The account's owner.
    pub userid: Quoted,
    /// The instant that the snapshot shows.
    pub taken_at: TakenAt,
    /// Name and version of the program that wrote it.
    pub program: String,
    /// The segment that this one continues; `None` in a full one.
    pub parent: Option<Parent>,
    /// SHA-256 of the manifest that the chain begins with; `None` in that one itself.
    #[serde(with = "optional_digest")]
    pub chain: Option<Digest>,
    /// When this was written in place of the snapshot that was taken, seconds since 1970. Thus
    /// nothing is ever written twice under the same identity, one of them to be thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten_at: Option<i64>,
    /// What it was taken from.
    pub cyrus: Cyrus,
    /// All mailboxes of the account, unchanged ones included.
    pub mailboxes: Vec<StoredMailbox>,
    /// Mailboxes that the parent lists and that are no more.
    pub gone: Vec<Gone>,
    /// Every symbolic link that this segment or one before it in the chain holds.
    pub links: Vec<StoredLink>,
    /// All files of the account, unchanged ones included.
    pub account_files: Vec<StoredFile>,
    /// The list of the envelopes of this segment's messages, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<StoredFile>,
    /// What was wrong.
    pub findings: Vec<StoredFinding>,
    /// The locks that were held while metadata was copied.
    pub locks: Vec<StoredLock>,
    /// Sums.
    pub totals: Totals,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// An instant, for programs and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenAt {
    /// Seconds since 1970.
    pub unix: i64,
    /// The same as RFC 3339 text.
    pub text: String,
}

/// The segment that an incremental one continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its number.
    pub seq: u32,
    /// SHA-256 of its manifest.
    #[serde(with = "digest")]
    pub sha256: Digest,
}

/// The Cyrus whose spool it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cyrus {
    /// Which releases write such a spool, for people.
    pub era: String,
}

/// A mailbox at the snapshot's instant.
///
/// Numbers that come from its index are 0 where that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMailbox {
    /// Its component in entry names.
    pub dir: String,
    /// Its uniqueid, empty where it has none.
    pub uniqueid: Quoted,
    /// Its name in internal form.
    pub name: Quoted,
    /// Its UIDVALIDITY.
    pub uidvalidity: u32,
    /// Its partition.
    pub partition: Quoted,
    /// Its type letters in mailboxes.db.
    pub mbtype: String,
    /// The version of its index; `None` where that could not be read.
    pub index_version: Option<u32>,
    /// Records that its index announces.
    pub announced: u64,
    /// Messages that clients see.
    pub exists: u64,
    /// Messages that are expunged but kept.
    pub expunged: u64,
    /// The highest UID given out.
    pub last_uid: u32,
    /// The highest modification sequence.
    pub highestmodseq: u64,
    /// Whether it is deleted but kept.
    pub deleted: bool,
    /// No message above this UID has a link in `dir` yet. Where nobody says so, any may have one.
    #[serde(default = "any_uid")]
    pub linked_to: u32,
    /// Its metadata files, wherever in the chain they are stored.
    pub files: Vec<StoredFile>,
}

fn any_uid() -> u32 {
    u32::MAX
}

/// A file that is stored in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its name: within its mailbox, or within the account, where it may have several components.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them.
    #[serde(with = "digest")]
    pub sha256: Digest,
    /// The segment that holds it.
    pub seq: u32,
    /// Where its content begins, counted from that segment's first byte.
    pub offset: u64,
}

/// A mailbox that is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    /// Its component in entry names.
    pub dir: String,
    /// The last name it had, in internal form.
    pub name: Quoted,
}

/// A symbolic link from a folder's name to its mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLink {
    /// Its component under `folders/`.
    pub link: String,
    /// The mailbox's component under `mailboxes/`.
    pub dir: String,
}

/// Something that was wrong; the fields are those of [`model::Finding`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFinding {
    /// The kind's stable code.
    pub code: String,
    /// The mailbox, account or file.
    pub place: String,
    /// The message, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// For people.
    pub detail: String,
}

/// A lock that was held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLock {
    /// What it protects.
    pub kind: String,
    /// The file locked.
    pub file: String,
    /// How long it took to get it, in microseconds.
    pub waited_us: u64,
    /// How long it was held, in microseconds; `None` where it still was when this was written.
    pub held_us: Option<u64>,
}

/// Sums over the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Messages whose bytes this segment holds. The writer fills it in.
    pub messages_new: u64,
    /// Bytes of them. The writer fills it in.
    pub bytes_new: u64,
    /// Messages of all mailboxes whose bytes the chain holds, each mailbox counted by itself.
    pub messages: u64,
    /// Mailboxes.
    pub mailboxes: u64,
}

mod digest {
    use model::state::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::bytes::lower_hex;

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_lower = text.bytes().all(|digit| lower_hex(digit).is_some());
        let digest = Digest::from_hex(&text).filter(|_| is_lower);
        digest.ok_or_else(|| Error::custom("a SHA-256 is not 64 lower-case hex digits"))
    }
}

mod optional_digest {
    use model::state::Digest;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::digest")] Digest);

    pub fn serialize<S: Serializer>(
        digest: &Option<Digest>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        digest.map(Wrapped).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Digest>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}
