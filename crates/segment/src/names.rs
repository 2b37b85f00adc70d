//! Names of entries: any bytes in, one safe path component out, and back.
//!
//! A mailbox name, a userid or a sieve script's name may hold any byte. What becomes of it in an
//! archive is a path component that no shell, file system or tar program has an opinion about,
//! that cannot leave its folder, and from which the name can be had back.

use std::fmt;

use model::{Guid, Uid, Userid};
use sha2::{Digest, Sha256};

use crate::bytes::{parse_decimal, printable, upper_hex};

/// The longest component that [`escape`] makes. With a link's `~n` behind it, it still fits the
/// 255 bytes that file systems allow.
pub const COMPONENT_MAX: usize = 200;

/// Between the start of a name that is too long and the hash that stands for the rest.
const SHORTENED: &str = "%~";
const SHORTENED_DIGITS: usize = 16;

/// How the empty name is written: a component cannot be empty, and no other name gives this.
const EMPTY: &str = "%";

/// An account's component: its userid, [escaped](escape). Only that of the shared mailboxes stays as
/// it is, `%shared`: it is no escape of any name, since no hex digit follows its `%`.
pub fn account(userid: &[u8]) -> String {
    if userid == Userid::SHARED.as_bytes() {
        return Userid::SHARED.to_owned();
    }
    escape(userid)
}

/// Refuses what is no [account's component](account).
///
/// # Errors
///
/// As [`unescape`].
pub fn check_account(component: &str) -> Result<(), NameError> {
    if component == Userid::SHARED {
        return Ok(());
    }
    unescape(component).map(drop)
}

/// One path component for a name of any bytes.
///
/// ASCII letters, digits and `._@+=,#^&$!-` stay, except `.` and `-` in first place; every other
/// byte becomes `%XX`. What would be longer than [`COMPONENT_MAX`] is cut and ends with `%~` and
/// 16 digits of the whole name's SHA-256. The tilde never stands for itself: it is the format's
/// own mark, here and in [link names](crate::links).
pub fn escape(name: &[u8]) -> String {
    if name.is_empty() {
        return EMPTY.to_owned();
    }
    let mut escaped = String::with_capacity(name.len());
    // Where the last byte begins whose escape still leaves room for a hash.
    let mut cut = 0;
    for (at, byte) in name.iter().enumerate() {
        if escaped.len() <= COMPONENT_MAX - SHORTENED.len() - SHORTENED_DIGITS {
            cut = escaped.len();
        }
        if is_plain(*byte, at) {
            escaped.push(char::from(*byte));
        } else {
            push_escaped(*byte, &mut escaped);
        }
    }
    if escaped.len() > COMPONENT_MAX {
        escaped.truncate(cut);
        escaped.push_str(SHORTENED);
        for byte in &Sha256::digest(name)[..SHORTENED_DIGITS / 2] {
            escaped.push_str(&format!("{byte:02x}"));
        }
    }
    escaped
}

/// What a component stood for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unescaped {
    /// This name.
    Whole(Vec<u8>),
    /// A name too long to be had back; the manifest has it.
    Shortened,
}

/// The name that [`escape`] made this component of.
///
/// # Errors
///
/// Whatever [`escape`] never makes is refused, so that a name has exactly one component.
pub fn unescape(component: &str) -> Result<Unescaped, NameError> {
    let refuse = |why| NameError::new(component.as_bytes(), why);
    if component == EMPTY {
        return Ok(Unescaped::Whole(Vec::new()));
    }
    if component.len() > COMPONENT_MAX {
        return Err(refuse("is too long"));
    }
    if let Some((start, hash)) = component.rsplit_once(SHORTENED) {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let room = COMPONENT_MAX - SHORTENED.len() - SHORTENED_DIGITS;
        // The cut comes at most two bytes early: where a %XX would not have fitted.
        let cut = (room - 2..=room).contains(&start.len());
        if !cut || hash.len() != SHORTENED_DIGITS || !hash.bytes().all(hex) {
            return Err(refuse("is not shortened as this program does it"));
        }
        percent_decode(start).ok_or_else(|| refuse("is not escaped as this program does it"))?;
        return Ok(Unescaped::Shortened);
    }
    let name = percent_decode(component).filter(|name| escape(name) == component);
    name.map(Unescaped::Whole).ok_or_else(|| refuse("is not escaped as this program does it"))
}

