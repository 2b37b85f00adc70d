//! What a master wants done.

use cyrus_format::dlist::DlistRef;
use model::{Guid, MboxName, Partition, Timestamp, Uid, UidValidity, UniqueId, Userid};

use super::{CommandError, names};
use crate::mailbox::{Mailbox, Use};
use crate::meta::{AnnotationOf, Quota, Seen, WithValue};
use crate::wire::{Fields, Writer, as_bytes, as_guid, as_num};

/// APPLY. Its LOCAL_ forms are the same to anybody who has no murder to tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Which of these messages are there already? Those that are not are answered with MISSING.
    Reserve(Reserve),
    /// Message files, which come in pieces before this.
    Message,
    /// Create or update a mailbox; its records come before this.
    Mailbox(Box<Mailbox>),
    /// Delete a mailbox, at once.
    UnMailbox(MboxName),
    /// Give a mailbox another name or partition.
    Rename(Rename),
    /// Expunge messages without a new MODSEQ.
    Expunge(Expunge),
    /// Set limits; what is not named becomes unlimited.
    Quota(Quota),
    /// Remove a quota root, if there is one.
    UnQuota(MboxName),
    /// Subscribe.
    Sub(Subscription),
    /// End a subscription.
    UnSub(Subscription),
    /// Replace what a user has read.
    Seen {
        /// Whose.
        userid: Userid,
        /// What he has read.
        seen: Seen,
    },
    /// Set an annotation; an empty value removes it.
    Annotation(AnnotationOf),
    /// Remove one.
    UnAnnotation(AnnotationOf),
    /// Store a sieve script.
    Sieve(SieveScript),
    /// Remove a file of the sieve directory.
    UnSieve(SieveName),
    /// Let the script of this bytecode run.
    ActivateSieve(SieveName),
    /// Let none run.
    UnactivateSieve(Userid),
    /// Delete a user, at once.
    UnUser(Userid),
    /// From now on, take what contradicts the replica.
    Force,
    /// What the master can do besides; answered with ENABLED.
    Capabilities(Vec<Vec<u8>>),
}

/// Messages that the master wants to refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Where they are to lie.
    pub partition: Partition,
    /// Where they may be found.
    pub mailboxes: Vec<MboxName>,
    /// Which.
    pub guids: Vec<Guid>,
}

/// A new name or a new partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The name so far.
    pub old: MboxName,
    /// The name from now on; the same if only the partition changes.
    pub new: MboxName,
    /// Where to; Cyrus says `NIL` of mailboxes that are gone.
    pub partition: Option<Partition>,
    /// Its incarnation.
    pub uidvalidity: Option<UidValidity>,
}

/// Messages that are in conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expunge {
    /// Their mailbox.
    pub mboxname: MboxName,
    /// Its identity.
    pub uniqueid: UniqueId,
    /// Which.
    pub uids: Vec<Uid>,
}

/// A mailbox that a user sees in his list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Whose list.
    pub userid: Userid,
    /// The mailbox, which need not be there.
    pub mboxname: MboxName,
}

/// A script with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SieveScript {
    /// Whose.
    pub userid: Userid,
    /// `<name>.script`; any bytes until it was looked at.
    pub filename: Vec<u8>,
    /// When it was changed.
    pub last_update: Timestamp,
    /// Its text.
    pub content: Vec<u8>,
}

/// A file of a sieve directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SieveName {
    /// Whose.
    pub userid: Userid,
    /// `<name>.script` or `<name>.bc`; any bytes until it was looked at.
    pub filename: Vec<u8>,
}

