//! Lines to settings.

use std::collections::BTreeMap;

use super::{ConfError, ConfPlace, Include, Setting};

/// A server has a handful; the limit stops one that includes ever new names.
const MAX_FILES: usize = 64;

/// Reads a file and all that it includes.
pub(super) fn settings(
    label: &str,
    text: &[u8],
    include: &mut Include<'_>,
) -> Result<BTreeMap<String, Setting>, ConfError> {
    let mut files = Files { seen: vec![label.to_owned()], settings: BTreeMap::new(), include };
    files.read(label, text)?;
    Ok(files.settings)
}

struct Files<'a, 'b> {
    seen: Vec<String>,
    settings: BTreeMap<String, Setting>,
    include: &'a mut Include<'b>,
}

impl Files<'_, '_> {
    fn read(&mut self, file: &str, text: &[u8]) -> Result<(), ConfError> {
        let mut rest = text;
        let mut next = 1;
        while !rest.is_empty() {
            let place = ConfPlace { file: file.to_owned(), line: next };
            let logical = LogicalLine::take(rest);
            rest = logical.rest;
            next += logical.lines;
            // Cyrus forgets a line whose continuation is missing.
            if !logical.unfinished {
                self.line(&logical.text, place)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], place: ConfPlace) -> Result<(), ConfError> {
        let line = trim(line);
        if line.is_empty() || line.starts_with(b"#") {
            return Ok(());
        }
        let name = usize::from(line.starts_with(b"@"));
        let end = line[name..]
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
            .map_or(line.len(), |at| name + at);
        if end == 0 || line.get(end) != Some(&b':') || line.contains(&0) {
            let found = line.iter().take(40).copied().collect::<Vec<_>>();
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(ConfError::NotAnOption { place, found });
        }
        let key = String::from_utf8_lossy(&line[..end]).to_ascii_lowercase();
        let value = trim(&line[end + 1..]);
        if value.is_empty() {
            return Err(ConfError::EmptyValue { place, key });
        }
        if key.starts_with('@') {
            return self.directive(key, value, place);
        }
        if let Some(first) = self.settings.get(&key) {
            return Err(ConfError::Duplicate { place, key, first: first.place.clone() });
        }
        self.settings.insert(key, Setting { value: value.to_vec(), place });
        Ok(())
    }

    fn directive(&mut self, key: String, path: &[u8], place: ConfPlace) -> Result<(), ConfError> {
        if key != "@include" {
            return Err(ConfError::UnknownDirective { place, directive: key });
        }
        let path = String::from_utf8_lossy(path).into_owned();
        if self.seen.contains(&path) {
            return Err(ConfError::IncludedTwice { place, path });
        }
        if self.seen.len() >= MAX_FILES {
            return Err(ConfError::TooManyFiles { place, limit: MAX_FILES });
        }
        self.seen.push(path.clone());
        match (self.include)(&path) {
            Ok(text) => self.read(&path, &text),
            Err(why) => Err(ConfError::Include { place, path, why }),
        }
    }
}

/// A line with all that a backslash at its end adds to it. Even a comment is continued so.
struct LogicalLine<'a> {
    text: Vec<u8>,
    lines: usize,
    unfinished: bool,
    rest: &'a [u8],
}

impl<'a> LogicalLine<'a> {
    fn take(text: &'a [u8]) -> Self {
        let mut taken = Self { text: Vec::new(), lines: 0, unfinished: false, rest: text };
        loop {
            let (line, rest) = match taken.rest.iter().position(|byte| *byte == b'\n') {
                Some(at) => (&taken.rest[..at], Some(&taken.rest[at + 1..])),
                None => (taken.rest, None),
            };
            taken.lines += 1;
            taken.rest = rest.unwrap_or_default();
            match line.strip_suffix(b"\\") {
                // At the end of a file without a newline it is an ordinary character.
                Some(begun) if rest.is_some() => taken.text.extend_from_slice(begun),
                _ => {
                    taken.text.extend_from_slice(line);
                    return taken;
                }
            }
            if taken.rest.is_empty() {
                taken.unfinished = true;
                return taken;
            }
        }
    }
}

/// Without blanks at both ends, as C's isspace knows them.
fn trim(mut text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    while let [first, rest @ ..] = text
        && is_blank(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_blank(last)
    {
        text = rest;
    }
    text
}