/// The bytes behind `%XX` escapes, whatever they are; `None` for a component that holds a byte
/// which no component holds.
fn percent_decode(component: &str) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(component.len());
    let mut rest = component.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            let byte = upper_hex(digits[0])? << 4 | upper_hex(digits[1])?;
            if is_plain(byte, name.len()) {
                return None;
            }
            name.push(byte);
            rest = after;
        } else {
            if !is_plain(*byte, name.len()) {
                return None;
            }
            name.push(*byte);
            rest = after;
        }
    }
    Some(name)
}

fn is_plain(byte: u8, at: usize) -> bool {
    match byte {
        b'.' | b'-' => at > 0,
        b'_' | b'@' | b'+' | b'=' | b',' | b'#' | b'^' | b'&' | b'$' | b'!' => true,
        _ => byte.is_ascii_alphanumeric(),
    }
}

fn push_escaped(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Any bytes as readable text of any length: printable ASCII but `%` stays, the rest is `%XX`.
///
/// This is how manifests hold names; unlike [`escape`] it makes no path component.
pub fn quote(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if (b' '..=b'~').contains(byte) && *byte != b'%' {
            text.push(char::from(*byte));
        } else {
            push_escaped(*byte, &mut text);
        }
    }
    text
}

/// The bytes that [`quote`] made this text of; `None` for a text that it never makes.
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.push(upper_hex(digits[0])? << 4 | upper_hex(digits[1])?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    (quote(&bytes) == text).then_some(bytes)
}

/// An entry of a segment, as its name tells it.
///
/// One value both builds the name and is what a foreign name must turn out to be: there is no
/// other kind of entry, so a name that leads elsewhere is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryName<'a> {
    /// The [account's component](account).
    pub account: &'a str,
    /// What the entry is within the account.
    pub part: Part<'a>,
}

/// What an entry is within its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// `messages/<aa>/<guid>`: the bytes of a message.
    Message(Guid),
    /// `mailboxes/<dir>/`: a mailbox's directory.
    MailboxDir(&'a str),
    /// `mailboxes/<dir>/<file>`: one of its metadata files.
    MailboxFile {
        /// The mailbox's component.
        dir: &'a str,
        /// The file's component.
        file: &'a str,
    },
    /// `mailboxes/<dir>/<uid>.`: hard link to a message.
    MailboxMessage {
        /// The mailbox's component.
        dir: &'a str,
        /// The message's number there.
        uid: Uid,
    },
    /// `folders/<link>`: symbolic link to a mailbox's directory.
    Folder(&'a str),
    /// `account/<path>`: a file of the account; the path may have several components.
    AccountFile(&'a str),
    /// `segments/<seq>.json`: the manifest.
    Manifest(u32),
    /// `segments/<seq>.end`: the block that points back at the manifest.
    End(u32),
}

impl<'a> EntryName<'a> {
    /// Reads a name, and refuses every one that no segment holds: absolute ones, `..`, empty
    /// components, bytes that should have been escaped, unknown folders.
    pub fn parse(name: &'a [u8]) -> Result<Self, NameError> {
        let refuse = |why| NameError::new(name, why);
        let text = str::from_utf8(name).map_err(|_| refuse("is not ASCII"))?;
        let (account, rest) = text.split_once('/').ok_or_else(|| refuse("names no account"))?;
        check_account(account).map_err(|error| refuse(error.why))?;
        let (folder, rest) = rest.split_once('/').ok_or_else(|| refuse("is incomplete"))?;
        let part = match folder {
            "messages" => parse_message(rest).ok_or_else(|| refuse("is no message's name"))?,
            "mailboxes" => parse_mailbox(rest).map_err(refuse)?,
            "folders" => {
                crate::links::split(rest).ok_or_else(|| refuse("is no link of this program"))?;
                Part::Folder(rest)
            }
            "account" => {
                for component in rest.split('/') {
                    unescape(component).map_err(|error| refuse(error.why))?;
                }
                Part::AccountFile(rest)
            }
            "segments" => parse_segment(rest).ok_or_else(|| refuse("is no segment's name"))?,
            _ => return Err(refuse("is in a folder that no segment has")),
        };
        Ok(Self { account, part })
    }

    /// Appends the name.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.account.as_bytes());
        match self.part {
            Part::Message(guid) => {
                let hex = guid.to_hex();
                out.extend_from_slice(b"/messages/");
                out.extend_from_slice(&hex[..2]);
                out.push(b'/');
                out.extend_from_slice(&hex);
            }
            Part::MailboxDir(dir) => append(out, &["/mailboxes/", dir, "/"]),
            Part::MailboxFile { dir, file } => append(out, &["/mailboxes/", dir, "/", file]),
            Part::MailboxMessage { dir, uid } => {
                append(out, &["/mailboxes/", dir, "/"]);
                append_decimal(out, uid.0);
                out.push(b'.');
            }
            Part::Folder(link) => append(out, &["/folders/", link]),
            Part::AccountFile(path) => append(out, &["/account/", path]),
            Part::Manifest(seq) => append(out, &["/segments/", &format!("{seq:08}.json")]),
            Part::End(seq) => append(out, &["/segments/", &format!("{seq:08}.end")]),
        }
    }
}

impl fmt::Display for EntryName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = Vec::new();
        self.write_to(&mut name);
        f.write_str(&printable(&name))
    }
}

