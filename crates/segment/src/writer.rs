//! Writes a segment, entry by entry, in one pass.

use std::io::{self, BufWriter, Write};

use model::state::Digest;
use model::{Guid, Uid};
use sha2::{Digest as _, Sha256};

use crate::bytes::{BLOCK, padding, sha256};
use crate::end::{EndBlock, FORMAT};
use crate::entry::{Kind, NewEntry};
use crate::manifest::{self, ManifestHead, ROW, ROWS_END, StoredFile, TableRow};
use crate::names::{self, EntryName, NameError, Part};
use crate::reader::MANIFEST_MAX;

/// Between the entries and whatever takes them: large enough that a pipe or a file is filled in
/// few calls, and larger messages go past it.
const BUFFER: usize = 1 << 20;

/// The highest sequence number: eight digits.
pub const SEQ_MAX: u32 = 99_999_999;

/// Why a segment was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The bytes found no taker.
    #[error("cannot write the segment at byte {at}")]
    Write {
        /// Bytes of the segment so far.
        at: u64,
        /// What was said.
        source: io::Error,
    },
    /// A component is none that [`names::escape`] makes.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name means something else than what it is used for.
    #[error("\"{name}\" cannot be the name of {what}")]
    Misnamed {
        /// The name.
        name: String,
        /// What was to be called so.
        what: &'static str,
    },
    /// A body is not as long as was announced.
    #[error("message {guid} has {found} bytes where {announced} were announced")]
    BodyLength {
        /// Which.
        guid: Guid,
        /// Bytes announced.
        announced: u64,
        /// Bytes given, or more than these.
        found: u64,
    },
    /// Something failed before, or a body was left unfinished; the segment is lost.
    #[error("the segment was given up after an earlier error")]
    GivenUp,
    /// A number exceeds what its field holds.
    #[error("{what} is {value}, more than the format can hold")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The message table is not what was written.
    #[error("the message table is wrong: {0}")]
    Table(&'static str),
    /// The manifest's head contradicts the segment.
    #[error("the manifest is wrong: {0}")]
    Head(&'static str),
    /// The manifest cannot be put as JSON.
    #[error("the manifest cannot be written")]
    Json(#[from] serde_json::Error),
}

type Result<T> = std::result::Result<T, WriteError>;

/// A finished segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Bytes of the segment.
    pub bytes: u64,
    /// SHA-256 of its manifest: what the next segment names as its parent.
    pub manifest_sha256: Digest,
    /// The manifest's head, with the fields that the writer filled in.
    pub head: ManifestHead,
}

/// Writes one segment.
///
/// After an error nothing more is written: a run of entries with a hole in it would be read as
/// something else. Without [`finish`](Self::finish) there is no end block, and so no segment.
pub struct SegmentWriter<W: Write> {
    out: BufWriter<W>,
    account: String,
    seq: u32,
    mtime: i64,
    /// Bytes of the segment so far.
    at: u64,
    /// Whether everything up to `at` is as it should be.
    sound: bool,
    written: Sums,
    /// The mailbox component that was checked last.
    checked_dir: String,
    scratch: Scratch,
}

/// Buffers that are used again for every entry, so that none costs an allocation.
#[derive(Default)]
struct Scratch {
    name: Vec<u8>,
    link: Vec<u8>,
    header: Vec<u8>,
}

/// What was written, summed up, to hold against the message table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    messages: u64,
    bytes: u64,
    offsets: u64,
}

impl Sums {
    fn add(&mut self, offset: u64, size: u64) {
        self.messages += 1;
        self.bytes = self.bytes.wrapping_add(size);
        self.offsets = self.offsets.wrapping_add(offset);
    }
}

