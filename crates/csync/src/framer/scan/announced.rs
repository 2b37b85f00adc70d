//! What announces a literal or a file, and how large it will be.

use cyrus_format::dlist::Dlist;
use model::{Guid, Partition};

use crate::framer::Fatal;

/// What stands between the braces of a file.
#[derive(Debug)]
pub(super) struct FileText {
    pub partition: Partition,
    /// `None` if it is none: the file can be read over all the same.
    pub guid: Option<Guid>,
    pub size: u32,
}

/// The size of a literal. It has at most 4 GiB: nobody waits for the end of a longer one.
pub(super) fn size(digits: &[u8]) -> Result<Option<u32>, Fatal> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Ok(None);
    }
    let number = Dlist::bytes(digits).as_num().and_then(|number| u32::try_from(number).ok());
    number.map(Some).ok_or(Fatal::NumberTooBig)
}

/// Reads `partition guid size`, each of them bare or in quotes.
pub(super) fn file_text(inner: &[u8]) -> Result<Option<FileText>, Fatal> {
    let list = [b"(", inner, b")"].concat();
    let Ok(Dlist::List(words)) = Dlist::parse_exact(&list) else { return Ok(None) };
    let [Dlist::Bytes(partition), Dlist::Bytes(guid), Dlist::Bytes(digits)] = words.as_slice()
    else {
        return Ok(None);
    };
    let partition = Partition::new(partition.as_slice());
    let guid = Guid::from_hex(guid);
    Ok(size(digits)?.map(|size| FileText { partition, guid, size }))
}

/// The size of the literal or file that a line of unknown meaning ends with.
pub(super) fn literal_at_end(line: &[u8]) -> Result<Option<u32>, Fatal> {
    let Some(line) = line.strip_suffix(b"}") else { return Ok(None) };
    let Some(open) = line.iter().rposition(|byte| *byte == b'{') else { return Ok(None) };
    let (before, inner) = (&line[..open], &line[open + 1..]);
    if before.ends_with(b"%") {
        return Ok(file_text(inner)?.map(|file| file.size));
    }
    size(inner.strip_suffix(b"+").unwrap_or(inner))
}
