//! Writing cyrus.index, as a whole and in place.

use model::{Record, crc};

use super::WHAT;
use super::header::IndexHeader;
use super::layout::{self, Layout};
use crate::error::EncodeError;

/// Writes a whole file of the header's version, with all CRCs.
///
/// The sizes and the number of records are set to what they have to be; everything else comes from
/// the header as it is ([`super::Tally`] counts what it ought to say). Records are written in the
/// order given, which in a cyrus.index must be that of their UIDs.
///
/// A version keeps only what it has room for: fields that it lacks are left out, and nanoseconds
/// are cut off before version 20.
///
/// # Errors
/// [`EncodeError::Version`] if there is no such version, [`EncodeError::Range`] if a number is too
/// large for its field, such as a time before 1970.
pub fn write_index(header: &IndexHeader, records: &[Record]) -> Result<Vec<u8>, EncodeError> {
    let num_records = u32::try_from(records.len()).map_err(|_| EncodeError::Range {
        what: WHAT,
        field: "num_records",
        value: records.len().to_string(),
    })?;
    let mut bytes = write_header(&IndexHeader { num_records, ..header.clone() })?;
    for record in records {
        write_record(header.minor_version, record, &mut bytes)?;
    }
    Ok(bytes)
}

/// Writes a header alone, for whoever writes a file piece by piece. The sizes are set to what they
/// have to be; everything else comes from the header, the number of records too.
///
/// # Errors
/// As for [`write_index`].
pub fn write_header(header: &IndexHeader) -> Result<Vec<u8>, EncodeError> {
    let layout = layout::known(header.minor_version)?;
    let mut header = header.clone();
    header.set_sizes(layout);
    let mut raw = vec![0; layout.header_size];
    (layout.store_header)(&header, &mut raw)?;
    seal(layout, &mut raw);
    Ok(raw)
}

/// Appends one record, likewise.
///
/// # Errors
/// As for [`write_index`]; nothing is appended then.
pub fn write_record(
    minor_version: u32,
    record: &Record,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let layout = layout::known(minor_version)?;
    let mut raw = vec![0; layout.record_size];
    (layout.store_record)(record, &mut raw)?;
    seal(layout, &mut raw);
    out.extend_from_slice(&raw);
    Ok(())
}

/// Changes one record in place, and its CRC with it. Bytes that no known field covers stay.
///
/// # Errors
/// As for [`write_index`], and [`EncodeError::Range`] if `raw` is shorter than a record; `raw`
/// then stays as it was.
pub fn patch_record(
    minor_version: u32,
    raw: &mut [u8],
    edit: impl FnOnce(&mut Record),
) -> Result<(), EncodeError> {
    let layout = layout::known(minor_version)?;
    let raw = cut(raw, layout.record_size, "record")?;
    let mut record = (layout.load_record)(raw);
    edit(&mut record);
    let mut patched = raw.to_vec();
    (layout.store_record)(&record, &mut patched)?;
    seal(layout, &mut patched);
    raw.copy_from_slice(&patched);
    Ok(())
}

/// Changes the header at the start of `raw` in place, and its CRC with it. Its version and the
/// sizes that it names stay what they are.
///
/// # Errors
/// As for [`write_index`], and [`EncodeError::Range`] if `raw` is shorter than a header; `raw` then
/// stays as it was.
pub fn patch_header(
    minor_version: u32,
    raw: &mut [u8],
    edit: impl FnOnce(&mut IndexHeader),
) -> Result<(), EncodeError> {
    let layout = layout::known(minor_version)?;
    let raw = cut(raw, layout.header_size, "header")?;
    let mut header = IndexHeader::load(layout, raw);
    let IndexHeader { minor_version, start_offset, record_size, .. } = header;
    edit(&mut header);
    header = IndexHeader { minor_version, start_offset, record_size, ..header };
    let mut patched = raw.to_vec();
    (layout.store_header)(&header, &mut patched)?;
    seal(layout, &mut patched);
    raw.copy_from_slice(&patched);
    Ok(())
}

/// The first `size` bytes.
fn cut<'a>(
    raw: &'a mut [u8],
    size: usize,
    field: &'static str,
) -> Result<&'a mut [u8], EncodeError> {
    let length = raw.len();
    raw.get_mut(..size).ok_or_else(|| EncodeError::Range {
        what: WHAT,
        field,
        value: format!("{length} bytes"),
    })
}

/// Puts the CRC of a header or record behind it, where the version has one.
fn seal(layout: &Layout, raw: &mut [u8]) {
    if !layout.has_crc {
        return;
    }
    if let Some((covered, sum)) = raw.split_last_chunk_mut() {
        *sum = crc::crc32(covered).to_be_bytes();
    }
}
