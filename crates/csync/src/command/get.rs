//! What a master asks for.

use cyrus_format::dlist::DlistRef;
use model::{Guid, MboxName, Partition, Uid, UniqueId, Userid};

use super::{CommandError, names};
use crate::wire::{Fields, Writer, as_bytes};

/// GET, and what it is answered with before `OK success`.
///
/// Cyrus takes some arguments of the wrong shape and answers nothing, or dies. Here they are
/// IMAP_PROTOCOL_BAD_PARAMETERS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Get {
    /// All of a user: MAILBOX of each mailbox (the tree of INBOX, sorted, then what is deleted but
    /// kept), QUOTA, SEEN, LSUB, SIEVE. Of a user that is not there: nothing.
    User(Userid),
    /// MAILBOX of those that are there, in this order.
    Mailboxes(Vec<MboxName>),
    /// Likewise, by identity (3.2+).
    UniqueIds(Vec<UniqueId>),
    /// One MAILBOX with its records.
    FullMailbox(MboxName),
    /// QUOTA of a root, if it is one.
    Quota(MboxName),
    /// SEEN, LSUB and SIEVE of a user.
    Meta(Userid),
    /// ANNOTATION of a mailbox; of the server, if the name is empty.
    Annotation(MboxName),
    /// A message: MESSAGE.
    Fetch(Fetch),
    /// A sieve script: SIEVE with its content.
    FetchSieve {
        /// Whose.
        userid: Userid,
        /// `<name>.script`.
        filename: Vec<u8>,
    },
}

/// Which message is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Its mailbox.
    pub mboxname: MboxName,
    /// Where that lies.
    pub partition: Partition,
    /// The mailbox's identity.
    pub uniqueid: UniqueId,
    /// What the message is.
    pub guid: Guid,
    /// Its number.
    pub uid: Uid,
}

impl Get {
    pub(super) fn parse(name: &[u8], value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let word = || as_bytes("argument", value);
        Ok(match name {
            b"USER" => Get::User(Userid::new(word()?)),
            b"MAILBOXES" => Get::Mailboxes(names(value)?.map(MboxName::new).collect()),
            b"UNIQUEIDS" => Get::UniqueIds(names(value)?.map(UniqueId::new).collect()),
            b"FULLMAILBOX" => Get::FullMailbox(MboxName::new(word()?)),
            b"QUOTA" => Get::Quota(MboxName::new(word()?)),
            b"META" => Get::Meta(Userid::new(word()?)),
            b"ANNOTATION" => Get::Annotation(MboxName::new(word()?)),
            b"FETCH" => {
                let fields = Fields::of(value)?;
                Get::Fetch(Fetch {
                    mboxname: MboxName::new(fields.bytes("MBOXNAME")?),
                    partition: Partition::new(fields.bytes("PARTITION")?),
                    uniqueid: UniqueId::new(fields.bytes("UNIQUEID")?),
                    guid: fields.guid("GUID")?,
                    uid: Uid(fields.num("UID")?),
                })
            }
            b"FETCH_SIEVE" => {
                let fields = Fields::of(value)?;
                Get::FetchSieve {
                    userid: Userid::new(fields.bytes("USERID")?),
                    filename: fields.bytes("FILENAME")?.to_vec(),
                }
            }
            _ => return Err(CommandError::UnknownName),
        })
    }

    /// What it is called on the wire: `USER`.
    pub fn name(&self) -> &'static str {
        match self {
            Get::User(_) => "USER",
            Get::Mailboxes(_) => "MAILBOXES",
            Get::UniqueIds(_) => "UNIQUEIDS",
            Get::FullMailbox(_) => "FULLMAILBOX",
            Get::Quota(_) => "QUOTA",
            Get::Meta(_) => "META",
            Get::Annotation(_) => "ANNOTATION",
            Get::Fetch(_) => "FETCH",
            Get::FetchSieve { .. } => "FETCH_SIEVE",
        }
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        match self {
            Get::User(userid) | Get::Meta(userid) => w.string(userid.as_bytes()),
            Get::FullMailbox(name) | Get::Quota(name) | Get::Annotation(name) => {
                w.string(name.as_bytes());
            }
            Get::Mailboxes(names) => w.strings(names.iter().map(MboxName::as_bytes)),
            Get::UniqueIds(ids) => w.strings(ids.iter().map(UniqueId::as_bytes)),
            Get::Fetch(fetch) => w.pairs(|w| {
                w.key("MBOXNAME").string(fetch.mboxname.as_bytes());
                w.key("PARTITION").string(fetch.partition.as_bytes());
                w.key("UNIQUEID").string(fetch.uniqueid.as_bytes());
                w.key("GUID").guid(fetch.guid);
                w.key("UID").num(fetch.uid.0.into());
            }),
            Get::FetchSieve { userid, filename } => w.pairs(|w| {
                w.key("USERID").string(userid.as_bytes());
                w.key("FILENAME").string(filename);
            }),
        }
    }
}