impl<W: Write> SegmentWriter<W> {
    /// Begins segment number `seq` of an account, given as its [component](names::account).
    ///
    /// `taken_at`, in seconds since 1970, becomes the modification time of everything that has
    /// none of its own. Nothing is written yet.
    pub fn new(out: W, account: &str, seq: u32, taken_at: i64) -> Result<Self> {
        names::check_account(account)?;
        if seq == 0 || seq > SEQ_MAX {
            return Err(WriteError::TooLarge { what: "the segment's number", value: seq.into() });
        }
        Ok(Self {
            out: BufWriter::with_capacity(BUFFER, out),
            account: account.to_owned(),
            seq,
            mtime: taken_at,
            at: 0,
            sound: true,
            written: Sums::default(),
            checked_dir: String::new(),
            scratch: Scratch::default(),
        })
    }

    /// Bytes of the segment so far.
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// Writes a message whose SHA-1 is `guid`, and says where its bytes begin.
    ///
    /// `mtime` is when it arrived: what Cyrus sets on its message files.
    pub fn message(&mut self, guid: &Guid, mtime: i64, bytes: &[u8]) -> Result<u64> {
        let mut body = self.message_begin(guid, bytes.len() as u64, mtime)?;
        body.write(bytes)?;
        body.finish()
    }

