//! Something like a cyrus.cache: records of the right shape and size, with the right checksums,
//! made without parsing a message. What copies directories cannot tell the difference; a server
//! should not be asked to.

/// A cyrus.cache under construction.
#[derive(Debug)]
pub(super) struct CacheFile {
    bytes: Vec<u8>,
}

impl CacheFile {
    /// Starts with the generation, which cyrus.index repeats.
    pub fn new(generation: u32) -> Self {
        Self { bytes: generation.to_be_bytes().to_vec() }
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
        let items: [&[u8]; 10] =
            [&envelope, &structure, body, &sections, header, from, to, b"", b"", subject];
        for item in items {
            self.bytes.extend_from_slice(&(item.len() as u32).to_be_bytes());
            self.bytes.extend_from_slice(item);
            self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        }
        (start as u64, crc32fast::hash(&self.bytes[start..]))
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The value of the first header of that name, given in lower case with colon and blank.
fn line<'a>(header: &'a [u8], name: &str) -> &'a [u8] {
    header
        .split(|byte| *byte == b'\n')
        .find(|line| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        })
        .map_or(b"", |line| line[name.len()..].trim_ascii_end())
}
