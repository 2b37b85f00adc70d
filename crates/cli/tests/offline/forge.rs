//! Archives made to do harm, with all hashes right.

use model::state::Digest;
use segment::end::{END_BYTES, EndBlock};
use segment::manifest::ROW;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 512;
const ROWS_BEGIN: &[u8] = b",\"messages\":[\n";
const ROWS_END: &[u8] = b"]}\n";

/// The end of a segment, taken apart.
pub struct Forgery {
    entries: Vec<u8>,
    manifest_header: Vec<u8>,
    end_header: Vec<u8>,
    /// All fields but the rows.
    pub fields: Value,
    /// Text to put behind the fields.
    pub more_fields: String,
    /// The rows, each with its newline.
    pub rows: Vec<Vec<u8>>,
}

impl Forgery {
    /// Takes a segment apart.
    pub fn of(segment: &[u8]) -> Self {
        let end_at = segment.len() - END_BYTES;
        let end = EndBlock::decode(segment[end_at..].try_into().expect("a block")).expect("an end");
        let manifest_at = usize::try_from(end.manifest_offset).expect("small");
        let bytes = usize::try_from(end.manifest_bytes).expect("small");
        let manifest = &segment[manifest_at..manifest_at + bytes];
        let begin = manifest.windows(ROWS_BEGIN.len()).position(|window| window == ROWS_BEGIN);
        let begin = begin.expect("rows");
        let fields = [&manifest[..begin], b"}"].concat();
        let rows = &manifest[begin + ROWS_BEGIN.len()..manifest.len() - ROWS_END.len()];
        Self {
            entries: segment[..manifest_at - BLOCK].to_vec(),
            manifest_header: segment[manifest_at - BLOCK..manifest_at].to_vec(),
            end_header: segment[end_at - BLOCK..end_at].to_vec(),
            fields: serde_json::from_slice(&fields).expect("JSON"),
            more_fields: String::new(),
            rows: rows.chunks(ROW).map(<[u8]>::to_vec).collect(),
        }
    }

    /// The entry of a mailbox in the manifest.
    pub fn mailbox(&mut self, number: usize) -> &mut Value {
        &mut self.fields["mailboxes"][number]
    }

    /// The segment.
    pub fn build(&self) -> Vec<u8> {
        self.build_with(|_| {})
    }

    /// The segment, with an end block that says something else.
    pub fn build_with(&self, change: impl FnOnce(&mut EndBlock)) -> Vec<u8> {
        let mut manifest = self.fields.to_string().into_bytes();
        assert_eq!(manifest.pop(), Some(b'}'));
        manifest.extend_from_slice(self.more_fields.as_bytes());
        manifest.extend_from_slice(ROWS_BEGIN);
        let rows_at = manifest.len();
        self.rows.iter().for_each(|row| manifest.extend_from_slice(row));
        manifest.extend_from_slice(ROWS_END);

        let mut segment = self.entries.clone();
        let size = format!("{:011o}", manifest.len());
        segment.extend(patched(&self.manifest_header, 124, size.as_bytes()));
        let manifest_offset = segment.len();
        let manifest_sha256 = Digest(Sha256::digest(&manifest).into());
        segment.extend_from_slice(&manifest);
        segment.resize(segment.len().next_multiple_of(BLOCK), 0);
        segment.extend_from_slice(&self.end_header);
        let mut end = EndBlock {
            seq: u32::try_from(self.fields["seq"].as_u64().expect("a number")).expect("small"),
            segment_bytes: (segment.len() + BLOCK) as u64,
            manifest_offset: manifest_offset as u64,
            manifest_bytes: manifest.len() as u64,
            manifest_sha256,
            rows_offset: (manifest_offset + rows_at) as u64,
            rows: self.rows.len() as u64,
            account: self.fields["account"].as_str().expect("text").to_owned(),
        };
        change(&mut end);
        segment.extend_from_slice(&end.encode());
        segment
    }

    /// The segment, in which one field of the header of the first entry whose name begins so holds
    /// something else, and of which only the entries are left: readers must go from the front.
    pub fn entries_with(&self, name: &str, field: usize, value: &[u8]) -> Vec<u8> {
        let mut entries = self.entries.clone();
        let at = (0..entries.len())
            .step_by(BLOCK)
            .find(|at| entries[*at..].starts_with(name.as_bytes()))
            .expect("an entry of that name");
        let header = patched(&entries[at..at + BLOCK], field, value);
        entries[at..at + BLOCK].copy_from_slice(&header);
        entries
    }
}

/// A header with another field, and with the right sum.
fn patched(header: &[u8], field: usize, value: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    header[field..field + value.len()].copy_from_slice(value);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}
