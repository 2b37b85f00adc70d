//! The state of a mailbox: MAILBOX, as the argument of APPLY and as a reply.

use cyrus_format::dlist::{DlistRef, Literals};
use model::{MboxName, Modseq, Partition, Timestamp, Uid, UidValidity, UniqueId};

use crate::record::{Annotation, RecordWriter, read_annotations, write_annotations};
use crate::wire::{Fields, ValueError, Writer};

/// A mailbox, without its records: these go before it or after it, one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// Its identity.
    pub uniqueid: UniqueId,
    /// Its name, in internal form.
    pub mboxname: MboxName,
    /// Letters for what it is; empty for mail. [`Mailbox::is_entry`] knows two of them.
    pub mboxtype: Vec<u8>,
    /// When anything in it last changed.
    pub highestmodseq: Modseq,
    /// When it was created (3.2+).
    pub createdmodseq: Option<Modseq>,
    /// When the mailbox itself last changed, not its messages (3.2+).
    pub foldermodseq: Option<Modseq>,
    /// All the rest. A tombstone or an intermediate name of an APPLY has none.
    pub contents: Option<Contents>,
}

/// What a mailbox with messages has beyond its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// CRC over its messages; 0 or nothing is not to be compared.
    pub sync_crc: Option<u32>,
    /// CRC over their annotations, likewise (2.5+).
    pub sync_crc_annot: Option<u32>,
    /// The highest UID that was ever given.
    pub last_uid: Uid,
    /// The highest UID that a client was told to be recent.
    pub recentuid: Uid,
    /// When that was.
    pub recenttime: Timestamp,
    /// When a message was last added.
    pub last_appenddate: Timestamp,
    /// When it was last read by POP.
    pub pop3_last_login: Timestamp,
    /// What is older does not show in POP (2.5+).
    pub pop3_show_after: Option<Timestamp>,
    /// Where conversations changed last, in the account's counting; only with conversations (3.0+).
    pub xconvmodseq: Option<Modseq>,
    /// Only with `reverseacls` (3.2+).
    pub raclmodseq: Option<Modseq>,
    /// Its incarnation.
    pub uidvalidity: UidValidity,
    /// Where it lies; nowhere for an intermediate name in a reply.
    pub partition: Option<Partition>,
    /// Who may do what: `id TAB rights TAB id TAB rights TAB`.
    pub acl: Vec<u8>,
    /// Letters, see `imap/mailbox.h`.
    pub options: Vec<u8>,
    /// What counts its size; told, never believed.
    pub quotaroot: Option<MboxName>,
    /// Its own annotations, all of them.
    pub annotations: Vec<Annotation>,
    /// What the sender believes the replica to have.
    pub since: Option<Since>,
    /// Whether records go with it: always in an APPLY, and in the reply to GET FULLMAILBOX.
    pub records: Records,
}

/// The state of the replica that an APPLY is made for. The replica refuses if its own is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Its HIGHESTMODSEQ; 0 is not to be compared.
    pub modseq: Modseq,
    /// Its SYNC_CRC; 0 is not to be compared.
    pub sync_crc: u32,
    /// Its SYNC_CRC_ANNOT, likewise.
    pub sync_crc_annot: u32,
}

/// Whether a mailbox has a list of records, if only an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// It has.
    #[default]
    Listed,
    /// It has not.
    Omitted,
}

/// Which fields have to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Apply,
    Reply,
}

impl Mailbox {
    /// Whether this is only an entry in the list of mailboxes: a tombstone or an intermediate name.
    pub fn is_entry(&self) -> bool {
        self.mboxtype.iter().any(|letter| matches!(letter, b'd' | b'i'))
    }

    /// Whether it holds sieve scripts, which replicas have to be able to (3.6+).
    pub fn is_sieve(&self) -> bool {
        self.mboxtype.contains(&b'f')
    }

    pub(crate) fn from_value(value: &DlistRef<'_>, which: Use) -> Result<Self, ValueError> {
        let fields = Fields::of(value)?;
        let mut mailbox = Self {
            uniqueid: UniqueId::new(fields.bytes("UNIQUEID")?),
            mboxname: MboxName::new(fields.bytes("MBOXNAME")?),
            mboxtype: fields.opt_bytes("MBOXTYPE")?.unwrap_or_default().to_vec(),
            highestmodseq: Modseq(fields.num("HIGHESTMODSEQ")?),
            createdmodseq: fields.opt_num("CREATEDMODSEQ")?.map(Modseq),
            foldermodseq: fields.opt_num("FOLDERMODSEQ")?.map(Modseq),
            contents: None,
        };
        if which == Use::Reply || !mailbox.is_entry() {
            mailbox.contents = Some(Contents::from_fields(fields, which)?);
        }
        Ok(mailbox)
    }

