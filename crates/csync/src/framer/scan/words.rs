//! The first words of a command, which tell whether a value follows, and lines without one.

use super::announced::literal_at_end;
use super::{At, Scan, Step};
use crate::framer::{Fatal, Reason, Stream};

/// Untagged replies that have values; all others are text.
const REPLIES: [&[u8]; 9] = [
    b"ANNOTATION",
    b"ENABLED",
    b"LSUB",
    b"MAILBOX",
    b"MESSAGE",
    b"MISSING",
    b"QUOTA",
    b"SEEN",
    b"SIEVE",
];

impl Scan {
    /// The first words of a command, and lines without values.
    pub(super) fn word_byte<'a>(&mut self, byte: u8) -> Result<Step<'a>, Fatal> {
        if byte == b'\n' {
            return self.line_ends();
        }
        if byte == b' ' && matches!(self.at, At::Words) {
            self.classify();
        }
        match self.at {
            At::Words | At::Line if self.words.len() >= self.limits.line_bytes_max => {
                let limit = self.limits.line_bytes_max as u64;
                self.refuse(Reason::TooLarge { what: "bytes of a line", limit });
                self.lose("");
            }
            At::Words | At::Line => self.words.push(byte),
            _ => {}
        }
        Ok(Step::More)
    }

    /// A word has ended: is this a line, or does a value follow?
    fn classify(&mut self) {
        let words: Vec<&[u8]> = self.words.split(|byte| *byte == b' ').collect();
        let (tag, verb, name): (&[u8], _, _) = match (self.stream, words.as_slice()) {
            (Stream::Commands | Stream::Replies, [verb]) => (b"", *verb, None),
            (Stream::Commands | Stream::Replies, [verb, name]) => (b"", *verb, Some(*name)),
            (Stream::ImapCommands, [tag, verb]) => (*tag, *verb, None),
            (Stream::ImapCommands, [tag, verb, name]) => (*tag, *verb, Some(*name)),
            _ => return,
        };
        let (verb, name) = (verb.to_ascii_uppercase(), name.map(<[u8]>::to_ascii_uppercase));
        let valued = match (&name, self.stream) {
            (Some(name), Stream::Replies) => REPLIES.contains(&name.as_slice()),
            _ => self.takes_value(&verb),
        };
        match name {
            _ if !valued => self.at = At::Line,
            None => {}
            Some(name) => {
                (self.tag, self.verb, self.name) = (tag.to_vec(), verb, name);
                self.at = At::Between;
                if self.data_refused {
                    self.refuse(Reason::NotAllowed);
                } else if self.name.is_empty() {
                    self.lose("two spaces behind the command");
                }
            }
        }
    }

    fn takes_value(&self, verb: &[u8]) -> bool {
        match self.stream {
            Stream::Commands => matches!(verb, b"GET" | b"APPLY" | b"RESTORE"),
            Stream::ImapCommands => matches!(verb, b"SYNCGET" | b"SYNCAPPLY" | b"SYNCRESTORE"),
            Stream::Replies => verb == b"*",
        }
    }

    /// A line without a value is complete, unless it ends in a literal.
    fn line_ends<'a>(&mut self) -> Result<Step<'a>, Fatal> {
        if self.words.last() == Some(&b'\r') {
            self.words.pop();
        }
        let commands = self.stream != Stream::Replies;
        let literal = if commands { literal_at_end(&self.words)? } else { None };
        let mut words = self.words.split(|byte| *byte == b' ');
        let tag = if self.stream == Stream::ImapCommands { words.next() } else { None };
        let verb = words.next().unwrap_or_default().to_ascii_uppercase();
        let valueless = commands && matches!(self.at, At::Words) && self.takes_value(&verb);
        if literal.is_none() && !valueless {
            return Ok(Step::Line);
        }
        self.tag = tag.unwrap_or_default().to_vec();
        self.name = words.next().unwrap_or_default().to_ascii_uppercase();
        self.verb = verb;
        self.refuse(Reason::Syntax(if valueless { "no value" } else { "a literal in a line" }));
        match literal {
            None => Ok(Step::Refused),
            Some(length) => {
                self.at = At::LostLiteral(length);
                self.announced.clear();
                Ok(Step::More)
            }
        }
    }
}
