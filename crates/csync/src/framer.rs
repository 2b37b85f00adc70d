//! Where a command or a reply ends, and nothing of what it means.
//!
//! The ends are not to be seen by looking for line ends: a message of a mailbox may hold any bytes,
//! lists may go on over lines, and a text in quotes may hold what looks like the start of a
//! literal. So this layer follows strings, lists and literals, within [`Limits`], and hands out
//! [`Event`]s. What is small comes whole. What may be large comes in pieces: a message file as it
//! arrives, and the records of a mailbox one by one.
//!
//! A command that is wrong or too large is read to its end and reported as [`Refused`], so that the
//! bytes behind it are taken for what they are. Only where that end is out of reach, the stream is
//! [`Fatal`].
//!
//! Values are handed out in one form, whatever form they came in: one space between two items, and
//! line ends nowhere but in literals. A file literal leaves `NIL` behind, and a list of records
//! `()`. [`Dlist`](cyrus_format::dlist::Dlist) reads that form.

mod scan;

use model::{Guid, Partition};
use thiserror::Error;

use scan::{Scan, Step};

/// What kind of text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What a master says: `APPLY MAILBOX %(...)`.
    Commands,
    /// The same within IMAP: `S4 SYNCAPPLY MAILBOX %(...)`.
    ImapCommands,
    /// What a replica says, within IMAP or by itself: `* MAILBOX %(...)`, `OK success`.
    Replies,
}

/// How much is taken before a command is refused.
///
/// With the defaults a stream and what is read from it never take more than about 50 MiB, whatever is
/// sent; with what Cyrus sends, a few KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a line without a value: all but GET and APPLY.
    pub line_bytes_max: usize,
    /// Bytes of one string: atom, quoted or literal. (Cyrus since CVE-2024-34055: 128 KiB.)
    pub string_bytes_max: usize,
    /// Bytes of a value without its files and records, and of one record.
    pub value_bytes_max: usize,
    /// Items of a value, likewise. (A RESERVE of Cyrus has 8193 and the names of mailboxes.)
    pub items_max: usize,
    /// How deep lists may nest, at most [`MAX_DEPTH`](cyrus_format::dlist::MAX_DEPTH). (Cyrus: 5.)
    pub depth_max: usize,
    /// Bytes of one message file.
    pub file_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes_max: 64 << 10,
            string_bytes_max: 4 << 20,
            value_bytes_max: 8 << 20,
            items_max: 1 << 16,
            depth_max: 16,
            file_bytes_max: u32::MAX,
        }
    }
}

/// What a message file announces itself as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileHead {
    /// Where the sender keeps it. Cyrus aborts for one that it does not have.
    pub partition: Partition,
    /// SHA-1 of its bytes, if the sender is right.
    pub guid: Guid,
    /// Bytes.
    pub size: u32,
}

/// A command or an untagged reply with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Within IMAP; otherwise empty.
    pub tag: &'a [u8],
    /// `GET`, `APPLY`, `RESTORE`, `SYNCGET` and so on, in capitals; `*` for a reply.
    pub verb: &'a [u8],
    /// What is to be got or applied, in capitals: `MAILBOX`, `USER`.
    pub name: &'a [u8],
    /// The value, in the form of this module.
    pub value: &'a [u8],
}

impl Data<'_> {
    /// The report that refuses it, for whoever finds that its value makes no sense.
    pub(crate) fn refuse(&self, why: &'static str) -> Refused {
        Refused {
            tag: self.tag.to_vec(),
            verb: self.verb.to_vec(),
            name: self.name.to_vec(),
            reason: Reason::Syntax(why),
        }
    }
}