impl Apply {
    pub(super) fn parse(name: &[u8], value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let word = || as_bytes("argument", value);
        let name = name.strip_prefix(b"LOCAL_").unwrap_or(name);
        Ok(match name {
            b"RESERVE" => Apply::Reserve(Reserve::parse(value)?),
            // The files have come before this, and whatever else is in the list means nothing.
            b"MESSAGE" => Apply::Message,
            b"MAILBOX" => Apply::Mailbox(Box::new(Mailbox::from_value(value, Use::Apply)?)),
            b"UNMAILBOX" => Apply::UnMailbox(MboxName::new(word()?)),
            b"RENAME" => Apply::Rename(Rename::parse(value)?),
            b"EXPUNGE" => Apply::Expunge(Expunge::parse(value)?),
            b"QUOTA" => Apply::Quota(Quota::from_value(value)?),
            b"UNQUOTA" => Apply::UnQuota(MboxName::new(word()?)),
            b"SUB" => Apply::Sub(Subscription::parse(value)?),
            b"UNSUB" => Apply::UnSub(Subscription::parse(value)?),
            b"SEEN" => {
                let fields = Fields::of(value)?;
                let userid = Userid::new(fields.bytes("USERID")?);
                Apply::Seen { userid, seen: Seen::from_fields(fields)? }
            }
            b"ANNOTATION" => Apply::Annotation(AnnotationOf::from_value(value, WithValue::Yes)?),
            b"UNANNOTATION" => Apply::UnAnnotation(AnnotationOf::from_value(value, WithValue::No)?),
            b"SIEVE" => Apply::Sieve(SieveScript::parse(value)?),
            b"UNSIEVE" => Apply::UnSieve(SieveName::parse(value)?),
            b"ACTIVATE_SIEVE" => Apply::ActivateSieve(SieveName::parse(value)?),
            b"UNACTIVATE_SIEVE" => {
                Apply::UnactivateSieve(Userid::new(Fields::of(value)?.bytes("USERID")?))
            }
            b"UNUSER" => Apply::UnUser(Userid::new(word()?)),
            b"FORCE" => Apply::Force,
            b"CAPABILITIES" => Apply::Capabilities(names(value)?.map(<[u8]>::to_vec).collect()),
            _ => return Err(CommandError::UnknownName),
        })
    }

    /// What it is called on the wire: `MAILBOX`.
    pub fn name(&self) -> &'static str {
        match self {
            Apply::Reserve(_) => "RESERVE",
            Apply::Message => "MESSAGE",
            Apply::Mailbox(_) => "MAILBOX",
            Apply::UnMailbox(_) => "UNMAILBOX",
            Apply::Rename(_) => "RENAME",
            Apply::Expunge(_) => "EXPUNGE",
            Apply::Quota(_) => "QUOTA",
            Apply::UnQuota(_) => "UNQUOTA",
            Apply::Sub(_) => "SUB",
            Apply::UnSub(_) => "UNSUB",
            Apply::Seen { .. } => "SEEN",
            Apply::Annotation(_) => "ANNOTATION",
            Apply::UnAnnotation(_) => "UNANNOTATION",
            Apply::Sieve(_) => "SIEVE",
            Apply::UnSieve(_) => "UNSIEVE",
            Apply::ActivateSieve(_) => "ACTIVATE_SIEVE",
            Apply::UnactivateSieve(_) => "UNACTIVATE_SIEVE",
            Apply::UnUser(_) => "UNUSER",
            Apply::Force => "FORCE",
            Apply::Capabilities(_) => "CAPABILITIES",
        }
    }

    /// Writes the value, without files and records.
    pub(super) fn write(&self, w: &mut Writer<'_>) {
        match self {
            Apply::Message => w.list(|_| {}),
            Apply::Mailbox(mailbox) => mailbox.write(w),
            Apply::Reserve(reserve) => reserve.write(w),
            Apply::UnMailbox(name) | Apply::UnQuota(name) => w.string(name.as_bytes()),
            Apply::Rename(rename) => rename.write(w),
            Apply::Expunge(expunge) => expunge.write(w),
            Apply::Quota(quota) => quota.write(w),
            Apply::Sub(sub) | Apply::UnSub(sub) => w.pairs(|w| {
                w.key("USERID").string(sub.userid.as_bytes());
                w.key("MBOXNAME").string(sub.mboxname.as_bytes());
            }),
            Apply::Seen { userid, seen } => w.pairs(|w| {
                w.key("USERID").string(userid.as_bytes());
                seen.write_fields(w);
            }),
            Apply::Annotation(annotation) => annotation.write(WithValue::Yes, w),
            Apply::UnAnnotation(annotation) => annotation.write(WithValue::No, w),
            Apply::Sieve(script) => w.pairs(|w| {
                w.key("USERID").string(script.userid.as_bytes());
                w.key("FILENAME").string(&script.filename);
                w.key("LAST_UPDATE").date(script.last_update);
                w.key("CONTENT").string(&script.content);
            }),
            Apply::UnSieve(name) | Apply::ActivateSieve(name) => w.pairs(|w| {
                w.key("USERID").string(name.userid.as_bytes());
                w.key("FILENAME").string(&name.filename);
            }),
            Apply::UnactivateSieve(userid) => w.pairs(|w| {
                w.key("USERID").string(userid.as_bytes());
            }),
            Apply::UnUser(userid) => w.string(userid.as_bytes()),
            // Without an argument Cyrus waits for one.
            Apply::Force => w.pairs(|_| {}),
            Apply::Capabilities(names) => w.strings(names),
        }
    }
}

