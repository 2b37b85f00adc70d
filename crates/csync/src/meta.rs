//! What belongs to a user or a root and not to a mailbox: quotas, seen state, sieve scripts.

use cyrus_format::dlist::DlistRef;
use cyrus_format::quota::Resource;
use cyrus_format::seen::{self, UidSet};
use model::{Guid, MboxName, Modseq, Timestamp, Uid, UniqueId, Userid};

use crate::wire::{Fields, ValueError, Writer};

/// What LIMIT says if there is no limit.
const UNLIMITED: u64 = u32::MAX as u64;

/// The limits of a quota root: QUOTA.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The mailbox from which on it counts.
    pub root: MboxName,
    /// By [`Resource`], in its order and unit; `None` is unlimited.
    pub limits: [Option<u64>; 4],
    /// When they were set, in the account's counting (3.0+).
    pub modseq: Option<Modseq>,
}

/// The name that 2.5 and later write, and the other one that 3.10 and later write beside it.
fn names(resource: Resource) -> (&'static str, Option<&'static str>) {
    match resource {
        Resource::Storage => ("STORAGE", None),
        Resource::Messages => ("MESSAGE", None),
        Resource::AnnotationStorage => ("X-ANNOTATION-STORAGE", Some("ANNOTATION-STORAGE")),
        Resource::Folders => ("X-NUM-FOLDERS", Some("MAILBOX")),
    }
}

impl Quota {
    pub(crate) fn from_value(value: &DlistRef<'_>) -> Result<Self, ValueError> {
        let fields = Fields::of(value)?;
        let mut quota = Self {
            root: MboxName::new(fields.bytes("ROOT")?),
            limits: [None; 4],
            modseq: fields.opt_num("MODSEQ")?.map(Modseq),
        };
        for resource in Resource::ALL {
            let (name, other) = names(resource);
            let other = other.map(|other| fields.opt_num(other)).transpose()?.flatten();
            quota.limits[resource as usize] = fields.opt_num(name)?.or(other);
        }
        // All that 2.4 says.
        let limit: Option<u64> = fields.opt_num("LIMIT")?;
        let storage = &mut quota.limits[Resource::Storage as usize];
        *storage = storage.or(limit.filter(|limit| *limit != UNLIMITED));
        Ok(quota)
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("ROOT").string(self.root.as_bytes());
            let storage = self.limits[Resource::Storage as usize];
            w.key("LIMIT").num(storage.unwrap_or(UNLIMITED));
            for resource in Resource::ALL {
                if let Some(limit) = self.limits[resource as usize] {
                    w.key(names(resource).0).num(limit);
                }
            }
            if let Some(modseq) = self.modseq {
                w.key("MODSEQ").num(modseq.0);
            }
        });
    }
}

/// What a user has read in a mailbox that is not his own, or keeps no such state: SEEN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The mailbox.
    pub uniqueid: UniqueId,
    /// The state.
    pub state: seen::Seen,
}

impl Seen {
    pub(crate) fn from_fields(fields: Fields<'_>) -> Result<Self, ValueError> {
        let wrong = |_| ValueError::Wrong { field: "SEENUIDS", wanted: "a set of UIDs" };
        Ok(Self {
            uniqueid: UniqueId::new(fields.bytes("UNIQUEID")?),
            state: seen::Seen {
                last_read: fields.date("LASTREAD")?.secs,
                last_uid: Uid(fields.num("LASTUID")?),
                last_change: fields.date("LASTCHANGE")?.secs,
                uids: UidSet::parse(fields.bytes("SEENUIDS")?).map_err(wrong)?,
            },
        })
    }

    pub(crate) fn write_fields(&self, w: &mut Writer<'_>) {
        w.key("UNIQUEID").string(self.uniqueid.as_bytes());
        w.key("LASTREAD").date(Timestamp::from_secs(self.state.last_read));
        w.key("LASTUID").num(self.state.last_uid.0.into());
        w.key("LASTCHANGE").date(Timestamp::from_secs(self.state.last_change));
        w.key("SEENUIDS").string(self.state.uids.write().as_bytes());
    }
}

/// A file of a user's sieve directory: SIEVE. The active script comes a second time as bytecode,
/// `<name>.bc`, with no GUID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SieveFile {
    /// `<name>.script` or `<name>.bc`; any bytes until it was looked at.
    pub filename: Vec<u8>,
    /// When it was changed; 0 for bytecode.
    pub last_update: Timestamp,
    /// SHA-1 of the script; zero for bytecode.
    pub guid: Guid,
    /// Whether this is the bytecode that runs.
    pub active: bool,
}

impl SieveFile {
    pub(crate) fn from_fields(fields: Fields<'_>) -> Result<Self, ValueError> {
        Ok(Self {
            filename: fields.bytes("FILENAME")?.to_vec(),
            last_update: fields.date("LAST_UPDATE")?,
            guid: fields.guid("GUID")?,
            active: fields.num::<u32>("ISACTIVE")? != 0,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("FILENAME").string(&self.filename);
            w.key("LAST_UPDATE").date(self.last_update);
            w.key("GUID").guid(self.guid);
            w.key("ISACTIVE").num(self.active.into());
        });
    }
}

/// An annotation of a mailbox or of the server, by itself: ANNOTATION.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnotationOf {
    /// The mailbox; empty for the server.
    pub mboxname: MboxName,
    /// Its name.
    pub entry: Vec<u8>,
    /// Whose it is; empty if everybody's.
    pub userid: Userid,
    /// What it says; nothing, if it is to be removed.
    pub value: Vec<u8>,
}

impl AnnotationOf {
    pub(crate) fn from_value(value: &DlistRef<'_>, with: WithValue) -> Result<Self, ValueError> {
        let fields = Fields::of(value)?;
        let value = match with {
            WithValue::Yes => fields.bytes_or_nil("VALUE")?.to_vec(),
            WithValue::No => Vec::new(),
        };
        Ok(Self {
            mboxname: MboxName::new(fields.bytes("MBOXNAME")?),
            entry: fields.bytes("ENTRY")?.to_vec(),
            userid: Userid::new(fields.bytes_or_nil("USERID")?),
            value,
        })
    }

    pub(crate) fn write(&self, with: WithValue, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("MBOXNAME").string(self.mboxname.as_bytes());
            w.key("ENTRY").string(&self.entry);
            w.key("USERID").string(self.userid.as_bytes());
            if with == WithValue::Yes {
                w.key("VALUE").string(&self.value);
            }
        });
    }
}

/// Whether an annotation has a value: that which is to be removed has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WithValue {
    Yes,
    No,
}
