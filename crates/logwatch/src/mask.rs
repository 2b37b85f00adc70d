//! Which words of a message are the message, and which are what it is about.
//!
//! One pass over the bytes, without allocating: a message is cut into words at blanks, brackets,
//! quotes and equal signs; whatever stands between two words belongs to the second. A word
//! that looks like a number, a name, a path, an address or an id is masked, and so is one that stands
//! where Cyrus puts a user, a mailbox, a host or the like. What is left are the words that Cyrus'
//! authors wrote, and they alone tell one message from another.

mod context;
mod hash;

use context::{Context, Opening};

pub use hash::Hash;

/// Words of a message that are looked at; what comes behind them makes no difference.
pub const WORDS_MAX: usize = 64;

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Part of the message itself.
    Word,
    /// Digits, and what numbers, times, sizes and IPv4 addresses have between them.
    Number,
    /// A GUID, a unique id, a session, or whatever else is digits and letters.
    Id,
    /// A mail address, or a message id.
    Address,
    /// A path.
    Path,
    /// A name with dots: a host, a file, a database.
    Name,
    /// The name of a user.
    User,
    /// The name of a mailbox, or of a quota root.
    Mailbox,
    /// Text that clients or operators chose.
    Text,
}

/// A word, and what stands between it and the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// Blanks, brackets and the like.
    pub glue: &'a [u8],
    /// The word.
    pub body: &'a [u8],
    /// What it is.
    pub kind: Kind,
}

impl Kind {
    /// How it is shown in a template; nothing for a word, which is shown itself.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Word => "",
            Self::Number => "<n>",
            Self::Id => "<id>",
            Self::Address => "<address>",
            Self::Path => "<path>",
            Self::Name => "<name>",
            Self::User => "<user>",
            Self::Mailbox => "<mailbox>",
            Self::Text => "<text>",
        }
    }

    /// Whether it is what a failure is about.
    pub fn is_subject(self) -> bool {
        matches!(self, Self::User | Self::Mailbox)
    }
}

impl Word<'_> {
    /// What makes it different from other words in its place: itself if it is part of the message,
    /// or else only its kind; and what stands before it.
    #[inline]
    pub fn key(&self) -> u64 {
        let hash = Hash::new(self.kind as u64).bytes(self.glue);
        match self.kind {
            Kind::Word => hash.bytes(self.body).end(),
            _ => hash.end(),
        }
    }
}

/// Cuts a message into words, at most [`WORDS_MAX`].
#[inline]
pub fn words<'a>(message: &'a [u8], mut take: impl FnMut(Word<'a>)) {
    let mut context = Context::default();
    let mut at = 0;
    for _ in 0..WORDS_MAX {
        let start = at + message[at..].iter().take_while(|byte| is_glue(**byte)).count();
        let glue = &message[at..start];
        if start == message.len() {
            return;
        }
        let rest = &message[start..];
        let opening = context.opening(glue, rest);
        let (length, kind) = match opening {
            Opening::Value { length, kind } => (length, kind),
            Opening::Word => {
                let (length, marks) = measure(rest);
                let body = &rest[..length];
                let is_key = rest.get(length) == Some(&b'=');
                (length, context.kind(glue, body, is_key).unwrap_or_else(|| kind_of(body, marks)))
            }
        };
        let word = Word { glue, body: &rest[..length], kind };
        context.pass(&word, rest.get(length) == Some(&b'='));
        take(word);
        at = start + length;
    }
}

