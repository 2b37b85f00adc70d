//! Fields of values, read and written.

use std::borrow::Cow;

use cyrus_format::dlist::{DlistRef, Literals, write_string};
use model::{Guid, Timestamp};
use thiserror::Error;

/// Why a value is not what a command or a reply needs. Cyrus says IMAP_PROTOCOL_BAD_PARAMETERS.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// A field that is required.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A field of the wrong kind, or out of range.
    #[error("the field {field} is not {wanted}")]
    Wrong {
        /// Which.
        field: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The value as a whole.
    #[error("the value is not {0}")]
    Shape(&'static str),
}

/// A list of keys and values. Of two equal keys the first counts; unknown ones are ignored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [(Cow<'a, [u8]>, DlistRef<'a>)]);

impl<'a> Fields<'a> {
    pub fn of(value: &'a DlistRef<'a>) -> Result<Self, ValueError> {
        value.pairs().map(Self).ok_or(ValueError::Shape("a list of keys and values"))
    }

    /// The field, unless it is missing or `NIL`.
    pub fn opt(&self, key: &'static str) -> Option<&'a DlistRef<'a>> {
        let pair = self.0.iter().find(|(name, _)| name.as_ref() == key.as_bytes());
        pair.map(|(_, value)| value).filter(|value| **value != DlistRef::Nil)
    }

    /// Whether it is there, if only as `NIL`.
    pub fn has(&self, key: &'static str) -> bool {
        self.0.iter().any(|(name, _)| name.as_ref() == key.as_bytes())
    }

    pub fn get(&self, key: &'static str) -> Result<&'a DlistRef<'a>, ValueError> {
        self.opt(key).ok_or(ValueError::Missing(key))
    }

    pub fn bytes(&self, key: &'static str) -> Result<&'a [u8], ValueError> {
        as_bytes(key, self.get(key)?)
    }

    pub fn opt_bytes(&self, key: &'static str) -> Result<Option<&'a [u8]>, ValueError> {
        self.opt(key).map(|value| as_bytes(key, value)).transpose()
    }

    /// A string for which Cyrus says `NIL` if there is nothing in it.
    pub fn bytes_or_nil(&self, key: &'static str) -> Result<&'a [u8], ValueError> {
        match self.has(key) {
            true => Ok(self.opt_bytes(key)?.unwrap_or_default()),
            false => Err(ValueError::Missing(key)),
        }
    }

    pub fn num<T: TryFrom<u64>>(&self, key: &'static str) -> Result<T, ValueError> {
        as_num(key, self.get(key)?)
    }

    pub fn opt_num<T: TryFrom<u64>>(&self, key: &'static str) -> Result<Option<T>, ValueError> {
        self.opt(key).map(|value| as_num(key, value)).transpose()
    }

    /// A date: seconds.
    pub fn date(&self, key: &'static str) -> Result<Timestamp, ValueError> {
        self.num(key).map(Timestamp::from_secs)
    }

    pub fn opt_date(&self, key: &'static str) -> Result<Option<Timestamp>, ValueError> {
        Ok(self.opt_num(key)?.map(Timestamp::from_secs))
    }

    pub fn guid(&self, key: &'static str) -> Result<Guid, ValueError> {
        as_guid(key, self.get(key)?)
    }

    pub fn list(&self, key: &'static str) -> Result<&'a [DlistRef<'a>], ValueError> {
        as_list(key, self.get(key)?)
    }
}

pub(crate) fn as_bytes<'a>(
    field: &'static str,
    value: &'a DlistRef<'a>,
) -> Result<&'a [u8], ValueError> {
    value.as_bytes().ok_or(ValueError::Wrong { field, wanted: "a string" })
}

pub(crate) fn as_num<T: TryFrom<u64>>(
    field: &'static str,
    value: &DlistRef<'_>,
) -> Result<T, ValueError> {
    let number = value.as_num().and_then(|number| T::try_from(number).ok());
    number.ok_or(ValueError::Wrong { field, wanted: "a number in range" })
}

pub(crate) fn as_guid(field: &'static str, value: &DlistRef<'_>) -> Result<Guid, ValueError> {
    let guid = value.as_bytes().and_then(Guid::from_hex);
    guid.ok_or(ValueError::Wrong { field, wanted: "a GUID" })
}

pub(crate) fn as_list<'a>(
    field: &'static str,
    value: &'a DlistRef<'a>,
) -> Result<&'a [DlistRef<'a>], ValueError> {
    value.items().ok_or(ValueError::Wrong { field, wanted: "a list" })
}

/// The items of a list, if all are strings.
pub(crate) fn strings<'a>(
    items: &'a [DlistRef<'a>],
) -> Result<impl Iterator<Item = &'a [u8]>, ValueError> {
    let strings: Option<Vec<&[u8]>> = items.iter().map(DlistRef::as_bytes).collect();
    Ok(strings.ok_or(ValueError::Shape("a list of strings"))?.into_iter())
}

/// Writes one value, byte for byte as Cyrus does.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    literals: Literals,
    first: bool,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut Vec<u8>, literals: Literals) -> Self {
        Self { out, literals, first: true }
    }

    fn separate(&mut self) {
        if !self.first {
            self.out.push(b' ');
        }
        self.first = false;
    }

    /// Bytes that are written as they are: numbers, GUIDs, flags, keys.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.separate();
        self.out.extend_from_slice(bytes);
    }

    pub fn nil(&mut self) {
        self.raw(b"NIL");
    }

    pub fn num(&mut self, number: u64) {
        self.raw(number.to_string().as_bytes());
    }

    /// A date; those before 1970 have no form, and are the first second of it.
    pub fn date(&mut self, date: Timestamp) {
        self.num(u64::try_from(date.secs).unwrap_or(0));
    }

    pub fn guid(&mut self, guid: Guid) {
        self.raw(&guid.to_hex());
    }

    /// A user flag: never in quotes, unless it is none and would otherwise be taken for more.
    pub fn flag(&mut self, flag: &[u8]) {
        let plain = |byte: &u8| byte.is_ascii_graphic() && !b"(){%\"\\".contains(byte);
        if flag.iter().all(plain) && !flag.is_empty() && flag != b"NIL" {
            self.raw(flag);
        } else {
            self.string(flag);
        }
    }

    pub fn string(&mut self, bytes: &[u8]) {
        self.separate();
        write_string(bytes, self.literals, self.out);
    }

    pub fn key(&mut self, key: &str) -> &mut Self {
        self.raw(key.as_bytes());
        self
    }

    pub fn list(&mut self, fill: impl FnOnce(&mut Self)) {
        self.enclosed(b"(", fill);
    }

    pub fn pairs(&mut self, fill: impl FnOnce(&mut Self)) {
        self.enclosed(b"%(", fill);
    }

    pub fn strings<T: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = T>) {
        self.list(|w| items.into_iter().for_each(|item| w.string(item.as_ref())));
    }

    fn enclosed(&mut self, open: &[u8], fill: impl FnOnce(&mut Self)) {
        self.raw(open);
        self.first = true;
        fill(self);
        self.out.push(b')');
        self.first = false;
    }
}