    /// Begins a message of `size` bytes that does not fit into memory.
    pub fn message_begin(
        &mut self,
        guid: &Guid,
        size: u64,
        mtime: i64,
    ) -> Result<MessageBody<'_, W>> {
        if size > manifest::SIZE_MAX {
            return Err(WriteError::TooLarge { what: "a message's size", value: size });
        }
        self.header(Part::Message(*guid), Kind::File, mtime, size)?;
        // Until the body is complete.
        self.sound = false;
        Ok(MessageBody { offset: self.at, writer: self, guid: *guid, size, left: size })
    }

    /// Writes the directory of a mailbox: once per chain.
    pub fn mailbox_dir(&mut self, dir: &str) -> Result<()> {
        self.check_dir(dir)?;
        self.header(Part::MailboxDir(dir), Kind::Directory, self.mtime, 0)
    }

    /// Writes a metadata file of a mailbox, such as `cyrus.index`.
    pub fn mailbox_file(
        &mut self,
        dir: &str,
        name: &str,
        mtime: i64,
        bytes: &[u8],
    ) -> Result<StoredFile> {
        self.check_dir(dir)?;
        let part = Part::MailboxFile { dir, file: name };
        self.check_part(part, name, "a mailbox's file")?;
        self.file(part, name, mtime, bytes)
    }

    /// Writes the name of a message in a mailbox: a hard link to bytes that this segment, or one
    /// before it in the chain, holds. Once per chain.
    ///
    /// `mtime` is the message's arrival in this mailbox. Some programs set it on the file that
    /// all links share, so it must not be older than what is known.
    pub fn hard_link(&mut self, dir: &str, uid: Uid, guid: &Guid, mtime: i64) -> Result<()> {
        self.check_dir(dir)?;
        if uid.0 == 0 {
            let name = "0.".to_owned();
            return Err(WriteError::Misnamed { name, what: "a message in a mailbox" });
        }
        let target = EntryName { account: &self.account, part: Part::Message(*guid) };
        self.scratch.link.clear();
        target.write_to(&mut self.scratch.link);
        let part = Part::MailboxMessage { dir, uid };
        self.linked_header(part, Kind::HardLink, mtime)
    }

    /// Writes the symbolic link from a folder's name to its mailbox. Once per chain;
    /// [`Links`](crate::links::Links) knows the link's name.
    pub fn folder(&mut self, link: &str, dir: &str) -> Result<()> {
        self.check_dir(dir)?;
        self.check_part(Part::Folder(link), link, "a folder's link")?;
        self.scratch.link.clear();
        names::write_folder_target(dir, &mut self.scratch.link);
        self.linked_header(Part::Folder(link), Kind::Symlink, self.mtime)
    }

    /// Writes a file of the account. Slashes in its name make directories; everything else is
    /// escaped where need be.
    pub fn account_file(&mut self, name: &str, mtime: i64, bytes: &[u8]) -> Result<StoredFile> {
        let path = names::account_path(name);
        self.file(Part::AccountFile(&path), name, mtime, bytes)
    }

    /// Writes the manifest and the end block, and gives the sink back, flushed.
    ///
    /// `rows` are the messages that were written, sorted by GUID. The writer fills in the head's
    /// format, account and seq, and the totals of what is new.
    pub fn finish(mut self, mut head: ManifestHead, rows: &[TableRow]) -> Result<(W, Finished)> {
        self.complete(&mut head)?;
        self.check_table(rows)?;
        let fields = manifest::write_head(&head)?;
        let manifest_bytes = (fields.len() + rows.len() * ROW + ROWS_END.len()) as u64;
        if manifest_bytes > MANIFEST_MAX {
            return Err(WriteError::TooLarge { what: "the manifest", value: manifest_bytes });
        }
        // Whoever opens the segment begins with the manifest.
        let at = self.at;
        self.out.flush().map_err(|source| WriteError::Write { at, source })?;
        let part = Part::Manifest(self.seq);
        self.header(part, Kind::File, self.mtime, manifest_bytes)?;
        let manifest_offset = self.at;
        let manifest_sha256 = self.manifest(&fields, rows)?;
        self.put_padding(manifest_bytes)?;

        self.header(Part::End(self.seq), Kind::File, self.mtime, BLOCK)?;
        let end = EndBlock {
            seq: self.seq,
            segment_bytes: self.at + BLOCK,
            manifest_offset,
            manifest_bytes,
            manifest_sha256,
            rows_offset: manifest_offset + fields.len() as u64,
            rows: rows.len() as u64,
            account: self.account.clone(),
        };
        self.put(&end.encode())?;
        let at = self.at;
        let write =
            |error: io::IntoInnerError<_>| WriteError::Write { at, source: error.into_error() };
        let mut out = self.out.into_inner().map_err(write)?;
        out.flush().map_err(|source| WriteError::Write { at, source })?;
        Ok((out, Finished { bytes: at, manifest_sha256, head }))
    }

    /// Fills in what the writer knows, and checks what must agree with it.
    fn complete(&self, head: &mut ManifestHead) -> Result<()> {
        if names::account(head.userid.as_bytes()) != self.account {
            return Err(WriteError::Head("its userid is not the segment's account"));
        }
        match (&head.parent, head.chain) {
            (None, None) => {}
            (Some(parent), Some(_)) if (1..self.seq).contains(&parent.seq) => {}
            _ => return Err(WriteError::Head("its parent or chain does not fit its number")),
        }
        head.format = FORMAT;
        head.account.clone_from(&self.account);
        head.seq = self.seq;
        head.totals.messages_new = self.written.messages;
        head.totals.bytes_new = self.written.bytes;
        Ok(())
    }

    fn check_table(&self, rows: &[TableRow]) -> Result<()> {
        if !rows.is_sorted_by(|a, b| a.guid < b.guid) {
            return Err(WriteError::Table("its rows are not sorted, or one is there twice"));
        }
        let mut listed = Sums::default();
        for row in rows {
            listed.add(row.offset, row.size);
        }
        if listed != self.written {
            return Err(WriteError::Table("its rows are not the messages that were written"));
        }
        Ok(())
    }

    /// Streams the manifest and gives its hash: with a million rows it is not built in memory.
    fn manifest(&mut self, fields: &[u8], rows: &[TableRow]) -> Result<Digest> {
        let mut hash = Sha256::new();
        hash.update(fields);
        self.put(fields)?;
        let mut piece = Vec::with_capacity(ROW * 512);
        let mut left = rows.len();
        for chunk in rows.chunks(512) {
            piece.clear();
            for row in chunk {
                left -= 1;
                piece.extend_from_slice(&row.encode(left == 0));
            }
            hash.update(&piece);
            self.put(&piece)?;
        }
        hash.update(ROWS_END);
        self.put(ROWS_END)?;
        Ok(Digest(hash.finalize().into()))
    }

    fn file(&mut self, part: Part<'_>, name: &str, mtime: i64, bytes: &[u8]) -> Result<StoredFile> {
        let size = bytes.len() as u64;
        self.header(part, Kind::File, mtime, size)?;
        let offset = self.at;
        self.put(bytes)?;
        self.put_padding(size)?;
        let sha256 = sha256(bytes);
        Ok(StoredFile { name: name.to_owned(), size, sha256, seq: self.seq, offset })
    }

    /// Refuses a mailbox's component that is none; cheap for the one that came last.
    fn check_dir(&mut self, dir: &str) -> Result<()> {
        if self.checked_dir != dir || dir.is_empty() {
            names::check_dir(dir)?;
            dir.clone_into(&mut self.checked_dir);
        }
        Ok(())
    }

    /// Refuses a component that would be read as another kind of entry, or as none.
    fn check_part(&self, part: Part<'_>, name: &str, what: &'static str) -> Result<()> {
        let mut full = Vec::new();
        EntryName { account: &self.account, part }.write_to(&mut full);
        match EntryName::parse(&full) {
            Ok(parsed) if parsed.part == part => Ok(()),
            _ => Err(WriteError::Misnamed { name: name.to_owned(), what }),
        }
    }

    fn header(&mut self, part: Part<'_>, kind: Kind, mtime: i64, size: u64) -> Result<()> {
        self.scratch.link.clear();
        self.any_header(part, kind, mtime, size)
    }

    /// The header of an entry whose target is in `scratch.link`.
    fn linked_header(&mut self, part: Part<'_>, kind: Kind, mtime: i64) -> Result<()> {
        self.any_header(part, kind, mtime, 0)
    }

    fn any_header(&mut self, part: Part<'_>, kind: Kind, mtime: i64, size: u64) -> Result<()> {
        if !self.sound {
            return Err(WriteError::GivenUp);
        }
        let Scratch { name, link, header } = &mut self.scratch;
        name.clear();
        EntryName { account: &self.account, part }.write_to(name);
        header.clear();
        NewEntry { name, kind, link, mtime, size }.encode(header);
        put(&mut self.out, &mut self.at, &mut self.sound, header)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        put(&mut self.out, &mut self.at, &mut self.sound, bytes)
    }

    fn put_padding(&mut self, size: u64) -> Result<()> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        self.put(&ZEROS[..padding(size) as usize])
    }
}