// What bytes a word has, one bit for each class.
const LETTER: u8 = 1;
const DIGIT: u8 = 1 << 1;
const SLASH: u8 = 1 << 2;
const DOT: u8 = 1 << 3;
const AT: u8 = 1 << 4;
/// Bytes that names and ids have, and written words have not.
const STRANGE: u8 = 1 << 5;
/// Hexadecimal digits that are letters.
const HEX: u8 = 1 << 6;
/// Where a word ends.
const GLUE: u8 = 1 << 7;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b' ' | b'\t' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'"' | b'\''
            | b'=' => GLUE,
            b'a'..=b'f' | b'A'..=b'F' => LETTER | HEX,
            b'g'..=b'z' | b'G'..=b'Z' => LETTER,
            b'0'..=b'9' => DIGIT,
            b'/' => SLASH,
            b'.' => DOT,
            b'@' => AT,
            b'!'..=b'-' | b':' | b';' | b'?' | b'_' | b'`' => 0,
            _ => STRANGE,
        };
        byte += 1;
    }
    // What mailbox names have in place of dots and spaces (Cyrus: imap/mboxname.c).
    classes[b'^' as usize] = STRANGE;
    classes
}

fn is_glue(byte: u8) -> bool {
    CLASSES[byte as usize] & GLUE != 0
}

/// How long the word in front is, and which classes its bytes have. What ends a sentence belongs to
/// the word, but says nothing of its kind.
#[inline]
fn measure(text: &[u8]) -> (usize, u8) {
    let mut marks = 0;
    let mut length = 0;
    for byte in text {
        let class = CLASSES[*byte as usize];
        if class & GLUE != 0 {
            break;
        }
        marks |= class;
        length += 1;
    }
    if marks & DOT != 0 {
        // `done.` is a word, and `a.b` is a name.
        let body = &text[..length];
        let end = body.iter().rposition(|byte| !b".,:;!?".contains(byte)).map_or(0, |at| at + 1);
        if !body[..end].contains(&b'.') {
            marks &= !DOT;
        }
    }
    (length, marks)
}

/// What a word is, by its bytes alone.
fn kind_of(body: &[u8], marks: u8) -> Kind {
    if marks & AT != 0 {
        return Kind::Address;
    }
    if is_mailbox(body) {
        return Kind::Mailbox;
    }
    if marks & SLASH != 0 {
        // As in `Input/output error` and `System I/O error`.
        let written: [&[u8]; 2] = [b"input/output", b"i/o"];
        let is_written = written.iter().any(|written| body.eq_ignore_ascii_case(written));
        return if is_written { Kind::Word } else { Kind::Path };
    }
    match (marks & DIGIT != 0, marks & (LETTER | HEX | STRANGE) != 0) {
        (true, false) => Kind::Number,
        (true, true) => Kind::Id,
        (false, _) if marks & STRANGE != 0 => Kind::Text,
        (false, _) if marks & DOT != 0 && marks & LETTER != 0 => Kind::Name,
        (false, _) => Kind::Word,
    }
}

