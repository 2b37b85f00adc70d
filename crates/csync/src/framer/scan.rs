//! The automaton behind the framer: one byte, or one run of bytes, at a time.

mod announced;
mod words;

use announced::{FileText, file_text, literal_at_end, size};

use super::{Data, Fatal, FileHead, Limits, Reason, Refused, Stream};

/// What a step came upon. What belongs to it is in the fields of [`Scan`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    More,
    Line,
    File,
    FileBytes(&'a [u8]),
    FileEnd,
    Records,
    Record,
    Data,
    Refused,
}

/// Where in the text the automaton stands.
#[derive(Debug)]
enum At {
    /// In the first words, of which it is not known yet whether a value follows.
    Words,
    /// In a line without a value.
    Line,
    /// In front of a value, or of the end of a list.
    Between,
    /// Behind the value; `true` behind a CR.
    After(bool),
    Atom,
    Quoted,
    /// Behind a backslash in quotes.
    Escaped,
    /// Behind a `%` that begins a value.
    Percent,
    /// In the `{n+}` of a literal or in the `{partition guid size}` of a file, which are kept in
    /// `announced` up to the line end.
    Announced(Announced),
    Literal(u32),
    /// A file of which so many bytes are to come.
    File(u32),
    /// A file that is read over.
    NoFile(u32),
    /// In a line that is read over, because there is no telling what it means.
    Lost,
    /// In a literal of such a line.
    LostLiteral(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announced {
    Literal,
    File,
}

/// How far the list of records is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Records {
    /// This value has none, or they are through.
    None,
    /// They may come.
    Expected,
    /// Their key was read.
    Key,
    /// Between two of them.
    Among,
    /// In one.
    Within,
}

/// No announcement of a literal or a file is longer.
const ANNOUNCED_MAX: usize = 1024;

/// What names the records in a mailbox.
const RECORD: &[u8] = b"RECORD";

#[derive(Debug)]
pub(super) struct Scan {
    stream: Stream,
    limits: Limits,
    pub data_refused: bool,
    at: At,
    /// The first words; of a line, all of it.
    words: Vec<u8>,
    tag: Vec<u8>,
    verb: Vec<u8>,
    name: Vec<u8>,
    /// The value so far, rewritten.
    pub value: Vec<u8>,
    /// The record that is being read or was read last, likewise.
    pub record: Vec<u8>,
    /// The file that begins.
    pub file: FileHead,
    /// Why the command will be refused.
    wrong: Option<Reason>,
    announced: Vec<u8>,
    /// Bytes of the string that is being read.
    string: usize,
    depth: usize,
    /// Whether nothing was in the innermost list yet.
    first: bool,
    /// Items of the value, and of the record.
    items: usize,
    record_items: usize,
    /// Items of the outermost list: its keys are the odd ones.
    fields: usize,
    records: Records,
}

impl Scan {
    pub fn new(stream: Stream, limits: Limits) -> Self {
        Self {
            stream,
            limits,
            data_refused: false,
            at: At::Words,
            words: Vec::new(),
            tag: Vec::new(),
            verb: Vec::new(),
            name: Vec::new(),
            value: Vec::new(),
            record: Vec::new(),
            file: FileHead::default(),
            wrong: None,
            announced: Vec::new(),
            string: 0,
            depth: 0,
            first: true,
            items: 0,
            record_items: 0,
            fields: 0,
            records: Records::None,
        }
    }

    /// Forgets the command that is through.
    pub fn begin(&mut self) {
        let new = Self::new(self.stream, self.limits);
        *self = Self { data_refused: self.data_refused, ..new };
    }

    pub fn is_between(&self) -> bool {
        matches!(self.at, At::Words) && self.words.is_empty()
    }

    /// Whether there is an event to come for which no input is needed.
    pub fn is_at_file_end(&self) -> bool {
        matches!(self.at, At::File(0))
    }

    pub fn line(&self) -> &[u8] {
        &self.words
    }

    pub fn data(&self) -> Data<'_> {
        Data { tag: &self.tag, verb: &self.verb, name: &self.name, value: &self.value }
    }