/// The path of an account's file: its name's components, each escaped.
pub fn account_path(name: &str) -> String {
    let components: Vec<String> = name.split('/').map(|part| escape(part.as_bytes())).collect();
    components.join("/")
}

/// Appends what a folder's symbolic link points at.
pub(crate) fn write_folder_target(dir: &str, out: &mut Vec<u8>) {
    append(out, &["../mailboxes/", dir]);
}

/// The mailbox's component behind a folder's symbolic link, or `None` for any other target.
pub fn parse_folder_target(target: &[u8]) -> Option<&str> {
    let dir = str::from_utf8(target.strip_prefix(b"../mailboxes/")?).ok()?;
    check_dir(dir).is_ok().then_some(dir)
}

/// A name that is right, on an entry that is not what the name says.
pub(crate) fn wrong_kind(name: &[u8]) -> NameError {
    NameError::new(name, "is on an entry of another kind")
}

/// Refuses what is no mailbox's component: an escaped name, and perhaps `~n` behind it.
pub(crate) fn check_dir(dir: &str) -> Result<(), NameError> {
    let refuse = || NameError::new(dir.as_bytes(), "is no mailbox's component");
    crate::links::split(dir).map(drop).ok_or_else(refuse)
}

fn parse_message(rest: &str) -> Option<Part<'_>> {
    let (first, hex) = rest.split_once('/')?;
    let guid = Guid::from_hex(hex.as_bytes())?;
    (guid.to_hex() == hex.as_bytes() && hex.get(..2) == Some(first)).then_some(Part::Message(guid))
}

fn parse_mailbox(rest: &str) -> Result<Part<'_>, &'static str> {
    let (dir, file) = rest.split_once('/').ok_or("is incomplete")?;
    check_dir(dir).map_err(|error| error.why)?;
    if file.is_empty() {
        return Ok(Part::MailboxDir(dir));
    }
    if let Some(uid) = parse_message_file(file) {
        return Ok(Part::MailboxMessage { dir, uid });
    }
    unescape(file).map_err(|error| error.why)?;
    Ok(Part::MailboxFile { dir, file })
}

/// `17.` as Cyrus names a message's file; `None` for everything else.
fn parse_message_file(file: &str) -> Option<Uid> {
    let digits = file.strip_suffix('.')?.as_bytes();
    let uid = u32::try_from(parse_decimal(digits)?).ok()?;
    (digits[0] != b'0').then_some(Uid(uid))
}

fn parse_segment(rest: &str) -> Option<Part<'_>> {
    let (digits, suffix) = rest.split_at_checked(8)?;
    let seq = u32::try_from(parse_decimal(digits.as_bytes())?).ok().filter(|seq| *seq > 0)?;
    match suffix {
        ".json" => Some(Part::Manifest(seq)),
        ".end" => Some(Part::End(seq)),
        _ => None,
    }
}

fn append(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends a number without allocating: hard links are written by the million.
fn append_decimal(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A name that no segment holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name \"{name}\" {why}")]
pub struct NameError {
    /// The name, made printable.
    pub name: String,
    /// What is wrong with it, to be read behind the name.
    pub why: &'static str,
}

impl NameError {
    fn new(name: &[u8], why: &'static str) -> Self {
        Self { name: printable(name), why }
    }
}
