//! Where Cyrus puts users, mailboxes and the like.

use super::{Kind, Word, is_glue};

/// What was seen of the message so far, as far as it says what comes next.
#[derive(Debug, Default)]
pub struct Context {
    /// How many words there were, as far as it matters.
    words: u8,
    first: First,
    /// What the next word is, because of the one before.
    next: Option<Next>,
}

/// Messages that have users in certain places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum First {
    #[default]
    Other,
    /// `login: HOST [ADDRESS] USER MECHANISM` (Cyrus: imap/imapd.c, 2.3 to 3.12).
    Login,
    /// `badlogin: HOST [ADDRESS] MECHANISM USER REASON`, with brackets around the user since 2.5.
    BadLogin,
    /// `CLASS, PRIORITY, USER, MAILBOX, OPTIONS "TEXT"` (Cyrus: notifyd/notifyd.c); the text is of
    /// strangers, and may have any quotes.
    Notified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The value of a key; nothing is known about it.
    Value,
    /// The value of a key, which is of this kind whatever it looks like.
    ValueOf(Kind),
    /// A user, if it does not look like part of a sentence.
    User,
    /// A number that makes a difference: how a process ended.
    Status,
}

/// What begins at a place.
pub enum Opening {
    /// A word; it ends where words end.
    Word,
    /// A value of this length and kind.
    Value {
        /// In bytes; never 0.
        length: usize,
        /// What it is.
        kind: Kind,
    },
}

impl Context {
    /// What begins behind `glue`: `text` is the rest of the message, and not empty.
    #[inline]
    pub fn opening(&self, glue: &[u8], text: &[u8]) -> Opening {
        let quote = glue.last().copied().unwrap_or_default();
        match self.next {
            Some(Next::ValueOf(kind)) if glue.first() == Some(&b'=') => {
                let length = match quote {
                    b'<' => until(text, b'>'),
                    b'"' => until(text, b'"'),
                    b'\'' => until(text, b'\''),
                    _ => text.iter().position(|byte| is_glue(*byte)),
                };
                Opening::Value { length: length.unwrap_or(text.len()), kind }
            }
            Some(Next::Value) => Opening::Word,
            _ if self.first == First::Notified && quote == b'"' => {
                Opening::Value { length: text.len(), kind: Kind::Text }
            }
            _ if matches!(quote, b'\'' | b'"') && is_opening(glue) => match until(text, quote) {
                Some(length) => Opening::Value { length, kind: Kind::Text },
                None => Opening::Word,
            },
            _ => Opening::Word,
        }
    }

    /// What a word is, by where it stands; `None` if that does not tell.
    #[inline]
    pub fn kind(&self, glue: &[u8], body: &[u8], is_key: bool) -> Option<Kind> {
        if is_key {
            return is_written(body).then_some(Kind::Word);
        }
        match (self.next, self.first) {
            (Some(Next::Value), _) => is_written(body).then_some(Kind::Word),
            (Some(Next::User), _) if glue == b" " => {
                (!continues_sentence(body)).then_some(Kind::User)
            }
            (Some(Next::Status), _) => (body.len() <= 3).then_some(Kind::Word),
            (_, First::Other) => None,
            (_, First::Notified) if glue == b" " && body != b"," => match self.words {
                1 | 2 => Some(Kind::User),
                _ => Some(Kind::Mailbox),
            },
            (_, First::Notified) => None,
            // A host without a dot looks like a word.
            _ if self.words == 1 => is_written(body).then_some(Kind::Name),
            (_, First::Login) => (glue == b"] ").then_some(Kind::User),
            (_, First::BadLogin) => (glue == b" (").then_some(Kind::User),
        }
    }

    /// Takes note of a word.
    #[inline]
    pub fn pass(&mut self, word: &Word<'_>, is_key: bool) {
        if self.words == 0 {
            self.first = match word.body {
                b"login:" => First::Login,
                b"badlogin:" => First::BadLogin,
                b"MAIL," | b"SIEVE," => First::Notified,
                _ => First::Other,
            };
        }
        self.words = self.words.saturating_add(1);
        self.next = if is_key {
            Some(value_kind(word.body).map_or(Next::Value, Next::ValueOf))
        } else {
            match word.body {
                b"user" | b"userid" | b"USAGE" | b"Verified:" => Some(Next::User),
                // What sync_client -l says (Cyrus: imap/sync_support.c).
                b"USER" | b"META" | b"SEEN" if self.words == 1 => Some(Next::User),
                b"plaintext" if self.first == First::BadLogin => Some(Next::User),
                b"status" | b"signal" | b"by" => Some(Next::Status),
                _ => None,
            }
        };
    }
}

/// How many bytes come before the end of a value; `None` if there are none, or no end.
fn until(text: &[u8], end: u8) -> Option<usize> {
    text.iter().position(|byte| *byte == end).filter(|length| *length > 0)
}

/// Whether a quote is not the apostrophe of `can't`.
fn is_opening(glue: &[u8]) -> bool {
    matches!(glue, [.., b' ' | b'(' | b'[' | b'<', _])
}

/// Letters, and what authors put between and behind them.
fn is_written(body: &[u8]) -> bool {
    let known = |byte: &u8| byte.is_ascii_alphabetic() || b"-_.,:;!?".contains(byte);
    body.iter().all(known) && body.iter().any(u8::is_ascii_alphabetic)
}

/// Words that follow `user` in a sentence, such as `user unknown`.
fn continues_sentence(body: &[u8]) -> bool {
    const WORDS: [&[u8]; 18] = [
        b"a", b"already", b"and", b"defined", b"does", b"flag", b"flags", b"has", b"in", b"is",
        b"logged", b"name", b"not", b"or", b"to", b"unknown", b"was", b"with",
    ];
    body.ends_with(b":") || WORDS.contains(&body)
}

/// What the value of a key is, where that is not to be seen (Cyrus: lib/util.c and all calls of
/// xsyslog; imap/auditlog.c; imap/loginlog.c).
fn value_kind(key: &[u8]) -> Option<Kind> {
    Some(match key {
        b"user" | b"userid" | b"username" | b"u.username" | b"authid" | b"authzid" | b"owner"
        | b"proxy_userid" | b"r.proxyid" | b"login" => Kind::User,
        b"mailbox" | b"mboxname" | b"mbox.name" | b"old.mbox.name" | b"oldmailbox"
        | b"newmailbox" | b"oldname" | b"newname" | b"extname" | b"root" | b"quotaroot"
        | b"mbname" => Kind::Mailbox,
        b"client" | b"clienthost" | b"r.clienthost" | b"host" | b"hostname" | b"server"
        | b"remote" | b"backend" => Kind::Name,
        b"sessionid" | b"SESSIONID" | b"r.sessionid" | b"r.tid" | b"uniqueid"
        | b"mbox.uniqueid" | b"mbox.mailboxid" | b"mailboxid" | b"guid" | b"msg.guid" | b"cid"
        | b"msg.cid" | b"msgid" | b"message-id" | b"msg.id" | b"msg.emailid" | b"scope" => Kind::Id,
        b"fname" | b"filename" | b"file" | b"path" | b"dir" | b"directory" | b"script"
        | b"oldfname" | b"newfname" | b"sockpath" | b"dbfname" => Kind::Path,
        b"acl" | b"mbox.acl" | b"old.mbox.acl" | b"oldacl" | b"sysflags" | b"msg.sysflags"
        | b"old.msg.sysflags" | b"userflags" | b"flags" | b"key" | b"value" | b"line" | b"url"
        | b"query" | b"name" => Kind::Text,
        _ => return None,
    })
}