    pub fn refused(&mut self) -> Refused {
        if self.verb.is_empty() {
            self.verb = self.words.split(|byte| *byte == b' ').next().unwrap_or_default().into();
        }
        Refused {
            tag: std::mem::take(&mut self.tag),
            verb: std::mem::take(&mut self.verb),
            name: std::mem::take(&mut self.name),
            reason: self.wrong.take().unwrap_or(Reason::Syntax("not a command")),
        }
    }

    /// Takes some of the input.
    pub fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, Fatal> {
        if self.is_at_file_end() {
            self.end_item();
            return Ok(Step::FileEnd);
        }
        let Some(&byte) = input.first() else { return Ok(Step::More) };
        match self.at {
            At::Literal(left) => {
                let (bytes, left) = take_up_to(input, left);
                self.put(bytes);
                return Ok(self.literal_goes_on(left));
            }
            At::File(left) => {
                let (bytes, left) = take_up_to(input, left);
                self.at = At::File(left);
                return Ok(Step::FileBytes(bytes));
            }
            At::NoFile(left) => {
                let (_, left) = take_up_to(input, left);
                self.at = At::NoFile(left);
                return Ok(if left == 0 { self.end_item() } else { Step::More });
            }
            At::LostLiteral(left) => {
                let (_, left) = take_up_to(input, left);
                self.at = if left == 0 { At::Lost } else { At::LostLiteral(left) };
                return Ok(Step::More);
            }
            At::Atom => return Ok(self.atom(input)),
            At::Between => return Ok(self.between(byte, input)),
            _ => {}
        }
        // What is lost here is read over from this byte on.
        if let Err(why) = self.check(byte) {
            self.lose(why);
        }
        *input = &input[1..];
        self.byte(byte)
    }

    /// One byte where no runs of bytes are taken.
    fn byte<'a>(&mut self, byte: u8) -> Result<Step<'a>, Fatal> {
        match (&self.at, byte) {
            (At::Words | At::Line, _) => return self.word_byte(byte),
            (At::Announced(kind), b'\n') => {
                let kind = *kind;
                return self.announced_ends(kind);
            }
            (At::Announced(_), _) => {
                self.announced.push(byte);
                if self.announced.len() > ANNOUNCED_MAX {
                    self.lose("no end of a literal's size");
                }
            }
            (At::Quoted, b'"') => {
                self.put(b"\"");
                return Ok(self.end_item());
            }
            (At::Quoted, b'\\') => {
                self.put(b"\\");
                self.at = At::Escaped;
            }
            (At::Quoted | At::Escaped, _) => {
                self.put_string(&[byte]);
                self.at = At::Quoted;
            }
            (At::Percent, b'(') => return Ok(self.open(b"%(")),
            (At::Percent, b'{') => {
                self.announced.clear();
                self.at = At::Announced(Announced::File);
            }
            (At::After(_), b'\n') => return Ok(self.end()),
            (At::After(false), b'\r') => self.at = At::After(true),
            (At::Lost, b'\n') => return self.lost_line_ends(),
            (At::Lost, _) => {
                if self.announced.len() >= 2 * ANNOUNCED_MAX {
                    self.announced.drain(..ANNOUNCED_MAX);
                }
                self.announced.push(byte);
            }
            // Taken care of by `step`, or refused by `check`.
            _ => {}
        }
        Ok(Step::More)
    }

