//! What the objects of a vault are called.
//!
//! `docs/format-vault.md` fixes the names. They are pure text: whoever lists an account knows its
//! history without opening anything.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::Userid;
use model::state::Digest;
use segment::names;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The object that makes a vault one.
pub const MARKER: &str = "cylinder-vault";

/// What it says.
pub const MARKER_TEXT: &str = "cylinder vault 1\n";

/// Where the accounts are.
pub const ACCOUNTS: &str = "accounts";

/// Bytes that a component may hold and a store, or a shell, would take for its own.
const TOUCHY: [u8; 5] = *b"#^&$!";

/// The longest directory name: what file systems allow.
pub const KEY_MAX: usize = 255;

/// Between the beginning of a key that would be longer and the hash that stands for the rest. A
/// component holds this byte behind a `%` only.
const SHORTENED: char = '~';
const SHORTENED_DIGITS: usize = 16;

/// The account's directory name.
///
/// It is the account's component in segment names with some bytes more escaped. None of the
/// escapes that this adds occurs in a component, so that different accounts stay different. What
/// would be longer than [`KEY_MAX`] is cut, and ends with `~` and 16 digits of the component's
/// SHA-256.
pub fn account_key(userid: &Userid) -> String {
    key_of(&names::account(userid.as_bytes()))
}

/// The directory name of an account, given by its component.
pub fn key_of(component: &str) -> String {
    let mut key = String::new();
    // Where the last byte begins that leaves room for a hash.
    let mut cut = 0;
    for byte in component.bytes() {
        // Never behind a `%`: `%~` says something else.
        if key.len() < KEY_MAX - SHORTENED_DIGITS && !key.ends_with('%') {
            cut = key.len();
        }
        match byte {
            touchy if TOUCHY.contains(&touchy) => key.push_str(&format!("%{touchy:02X}")),
            plain => key.push(char::from(plain)),
        }
    }
    if key.len() > KEY_MAX {
        key.truncate(cut);
        key.push(SHORTENED);
        for byte in &Sha256::digest(component)[..SHORTENED_DIGITS / 2] {
            key.push_str(&format!("{byte:02x}"));
        }
    }
    key
}

/// Whether a directory name is one that [`key_of`] has cut: only what is in the directory tells
/// whose it is.
pub fn is_shortened(key: &str) -> bool {
    let Some((start, hash)) = key.rsplit_once(SHORTENED) else { return false };
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    !start.ends_with('%') && hash.len() == SHORTENED_DIGITS && hash.bytes().all(hex)
}

/// The account's component in segment names that a directory name was made of; `None` if it is
/// nobody's, or [shortened](is_shortened).
pub fn component_of(key: &str) -> Option<String> {
    let mut component = key.to_owned();
    for touchy in TOUCHY {
        component = component.replace(&format!("%{touchy:02X}"), &char::from(touchy).to_string());
    }
    // A component that was cut holds a hash instead of the rest, and is refused only if it is not
    // one.
    names::check_account(&component).ok()?;
    // A directory that somebody else made may hold such a byte as it is.
    (key_of(&component) == key).then_some(component)
}

/// Whether a segment is shown, or only continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// A snapshot.
    Snapshot,
    /// Messages that were stored in advance.
    Part,
}

/// The name of a segment within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Its number: greater than that of its parent.
    pub seq: u32,
    /// When it was taken, seconds since 1970.
    pub taken_at: i64,
    /// SHA-256 of its manifest.
    pub own: Digest,
    /// That of the segment which it continues; `None` if it is a full one.
    pub parent: Option<Digest>,
    /// What it is.
    pub kind: SegmentKind,
}

