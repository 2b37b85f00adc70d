//! One mailbox of a built spool.

use std::fs;
use std::path::{Path, PathBuf};

use cyrus_format::header::{HeaderForm, MailboxHeader, file_crc};
use cyrus_format::index::{IndexHeader, Tally, write_index};
use model::crc::ThridText;
use model::{
    Guid, MboxName, Modseq, Record, SystemFlags, Timestamp, Uid, UidValidity, UniqueId, UserFlags,
};

use super::cache::CacheFile;
use super::mailbox_list::ListedMailbox;
use super::{BuildError, EPOCH, Era, SpoolOptions, encode_error, write};
use crate::imap::guid_of;

/// A message to store.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewMessage<'a> {
    /// Its bytes, with CRLF line ends.
    pub bytes: &'a [u8],
    /// When it arrived, in seconds since 1970.
    pub internaldate: i64,
    /// System flags. `\Seen` goes where the release keeps it.
    pub system_flags: SystemFlags,
    /// Names of user flags.
    pub user_flags: &'a [&'a str],
    /// When it was expunged, if it was. Its file is still there.
    pub expunged: Option<i64>,
}

/// A message that has been stored, for copies of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its UID.
    pub uid: u32,
    /// Its file.
    pub path: PathBuf,
    /// SHA-1 of its bytes, also where the release does not know it.
    pub guid: Guid,
    size: u64,
    header_size: u32,
}

/// A mailbox under construction; see [`super::SpoolBuilder::mailbox`].
#[derive(Debug)]
pub struct MailboxBuilder {
    options: SpoolOptions,
    name: String,
    data: PathBuf,
    metadata: PathBuf,
    listed: ListedMailbox,
    owner: Option<String>,
    quota_root: Option<String>,
    cache: Option<CacheFile>,
    flags: Vec<String>,
    records: Vec<Record>,
    expunged: Vec<Record>,
    seen: Vec<u32>,
    last_uid: u32,
    modseq: u64,
}

/// What the spool has to know of a finished mailbox.
pub(super) struct Finished {
    pub name: String,
    pub owner: Option<String>,
    pub listed: ListedMailbox,
    pub seen: Vec<u32>,
    pub live: u64,
    pub bytes: u64,
    pub last_uid: u32,
}

impl MailboxBuilder {
    pub(super) fn new(
        options: SpoolOptions,
        name: &str,
        data: PathBuf,
        metadata: PathBuf,
        listed: ListedMailbox,
        owner: Option<String>,
        quota_root: Option<String>,
    ) -> Self {
        Self {
            options,
            name: name.to_owned(),
            data,
            metadata,
            listed,
            owner,
            quota_root,
            cache: options.cache.then(|| CacheFile::new(1)),
            flags: Vec::new(),
            records: Vec::new(),
            expunged: Vec::new(),
            seen: Vec::new(),
            last_uid: 0,
            modseq: 1,
        }
    }

    /// The directory of the messages.
    pub fn directory(&self) -> &Path {
        &self.data
    }

    /// The directory of cyrus.header and cyrus.index.
    pub fn metadata_directory(&self) -> &Path {
        &self.metadata
    }

    /// The mailbox's uniqueid.
    pub fn uniqueid(&self) -> &str {
        &self.listed.uniqueid
    }

    /// Leaves that many UIDs out, as messages do that are long gone.
    pub fn skip(&mut self, uids: u32) {
        self.last_uid += uids;
    }

    /// Stores a message under the next UID.
    pub fn add(&mut self, message: &NewMessage<'_>) -> Result<StoredMessage, BuildError> {
        let uid = self.last_uid + 1;
        let path = self.data.join(format!("{uid}."));
        write(&path, message.bytes)?;
        let header_size = header_size(message.bytes);
        let stored = StoredMessage {
            uid,
            path,
            guid: guid_of(message.bytes),
            size: message.bytes.len() as u64,
            header_size: u32::try_from(header_size).unwrap_or(u32::MAX),
        };
        self.record(message, &stored);
        Ok(stored)
    }

    /// Stores a message whose bytes are those of another, as a hard link; the bytes of `message`
    /// only serve to make up the cache.
    pub fn link(
        &mut self,
        original: &StoredMessage,
        message: &NewMessage<'_>,
    ) -> Result<StoredMessage, BuildError> {
        let uid = self.last_uid + 1;
        let path = self.data.join(format!("{uid}."));
        fs::hard_link(&original.path, &path)
            .map_err(|source| BuildError::Io { path: path.clone(), source })?;
        let stored = StoredMessage { uid, path, ..original.clone() };
        self.record(message, &stored);
        Ok(stored)
    }

