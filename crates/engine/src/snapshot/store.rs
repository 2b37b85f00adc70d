//! A segment being written, and which messages it holds.

use std::io::{self, Read, Write};

use model::Guid;
use segment::manifest::{ManifestHead, TableRow};
use segment::names;
use segment::writer::{Finished, SegmentWriter, WriteError};
use sha1::{Digest, Sha1};

use super::Options;
use crate::catalog::{self, Catalog};
use crate::envelope;
use crate::source::SourceAccount;
use crate::stored::Stored;

/// How much of a large message is read at a time: more than its envelope needs.
const PIECE: usize = 256 << 10;
const _: () = assert!(PIECE >= envelope::LOOKED_AT);

/// One segment: whatever is no message goes straight to its writer.
pub(super) struct Store<W: Write> {
    pub writer: SegmentWriter<W>,
    stored: Stored,
    catalog: Option<Catalog>,
    seq: u32,
    taken_at: i64,
}

impl<W: Write> Store<W> {
    /// Begins segment number `seq` of the account. Nothing is written yet.
    pub fn new(
        out: W,
        account: &SourceAccount,
        seq: u32,
        options: &Options,
    ) -> Result<Self, WriteError> {
        let (name, taken_at) = (names::account(account.userid.as_bytes()), options.taken_at);
        Ok(Self {
            writer: SegmentWriter::new(out, &name, seq, taken_at)?,
            stored: Stored::default(),
            catalog: options.catalog.then(Catalog::default),
            seq,
            taken_at,
        })
    }

    /// Whether this segment holds the message.
    pub fn contains(&self, guid: &Guid) -> bool {
        self.stored.contains(guid)
    }

    /// Whether it holds no message.
    pub fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// Writes a message whose SHA-1 is `guid`, and that arrived at `mtime`.
    pub fn put(&mut self, guid: Guid, mtime: i64, bytes: &[u8]) -> Result<(), WriteError> {
        let offset = self.writer.message(&guid, mtime, bytes)?;
        self.remember(TableRow { guid, offset, size: bytes.len() as u64 }, bytes);
        Ok(())
    }

    /// Copies a message of `size` bytes that was read before and had the SHA-1 `guid`; `false` if
    /// it is something else now. What was written is then named by nothing.
    pub fn copy(
        &mut self,
        guid: Guid,
        size: u64,
        mtime: i64,
        file: &mut dyn Read,
    ) -> Result<bool, WriteError> {
        let mut message = self.writer.message_begin(&guid, size, mtime)?;
        let mut hash = Sha1::new();
        let mut left = size;
        let mut begin = Vec::new();
        let mut chunk = vec![0; PIECE];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            match file.read(&mut chunk[..most]) {
                Ok(0) => break,
                Ok(n) => {
                    hash.update(&chunk[..n]);
                    message.write(&chunk[..n])?;
                    let wanted = envelope::LOOKED_AT.saturating_sub(begin.len());
                    begin.extend_from_slice(&chunk[..n.min(wanted)]);
                    left -= n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if left > 0 || Guid(hash.finalize().into()) != guid {
            message.abandon()?;
            return Ok(false);
        }
        let offset = message.finish()?;
        self.remember(TableRow { guid, offset, size }, &begin);
        Ok(true)
    }

    /// Writes the catalogue, the manifest and the end.
    pub fn finish(mut self, mut head: ManifestHead) -> Result<(W, Finished), WriteError> {
        head.catalog = match self.catalog.take() {
            Some(catalog) if !catalog.bytes().is_empty() => {
                let name = catalog::file_name(self.seq);
                Some(self.writer.account_file(&name, self.taken_at, catalog.bytes())?)
            }
            _ => None,
        };
        self.writer.finish(head, &self.stored.into_sorted_rows())
    }

    fn remember(&mut self, row: TableRow, begin: &[u8]) {
        if let Some(catalog) = &mut self.catalog {
            catalog.add(&row.guid, begin);
        }
        self.stored.insert(row);
    }
}