impl SegmentName {
    /// Reads a name; `None` if it is none, or not in the one form that there is for it.
    pub fn parse(name: &str) -> Option<Self> {
        let (stem, kind) = match name.strip_suffix(".tar.zst")?.rsplit_once('.')? {
            (stem, "snapshot") => (stem, SegmentKind::Snapshot),
            (stem, "part") => (stem, SegmentKind::Part),
            _ => return None,
        };
        let mut fields = stem.split('-');
        let mut field = || fields.next();
        let found = Self {
            seq: field()?.parse().ok()?,
            taken_at: parse_time(field()?)?,
            own: Digest::from_hex(field()?)?,
            parent: Some(Digest::from_hex(field()?)?).filter(|parent| *parent != Digest::default()),
            kind,
        };
        (found.seq > 0 && found.to_string() == name).then_some(found)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SegmentKind::Snapshot => "snapshot",
            SegmentKind::Part => "part",
        };
        let (seq, time, own) = (self.seq, format_time(self.taken_at), self.own);
        write!(f, "{seq:08}-{time}-{own}-{}.{kind}.tar.zst", self.parent.unwrap_or_default())
    }
}

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Snapshots that are not to be shown or restored any more.
    Hidden,
    /// Segments that nothing needs any more.
    Dropped,
    /// All that is older is to be deleted.
    Erased,
    /// Nothing may be hidden, dropped or erased.
    Hold,
    /// Heads that a later snapshot has taken into account.
    Joined,
    /// Segments that were verified.
    Verified,
}

impl What {
    const ALL: [Self; 6] =
        [Self::Hidden, Self::Dropped, Self::Erased, Self::Hold, Self::Joined, Self::Verified];

    /// The word in names and notes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "hidden",
            Self::Dropped => "dropped",
            Self::Erased => "erased",
            Self::Hold => "hold",
            Self::Joined => "joined",
            Self::Verified => "verified",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a note within its account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoteName {
    /// When it was written, seconds since 1970.
    pub at: i64,
    /// What it is about.
    pub what: What,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

impl NoteName {
    /// Reads a name; `None` if it is none.
    pub fn parse(name: &str) -> Option<Self> {
        let mut fields = name.strip_suffix(".note.json")?.split('-');
        let at = parse_time(fields.next()?)?;
        let what = fields.next()?;
        let what = What::ALL.into_iter().find(|known| known.as_str() == what)?;
        let found = Self { at, what, sha256: Digest::from_hex(fields.next()?)? };
        (found.to_string() == name).then_some(found)
    }
}

impl fmt::Display for NoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}.note.json", format_time(self.at), self.what, self.sha256)
    }
}

/// `20261126T124500Z`. Times that do not fit become the first or the last that do.
const TIME: &str = "%Y%m%dT%H%M%SZ";

fn format_time(unix: i64) -> String {
    let limit = if unix < 0 { EARLIEST } else { LATEST };
    let in_range = (EARLIEST..=LATEST).contains(&unix);
    let time = Timestamp::from_second(if in_range { unix } else { limit }).unwrap_or_default();
    time.strftime(TIME).to_string()
}

/// The first and the last second whose year has four digits.
const EARLIEST: i64 = -62_167_219_200;
const LATEST: i64 = 253_402_207_200;

