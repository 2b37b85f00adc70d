//! dlist: the nested lists that Cyrus writes into mailboxes.db, cyrus.header, quotas and the
//! replication protocol (`imap/dlist.c`, Cyrus 2.4 and later).

use std::borrow::Cow;

use crate::bytes::Reader;
use crate::error::FormatError;

/// How deep lists may nest. Cyrus itself uses four levels; the limit keeps hostile input from
/// exhausting the stack.
pub const MAX_DEPTH: usize = 64;

/// Longer strings are written as literals, never as atoms or in quotes (`lib/imparse.c`,
/// `lib/prot.c`).
const MAX_INLINE: usize = 1023;

/// How the length of a literal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Literals {
    /// `{n}`: in databases, and what a replica says.
    Plain,
    /// `{n+}`: what a master says, since nobody answers `{n}` with leave to go on.
    Plus,
}

/// One value of a dlist, whose strings are `B`: see [`Dlist`] and [`DlistRef`].
///
/// The text does not tell numbers, dates and GUIDs from other strings, so all are [`Bytes`].
/// A list of pairs in plain parentheses, as the replication protocol knows it, is a [`List`].
///
/// [`Bytes`]: Tree::Bytes
/// [`List`]: Tree::List
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree<B> {
    /// `NIL`: no value. The string of these three letters is written in quotes.
    Nil,
    /// An atom, a quoted string or a literal.
    Bytes(B),
    /// `(v v ...)`
    List(Vec<Tree<B>>),
    /// `%(k v k v ...)`, in the order of the text; a key may come twice.
    Kv(Vec<(B, Tree<B>)>),
}

/// A value by itself.
pub type Dlist = Tree<Vec<u8>>;

/// A value whose strings are those of the text that it was read from, where they stand there as
/// they are: all but quoted ones with a backslash.
pub type DlistRef<'a> = Tree<Cow<'a, [u8]>>;

impl Dlist {
    /// A string.
    pub fn bytes(value: impl Into<Vec<u8>>) -> Self {
        Dlist::Bytes(value.into())
    }

    /// A number, which is written in decimal.
    pub fn num(value: u64) -> Self {
        Dlist::Bytes(value.to_string().into_bytes())
    }
}

impl<'a, B: From<Cow<'a, [u8]>>> Tree<B> {
    /// Reads the value that `text` begins with; also returns how many bytes it took.
    ///
    /// # Errors
    /// [`FormatError::Damaged`] if there is no whole value, or it nests deeper than
    /// [`MAX_DEPTH`].
    pub fn parse(text: &'a [u8]) -> Result<(Self, usize), FormatError> {
        let mut reader = Reader::new("dlist", text);
        let value = Self::read(&mut reader)?;
        Ok((value, reader.consumed()))
    }

    /// Reads `text` as one value, with nothing behind it.
    ///
    /// # Errors
    /// As for [`Dlist::parse`], and if anything follows the value.
    pub fn parse_exact(text: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new("dlist", text);
        let value = Self::read(&mut reader)?;
        match reader.remaining() {
            0 => Ok(value),
            left => Err(reader.damaged(format!("{left} bytes behind the value"))),
        }
    }

    /// Reads one value from `reader`, whose kind of file then stands in the errors.
    ///
    /// # Errors
    /// As for [`Dlist::parse`].
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, FormatError> {
        read_value(reader, MAX_DEPTH)
    }
}

impl<B: AsRef<[u8]>> Tree<B> {
    /// Appends the value to `text`, byte for byte as Cyrus writes it to a database.
    pub fn write(&self, text: &mut Vec<u8>) {
        match self {
            Tree::Nil => text.extend_from_slice(b"NIL"),
            Tree::Bytes(bytes) => write_string(bytes.as_ref(), Literals::Plain, text),
            Tree::List(items) => {
                text.push(b'(');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        text.push(b' ');
                    }
                    item.write(text);
                }
                text.push(b')');
            }
            Tree::Kv(pairs) => {
                text.extend_from_slice(b"%(");
                for (at, (key, value)) in pairs.iter().enumerate() {
                    if at > 0 {
                        text.push(b' ');
                    }
                    write_string(key.as_ref(), Literals::Plain, text);
                    text.push(b' ');
                    value.write(text);
                }
                text.push(b')');
            }
        }
    }

    /// The text of the value by itself.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write(&mut text);
        text
    }

    /// The first value with that key, if this is a list of keys and values.
    pub fn get(&self, key: &[u8]) -> Option<&Tree<B>> {
        self.pairs()?.iter().find(|(name, _)| name.as_ref() == key).map(|(_, value)| value)
    }

    /// The bytes, if this is a string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Tree::Bytes(bytes) => Some(bytes.as_ref()),
            _ => None,
        }
    }

    /// The number, if this is a string of decimal digits that stands for one of 64 bits.
    pub fn as_num(&self) -> Option<u64> {
        let digits = self.as_bytes()?;
        if digits.is_empty() {
            return None;
        }
        digits.iter().try_fold(0_u64, |sum, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        })
    }

    /// The values, if this is a plain list.
    pub fn items(&self) -> Option<&[Tree<B>]> {
        match self {
            Tree::List(items) => Some(items),
            _ => None,
        }
    }

    /// The keys and values, if this is a list of such.
    pub fn pairs(&self) -> Option<&[(B, Tree<B>)]> {
        match self {
            Tree::Kv(pairs) => Some(pairs),
            _ => None,
        }
    }
}