/// Internal names, and those that users and operators see (Cyrus: imap/mboxname.c).
fn is_mailbox(body: &[u8]) -> bool {
    let starts = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| body.starts_with(prefix));
    match body.first() {
        Some(b'u') => starts(&[b"user.", b"user/"]),
        Some(b'I') => body == b"INBOX" || starts(&[b"INBOX.", b"INBOX/"]),
        Some(b'D') => starts(&[b"DELETED.", b"DELETED/"]),
        // Of a domain: example.org!user.glad.
        Some(_) => body.contains(&b'!') && body.windows(6).any(|part| part == b"!user."),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message with its masks, as a template shows it.
    fn masked(message: &str) -> String {
        let mut text = String::new();
        words(message.as_bytes(), |word| {
            text.push_str(&String::from_utf8_lossy(word.glue));
            match word.kind {
                Kind::Word => text.push_str(&String::from_utf8_lossy(word.body)),
                kind => text.push_str(kind.placeholder()),
            }
        });
        text
    }

    #[test]
    fn what_a_message_is_about_is_masked() {
        for (message, template) in [
            ("created stage directory /var/spool/cyrus/stage./", "created stage directory <path>"),
            ("USAGE glad user: 0.010000 sys: 0.02", "USAGE <user> user: <n> sys: <n>"),
            ("Expunged 3 messages from user.glad.Sent", "Expunged <n> messages from <mailbox>"),
            (
                "skiplist: checkpointed /a/mailboxes.db (1 record, 20 bytes) in 0.005 seconds",
                "skiplist: checkpointed <path> (<n> record, <n> bytes) in <n> seconds",
            ),
            (
                "Delivered: <1@example.org> to mailbox: user.glad",
                "Delivered: <<address>> to mailbox: <mailbox>",
            ),
            ("fetching user_deny.db entry for 'glad'", "fetching <name> entry for '<text>"),
            ("USER glad", "USER <user>"),
            (
                "MAIL, , glad, INBOX,  \"From: \"Glad, of Accounts\" <a@b.c>\"",
                "MAIL, , <user> <mailbox>  \"<text>",
            ),
            ("open: user glad opened INBOX", "open: user <user> opened <mailbox>"),
            (
                "SASL AlwaysTrue Password Verifier Verified: cyrus",
                "SASL AlwaysTrue Password Verifier Verified: <user>",
            ),
            ("done recovering cyrus databases.", "done recovering cyrus databases."),
            (
                "mailbox list synchronization NOT complete (3) errors",
                "mailbox list synchronization NOT complete (<n>) errors",
            ),
        ] {
            assert_eq!(masked(message), template);
        }
    }

    #[test]
    fn logins_of_every_release_name_the_user() {
        for (message, template) in [
            (
                "login: localhost [127.0.0.1] glad plaintext User logged in SESSIONID=<c-1-2>",
                "login: <name> [<n>] <user> plaintext User logged in SESSIONID=<<id>",
            ),
            (
                "login: [::1] glad DIGEST-MD5 User logged in",
                "login: [<n>] <user> <id> User logged in",
            ),
            (
                "badlogin: a [1.2.3.4] plaintext glad SASL(-13)",
                "badlogin: <name> [<n>] plaintext <user> SASL(<n>",
            ),
            (
                "badlogin: a [1.2.3.4] plaintext (glad) [SASL(-13): bad]",
                "badlogin: <name> [<n>] plaintext (<user>) [SASL(<n>): bad",
            ),
            (
                "event=login.good r.sessionid=x r.clienthost=\"a [1]\" u.username=glad login.mech=PLAIN",
                "event=login.good r.sessionid=<id> r.clienthost=\"<name>\" u.username=<user> login.mech=PLAIN",
            ),
        ] {
            assert_eq!(masked(message), template);
        }
    }

    #[test]
    fn values_are_masked_to_their_end() {
        for (message, template) in [
            (
                "auditlog: append sessionid=<a> mailbox=<user.glad.Sent Items> uid=<3>",
                "auditlog: append sessionid=<<id>> mailbox=<<mailbox>> uid=<<n>",
            ),
            (
                "IOERROR: open failed: fname=</a b/c> syserror=<No such file or directory> func=<f>",
                "IOERROR: open failed: fname=<<path>> syserror=<No such file or directory> func=<f",
            ),
            (
                "error=\"no such user\" mailbox=<unclosed",
                "error=\"no such user\" mailbox=<<mailbox>",
            ),
            ("can't open: it isn't there", "can't open: it isn't there"),
        ] {
            assert_eq!(masked(message), template);
        }
    }

    #[test]
    fn only_words_make_a_difference() {
        let key = |message: &str| {
            let mut hash = Hash::new(0);
            words(message.as_bytes(), |word| hash = hash.number(word.key()));
            hash.end()
        };
        assert_eq!(key("expired 3 of user.glad"), key("expired 1,024 of user.iris.Sent"));
        assert_ne!(key("expired 3 of user.glad"), key("expunged 3 of user.glad"));
        assert_ne!(key("a (b)"), key("a b"));
    }

    proptest! {
        #[test]
        fn words_and_glue_are_the_whole_message(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (mut whole, mut count) = (Vec::new(), 0);
            words(&message, |word| {
                whole.extend_from_slice(word.glue);
                whole.extend_from_slice(word.body);
                assert!(!word.body.is_empty());
                count += 1;
            });
            prop_assert!(message.starts_with(&whole));
            prop_assert!(count == WORDS_MAX || message[whole.len()..].iter().all(|byte| is_glue(*byte)));
        }
    }
}
