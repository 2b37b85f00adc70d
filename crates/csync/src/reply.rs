//! How a command ends: OK, NO, BAD and BYE, with the texts of Cyrus 3.6 (`imap/sync_support.c`,
//! sync_response and sync_parse_response).

use thiserror::Error;

use crate::framer::Fatal;
use crate::sasl::SaslData;

/// The last line of an answer. Texts have no line ends; they are written as spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was done.
    Ok(String),
    /// It could not be done.
    No(No),
    /// It was not understood.
    Bad(String),
    /// The replica leaves. May come without having been asked.
    Bye(String),
    /// SASL goes on.
    Challenge(SaslData),
}

/// Why a command could not be done. Masters decide by it what to try next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum No {
    /// There is no such user.
    InvalidUser,
    /// There is no such mailbox.
    MailboxNonexistent,
    /// Somebody else holds the lock; try again later.
    MailboxLocked,
    /// Another mailbox has the name, or this one has another.
    MailboxMoved,
    /// A mailbox too old to be replicated.
    MailboxNotSupported,
    /// The states differ: masters then compare all records.
    SyncChecksum,
    /// The state is not the one that the change was made for.
    SyncChanged,
    /// A sieve script that does not compile.
    SyncBadSieve,
    /// An unknown thing, or a record that cannot be read.
    ProtocolError,
    /// A field is missing or ill-formed.
    BadParameters,
    /// Anything else.
    Unknown,
    /// Log in first.
    NotAuthenticated,
    /// You are no administrator.
    PermissionDenied,
    /// The same since 3.13.
    PermissionDeniedCode,
    /// Another text: of SASL, or of a version that is not known here.
    Other(String),
}

/// Every reason that has a fixed text. Those without a code are recognised by all of it. The last
/// text has nothing behind its code, not even a space, so that masters do not recognise it.
const NO_TEXTS: [(No, &str); 14] = [
    (No::InvalidUser, "IMAP_INVALID_USER No Such User"),
    (No::MailboxNonexistent, "IMAP_MAILBOX_NONEXISTENT No Such Mailbox"),
    (No::MailboxLocked, "IMAP_MAILBOX_LOCKED Mailbox locked"),
    (No::MailboxMoved, "IMAP_MAILBOX_MOVED Mailbox exists with another name or uniqueid"),
    (No::MailboxNotSupported, "IMAP_MAILBOX_NOTSUPPORTED Operation is not supported on mailbox"),
    (No::SyncChecksum, "IMAP_SYNC_CHECKSUM Checksum Failure"),
    (No::SyncChanged, "IMAP_SYNC_CHANGED Changed since last sync"),
    (No::SyncBadSieve, "IMAP_SYNC_BADSIEVE Sieve script compilation failure"),
    (No::ProtocolError, "IMAP_PROTOCOL_ERROR Protocol error"),
    (No::PermissionDeniedCode, "IMAP_PERMISSION_DENIED Permission denied"),
    (No::Unknown, "Unknown error"),
    (No::NotAuthenticated, "Please authenticate first"),
    (No::PermissionDenied, "Permission denied"),
    (No::BadParameters, "IMAP_PROTOCOL_BAD_PARAMETERS"),
];

/// What 2.4 says for [`No::SyncChecksum`].
const OLD_CHECKSUM: &str = "IMAP_MAILBOX_CRC";

/// A line that is no reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// Neither OK, NO, BAD, BYE nor `+`, each with a space behind it.
    #[error("not a reply: {0:?}")]
    Unknown(String),
    /// A challenge that is no base64.
    #[error("a challenge that is not base64")]
    Base64,
}

impl No {
    /// The text, its code included.
    pub fn text(&self) -> &str {
        match self {
            No::Other(text) => text,
            known => NO_TEXTS.iter().find(|(no, _)| no == known).map_or("", |(_, text)| text),
        }
    }

