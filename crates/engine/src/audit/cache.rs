//! Whether cyrus.cache has what the records say that it has.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use cyrus_format::cache::{generation, record_of};
use cyrus_format::index::IndexHeader;
use model::{Finding, FindingKind, Record, Uid};

use super::subject::Subject;
use crate::ports::Pace;
use crate::records::Records;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// No record is longer: what a message has in its headers and structure.
const RECORD_MAX: usize = 64 << 20;

/// The last version whose servers do not open a mailbox with a cache of another generation (2.4).
const LAST_WITH_GENERATION: u32 = 12;

/// What a record says of the cache.
struct Wanted {
    offset: u64,
    crc: u32,
    uid: Uid,
}

/// What is wrong with the cache of a mailbox, in one finding.
pub(super) fn check(subject: &Subject, records: &Records<'_>, pace: &dyn Pace) -> Option<Finding> {
    let index = records.index().map(|index| index.header());
    let (bad, total) = damaged(subject, records.wholes(), index, pace);
    let (uid, why) = bad.first()?;
    let detail = match bad.len() {
        1 => why.clone(),
        n => format!("{n} of {total} records of it; that of UID {uid}: {why}"),
    };
    let finding = Finding::new(FindingKind::CacheDamaged, &subject.name, detail);
    Some(if bad.len() == 1 { finding.at_uid(uid.0) } else { finding })
}

/// The records whose cache is not what they say, with what is wrong, by UID; and how many records have one.
pub(crate) fn damaged(
    subject: &Subject,
    records: impl Iterator<Item = Record>,
    index: Option<&IndexHeader>,
    pace: &dyn Pace,
) -> (Vec<(Uid, String)>, usize) {
    let mut wanted = [Vec::new(), Vec::new()];
    for record in records {
        if record.cache_offset != 0 && !record.is_unlinked() {
            let (offset, crc, uid) = (record.cache_offset, record.cache_crc, record.uid);
            wanted[usize::from(record.is_archived())].push(Wanted { offset, crc, uid });
        }
    }
    let total: usize = wanted.iter().map(Vec::len).sum();
    let needed = index.filter(|index| index.minor_version <= LAST_WITH_GENERATION);
    let mut bad = Vec::new();
    for (mut wanted, archived) in wanted.into_iter().zip([false, true]) {
        wanted.sort_unstable_by_key(|wanted| wanted.offset);
        if wanted.is_empty() {
            continue;
        }
        match subject.cache(archived) {
            Ok(Some(file)) => {
                bad.extend(compare(&file, &wanted, needed.map(|index| index.generation), pace));
            }
            Ok(None) => bad.extend(each(&wanted, "there is no cyrus.cache")),
            Err(error) => bad.extend(each(&wanted, &format!("it cannot be opened: {error}"))),
        }
    }
    bad.sort();
    (bad, total)
}

fn each(wanted: &[Wanted], why: &str) -> Vec<(Uid, String)> {
    wanted.iter().map(|wanted| (wanted.uid, why.to_owned())).collect()
}

/// Compares the records of a cache, which are in the order of the file.
fn compare(
    file: &File,
    wanted: &[Wanted],
    needed: Option<u32>,
    pace: &dyn Pace,
) -> Vec<(Uid, String)> {
    let mut window = match Window::open(file, pace) {
        Ok(window) => window,
        Err(error) => return each(wanted, &format!("it cannot be read: {error}")),
    };
    if let (Some(needed), Ok(found)) = (needed, generation(&window.bytes))
        && needed != found
    {
        return each(wanted, &format!("its generation is {found}, that of the index {needed}"));
    }
    let mut bad = Vec::new();
    for Wanted { offset, crc, uid } in wanted {
        match window.crc_at(*offset) {
            Ok(found) if *crc == 0 || found == *crc => {}
            Ok(found) => {
                bad.push((*uid, format!("its CRC is {found:08x}, the record says {crc:08x}")));
            }
            Err(error) => bad.push((*uid, error.to_string())),
        }
    }
    bad
}

/// A part of the file that moves forward.
struct Window<'w> {
    file: &'w File,
    pace: &'w dyn Pace,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'w> Window<'w> {
    fn open(file: &'w File, pace: &'w dyn Pace) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut window = Self { file, pace, size, start: 0, bytes: Vec::new() };
        window.load(0, PIECE)?;
        Ok(window)
    }

    fn load(&mut self, start: u64, length: usize) -> io::Result<()> {
        let left = usize::try_from(self.size.saturating_sub(start)).unwrap_or(usize::MAX);
        self.bytes.resize(length.min(left), 0);
        self.file.read_exact_at(&mut self.bytes, start)?;
        self.pace.read(self.bytes.len() as u64);
        self.start = start;
        Ok(())
    }

    /// The CRC of the record at an offset.
    fn crc_at(&mut self, offset: u64) -> io::Result<u32> {
        // The first word is no record's.
        if offset < 4 || offset >= self.size {
            let size = self.size;
            return Err(io::Error::other(format!(
                "a record at {offset} in a file of {size} bytes"
            )));
        }
        let mut length = PIECE;
        loop {
            let behind = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
            if let Some(bytes) =
                behind.and_then(|at| self.bytes.get(at..)).filter(|b| !b.is_empty())
            {
                let is_all = self.start + self.bytes.len() as u64 >= self.size;
                match record_of(bytes, offset) {
                    Ok(record) => return Ok(record.crc()),
                    Err(error) if is_all || bytes.len() >= RECORD_MAX => {
                        return Err(io::Error::other(error));
                    }
                    Err(_) => length = length.max(2 * bytes.len()),
                }
            }
            self.load(offset, length)?;
        }
    }
}
