//! The catalogue of a segment: the envelopes of the messages that it holds.
//!
//! With it, mail is found by sender or subject without reading any message. It is stored as one
//! file, one line a message in the order in which they were stored: the GUID, then Date, From,
//! To, Subject and Message-ID, with tabs in between.

use model::Guid;
use segment::chain::{Chain, Snapshot};
use segment::manifest::ManifestHead;

use crate::archive::ArchiveError;
use crate::envelope;

/// What a message's header says. Values are bytes as they stand there; encoded words (RFC 2047)
/// are not decoded, and what is longer than 500 bytes is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// SHA-1 of the message.
    pub guid: Guid,
    /// Its Date.
    pub date: Vec<u8>,
    /// Its From.
    pub from: Vec<u8>,
    /// Its To.
    pub to: Vec<u8>,
    /// Its Subject.
    pub subject: Vec<u8>,
    /// Its Message-ID.
    pub message_id: Vec<u8>,
}

/// Reads the catalogue of a snapshot's or a part's own segment: the messages that it was the
/// first to hold. It is empty where there are none, and where no catalogue was made.
///
/// # Errors
///
/// What keeps manifest or file from being read, and a file that is no catalogue.
pub fn read(chain: &Chain<'_>, snapshot: &Snapshot<'_>) -> Result<Vec<Envelope>, ArchiveError> {
    Ok(listed(chain, &snapshot.head()?)?.envelopes().collect())
}

/// Reads the catalogue that a manifest names.
///
/// # Errors
///
/// What keeps the file from being read, and a file that is no catalogue.
pub fn listed(chain: &Chain<'_>, head: &ManifestHead) -> Result<Listed, ArchiveError> {
    let Some(file) = &head.catalog else { return Ok(Listed { bytes: Vec::new() }) };
    let listed = Listed { bytes: chain.file(file)? };
    let (account, seq) = (&head.account, head.seq);
    let is_whole = listed.lines().all(|line| parse_line(line).is_some());
    match is_whole {
        true => Ok(listed),
        false => Err(ArchiveError::Catalog { account: account.clone(), seq }),
    }
}

/// A catalogue in memory, as it is stored: that of a million messages would not fit otherwise.
pub struct Listed {
    bytes: Vec<u8>,
}

impl Listed {
    /// The envelopes, in the order in which the messages were stored.
    pub fn envelopes(&self) -> impl Iterator<Item = Envelope> + '_ {
        self.lines().filter_map(parse_line)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split_inclusive(|byte| *byte == b'\n')
    }
}

/// The name of a segment's catalogue among the account's files.
pub(crate) fn file_name(seq: u32) -> String {
    format!("catalog/{seq:08}")
}

/// A catalogue being made: some 250 bytes a message.
#[derive(Default)]
pub(crate) struct Catalog {
    lines: Vec<u8>,
}

impl Catalog {
    /// Adds a message, of which at least the [first bytes](envelope::LOOKED_AT) are given.
    pub fn add(&mut self, guid: &Guid, message: &[u8]) {
        self.lines.extend_from_slice(&guid.to_hex());
        for value in envelope::fields(message) {
            self.lines.push(b'\t');
            self.lines.extend_from_slice(&value);
        }
        self.lines.push(b'\n');
    }

    /// The file; empty if it lists nothing.
    pub fn bytes(&self) -> &[u8] {
        &self.lines
    }
}

/// Reads a line of a catalogue; `None` if it is not one.
fn parse_line(line: &[u8]) -> Option<Envelope> {
    let mut values = line.strip_suffix(b"\n")?.split(|byte| *byte == b'\t');
    let guid = Guid::from_hex(values.next()?)?;
    let mut value = || values.next().map(<[u8]>::to_vec);
    let [date, from, to, subject, message_id] = [value()?, value()?, value()?, value()?, value()?];
    values.next().is_none().then_some(Envelope { guid, date, from, to, subject, message_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Option<Vec<Envelope>> {
        Listed { bytes: bytes.to_vec() }.lines().map(parse_line).collect()
    }

    #[test]
    fn reads_what_it_wrote_and_nothing_that_was_cut() {
        let mut catalog = Catalog::default();
        catalog.add(&Guid([1; 20]), b"Subject: one\ttwo\r\nFrom: \xe4\r\n\r\nbody");
        catalog.add(&Guid([2; 20]), b"");
        let one = Envelope {
            guid: Guid([1; 20]),
            from: b"\xe4".to_vec(),
            subject: b"one two".to_vec(),
            ..Envelope::default()
        };
        let two = Envelope { guid: Guid([2; 20]), ..Envelope::default() };
        let bytes = catalog.bytes();
        assert_eq!(parse(bytes), Some(vec![one, two]));
        let first = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
        for cut in (1..bytes.len()).filter(|cut| *cut != first) {
            assert_eq!(parse(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(parse(&[bytes, b"more\n"].concat()), None);
        let six = String::from_utf8_lossy(&bytes[..40]).into_owned() + "\t\t\t\t\t\t\n";
        assert_eq!(parse(six.as_bytes()), None);
    }
}
