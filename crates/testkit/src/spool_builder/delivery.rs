//! One more message in a mailbox that is finished already, as a delivery leaves it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, Tally, write_index};
use model::crc::{ANNOT_START, ThridText};
use model::{Modseq, Record, Timestamp, Uid};

use super::cache::CacheFile;
use super::mailbox::header_size;
use super::{BuildError, encode_error, write};
use crate::imap::guid_of;

/// Appends an unseen message to the mailbox in `directory`: its file, its record in cyrus.index,
/// and in cyrus.cache where there is one. For Cyrus 2.4 and later without a metapartition; only
/// where no server runs, as nothing is locked. Returns the UID.
///
/// # Errors
///
/// If a file cannot be read, understood or written.
pub fn deliver(directory: &Path, message: &[u8], internaldate: i64) -> Result<u32, BuildError> {
    let index_path = directory.join("cyrus.index");
    let bytes = read(&index_path)?;
    let index = Index::parse(&bytes).map_err(decode_error(&index_path))?;
    let mut records: Vec<Record> = index.records().collect();
    let mut header = index.header().clone();

    let uid = Uid(header.last_uid.0 + 1);
    let time = Timestamp::from_secs(internaldate);
    let modseq = Modseq(header.highestmodseq.0 + 1);
    let header_size = header_size(message);
    let mut record = Record {
        uid,
        internaldate: time,
        sentdate: time,
        gmtime: time,
        last_updated: time,
        savedate: time,
        size: message.len() as u64,
        header_size: u32::try_from(header_size).unwrap_or(u32::MAX),
        guid: guid_of(message),
        modseq,
        createdmodseq: modseq,
        ..Record::default()
    };
    let cache_path = directory.join("cyrus.cache");
    if cache_path.exists() {
        record.cache_version = records.last().map_or(0, |last| last.cache_version);
        (record.cache_offset, record.cache_crc) =
            append_to_cache(&cache_path, message, header_size)?;
    }
    write(&directory.join(format!("{}.", uid.0)), message)?;

    records.push(record);
    let header_path = directory.join("cyrus.header");
    let names = MailboxHeader::parse(&read(&header_path)?).map_err(decode_error(&header_path))?;
    let version = header.minor_version;
    Tally::of(records.iter().cloned(), version, &names.flag_crcs(), ThridText::default())
        .apply(&mut header, ANNOT_START);
    header.last_appenddate = time;
    let bytes = write_index(&header, &records).map_err(encode_error(&index_path))?;
    write(&index_path, &bytes)?;
    Ok(uid.0)
}

/// Appends the message's record; returns its offset and its CRC.
fn append_to_cache(
    path: &Path,
    message: &[u8],
    header_size: usize,
) -> Result<(u64, u32), BuildError> {
    let failed = |source| BuildError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new().append(true).open(path).map_err(failed)?;
    let end = file.metadata().map_err(failed)?.len();
    let mut cache = CacheFile::behind(end);
    let place = cache.add(message, header_size);
    file.write_all(&cache.into_bytes()).map_err(failed)?;
    Ok(place)
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source: io::Error| BuildError::Io { path: path.to_owned(), source })
}

fn decode_error(path: &Path) -> impl FnOnce(cyrus_format::FormatError) -> BuildError {
    move |source| BuildError::Decode { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use cyrus_format::cache::{self, CacheState};

    use super::*;
    use crate::spool_builder::{EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions};

    #[test]
    fn a_delivered_message_is_there_like_all_others() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let options = SpoolOptions { cache: true, ..SpoolOptions::new(Era::V3_6) };
        let mut spool = SpoolBuilder::create(root.path(), options).expect("a spool");
        let mut mailbox = spool.mailbox("user.glad").expect("a mailbox");
        let first = NewMessage { bytes: b"Subject: 1\r\n\r\n", ..NewMessage::default() };
        mailbox.add(&first).expect("a message");
        let directory = mailbox.directory().to_owned();
        spool.finish_mailbox(mailbox).expect("a finished mailbox");
        spool.finish().expect("a finished spool");

        let second = b"Subject: 2\r\nList-Id: <clay>\r\n\r\nbody";
        assert_eq!(deliver(&directory, second, EPOCH).expect("a delivery"), 2);

        assert_eq!(fs::read(directory.join("2.")).expect("its file"), second);
        let bytes = fs::read(directory.join("cyrus.index")).expect("an index");
        let index = Index::parse(&bytes).expect("a whole index");
        assert_eq!(index.problems(), []);
        assert_eq!((index.len(), index.header().exists, index.header().unseen), (2, 2, 2));
        let cached = fs::read(directory.join("cyrus.cache")).expect("a cache");
        for record in index.records() {
            let state = cache::check(&cached, &record).expect("a cache");
            assert_eq!(state, CacheState::Good, "{record:?}");
        }
        assert_eq!(index.record(1).map(|record| record.guid), Some(guid_of(second)));
    }
}
