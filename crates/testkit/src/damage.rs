//! Ways in which a spool breaks, one function each. All of them work on files that no server has
//! open. Those of cyrus.index know its layout by themselves, so that its reader is judged by
//! something else.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cyrus_format::db::{self, twoskip};
use cyrus_format::dlist::Dlist;

/// Whether the checksum over what was changed is made right again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The lie is consistent.
    Fixed,
    /// The lie shows.
    Stale,
}

/// The file of a message in a mailbox's data directory.
pub fn message_path(mailbox: &Path, uid: u32) -> PathBuf {
    mailbox.join(format!("{uid}."))
}

/// A record whose message file is gone.
pub fn remove_message(mailbox: &Path, uid: u32) -> io::Result<()> {
    fs::remove_file(message_path(mailbox, uid))
}

/// A message whose bytes have changed while its length has not. A hard link keeps the good bytes.
pub fn change_message(mailbox: &Path, uid: u32) -> io::Result<()> {
    let path = message_path(mailbox, uid);
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    let byte = bytes.get_mut(middle).ok_or_else(|| invalid("an empty message"))?;
    *byte ^= 0x20;
    replace(&path, &bytes)
}

/// A message that has lost its end. A hard link keeps the good bytes.
pub fn shorten_message(mailbox: &Path, uid: u32, by: usize) -> io::Result<()> {
    let path = message_path(mailbox, uid);
    let bytes = fs::read(&path)?;
    replace(&path, &bytes[..bytes.len().saturating_sub(by)])
}

/// A message file that nobody but root can read.
pub fn make_unreadable(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o000))
}

/// A message file without a record.
pub fn add_orphan(mailbox: &Path, uid: u32, message: &[u8]) -> io::Result<()> {
    fs::write(message_path(mailbox, uid), message)
}

/// A mailbox without its cyrus.header.
pub fn remove_header(metadata: &Path) -> io::Result<()> {
    fs::remove_file(metadata.join("cyrus.header"))
}

/// A mailbox without its directory.
pub fn remove_mailbox(mailbox: &Path) -> io::Result<()> {
    fs::remove_dir_all(mailbox)
}

/// A record that does not know its GUID, as those of Cyrus 2.3 with `guid_mode: off`.
pub fn zero_guid(index: &Path, record: usize, checksum: Checksum) -> io::Result<()> {
    edit_record(index, record, checksum, |bytes| bytes[60..80].fill(0))
}

/// A record whose last byte, of its checksum where it has one, is wrong.
pub fn break_record(index: &Path, record: usize) -> io::Result<()> {
    edit_record(index, record, Checksum::Stale, |bytes| {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
    })
}

/// An index header whose last byte, of its checksum where it has one, is wrong.
pub fn break_index_header(index: &Path) -> io::Result<()> {
    edit_header(index, Checksum::Stale, |bytes| {
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
    })
}

/// An index header that counts that many records, and does not know better.
pub fn lie_about_records(index: &Path, count: u32) -> io::Result<()> {
    edit_header(index, Checksum::Fixed, |bytes| bytes[20..24].copy_from_slice(&count.to_be_bytes()))
}

/// An index of a version that does not exist yet, otherwise unchanged.
pub fn claim_version(index: &Path, minor: u32) -> io::Result<()> {
    edit_header(index, Checksum::Fixed, |bytes| bytes[8..12].copy_from_slice(&minor.to_be_bytes()))
}

/// A file without its last bytes.
pub fn truncate(path: &Path, by: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    file.set_len(length.saturating_sub(by))
}

/// A file that goes on behind its end.
pub fn lengthen(path: &Path, tail: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(tail)
}

/// A file of which one byte is wrong.
pub fn flip(path: &Path, offset: usize) -> io::Result<()> {
    let mut bytes = fs::read(path)?;
    let byte = bytes.get_mut(offset).ok_or_else(|| invalid("an offset behind the end"))?;
    *byte ^= 0xff;
    replace(path, &bytes)
}

/// Changes one record of a cyrus.index in place.
pub fn edit_record(
    index: &Path,
    record: usize,
    checksum: Checksum,
    edit: impl FnOnce(&mut [u8]),
) -> io::Result<()> {
    let mut bytes = fs::read(index)?;
    let layout = Layout::of(&bytes)?;
    let start = layout.start_offset + record * layout.record_size;
    let bytes_of_record = bytes
        .get_mut(start..start + layout.record_size)
        .ok_or_else(|| invalid("a record behind the end"))?;
    edit(bytes_of_record);
    if checksum == Checksum::Fixed && layout.minor >= 12 {
        fix_checksum(bytes_of_record);
    }
    replace(index, &bytes)
}