    /// Writes the mailbox in the order of 3.6, with an empty list of records if it is to have one.
    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            w.key("UNIQUEID").string(self.uniqueid.as_bytes());
            w.key("MBOXNAME").string(self.mboxname.as_bytes());
            if !self.mboxtype.is_empty() {
                w.key("MBOXTYPE").string(&self.mboxtype);
            }
            if let Some(contents) = &self.contents {
                contents.write_counters(self.highestmodseq, w);
                contents.write_attributes(w);
            } else {
                w.key("HIGHESTMODSEQ").num(self.highestmodseq.0);
            }
            write_opt(w, "CREATEDMODSEQ", self.createdmodseq.map(|modseq| modseq.0));
            write_opt(w, "FOLDERMODSEQ", self.foldermodseq.map(|modseq| modseq.0));
            if let Some(contents) = &self.contents {
                write_annotations(&contents.annotations, w);
                if let Some(since) = contents.since {
                    w.key("SINCE_MODSEQ").num(since.modseq.0);
                    w.key("SINCE_CRC").num(since.sync_crc.into());
                    w.key("SINCE_CRC_ANNOT").num(since.sync_crc_annot.into());
                }
                if contents.records == Records::Listed {
                    w.key("RECORD").list(|_| {});
                }
            }
        });
    }

    /// Writes all that precedes the first record; the returned writer goes on from there.
    pub(crate) fn begin(&self, literals: Literals, out: &mut Vec<u8>) -> RecordWriter {
        self.write(&mut Writer::new(out, literals));
        let listed = self.contents.as_ref().map(|contents| contents.records);
        if listed == Some(Records::Listed) {
            out.truncate(out.len() - b"))".len());
        } else {
            out.truncate(out.len() - b")".len());
            out.extend_from_slice(b" RECORD (");
        }
        RecordWriter::new(literals)
    }
}

impl Contents {
    fn from_fields(fields: Fields<'_>, which: Use) -> Result<Self, ValueError> {
        let last_appenddate = match which {
            Use::Apply => fields.date("LAST_APPENDDATE")?,
            Use::Reply => fields.opt_date("LAST_APPENDDATE")?.unwrap_or_default(),
        };
        // An intermediate name in a reply has the field, and it is NIL.
        if which == Use::Apply || !fields.has("PARTITION") {
            fields.get("PARTITION")?;
        }
        if which == Use::Apply && !fields.has("RECORD") {
            return Err(ValueError::Missing("RECORD"));
        }
        Ok(Self {
            sync_crc: fields.opt_num("SYNC_CRC")?,
            sync_crc_annot: fields.opt_num("SYNC_CRC_ANNOT")?,
            last_uid: Uid(fields.num("LAST_UID")?),
            recentuid: Uid(fields.num("RECENTUID")?),
            recenttime: fields.date("RECENTTIME")?,
            last_appenddate,
            pop3_last_login: fields.date("POP3_LAST_LOGIN")?,
            pop3_show_after: fields.opt_date("POP3_SHOW_AFTER")?,
            xconvmodseq: fields.opt_num("XCONVMODSEQ")?.map(Modseq),
            raclmodseq: fields.opt_num("RACLMODSEQ")?.map(Modseq),
            uidvalidity: UidValidity(fields.num("UIDVALIDITY")?),
            partition: fields.opt_bytes("PARTITION")?.map(Partition::new),
            acl: fields.bytes("ACL")?.to_vec(),
            options: fields.bytes("OPTIONS")?.to_vec(),
            quotaroot: fields.opt_bytes("QUOTAROOT")?.map(MboxName::new),
            annotations: read_annotations(fields)?,
            since: Since::from_fields(fields)?,
            records: listed(fields)?,
        })
    }

    fn write_counters(&self, highestmodseq: Modseq, w: &mut Writer<'_>) {
        write_opt(w, "SYNC_CRC", self.sync_crc.map(u64::from));
        write_opt(w, "SYNC_CRC_ANNOT", self.sync_crc_annot.map(u64::from));
        w.key("LAST_UID").num(self.last_uid.0.into());
        w.key("HIGHESTMODSEQ").num(highestmodseq.0);
        w.key("RECENTUID").num(self.recentuid.0.into());
        w.key("RECENTTIME").date(self.recenttime);
        w.key("LAST_APPENDDATE").date(self.last_appenddate);
        w.key("POP3_LAST_LOGIN").date(self.pop3_last_login);
        if let Some(date) = self.pop3_show_after {
            w.key("POP3_SHOW_AFTER").date(date);
        }
        write_opt(w, "XCONVMODSEQ", self.xconvmodseq.map(|modseq| modseq.0));
        write_opt(w, "RACLMODSEQ", self.raclmodseq.map(|modseq| modseq.0));
        w.key("UIDVALIDITY").num(self.uidvalidity.0.into());
    }

    fn write_attributes(&self, w: &mut Writer<'_>) {
        match &self.partition {
            Some(partition) => w.key("PARTITION").string(partition.as_bytes()),
            None => w.key("PARTITION").nil(),
        }
        w.key("ACL").string(&self.acl);
        w.key("OPTIONS").string(&self.options);
        if let Some(root) = &self.quotaroot {
            w.key("QUOTAROOT").string(root.as_bytes());
        }
    }
}

impl Since {
    fn from_fields(fields: Fields<'_>) -> Result<Option<Self>, ValueError> {
        let Some(modseq) = fields.opt_num("SINCE_MODSEQ")? else { return Ok(None) };
        Ok(Some(Self {
            modseq: Modseq(modseq),
            sync_crc: fields.opt_num("SINCE_CRC")?.unwrap_or(0),
            sync_crc_annot: fields.opt_num("SINCE_CRC_ANNOT")?.unwrap_or(0),
        }))
    }
}

/// The list of records is empty by now: the framer has handed them out. One that is not was hidden
/// from it behind a key in quotes.
fn listed(fields: Fields<'_>) -> Result<Records, ValueError> {
    if !fields.has("RECORD") {
        return Ok(Records::Omitted);
    }
    match fields.list("RECORD")? {
        [] => Ok(Records::Listed),
        _ => Err(ValueError::Wrong { field: "RECORD", wanted: "written as Cyrus does" }),
    }
}

fn write_opt(w: &mut Writer<'_>, key: &str, number: Option<u64>) {
    if let Some(number) = number {
        w.key(key).num(number);
    }
}
