//! Something like a cyrus.cache: records of the right shape and size, with the right checksums,
//! made without parsing a message. What copies directories cannot tell the difference; a server
//! should not be asked to.

/// A cyrus.cache under construction.
#[derive(Debug)]
pub(super) struct CacheFile {
    /// How much of the file stands already.
    before: u64,
    bytes: Vec<u8>,
}

impl CacheFile {
    /// Starts with the generation, which cyrus.index repeats.
    pub fn new(generation: u32) -> Self {
        Self { before: 0, bytes: generation.to_be_bytes().to_vec() }
    }

    /// Goes on behind a file of that length.
    pub fn behind(length: u64) -> Self {
        Self { before: length, bytes: Vec::new() }
    }

    /// Appends the record of a message; returns its offset and its CRC.
    pub fn add(&mut self, message: &[u8], header_size: usize) -> (u64, u32) {
        let start = self.bytes.len();
        let header = &message[..header_size.min(message.len())];
        let header_line = |name: &str| line(header, name);
        let (from, to) = (header_line("from: "), header_line("to: "));
        let (subject, date) = (header_line("subject: "), header_line("date: "));
        let id = header_line("message-id: ");
        let body = b"(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\") NIL NIL \"8BIT\" 1234 56)";
        let envelope = [b"(".as_slice(), date, subject, from, to, id, b" NIL NIL NIL)"].concat();
        let structure = [body.as_slice(), b" NIL NIL NIL NIL"].concat();
        let sections = [0; 5 * 4 * 3];
        let others = lines_not_elsewhere(header);
        let items: [&[u8]; 10] =
            [&envelope, &structure, body, &sections, &others, from, to, b"", b"", subject];
        for item in items {
            self.bytes.extend_from_slice(&(item.len() as u32).to_be_bytes());
            self.bytes.extend_from_slice(item);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        (self.before + start as u64, crc32fast::hash(&self.bytes[start..]))
    }

    /// What there is to write.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Headers that Cyrus leaves out of the cache, or keeps in an item of their own; those that start
/// with `X-` are mostly left out as well.
const ELSEWHERE: [&str; 15] = [
    "bcc:",
    "cc:",
    "content-",
    "date:",
    "from:",
    "in-reply-to:",
    "message-id:",
    "mime-version:",
    "received:",
    "reply-to:",
    "return-path:",
    "sender:",
    "subject:",
    "to:",
    "x-",
];

/// The lines of the other headers, which makes a cache nearly as large as Cyrus 3.6.1 makes it.
fn lines_not_elsewhere(header: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut keeping = false;
    for line in header.split_inclusive(|byte| *byte == b'\n') {
        let continued = line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        if !continued {
            keeping = !ELSEWHERE.iter().any(|name| starts_with(line, name));
        }
        if keeping {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// The value of the first header of that name, given in lower case with colon and blank.
fn line<'a>(header: &'a [u8], name: &str) -> &'a [u8] {
    header
        .split(|byte| *byte == b'\n')
        .find(|line| starts_with(line, name))
        .map_or(b"", |line| line[name.len()..].trim_ascii_end())
}

fn starts_with(line: &[u8], name: &str) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
}