    /// Whether the byte may stand where it does.
    fn check(&self, byte: u8) -> Result<(), &'static str> {
        match (&self.at, byte) {
            (At::Quoted | At::Escaped, b'\r' | b'\n') => Err("a line end in quotes"),
            (At::Quoted | At::Escaped | At::Words | At::Line, 0) => Err("a NUL"),
            (At::Percent, b'(' | b'{') => Ok(()),
            (At::Percent, _) => Err("a % by itself"),
            (At::After(_), b'\n') | (At::After(false), b'\r') => Ok(()),
            (At::After(_), _) => Err("something behind the value"),
            _ => Ok(()),
        }
    }

    /// In front of a value, behind one, or at the end of a list.
    fn between<'a>(&mut self, byte: u8, input: &mut &'a [u8]) -> Step<'a> {
        if !ends_atom(byte) && !matches!(byte, b'%' | b'{') {
            self.begin_item();
            self.at = At::Atom;
            return self.atom(input);
        }
        *input = &input[1..];
        match byte {
            b' ' | b'\t' => {}
            b'\r' | b'\n' if self.depth > 0 => {}
            b'(' => return self.open(b"("),
            b')' if self.depth > 0 => return self.close(),
            b'%' => self.at = At::Percent,
            b'{' => {
                self.announced.clear();
                self.at = At::Announced(Announced::Literal);
            }
            b'"' => {
                self.begin_item();
                self.put(b"\"");
                self.at = At::Quoted;
            }
            b'\n' => return self.lose_line("no value"),
            _ => self.lose("a value is missing, or holds a control character"),
        }
        Step::More
    }

    /// As much of an atom as there is.
    fn atom<'a>(&mut self, input: &mut &'a [u8]) -> Step<'a> {
        let end = input.iter().position(|byte| ends_atom(*byte));
        let (atom, rest) = input.split_at(end.unwrap_or(input.len()));
        self.put_string(atom);
        *input = rest;
        if end.is_none() {
            return Step::More;
        }
        let is_key = self.depth == 1 && self.fields % 2 == 1 && self.string == RECORD.len();
        if is_key && self.records == Records::Expected && self.value.ends_with(RECORD) {
            self.records = Records::Key;
        }
        self.end_item()
    }

    fn open<'a>(&mut self, bracket: &[u8]) -> Step<'a> {
        let is_records = self.records == Records::Key && bracket == b"(";
        self.begin_item();
        self.put(bracket);
        if self.depth == 0 && bracket == b"%(" && self.name.ends_with(b"MAILBOX") {
            self.records = Records::Expected;
        }
        self.depth = self.depth.saturating_add(1);
        self.first = true;
        self.at = At::Between;
        if self.depth > self.limits.depth_max {
            let limit = self.limits.depth_max as u64;
            self.refuse(Reason::TooLarge { what: "levels of lists", limit });
        }
        if is_records && self.wrong.is_none() {
            self.records = Records::Among;
            return Step::Records;
        }
        Step::More
    }

    fn close<'a>(&mut self) -> Step<'a> {
        self.put(b")");
        self.depth -= 1;
        self.first = false;
        if self.records == Records::Among {
            self.records = Records::None;
        }
        self.end_item()
    }

    /// A value begins: what separates it from the one before, and what counts it.
    fn begin_item(&mut self) {
        match self.records {
            Records::Among => {
                self.records = Records::Within;
                self.record.clear();
                self.record_items = 0;
            }
            Records::Key => {
                self.records = Records::Expected;
                self.put(b" ");
            }
            _ if !self.first => self.put(b" "),
            _ => {}
        }
        self.first = false;
        self.string = 0;
        if self.depth == 1 {
            self.fields = self.fields.wrapping_add(1);
        }
        let within = self.records == Records::Within;
        let items = if within { &mut self.record_items } else { &mut self.items };
        *items = items.saturating_add(1);
        if *items > self.limits.items_max {
            let limit = self.limits.items_max as u64;
            self.refuse(Reason::TooLarge { what: "items", limit });
        }
    }

    fn end_item<'a>(&mut self) -> Step<'a> {
        self.at = if self.depth == 0 { At::After(false) } else { At::Between };
        if self.records == Records::Within && self.depth == 2 {
            self.records = Records::Among;
            if self.wrong.is_none() {
                return Step::Record;
            }
        }
        Step::More
    }

    fn end<'a>(&mut self) -> Step<'a> {
        if self.wrong.is_some() { Step::Refused } else { Step::Data }
    }

    /// The size of a literal or what announces a file is complete, up to its line end.
    fn announced_ends<'a>(&mut self, kind: Announced) -> Result<Step<'a>, Fatal> {
        if self.announced.last() == Some(&b'\r') {
            self.announced.pop();
        }
        let Some(inner) = self.announced.strip_suffix(b"}") else {
            return Ok(self.lose_line("no } behind a literal's size"));
        };
        Ok(match kind {
            Announced::Literal => match size(inner.strip_suffix(b"+").unwrap_or(inner))? {
                Some(size) => self.begin_literal(size),
                None => self.lose_line("a literal without a size"),
            },
            Announced::File => match file_text(inner)? {
                Some(file) => self.begin_file(file),
                None => self.lose_line("a file without partition, GUID and size"),
            },
        })
    }

    fn begin_literal<'a>(&mut self, size: u32) -> Step<'a> {
        self.begin_item();
        let limit = self.limits.string_bytes_max as u64;
        if u64::from(size) > limit {
            self.refuse(Reason::TooLarge { what: "bytes of a string", limit });
        }
        self.put(format!("{{{size}}}\r\n").as_bytes());
        self.literal_goes_on(size)
    }

    fn literal_goes_on<'a>(&mut self, left: u32) -> Step<'a> {
        self.at = At::Literal(left);
        if left == 0 { self.end_item() } else { Step::More }
    }

    fn begin_file<'a>(&mut self, file: FileText) -> Step<'a> {
        self.begin_item();
        self.put(b"NIL");
        let FileText { partition, guid, size } = file;
        if self.name != b"MESSAGE" {
            self.refuse(Reason::File);
        } else if size > self.limits.file_bytes_max {
            let limit = u64::from(self.limits.file_bytes_max);
            self.refuse(Reason::TooLarge { what: "bytes of a message", limit });
        }
        match guid {
            Some(guid) if self.wrong.is_none() => {
                self.at = At::File(size);
                self.file = FileHead { partition, guid, size };
                Step::File
            }
            _ => {
                self.refuse(Reason::Syntax("a file whose GUID is none"));
                self.at = At::NoFile(size);
                if size == 0 { self.end_item() } else { Step::More }
            }
        }
    }

    /// A line that is read over has ended, unless a literal follows.
    fn lost_line_ends<'a>(&mut self) -> Result<Step<'a>, Fatal> {
        if self.announced.last() == Some(&b'\r') {
            self.announced.pop();
        }
        Ok(match literal_at_end(&self.announced)? {
            Some(length) => {
                self.announced.clear();
                self.at = At::LostLiteral(length);
                Step::More
            }
            None => Step::Refused,
        })
    }

    /// The structure is lost, so what ends the command is the end of its line.
    fn lose(&mut self, why: &'static str) {
        self.refuse(Reason::Syntax(why));
        self.announced.clear();
        self.at = At::Lost;
    }

    /// Likewise, at the end of the line.
    fn lose_line<'a>(&mut self, why: &'static str) -> Step<'a> {
        self.refuse(Reason::Syntax(why));
        Step::Refused
    }

    /// Refuses the command for the first reason, and gives back its memory.
    fn refuse(&mut self, reason: Reason) {
        if self.wrong.is_none() {
            self.wrong = Some(reason);
            (self.value, self.record) = (Vec::new(), Vec::new());
        }
    }

    /// Keeps bytes of a string.
    fn put_string(&mut self, bytes: &[u8]) {
        let limit = self.limits.string_bytes_max;
        let left = limit.saturating_sub(self.string);
        // Of two limits, the one that comes first counts, however the input is cut.
        if bytes.len() > left && left <= self.room() {
            let limit = limit as u64;
            self.refuse(Reason::TooLarge { what: "bytes of a string", limit });
        }
        self.put(bytes);
        self.string = self.string.saturating_add(bytes.len());
    }

    /// Keeps bytes, if the command is not wrong anyway.
    fn put(&mut self, bytes: &[u8]) {
        if self.wrong.is_some() {
            return;
        }
        if bytes.len() > self.room() {
            let limit = self.limits.value_bytes_max as u64;
            self.refuse(Reason::TooLarge { what: "bytes of a value", limit });
        } else if self.records == Records::Within {
            self.record.extend_from_slice(bytes);
        } else {
            self.value.extend_from_slice(bytes);
        }
    }

    fn room(&self) -> usize {
        let within = self.records == Records::Within;
        let kept = if within { self.record.len() } else { self.value.len() };
        self.limits.value_bytes_max.saturating_sub(kept)
    }
}

/// Cuts off up to `left` bytes; also returns how many are left then.
fn take_up_to<'a>(input: &mut &'a [u8], left: u32) -> (&'a [u8], u32) {
    let here = u32::try_from(input.len()).map_or(left, |here| here.min(left));
    let (bytes, rest) = input.split_at(here as usize);
    *input = rest;
    (bytes, left - here)
}

/// An atom goes on to one of these. (Cyrus takes control characters for a part of it, but writes
/// none there.)
fn ends_atom(byte: u8) -> bool {
    matches!(byte, 0..=0x1e | b' ' | b'(' | b')' | b'"')
}