impl Reserve {
    fn parse(value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let fields = Fields::of(value)?;
        let guids = fields.list("GUID")?.iter().map(|guid| as_guid("GUID", guid));
        Ok(Self {
            partition: Partition::new(fields.bytes("PARTITION")?),
            mailboxes: names(fields.get("MBOXNAME")?)?.map(MboxName::new).collect(),
            guids: guids.collect::<Result<_, _>>()?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("PARTITION").string(self.partition.as_bytes());
            w.key("MBOXNAME").strings(self.mailboxes.iter().map(MboxName::as_bytes));
            w.key("GUID").list(|w| self.guids.iter().for_each(|guid| w.guid(*guid)));
        });
    }
}

impl Rename {
    fn parse(value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let fields = Fields::of(value)?;
        if !fields.has("PARTITION") {
            fields.get("PARTITION")?;
        }
        Ok(Self {
            old: MboxName::new(fields.bytes("OLDMBOXNAME")?),
            new: MboxName::new(fields.bytes("NEWMBOXNAME")?),
            partition: fields.opt_bytes("PARTITION")?.map(Partition::new),
            uidvalidity: fields.opt_num("UIDVALIDITY")?.map(UidValidity),
        })
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("OLDMBOXNAME").string(self.old.as_bytes());
            w.key("NEWMBOXNAME").string(self.new.as_bytes());
            match &self.partition {
                Some(partition) => w.key("PARTITION").string(partition.as_bytes()),
                None => w.key("PARTITION").nil(),
            }
            if let Some(uidvalidity) = self.uidvalidity {
                w.key("UIDVALIDITY").num(uidvalidity.0.into());
            }
        });
    }
}

impl Expunge {
    fn parse(value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let fields = Fields::of(value)?;
        let uids = fields.list("UID")?.iter().map(|uid| as_num("UID", uid).map(Uid));
        Ok(Self {
            mboxname: MboxName::new(fields.bytes("MBOXNAME")?),
            uniqueid: UniqueId::new(fields.bytes("UNIQUEID")?),
            uids: uids.collect::<Result<_, _>>()?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("MBOXNAME").string(self.mboxname.as_bytes());
            w.key("UNIQUEID").string(self.uniqueid.as_bytes());
            w.key("UID").list(|w| self.uids.iter().for_each(|uid| w.num(uid.0.into())));
        });
    }
}

impl Subscription {
    fn parse(value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let fields = Fields::of(value)?;
        Ok(Self {
            userid: Userid::new(fields.bytes("USERID")?),
            mboxname: MboxName::new(fields.bytes("MBOXNAME")?),
        })
    }
}

impl SieveScript {
    fn parse(value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let fields = Fields::of(value)?;
        Ok(Self {
            userid: Userid::new(fields.bytes("USERID")?),
            filename: fields.bytes("FILENAME")?.to_vec(),
            last_update: fields.date("LAST_UPDATE")?,
            content: fields.bytes("CONTENT")?.to_vec(),
        })
    }
}

impl SieveName {
    fn parse(value: &DlistRef<'_>) -> Result<Self, CommandError> {
        let fields = Fields::of(value)?;
        Ok(Self {
            userid: Userid::new(fields.bytes("USERID")?),
            filename: fields.bytes("FILENAME")?.to_vec(),
        })
    }
}