/// Appends a string: an atom if the bytes allow it, else in quotes, else a literal.
pub fn write_string(bytes: &[u8], literals: Literals, text: &mut Vec<u8>) {
    if is_atom(bytes) && bytes != b"NIL" {
        text.extend_from_slice(bytes);
    } else if is_quotable(bytes) {
        text.push(b'"');
        text.extend_from_slice(bytes);
        text.push(b'"');
    } else {
        let plus = if literals == Literals::Plus { "+" } else { "" };
        text.extend_from_slice(format!("{{{}{plus}}}\r\n", bytes.len()).as_bytes());
        text.extend_from_slice(bytes);
    }
}

/// Reads a value in which lists may nest `depth` deep.
fn read_value<'a, B: From<Cow<'a, [u8]>>>(
    reader: &mut Reader<'a>,
    depth: usize,
) -> Result<Tree<B>, FormatError> {
    match reader.peek() {
        Some(b'(') => {
            let depth = descend(reader, depth)?;
            reader.expect(b"(")?;
            let mut items = Vec::new();
            while !at_list_end(reader, items.is_empty())? {
                items.push(read_value(reader, depth)?);
            }
            Ok(Tree::List(items))
        }
        Some(b'%') => {
            let depth = descend(reader, depth)?;
            reader.expect(b"%(")?;
            let mut pairs = Vec::new();
            while !at_list_end(reader, pairs.is_empty())? {
                let key = match read_string(reader)? {
                    Some(key) => key,
                    None => return Err(reader.damaged("NIL where a key belongs")),
                };
                skip_spaces(reader)?;
                pairs.push((key.into(), read_value(reader, depth)?));
            }
            Ok(Tree::Kv(pairs))
        }
        _ => Ok(read_string(reader)?.map_or(Tree::Nil, |string| Tree::Bytes(string.into()))),
    }
}

/// One level further down.
fn descend(reader: &Reader<'_>, depth: usize) -> Result<usize, FormatError> {
    depth
        .checked_sub(1)
        .ok_or_else(|| reader.damaged(format!("lists nest deeper than {MAX_DEPTH}")))
}

/// Reads what stands between two values, or the end of their list.
fn at_list_end(reader: &mut Reader<'_>, first: bool) -> Result<bool, FormatError> {
    let spaces = reader.rest().iter().take_while(|byte| **byte == b' ').count();
    reader.take(spaces)?;
    match reader.peek() {
        Some(b')') => reader.take(1).map(|_| true),
        Some(_) if first || spaces > 0 => Ok(false),
        Some(_) => Err(reader.damaged("no space between two values")),
        None => Err(reader.damaged("the list does not end")),
    }
}

/// Reads at least one space.
fn skip_spaces(reader: &mut Reader<'_>) -> Result<(), FormatError> {
    reader.expect(b" ")?;
    while reader.peek() == Some(b' ') {
        reader.take(1)?;
    }
    Ok(())
}

/// Reads a string in any of its three forms, or `NIL`.
fn read_string<'a>(reader: &mut Reader<'a>) -> Result<Option<Cow<'a, [u8]>>, FormatError> {
    match reader.peek() {
        Some(b'"') => read_quoted(reader).map(Some),
        Some(b'{') => read_literal(reader).map(|bytes| Some(Cow::Borrowed(bytes))),
        _ => {
            let length = reader.rest().iter().take_while(|byte| continues_atom(**byte)).count();
            if length == 0 {
                return Err(reader.damaged("a value is missing"));
            }
            let atom = reader.take(length)?;
            Ok((atom != b"NIL").then_some(Cow::Borrowed(atom)))
        }
    }
}

/// Readers take more for an atom than writers put into one, as Cyrus' own do.
fn continues_atom(byte: u8) -> bool {
    !matches!(byte, 0..=0x1e | b' ' | b'(' | b')' | b'"')
}

/// Reads a string in quotes; a backslash takes the next byte as it is.
fn read_quoted<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, [u8]>, FormatError> {
    reader.expect(b"\"")?;
    let plain = reader.rest().iter().take_while(|byte| !matches!(byte, b'"' | b'\\')).count();
    let plain = reader.take(plain)?;
    if reader.peek() == Some(b'"') {
        reader.take(1)?;
        return Ok(Cow::Borrowed(plain));
    }
    let mut string = plain.to_vec();
    loop {
        match reader.u8()? {
            b'"' => return Ok(Cow::Owned(string)),
            b'\\' => string.push(reader.u8()?),
            byte => string.push(byte),
        }
    }
}

/// Reads `{n}` or `{n+}`, the line's end, and `n` bytes.
fn read_literal<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], FormatError> {
    reader.expect(b"{")?;
    let digits = reader.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = match std::str::from_utf8(reader.take(digits)?).map(str::parse::<usize>) {
        Ok(Ok(length)) => length,
        _ => return Err(reader.damaged("a literal without a usable length")),
    };
    if reader.peek() == Some(b'+') {
        reader.take(1)?;
    }
    reader.expect(b"}\r\n")?;
    reader.take(length)
}

/// Whether Cyrus writes these bytes bare (imparse_isatom): 0x1F, which separates the components
/// of names in mailboxes.db, is allowed.
fn is_atom(bytes: &[u8]) -> bool {
    let special = |byte: u8| !(0x1f..0x7f).contains(&byte) || b" {()\"%*\\".contains(&byte);
    !bytes.is_empty() && bytes.len() <= MAX_INLINE && !bytes.iter().any(|byte| special(*byte))
}

/// Whether Cyrus writes these bytes in quotes (prot_printstring). It never writes a backslash
/// there, but turns to a literal instead.
fn is_quotable(bytes: &[u8]) -> bool {
    let special = |byte: u8| matches!(byte, 0 | 0x80..|b'\r'| b'\n' | b'"' | b'%' | b'\\');
    bytes.len() <= MAX_INLINE && !bytes.iter().any(|byte| special(*byte))
}

#[cfg(test)]
mod tests;