fn parse_time(text: &str) -> Option<i64> {
    let time = DateTime::strptime(TIME, text).ok()?;
    let unix = TimeZone::UTC.to_timestamp(time).ok()?.as_second();
    (format_time(unix) == text).then_some(unix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name() -> SegmentName {
        SegmentName {
            seq: 7,
            taken_at: 1_795_696_000,
            own: Digest([0xab; 32]),
            parent: Some(Digest([1; 32])),
            kind: SegmentKind::Part,
        }
    }

    #[test]
    fn names_are_written_as_the_format_says() {
        let (own, parent) = ("ab".repeat(32), "01".repeat(32));
        let text = format!("00000007-20261126T122640Z-{own}-{parent}.part.tar.zst");
        assert_eq!(name().to_string(), text);
        assert_eq!(SegmentName::parse(&text), Some(name()));
        let full = SegmentName { parent: None, kind: SegmentKind::Snapshot, ..name() };
        let text = format!("00000007-20261126T122640Z-{own}-{}.snapshot.tar.zst", "0".repeat(64));
        assert_eq!(full.to_string(), text);
        assert_eq!(SegmentName::parse(&text), Some(full));
    }

    #[test]
    fn what_is_nearly_a_name_is_none() {
        let good = name().to_string();
        let bad = [
            good.replace("00000007", "7"),
            good.replace("00000007", "00000000"),
            good.replace("00000007", "+0000007"),
            good.replace("1126T", "1131T"),
            good.replace('T', "t"),
            good.replace("ab-", "AB-"),
            good.replace(".part.", ".full."),
            good.replace(".zst", ".gz"),
            good.replace("-01", "--01"),
            format!("{good}#1"),
            String::new(),
        ];
        for text in bad {
            assert_eq!(SegmentName::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn known_dates_are_right() {
        for (unix, text) in [
            (0, "19700101T000000Z"),
            (-1, "19691231T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (4_107_542_399, "21000228T235959Z"),
            (i64::MAX, "99991230T220000Z"),
            (i64::MIN, "00000101T000000Z"),
        ] {
            assert_eq!(format_time(unix), text);
        }
    }

    #[test]
    fn touchy_bytes_are_escaped_and_come_back() {
        assert_eq!(account_key(&Userid::from("ann@other.com")), "ann@other.com");
        assert_eq!(account_key(&Userid::from("a#1&b/c~")), "a%231%26b%2Fc%7E");
        assert_eq!(account_key(&Userid::shared()), "%shared");
        assert_eq!(component_of("%shared").as_deref(), Some("%shared"));
        assert_eq!(account_key(&Userid::from("x".repeat(300).as_str())).len(), 200);
        assert_eq!(component_of("a%231%26b%2Fc%7E").as_deref(), Some("a#1&b%2Fc%7E"));
        assert_eq!(component_of("%41"), None, "that is how nobody writes an A");
        assert_eq!(component_of(".."), None);
        assert_eq!(component_of("a#1"), None, "a directory of somebody else");
    }

    #[test]
    fn a_key_that_would_be_too_long_is_cut_and_says_so() {
        let fits = account_key(&Userid::from("#".repeat(85).as_str()));
        assert_eq!((fits.len(), is_shortened(&fits)), (KEY_MAX, false));
        assert_eq!(component_of(&fits), Some("#".repeat(85)));
        let keys = [86, 100, 200, 201, 300].map(|n| account_key(&Userid::from(&*"#".repeat(n))));
        for key in &keys {
            assert!(key.len() <= KEY_MAX && is_shortened(key), "{key}");
            assert_eq!(component_of(key), None, "{key}");
            assert!(key.starts_with(&"%23".repeat(79)), "{key}");
        }
        assert!(keys.iter().collect::<std::collections::BTreeSet<_>>().len() == keys.len());
        let sum = "084d34cfd523fd1d";
        assert_eq!(keys[1], format!("{}~{sum}", "%23".repeat(79)), "fixed for ever");
        // A component that was cut itself is no key that was cut.
        assert!(!is_shortened(&account_key(&Userid::from(&*"x".repeat(300)))));
    }

    proptest! {
        #[test]
        fn every_account_has_a_key_of_its_own(userid in proptest::collection::vec(any::<u8>(), 0..80)) {
            let key = account_key(&Userid::new(&userid[..]));
            prop_assert!(!key.contains(['/', '#', '?', '\\', '*', ' ']) && !key.starts_with('.'));
            prop_assert_eq!(component_of(&key), Some(names::escape(&userid)));
        }

        #[test]
        fn no_key_is_too_long(userid in "[#!$a\\x80]{60,300}", at in 0..300usize) {
            let userid = userid.into_bytes();
            let key = account_key(&Userid::new(&userid[..]));
            prop_assert!(key.len() <= KEY_MAX && !key.contains('/'));
            match is_shortened(&key) {
                true => prop_assert_eq!(component_of(&key), None),
                false => prop_assert_eq!(component_of(&key), Some(names::escape(&userid))),
            }
            let mut other = userid.clone();
            if let Some(byte) = other.get_mut(at) {
                *byte ^= 1;
                prop_assert!(account_key(&Userid::new(&other[..])) != key);
            }
        }

        #[test]
        fn times_come_back(unix in EARLIEST..=LATEST) {
            prop_assert_eq!(parse_time(&format_time(unix)), Some(unix));
        }

        #[test]
        fn whatever_is_parsed_is_written_back(text in "[0-9]{8}-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{64}-[0-9a-f]{64}.(part|snapshot).tar.zst") {
            if let Some(name) = SegmentName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
