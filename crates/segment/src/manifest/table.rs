//! The message table: fixed-width rows, sorted, searched as they lie there.

use std::cmp::Ordering;

use model::Guid;

use crate::bytes::{lower_hex, parse_lower_hex};

/// Bytes of a row: `"<guid> <offset> <size>",` and a newline. The last one has a blank instead of
/// the comma, so that all rows are equally long.
pub const ROW: usize = 1 + GUID_DIGITS + 1 + OFFSET_DIGITS + 1 + SIZE_DIGITS + 3;

const GUID_DIGITS: usize = 40;
const OFFSET_DIGITS: usize = 16;
const SIZE_DIGITS: usize = 12;

const GUID_AT: usize = 1;
const OFFSET_AT: usize = GUID_AT + GUID_DIGITS + 1;
const SIZE_AT: usize = OFFSET_AT + OFFSET_DIGITS + 1;
const QUOTE_AT: usize = SIZE_AT + SIZE_DIGITS;

/// The largest message that a row can speak of: 256 TiB.
pub(crate) const SIZE_MAX: u64 = (1 << (4 * SIZE_DIGITS)) - 1;

/// A message that a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// SHA-1 of its bytes.
    pub guid: Guid,
    /// Where they begin, counted from the segment's first byte.
    pub offset: u64,
    /// How many they are; less than 2^48.
    pub size: u64,
}

/// Where a message's bytes are within its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where they begin, counted from the segment's first byte.
    pub offset: u64,
    /// How many they are.
    pub size: u64,
}

impl TableRow {
    /// The row as it is stored.
    pub(crate) fn encode(&self, last: bool) -> [u8; ROW] {
        let mut row = [b'"'; ROW];
        row[GUID_AT..OFFSET_AT - 1].copy_from_slice(&self.guid.to_hex());
        row[OFFSET_AT - 1] = b' ';
        put_hex(&mut row[OFFSET_AT..SIZE_AT - 1], self.offset);
        row[SIZE_AT - 1] = b' ';
        put_hex(&mut row[SIZE_AT..QUOTE_AT], self.size);
        row[QUOTE_AT + 1] = if last { b' ' } else { b',' };
        row[QUOTE_AT + 2] = b'\n';
        row
    }

    /// Reads a row whose form was checked.
    fn decode(row: &[u8]) -> Option<Self> {
        Some(Self {
            guid: Guid::from_hex(row.get(GUID_AT..OFFSET_AT - 1)?)?,
            offset: parse_lower_hex(row.get(OFFSET_AT..SIZE_AT - 1)?)?,
            size: parse_lower_hex(row.get(SIZE_AT..QUOTE_AT)?)?,
        })
    }
}

fn put_hex(field: &mut [u8], mut value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for digit in field.iter_mut().rev() {
        *digit = DIGITS[(value & 15) as usize];
        value >>= 4;
    }
}

/// The rows of a message table that is searched again and again, in less than half the memory of
/// what is stored.
#[derive(Clone, Debug, Default)]
pub struct Rows(Vec<[u8; PACKED]>);

/// Bytes of a GUID, an offset, and a size below 2^48.
const PACKED: usize = 20 + 8 + 6;

impl Rows {
    /// Room for so many.
    pub(crate) fn with_capacity(rows: usize) -> Self {
        Self(Vec::with_capacity(rows))
    }

    /// Adds the next one, by GUID.
    pub(crate) fn push(&mut self, row: &TableRow) {
        let mut packed = [0; PACKED];
        packed[..20].copy_from_slice(&row.guid.0);
        packed[20..28].copy_from_slice(&row.offset.to_be_bytes());
        packed[28..].copy_from_slice(&row.size.to_be_bytes()[2..]);
        self.0.push(packed);
    }

    /// Where the bytes of this message are, if the segment holds them.
    pub fn find(&self, guid: &Guid) -> Option<Located> {
        let at = self.0.binary_search_by(|row| row[..20].cmp(&guid.0)).ok()?;
        let TableRow { offset, size, .. } = unpacked(&self.0[at]);
        // No message is at the first byte: that is what a row says that cannot be read.
        (offset > 0).then_some(Located { offset, size })
    }