    fn record(&mut self, message: &NewMessage<'_>, stored: &StoredMessage) {
        self.last_uid = stored.uid;
        self.modseq += 1;
        let era = self.options.era;
        let mut record = Record {
            uid: Uid(stored.uid),
            internaldate: Timestamp::from_secs(message.internaldate),
            sentdate: Timestamp::from_secs(message.internaldate / 86_400 * 86_400),
            gmtime: Timestamp::from_secs(message.internaldate),
            last_updated: Timestamp::from_secs(message.expunged.unwrap_or(message.internaldate)),
            savedate: Timestamp::from_secs(message.internaldate),
            size: stored.size,
            header_size: stored.header_size,
            system_flags: message.system_flags,
            user_flags: self.user_flags(message.user_flags),
            guid: if self.options.guids { stored.guid } else { Guid::ZERO },
            modseq: Modseq(self.modseq),
            createdmodseq: Modseq(self.modseq),
            ..Record::default()
        };
        if let Some(cache) = &mut self.cache {
            let at = usize::try_from(stored.header_size).unwrap_or(0);
            (record.cache_offset, record.cache_crc) = cache.add(message.bytes, at);
            record.cache_version = era.cache_version();
        }
        if era.has_seen_of_owner() {
            if record.system_flags.contains(SystemFlags::SEEN) {
                self.seen.push(stored.uid);
            }
            record.system_flags.0 &= !SystemFlags::SEEN.0;
        }
        match message.expunged {
            Some(_) if era.has_expunge_file() => self.expunged.push(record),
            Some(_) => {
                record.system_flags.0 |= SystemFlags::EXPUNGED.0;
                self.records.push(record);
            }
            None => self.records.push(record),
        }
    }

    fn user_flags(&mut self, names: &[&str]) -> UserFlags {
        let mut flags = UserFlags::default();
        for name in names {
            let slot = self.flags.iter().position(|flag| flag == name).unwrap_or_else(|| {
                self.flags.push((*name).to_owned());
                self.flags.len() - 1
            });
            flags.insert(slot);
        }
        flags
    }

    /// Writes cyrus.header, cyrus.index, and cyrus.expunge and cyrus.cache where there are some.
    pub(super) fn finish(mut self) -> Result<Finished, BuildError> {
        let header = self.header();
        let path = self.metadata.join("cyrus.header");
        let bytes = header.write().map_err(encode_error(&path))?;
        write(&path, &bytes)?;
        if let Some(cache) = self.cache.take() {
            write(&self.metadata.join("cyrus.cache"), &cache.into_bytes())?;
        }
        let live: Vec<&Record> =
            self.records.iter().filter(|record| !record.is_expunged()).collect();
        let (live, bytes_used) =
            (live.len() as u64, live.iter().map(|record| record.size).sum::<u64>());
        self.write_records("cyrus.index", &self.records, &header, file_crc(&bytes))?;
        if !self.expunged.is_empty() {
            self.write_records("cyrus.expunge", &self.expunged, &header, 0)?;
        }
        Ok(Finished {
            name: self.name,
            owner: self.owner,
            listed: self.listed,
            seen: self.seen,
            live,
            bytes: bytes_used,
            last_uid: self.last_uid,
        })
    }

    fn write_records(
        &self,
        file: &str,
        records: &[Record],
        names: &MailboxHeader,
        header_crc: u32,
    ) -> Result<(), BuildError> {
        let path = self.metadata.join(file);
        let version = self.options.era.index_version();
        let mut header = IndexHeader::fresh(version).map_err(encode_error(&path))?;
        let annotations = header.sync_crc_annot;
        let tally =
            Tally::of(records.iter().cloned(), version, &names.flag_crcs(), ThridText::default());
        tally.apply(&mut header, annotations);
        header.generation = 1;
        header.last_uid = Uid(self.last_uid);
        header.last_appenddate =
            records.iter().map(|record| record.internaldate).max().unwrap_or_default();
        header.uidvalidity = UidValidity(self.listed.uidvalidity);
        header.highestmodseq = Modseq(self.modseq);
        header.createdmodseq = Modseq(1);
        header.last_repack_time = Timestamp::from_secs(EPOCH);
        header.changes_epoch = Timestamp::from_secs(EPOCH);
        header.header_file_crc = header_crc;
        write(&path, &write_index(&header, records).map_err(encode_error(&path))?)
    }

    fn header(&self) -> MailboxHeader {
        let era = self.options.era;
        let form = match era {
            Era::V3_13 => HeaderForm::DlistWithJmapId,
            era if era.by_uniqueid() => HeaderForm::Dlist,
            _ => HeaderForm::Lines,
        };
        let acl = self.listed.acl.iter();
        MailboxHeader {
            form,
            mbtype: if form == HeaderForm::Lines { Vec::new() } else { b"e".to_vec() },
            name: (form != HeaderForm::Lines).then(|| MboxName::from(self.name.as_str())),
            uniqueid: Some(UniqueId::from(self.listed.uniqueid.as_str())),
            jmapid: (form == HeaderForm::DlistWithJmapId)
                .then(|| self.listed.uniqueid.as_bytes().to_vec()),
            quotaroot: self.quota_root.as_deref().map(MboxName::from),
            acl: acl.map(|(who, rights)| (who.clone().into(), rights.clone().into())).collect(),
            user_flags: self.flags.iter().map(|flag| Some(flag.clone().into())).collect(),
        }
    }
}

/// The bytes up to and including the blank line.
pub(super) fn header_size(message: &[u8]) -> usize {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n");
    end.map_or(message.len(), |at| at + 4)
}
