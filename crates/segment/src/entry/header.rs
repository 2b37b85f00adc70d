//! One header block, field by field.

use std::ops::Range;

use super::Kind;
use crate::bytes::{BLOCK, padding};

pub(super) const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const FLAG: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const UNAME: Range<usize> = 265..297;
const GNAME: Range<usize> = 297..329;
const DEV_MAJOR: Range<usize> = 329..337;
const DEV_MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;

const USTAR: &[u8; 8] = b"ustar\x0000";

/// The largest size that eleven octal digits hold.
const OCTAL_SIZE_MAX: u64 = (1 << 33) - 1;

/// The largest time that eleven octal digits hold: the year 2242.
const MTIME_MAX: i64 = (1 << 33) - 1;

/// What the block of a pax extended header is called; it is never extracted.
const PAX_NAME: &[u8] = b"././@PaxHeader";

pub(super) type Block = [u8; BLOCK as usize];

/// An entry to be written.
pub(crate) struct NewEntry<'a> {
    pub name: &'a [u8],
    pub kind: Kind,
    /// The target of a link, else empty.
    pub link: &'a [u8],
    /// Seconds since 1970; clamped to what the field holds.
    pub mtime: i64,
    pub size: u64,
}

/// All fields that every header of ours has in common.
const TEMPLATE: Block = template();

const fn template() -> Block {
    let mut block = [0; BLOCK as usize];
    // Owner and group by name: an administrator who extracts as root gets them mapped to what
    // they are on his machine. The numbers are for machines that know no such names.
    let mut block = put(&mut block, UID.start, b"0000000");
    block = put(&mut block, GID.start, b"0000000");
    block = put(&mut block, CHECKSUM.start, b"        ");
    block = put(&mut block, MAGIC.start, USTAR);
    block = put(&mut block, UNAME.start, b"cyrus");
    block = put(&mut block, GNAME.start, b"mail");
    block = put(&mut block, DEV_MAJOR.start, b"0000000");
    put(&mut block, DEV_MINOR.start, b"0000000")
}

const fn put(block: &mut Block, at: usize, field: &[u8]) -> Block {
    let mut i = 0;
    while i < field.len() {
        block[at + i] = field[i];
        i += 1;
    }
    *block
}

impl NewEntry<'_> {
    /// Appends the header, and before it the extended one where a name needs it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let split = split_name(self.name);
        let link_fits = self.link.len() <= LINK.len();
        if split.is_none() || !link_fits {
            let mut records = Vec::new();
            if split.is_none() {
                push_pax_record("path", self.name, &mut records);
            }
            if !link_fits {
                push_pax_record("linkpath", self.link, &mut records);
            }
            let pax = NewEntry {
                name: PAX_NAME,
                kind: Kind::Other(b'x'),
                link: b"",
                mtime: self.mtime,
                size: records.len() as u64,
            };
            pax.push_block((b"", PAX_NAME), out);
            let padding = padding(pax.size);
            out.extend_from_slice(&records);
            out.resize(out.len() + padding as usize, 0);
        }
        // What an extended header overrides is cut; programs without pax see that much.
        let cut = &self.name[..self.name.len().min(NAME.len())];
        self.push_block(split.unwrap_or((b"", cut)), out);
    }

    fn push_block(&self, (prefix, name): (&[u8], &[u8]), out: &mut Vec<u8>) {
        let mut block = TEMPLATE;
        block[..name.len()].copy_from_slice(name);
        block[PREFIX.start..][..prefix.len()].copy_from_slice(prefix);
        let link = &self.link[..self.link.len().min(LINK.len())];
        block[LINK.start..][..link.len()].copy_from_slice(link);
        put_octal(&mut block[MODE], self.kind.mode());
        if self.size <= OCTAL_SIZE_MAX {
            put_octal(&mut block[SIZE], self.size);
        } else {
            block[SIZE.start] = 0x80;
            block[SIZE.end - 8..SIZE.end].copy_from_slice(&self.size.to_be_bytes());
        }
        put_octal(&mut block[MTIME], self.mtime.clamp(0, MTIME_MAX).unsigned_abs());
        block[FLAG] = self.kind.flag();
        // Six digits, NUL, space: the usual form. 512 bytes add up to less than 2^18.
        let sum = sum_unsigned(&block);
        put_octal(&mut block[CHECKSUM.start..CHECKSUM.end - 1], u64::from(sum));
        out.extend_from_slice(&block);
    }
}

/// Prefix and name of a ustar header, or `None` if there is no such cut.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= NAME.len() {
        return Some((b"", name));
    }
    // The earliest slash that leaves a short enough name also makes the shortest prefix.
    let from = name.len() - NAME.len() - 1;
    let slash = from + name[from..].iter().position(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    (slash > 0 && slash <= PREFIX.len() && !rest.is_empty()).then_some((prefix, rest))
}

/// A record `<length> <key>=<value>\n` whose length counts itself.
fn push_pax_record(key: &str, value: &[u8], out: &mut Vec<u8>) {
    // Space, equals sign and newline.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Fills all of the field but the last byte with octal digits; that one stays NUL.
fn put_octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}

fn sum_unsigned(block: &Block) -> u32 {
    block.iter().map(|byte| u32::from(*byte)).sum()
}

/// The checksum as some ancient programs computed it, with signed bytes.
fn sum_signed(block: &Block) -> i32 {
    block.iter().map(|byte| i32::from(*byte as i8)).sum()
}

/// A header block that was read, its checksum verified.
pub(super) struct Header<'a>(&'a Block);

impl<'a> Header<'a> {
    /// `None` unless the checksum is right.
    pub fn parse(block: &'a Block) -> Option<Self> {
        let found = parse_number(&block[CHECKSUM])?;
        let mut blank = *block;
        blank[CHECKSUM].fill(b' ');
        let unsigned = u64::from(sum_unsigned(&blank));
        let signed = u64::try_from(sum_signed(&blank)).ok();
        (found == unsigned || Some(found) == signed).then_some(Self(block))
    }

    pub fn flag(&self) -> u8 {
        self.0[FLAG]
    }

    /// The name; the prefix only counts in a POSIX header, GNU's has other things there.
    pub fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[NAME]);
        let prefix = until_nul(&self.0[PREFIX]);
        if prefix.is_empty() || !self.0[MAGIC].starts_with(b"ustar\0") {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub fn link(&self) -> Vec<u8> {
        until_nul(&self.0[LINK]).to_vec()
    }

    /// Bytes of content; `None` if the field holds no such number.
    pub fn size(&self) -> Option<u64> {
        parse_number(&self.0[SIZE])
    }

    /// Seconds since 1970, or 0 where the field makes no sense: nothing depends on it.
    pub fn mtime(&self) -> i64 {
        parse_number(&self.0[MTIME]).and_then(|time| i64::try_from(time).ok()).unwrap_or(0)
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number in octal digits between blanks, or in base 256 after a byte 0x80.
fn parse_number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if *first == 0x80 {
        return rest
            .iter()
            .try_fold(0u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = until_nul(field).trim_ascii();
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(u64::from(digit))
    })
}