    /// All rows, by GUID.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TableRow> + '_ {
        self.0.iter().map(unpacked)
    }
}

fn unpacked(row: &[u8; PACKED]) -> TableRow {
    let (mut guid, mut offset, mut size) = ([0; 20], [0; 8], [0; 8]);
    guid.copy_from_slice(&row[..20]);
    offset.copy_from_slice(&row[20..28]);
    size[2..].copy_from_slice(&row[28..]);
    TableRow {
        guid: Guid(guid),
        offset: u64::from_be_bytes(offset),
        size: u64::from_be_bytes(size),
    }
}

/// The rows of a segment's message table.
#[derive(Clone, Copy, Debug)]
pub struct MessageTable<'a> {
    rows: &'a [u8],
}

impl<'a> MessageTable<'a> {
    /// Takes the bytes of the rows, and nothing else.
    ///
    /// # Errors
    ///
    /// The number of the first row, from 0 on, that is not of the one right form or is not
    /// greater than the one before it.
    pub fn parse(rows: &'a [u8]) -> Result<Self, u64> {
        let last = (rows.len() / ROW).saturating_sub(1);
        let mut before: Option<&[u8]> = None;
        for (at, row) in rows.chunks(ROW).enumerate() {
            let guid = row.get(GUID_AT..OFFSET_AT - 1).ok_or(at as u64)?;
            let ascends = before.is_none_or(|before| before < guid);
            if !ascends || !is_row(row, at == last) {
                return Err(at as u64);
            }
            before = Some(guid);
        }
        Ok(Self { rows })
    }

    /// Takes rows without looking at them. One that is malformed is found by nobody.
    pub(crate) fn unchecked(rows: &'a [u8]) -> Self {
        Self { rows }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.rows.len() / ROW
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Where the bytes of this message are, if the segment holds them.
    pub fn find(&self, guid: &Guid) -> Option<Located> {
        let TableRow { offset, size, .. } = TableRow::decode(self.row(self.position(guid)?)?)?;
        Some(Located { offset, size })
    }

    /// The number of this message's row, from 0 on.
    pub(crate) fn position(&self, guid: &Guid) -> Option<usize> {
        let hex = guid.to_hex();
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match guid_of(self.row(middle)?).cmp(&hex) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return Some(middle),
            }
        }
        None
    }

    /// All rows, by GUID.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TableRow> + use<'a> {
        // What a malformed row says: no message is at the segment's first byte.
        const NONE: TableRow = TableRow { guid: Guid::ZERO, offset: 0, size: 0 };
        self.rows.chunks_exact(ROW).map(|row| TableRow::decode(row).unwrap_or(NONE))
    }

    fn row(&self, at: usize) -> Option<&'a [u8]> {
        self.rows.get(at.checked_mul(ROW)?..)?.get(..ROW)
    }
}

/// The GUID of a row as it is stored.
fn guid_of(row: &[u8]) -> &[u8] {
    &row[GUID_AT..OFFSET_AT - 1]
}

/// How the GUID of a row compares with this one.
pub(crate) fn compare(row: &[u8; ROW], guid: &Guid) -> Ordering {
    guid_of(row).cmp(&guid.to_hex())
}

/// Whether these bytes are a row: quotes, digits and blanks where they belong.
fn is_row(row: &[u8], last: bool) -> bool {
    let hex = |digits: &[u8]| digits.iter().all(|digit| lower_hex(*digit).is_some());
    row.len() == ROW
        && row[0] == b'"'
        && hex(&row[GUID_AT..OFFSET_AT - 1])
        && row[OFFSET_AT - 1] == b' '
        && hex(&row[OFFSET_AT..SIZE_AT - 1])
        && row[SIZE_AT - 1] == b' '
        && hex(&row[SIZE_AT..QUOTE_AT])
        && row[QUOTE_AT..] == if last { *b"\" \n" } else { *b"\",\n" }
}