/// Changes the header of a cyrus.index in place.
pub fn edit_header(
    index: &Path,
    checksum: Checksum,
    edit: impl FnOnce(&mut [u8]),
) -> io::Result<()> {
    let mut bytes = fs::read(index)?;
    let layout = Layout::of(&bytes)?;
    let header = &mut bytes[..layout.start_offset];
    edit(header);
    if checksum == Checksum::Fixed && layout.minor >= 12 {
        fix_checksum(header);
    }
    replace(index, &bytes)
}

/// A mailboxes.db, since 2.5, with an entry for each of those internal names, otherwise as it was.
/// They all claim to be mailboxes of the default partition.
pub fn add_mailboxes(mailboxes_db: &Path, names: &[Vec<u8>]) -> io::Result<()> {
    let bytes = fs::read(mailboxes_db)?;
    let database = db::read(&bytes).map_err(io::Error::other)?;
    let by_id = database.entries.iter().any(|(key, _)| key.starts_with(b"Nuser\x1f"));
    let mut entries: BTreeMap<Vec<u8>, Vec<u8>> =
        database.entries.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    for (number, name) in names.iter().enumerate() {
        let id = format!("hostile{number:017}");
        let tail = "P default V 1400000000 C 1 F 1 M 1400000000 A %(glad lrswipkxtecdan)";
        if by_id {
            let dbname: Vec<u8> =
                name.iter().map(|byte| if *byte == b'.' { 0x1f } else { *byte }).collect();
            let quoted = Dlist::bytes(dbname.clone()).to_vec();
            let value = [b"%(T e N ".as_slice(), &quoted, b" ", tail.as_bytes(), b")"].concat();
            entries.insert(format!("I{id}").into_bytes(), value);
            let value = format!("%(T e I {id} {tail})").into_bytes();
            entries.insert([b"N".as_slice(), &dbname].concat(), value);
        } else {
            entries.insert(name.clone(), format!("%(I {id} {tail})").into_bytes());
        }
    }
    let entries: Vec<_> = entries.into_iter().collect();
    replace(mailboxes_db, &twoskip::write_fresh(&entries).map_err(io::Error::other)?)
}

/// Mailbox names that must not lead anywhere, in the internal form with dots.
pub fn hostile_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        b"user.glad...".as_slice(),
        b"user.glad.../../../../etc/passwd",
        b"user.glad.a/../../b",
        b"user.glad./etc/passwd",
        b"user.glad.a\x00b",
        b"user.glad.",
        b"user..glad",
        b"user.glad.a\nb\r\tc\x1b[2J",
        b"user.glad.\xff\xfe\x80\xe9",
        b"user.glad.\xc3\xa9t\xc3\xa9",
        b"user.glad.a\x1fb\x1dc",
        b"user.glad.-rf *",
        b"user.glad.CON.aux. ",
        b"..!user.glad.x",
        b"a/b!user.glad.x",
        b".",
        b"!",
    ]
    .map(<[u8]>::to_vec)
    .into();
    names.push([b"user.glad.".as_slice(), &[b'x'; 1000]].concat());
    names.push([b"user.glad".as_slice(), &b".x".repeat(500)].concat());
    names
}

/// Where the records of a cyrus.index are. The offsets of these words never changed.
struct Layout {
    minor: u32,
    start_offset: usize,
    record_size: usize,
}

impl Layout {
    fn of(bytes: &[u8]) -> io::Result<Self> {
        let word = |at: usize| -> io::Result<u32> {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map(u32::from_be_bytes).ok_or_else(|| invalid("too short for an index"))
        };
        let (start_offset, record_size) = (word(12)? as usize, word(16)? as usize);
        if start_offset < 76 || start_offset > bytes.len() || record_size < 60 {
            return Err(invalid("not an index"));
        }
        Ok(Self { minor: word(8)?, start_offset, record_size })
    }
}

/// The last word of headers and records is the CRC-32 of what comes before, since version 12.
fn fix_checksum(bytes: &mut [u8]) {
    let (covered, sum) = bytes.split_at_mut(bytes.len() - 4);
    sum.copy_from_slice(&crc32fast::hash(covered).to_be_bytes());
}

/// Writes a new file in the place of the old, with the same owner and permissions, so that other
/// links to the old one keep their bytes.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};
    let old = fs::metadata(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".damage");
    let new = PathBuf::from(name);
    fs::write(&new, bytes)?;
    fs::set_permissions(&new, old.permissions())?;
    let ours = fs::metadata(&new)?;
    if (ours.uid(), ours.gid()) != (old.uid(), old.gid()) {
        chown(&new, Some(old.uid()), Some(old.gid()))?;
    }
    fs::rename(&new, path)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
