//! Writing a whole twoskip file at once.

use super::record::{Kind, LONG_KEY, LONG_VALUE};
use super::{FILLER, FIRST_RECORD, HEADER_SIZE, MAGIC, MAX_LEVEL, VERSION, WHAT};
use crate::error::EncodeError;

/// Cyrus rewrites heads in place, which is only safe while none straddles two disk blocks.
const BLOCK: usize = 512;
const GENERATION: u64 = 1;

/// Writes the file that Cyrus would have after a checkpoint of these entries: all in order, in one
/// transaction.
///
/// The levels of the list follow from the entries' numbers, so the same entries always give the
/// same bytes.
///
/// # Errors
/// [`EncodeError::Range`] for an empty key, and for keys that do not ascend by their bytes.
pub fn write_fresh<K, V>(entries: &[(K, V)]) -> Result<Vec<u8>, EncodeError>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    write_with_levels(entries, level)
}

/// Every second record has level 1, every fourth 2, every eighth 3 and so on: what coins give on average.
fn level(number: usize) -> u8 {
    // At most 64.
    let zeros = (number + 1).trailing_zeros() as u8;
    (zeros + 1).min(MAX_LEVEL)
}

pub(super) fn write_with_levels<K, V>(
    entries: &[(K, V)],
    level: impl Fn(usize) -> u8,
) -> Result<Vec<u8>, EncodeError>
where
    K: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut file = File { bytes: vec![0; HEADER_SIZE], heads: Vec::new() };
    file.append(Kind::Dummy, MAX_LEVEL, b"", b"");
    let mut previous: &[u8] = b"";
    for (number, (key, value)) in entries.iter().enumerate() {
        let key = key.as_ref();
        if key <= previous {
            let value = String::from_utf8_lossy(key).into_owned();
            return Err(EncodeError::Range { what: WHAT, field: "key in ascending order", value });
        }
        file.append(Kind::Live, level(number), key, value.as_ref());
        previous = key;
    }
    file.link();
    if !entries.is_empty() {
        file.commit();
    }
    file.write_header(entries.len() as u64);
    Ok(file.bytes)
}

struct File {
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

/// Where the pointers of a record are to be filled in.
struct Head {
    start: usize,
    pointers: usize,
    level: u8,
}

impl File {
    /// Appends a record whose pointers and CRC of the head are zero.
    fn append(&mut self, kind: Kind, level: u8, key: &[u8], value: &[u8]) {
        let mut head = vec![kind.letter(), level];
        let short_key = u16::try_from(key.len()).unwrap_or(LONG_KEY);
        let short_value = u32::try_from(value.len()).unwrap_or(LONG_VALUE);
        head.extend(short_key.to_be_bytes());
        head.extend(short_value.to_be_bytes());
        if short_key == LONG_KEY {
            head.extend((key.len() as u64).to_be_bytes());
        }
        if short_value == LONG_VALUE {
            head.extend((value.len() as u64).to_be_bytes());
        }
        let fixed = head.len();
        head.resize(fixed + (usize::from(level) + 1) * 8 + 4, 0);
        self.fill_up_block(head.len() + 4);

        let start = self.bytes.len();
        self.heads.push(Head { start, pointers: start + fixed, level });
        self.bytes.extend(head);
        let tail_crc = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        // All lengths before are multiples of 8, too.
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let crc = crc32fast::hash(&self.bytes[tail_crc + 4..]);
        self.bytes[tail_crc..tail_crc + 4].copy_from_slice(&crc.to_be_bytes());
    }

    /// Moves the end so that a head of that size will lie in one block, except for its first 8
    /// bytes, which are never rewritten, and its last 8.
    fn fill_up_block(&mut self, head_size: usize) {
        if head_size > BLOCK - 8 {
            return;
        }
        while (self.bytes.len() + 8) % BLOCK > (self.bytes.len() + head_size - 8) % BLOCK {
            self.bytes.extend_from_slice(FILLER);
        }
    }

    /// Fills in all pointers. Slot 0, the older link of the lowest level, is unused in a new
    /// file; slot n is the link of level n - 1.
    fn link(&mut self) {
        let mut next = [0_u64; MAX_LEVEL as usize];
        for head in self.heads.iter().rev() {
            let links = &next[..usize::from(head.level)];
            for (link, slot) in links.iter().zip(1..) {
                let at = head.pointers + slot * 8;
                self.bytes[at..at + 8].copy_from_slice(&link.to_be_bytes());
            }
            sum_head(&mut self.bytes, head);
            next[..usize::from(head.level)].fill(head.start as u64);
        }
    }

    /// Appends the record that finishes the only transaction.
    fn commit(&mut self) {
        self.append(Kind::Commit, 0, b"", b"");
        if let Some(head) = self.heads.last() {
            self.bytes[head.pointers..head.pointers + 8]
                .copy_from_slice(&FIRST_RECORD.to_be_bytes());
            sum_head(&mut self.bytes, head);
        }
    }

    fn write_header(&mut self, num_records: u64) {
        let size = self.bytes.len() as u64;
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_be_bytes());
        for field in [GENERATION, num_records, size, size] {
            header.extend(field.to_be_bytes());
        }
        header.extend(0_u32.to_be_bytes());
        header.extend(crc32fast::hash(&header).to_be_bytes());
        self.bytes[..HEADER_SIZE].copy_from_slice(&header);
    }
}

fn sum_head(bytes: &mut [u8], head: &Head) {
    let end = head.pointers + (usize::from(head.level) + 1) * 8;
    let crc = crc32fast::hash(&bytes[head.start..end]);
    bytes[end..end + 4].copy_from_slice(&crc.to_be_bytes());
}