fn put(out: &mut impl Write, at: &mut u64, sound: &mut bool, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|source| {
        *sound = false;
        WriteError::Write { at: *at, source }
    })?;
    *at += bytes.len() as u64;
    Ok(())
}

/// The body of a message, given in pieces.
#[must_use = "a body that is not finished gives up the whole segment"]
pub struct MessageBody<'a, W: Write> {
    writer: &'a mut SegmentWriter<W>,
    guid: Guid,
    offset: u64,
    size: u64,
    left: u64,
}

impl<W: Write> MessageBody<'_, W> {
    /// Writes the next piece.
    ///
    /// # Errors
    ///
    /// A piece that reaches past the announced end is not written; the body may still be
    /// [abandoned](Self::abandon).
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        if len > self.left {
            let found = (self.size - self.left).saturating_add(len);
            return Err(self.wrong_length(found));
        }
        self.writer.put(bytes)?;
        self.left -= len;
        Ok(())
    }

    /// Ends the message and says where its bytes begin.
    pub fn finish(self) -> Result<u64> {
        if self.left > 0 {
            return Err(self.wrong_length(self.size - self.left));
        }
        self.writer.put_padding(self.size)?;
        self.writer.sound = true;
        self.writer.written.add(self.offset, self.size);
        Ok(self.offset)
    }

    /// Ends a message whose bytes turned out not to be had: the rest is filled with zeros, and it
    /// does not count as a message. It must not be in the message table nor be linked to.
    pub fn abandon(mut self) -> Result<()> {
        let zeros = [0; 8192];
        while self.left > 0 {
            let len = zeros.len().min(usize::try_from(self.left).unwrap_or(zeros.len()));
            self.write(&zeros[..len])?;
        }
        self.writer.put_padding(self.size)?;
        self.writer.sound = true;
        Ok(())
    }

    fn wrong_length(&self, found: u64) -> WriteError {
        WriteError::BodyLength { guid: self.guid, announced: self.size, found }
    }
}
