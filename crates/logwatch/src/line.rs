//! What a line is: when, where, who, and what it says.
//!
//! Forms: the traditional one of syslog (RFC 3164, section 4.1, as syslog daemons write it to files),
//! the same with stamps of RFC 3339, both with or without a priority in front, and entries of the
//! journal as `journalctl -o json` prints them. What has none of these forms is all message: a line
//! that nobody understands deserves a look, too.

mod journal;
mod stamp;

use crate::time::Time;

pub use journal::{Entry, JournalError};

/// A message is looked at no further than this, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 8192;

/// A line, in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written; `None` if it does not tell.
    pub time: Option<Time>,
    /// The host that it tells, or nothing.
    pub host: &'a [u8],
    /// The program, without `cyrus/` in front, or nothing.
    pub process: &'a [u8],
    /// The process id.
    pub pid: Option<u32>,
    /// What it says: the rest, without the end of the line, and no more than
    /// [`MESSAGE_BYTES_MAX`] of it.
    pub message: &'a [u8],
}

/// Reads lines of one log, in their order.
#[derive(Clone, Debug)]
pub struct LineReader {
    stamps: stamp::Stamps,
}

impl LineReader {
    /// Stamps without a year are taken for the newest of their kind that is not later than `now`
    /// by more than a day.
    pub fn new(now: Time) -> Self {
        Self { stamps: stamp::Stamps::new(now) }
    }

    /// Tells what time it is meanwhile.
    pub fn set_now(&mut self, now: Time) {
        self.stamps.now = now;
    }

    /// Reads a line of syslog. There is no line that is not one.
    pub fn read<'a>(&mut self, line: &'a [u8]) -> Line<'a> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let rest = without_priority(line);
        let Some((time, rest)) = self.stamps.read(rest) else {
            return Line { time: None, host: b"", process: b"", pid: None, message: cut(line) };
        };
        let (host, rest) = word(rest);
        let (tag, message) = word(rest);
        let (process, pid) = match tag.strip_suffix(b":") {
            Some(tag) => split_tag(tag),
            // Written to a socket of syslog, the stamp is followed by the program at once.
            None if host.ends_with(b":") => {
                let (process, pid) = split_tag(&host[..host.len() - 1]);
                let message = cut(rest);
                return Line { time: Some(time), host: b"", process, pid, message };
            }
            None => {
                return Line {
                    time: Some(time),
                    host,
                    process: b"",
                    pid: None,
                    message: cut(rest),
                };
            }
        };
        Line { time: Some(time), host, process, pid, message: cut(message) }
    }
}

impl<'a> Line<'a> {
    /// The id of the client's session, where the message names it: `SESSIONID=<...>` in messages,
    /// `sessionid=<...>` since 3.0 (Cyrus: lib/util.c, xsyslog_fn), `r.sessionid=` in logfmt since
    /// 3.13 (lib/logfmt.c).
    pub fn session(&self) -> Option<&'a [u8]> {
        let at =
            self.message.windows(10).position(|part| part.eq_ignore_ascii_case(b"sessionid="))?;
        let value = &self.message[at + 10..];
        let (value, end): (_, fn(&u8) -> bool) = match value.strip_prefix(b"<") {
            Some(value) => (value, |byte| *byte == b'>'),
            None => (value, |byte| *byte == b' '),
        };
        let length = value.iter().position(end).unwrap_or(value.len());
        Some(&value[..length]).filter(|value| !value.is_empty())
    }
}

/// The line without `<22>`, which senders put in front.
fn without_priority(line: &[u8]) -> &[u8] {
    let Some(rest) = line.strip_prefix(b"<") else { return line };
    let digits = rest.iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
    match rest.get(digits) {
        Some(b'>') if (1..=3).contains(&digits) => &rest[digits + 1..],
        _ => line,
    }
}

/// What comes before the first blank, and what comes behind it.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b' ') {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b""),
    }
}

/// `cyrus/imap[123]`, or parts of it.
fn split_tag(tag: &[u8]) -> (&[u8], Option<u32>) {
    let (process, pid) = match tag.strip_suffix(b"]") {
        Some(tag) => match tag.iter().rposition(|byte| *byte == b'[') {
            Some(at) => (&tag[..at], number(&tag[at + 1..])),
            None => (tag, None),
        },
        None => (tag, None),
    };
    (process_name(process), pid)
}

/// The program without what Debian's packages, or `syslog_prefix`, put in front of all.
fn process_name(process: &[u8]) -> &[u8] {
    process.strip_prefix(b"cyrus/").unwrap_or(process)
}

/// A number of decimal digits alone.
fn number(text: &[u8]) -> Option<u32> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn cut(message: &[u8]) -> &[u8] {
    &message[..message.len().min(MESSAGE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Civil;

    fn now() -> Time {
        let civil = Civil { year: 2026, month: 11, day: 26, hour: 12, minute: 0, second: 0 };
        civil.time().expect("a time")
    }

    fn read(line: &[u8]) -> Line<'_> {
        LineReader::new(now()).read(line)
    }

    #[test]
    fn a_traditional_line_has_all_parts() {
        let line = read(b"Nov 26 11:59:58 mail1 cyrus/imap[271]: login: [::1] glad plain\n");
        assert_eq!(line.time, Some(now().plus(-2)));
        assert_eq!((line.host, line.process, line.pid), (&b"mail1"[..], &b"imap"[..], Some(271)));
        assert_eq!(line.message, b"login: [::1] glad plain");
    }

    #[test]
    fn other_heads_are_understood() {
        let rfc = b"2026-11-26T11:59:58.123456+01:00 mail1 cyrus/lmtp[1]: hello";
        let local = b"2026-11-26T11:59:58Z mail1 cyrus/lmtp[1]: hello";
        let socket = b"<22>Nov 26 11:59:58 cyrus/lmtp[1]: hello";
        for line in [&rfc[..], local, socket] {
            let line = read(line);
            assert_eq!(line.time, Some(now().plus(-2)));
            assert_eq!((line.process, line.pid), (&b"lmtp"[..], Some(1)));
            assert_eq!(line.message, b"hello");
        }
        let master = read(b"Nov  6 01:02:03 h master: exiting");
        assert_eq!((master.process, master.pid), (&b"master"[..], None));
    }

    #[test]
    fn what_is_no_line_is_a_message() {
        for text in [&b"\x00\xff\xfe"[..], b"", b"Nov 31 00:00:00 h p: m", b"<999999>x"] {
            let line = read(text);
            assert_eq!((line.time, line.process, line.message), (None, &b""[..], text));
        }
        assert_eq!(read(b"Nov 26 11:00:00 h no tag here").message, b"no tag here");
    }

    #[test]
    fn sessions_are_found_in_every_form() {
        for message in [
            &b"login: User logged in SESSIONID=<a-1>"[..],
            b"IOERROR: open failed: sessionid=<a-1> fname=<x>",
            b"event=login.good r.sessionid=a-1 u.username=glad",
        ] {
            let line = Line { time: None, host: b"", process: b"", pid: None, message };
            assert_eq!(line.session(), Some(&b"a-1"[..]));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(head in "(<[0-9]{1,4}>)?[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8}",
                                    rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            for text in [rest.clone(), [head.as_bytes(), b" ", &rest].concat()] {
                let line = read(&text);
                prop_assert!(line.message.len() <= text.len());
                line.session();
            }
        }
    }
}