    /// Reads the text. A known code counts whatever is said behind it.
    pub fn from_text(text: &str) -> Self {
        let code = text.split(' ').next().unwrap_or_default();
        let matches = |known: &str| match known.split(' ').next() {
            Some(known_code) if known_code.starts_with("IMAP_") => known_code == code,
            _ => known == text,
        };
        match NO_TEXTS.iter().find(|(_, known)| matches(known)) {
            Some((no, _)) => no.clone(),
            None if code == OLD_CHECKSUM => No::SyncChecksum,
            None => No::Other(text.to_owned()),
        }
    }
}

impl Reply {
    /// BAD with a text.
    pub fn bad(text: impl Into<String>) -> Self {
        Reply::Bad(text.into())
    }

    /// What an unknown command is answered with.
    pub(crate) fn unrecognized() -> Self {
        Reply::bad("IMAP_PROTOCOL_ERROR Unrecognized command")
    }

    /// Reads a line without its end. Within IMAP, the tag has to be cut off before.
    ///
    /// # Errors
    /// If it is no reply.
    pub fn parse(line: &[u8]) -> Result<Self, ReplyError> {
        let (word, text) = match line.iter().position(|byte| *byte == b' ') {
            Some(space) => (&line[..space], &line[space + 1..]),
            None => (line, &b""[..]),
        };
        let string = String::from_utf8_lossy(text).into_owned();
        match word {
            // `+` alone is what some servers say for `+ `; of the others the space is required.
            b"+" => SaslData::decode(text).map(Reply::Challenge).ok_or(ReplyError::Base64),
            b"OK" if word.len() < line.len() => Ok(Reply::Ok(string)),
            b"NO" if word.len() < line.len() => Ok(Reply::No(No::from_text(&string))),
            b"BAD" if word.len() < line.len() => Ok(Reply::Bad(string)),
            b"BYE" if word.len() < line.len() => Ok(Reply::Bye(string)),
            _ => Err(ReplyError::Unknown(String::from_utf8_lossy(line).into_owned())),
        }
    }

    /// Appends the line.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Ok(text) => write_line("OK", text, out),
            Reply::No(no) => write_line("NO", no.text(), out),
            Reply::Bad(text) => write_line("BAD", text, out),
            Reply::Bye(text) => write_line("BYE", text, out),
            Reply::Challenge(data) => {
                out.extend_from_slice(b"+ ");
                data.encode(out);
                out.extend_from_slice(b"\r\n");
            }
        }
    }
}

/// Appends the last line of a stream that cannot be followed.
pub fn write_fatal(fatal: Fatal, out: &mut Vec<u8>) {
    write_line("*", &format!("Fatal error: {fatal}"), out);
}

fn write_line(word: &str, text: &str, out: &mut Vec<u8>) {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    out.extend_from_slice(format!("{word} {text}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_back_from_its_text() {
        for (no, text) in &NO_TEXTS {
            assert_eq!(no.text(), *text);
            assert_eq!(&No::from_text(text), no, "{text}");
        }
        assert_eq!(No::from_text("IMAP_MAILBOX_CRC Checksum"), No::SyncChecksum);
        assert_eq!(No::from_text("IMAP_MAILBOX_LOCKED"), No::MailboxLocked);
        for text in ["", "IMAP_AGAIN Try again", "IMAP_MAILBOX_LOCKEDX", "permission denied"] {
            assert_eq!(No::from_text(text), No::Other(text.to_owned()));
        }
    }

    #[test]
    fn a_text_stays_on_its_line() {
        let mut out = Vec::new();
        Reply::Bad("a\r\nOK success\0".to_owned()).write(&mut out);
        assert_eq!(out, b"BAD a  OK success \r\n");
    }

    #[test]
    fn what_is_no_reply_is_not_read_as_one() {
        for line in ["", "OK", "NO", "ok success", "OKAY x", "* OK x", "S0 OK success", "+ !"] {
            assert!(Reply::parse(line.as_bytes()).is_err(), "{line:?}");
        }
        assert_eq!(Reply::parse(b"OK "), Ok(Reply::Ok(String::new())));
        assert_eq!(Reply::parse(b"+"), Ok(Reply::Challenge(SaslData::default())));
    }
}