/// Something that was found in the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a, 'i> {
    /// A line without a value; its end is left out.
    Line(&'a [u8]),
    /// A message file begins.
    File(FileHead),
    /// The next bytes of it, never empty.
    FileBytes(&'i [u8]),
    /// All bytes of the file were handed out.
    FileEnd,
    /// The records of a mailbox begin: what the value holds up to here. Cyrus writes the records
    /// last, so that is all; but nothing says that others do.
    Records(Data<'a>),
    /// One record, as a value.
    Record(&'a [u8]),
    /// The command or reply is complete. Files and records have been handed out before.
    Data(Data<'a>),
    /// The command is complete, and wrong. Whatever was handed out of it is not to be used.
    Refused(Refused),
}

/// A command that was read to its end and is not to be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} {} is refused", String::from_utf8_lossy(verb), String::from_utf8_lossy(name))]
pub struct Refused {
    /// As in [`Data`].
    pub tag: Vec<u8>,
    /// As in [`Data`]; of an unknown command, its first word.
    pub verb: Vec<u8>,
    /// As in [`Data`], as far as it came.
    pub name: Vec<u8>,
    /// Why.
    #[source]
    pub reason: Reason,
}

/// What is wrong with a command.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reason {
    /// It does not follow the grammar.
    #[error("{0}")]
    Syntax(&'static str),
    /// Something is larger than [`Limits`] allow.
    #[error("{what} of more than {limit}")]
    TooLarge {
        /// With its unit.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A file literal in anything but MESSAGE.
    #[error("a file where none belongs")]
    File,
    /// The peer may not send values yet: [`Framer::refuse_data`].
    #[error("no values are taken")]
    NotAllowed,
}

/// The stream cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fatal {
    /// A literal that would not end within 4 GiB.
    #[error("num too big")]
    NumberTooBig,
}

/// Cuts a stream into events.
///
/// Input may come in pieces of any size; it is not kept.
///
/// ```
/// use csync::framer::{Event, Framer, Limits, Stream};
///
/// let mut framer = Framer::new(Stream::Commands, Limits::default());
/// let mut input: &[u8] = b"get user {5+}\r\nalice\r\nNOO";
/// let Ok(Some(Event::Data(data))) = framer.next(&mut input) else { panic!("a whole command") };
/// assert_eq!((data.verb, data.name, data.value), (&b"GET"[..], &b"USER"[..], &b"{5}\r\nalice"[..]));
/// assert_eq!(framer.next(&mut input), Ok(None));
/// let mut input: &[u8] = b"P\n";
/// assert_eq!(framer.next(&mut input), Ok(Some(Event::Line(b"NOOP"))));
/// ```
#[derive(Debug)]
pub struct Framer {
    scan: Scan,
    /// What the last event showed has to go before the next one.
    stale: Stale,
    fatal: Option<Fatal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    Nothing,
    /// The brackets that were added to show an unfinished value.
    Brackets,
    /// All of the command.
    Command,
}

/// What closes the list of records and the value, to show what came before.
const BRACKETS: &[u8] = b"))";

impl Framer {
    /// One at the start of a stream.
    pub fn new(stream: Stream, limits: Limits) -> Self {
        Self { scan: Scan::new(stream, limits), stale: Stale::Nothing, fatal: None }
    }

    /// From the next command on, refuses all with a value, without keeping any of it; or takes them
    /// again. For peers that have not logged in.
    pub fn refuse_data(&mut self, refuse: Refuse) {
        self.scan.data_refused = refuse == Refuse::All;
    }

    /// Whether the stream is between two commands: whatever ends here ends in good order.
    pub fn is_between(&self) -> bool {
        self.stale == Stale::Command || self.scan.is_between()
    }

    /// The next event; what it took is cut off `input`. `None` if all of `input` was taken and more
    /// is needed.
    ///
    /// # Errors
    /// If the stream cannot be followed; then always.
    pub fn next<'a, 'i>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Event<'a, 'i>>, Fatal> {
        if let Some(fatal) = self.fatal {
            return Err(fatal);
        }
        self.forget();
        let step = loop {
            match self.scan.step(input) {
                Ok(Step::More) if input.is_empty() && !self.scan.is_at_file_end() => {
                    return Ok(None);
                }
                Ok(Step::More) => {}
                Ok(step) => break step,
                Err(fatal) => {
                    self.fatal = Some(fatal);
                    return Err(fatal);
                }
            }
        };
        Ok(Some(self.event(step)))
    }

    fn event<'i>(&mut self, step: Step<'i>) -> Event<'_, 'i> {
        self.stale = match step {
            Step::Line | Step::Data | Step::Refused => Stale::Command,
            Step::Records => Stale::Brackets,
            _ => Stale::Nothing,
        };
        match step {
            // The first of them never gets here: `next` goes on until there is something to show.
            Step::More | Step::Line => Event::Line(self.scan.line()),
            Step::File => Event::File(std::mem::take(&mut self.scan.file)),
            Step::FileBytes(bytes) => Event::FileBytes(bytes),
            Step::FileEnd => Event::FileEnd,
            Step::Records => {
                self.scan.value.extend_from_slice(BRACKETS);
                Event::Records(self.scan.data())
            }
            Step::Record => Event::Record(&self.scan.record),
            Step::Data => Event::Data(self.scan.data()),
            Step::Refused => Event::Refused(self.scan.refused()),
        }
    }

    fn forget(&mut self) {
        match self.stale {
            Stale::Nothing => {}
            Stale::Brackets => {
                let length = self.scan.value.len().saturating_sub(BRACKETS.len());
                self.scan.value.truncate(length);
            }
            Stale::Command => self.scan.begin(),
        }
        self.stale = Stale::Nothing;
    }
}

/// Which commands with values are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// Every one.
    All,
    /// Those that are wrong.
    Wrong,
}

#[cfg(test)]
mod tests;
