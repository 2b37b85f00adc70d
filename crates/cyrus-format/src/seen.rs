//! What a user has read in a mailbox: the values of `USER.seen`, by uniqueid
//! (`imap/seen_db.c`).
//!
//! Before index version 12 that is every user's state, the owner's too; since then only that of
//! the others, for the owner's stands in the records.

use model::Uid;

use crate::bytes::Reader;
use crate::error::FormatError;

const WHAT: &str = "seen state";

/// The only version of the value that was ever written.
const VERSION: u32 = 1;

/// A set of UIDs, as ranges that ascend and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// Reads `1:4,7`; the order and overlaps do not matter.
    ///
    /// # Errors
    /// Anything but numbers from 1, and ranges of such.
    pub fn parse(text: &[u8]) -> Result<Self, FormatError> {
        read_set(&mut Reader::new(WHAT, text))
    }

    /// The set of these UIDs.
    pub fn from_uids(uids: impl IntoIterator<Item = Uid>) -> Self {
        Self::from_ranges(uids.into_iter().map(|uid| (uid.0, uid.0)).collect())
    }

    /// Whether the UID is in it.
    pub fn contains(&self, uid: Uid) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= uid.0);
        let range = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|(_, last)| uid.0 <= *last)
    }

    /// The ranges, both ends included, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = (Uid, Uid)> {
        self.ranges.iter().map(|(first, last)| (Uid(*first), Uid(*last)))
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many UIDs it holds.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// `1:4,7`
    pub fn write(&self) -> String {
        let range = |(first, last): &(u32, u32)| match first == last {
            true => first.to_string(),
            false => format!("{first}:{last}"),
        };
        self.ranges.iter().map(range).collect::<Vec<_>>().join(",")
    }

    fn from_ranges(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut set = Self { ranges: Vec::with_capacity(ranges.len()) };
        for (first, last) in ranges {
            match set.ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => set.ranges.push((first, last)),
            }
        }
        set
    }
}

/// One user's state in one mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// When the mailbox was last selected, seconds since 1970.
    pub last_read: i64,
    /// The highest UID that was told to the user; those above are \Recent.
    pub last_uid: Uid,
    /// When the state last changed, seconds since 1970.
    pub last_change: i64,
    /// What has been read.
    pub uids: UidSet,
}

impl Seen {
    /// Reads a value.
    ///
    /// # Errors
    /// [`FormatError::TooNew`] for another version, else [`FormatError::Damaged`]. Cyrus takes a
    /// bad set of UIDs for an empty one; so may the caller.
    pub fn parse(value: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(WHAT, value);
        let version = number(&mut reader)?;
        if version != i64::from(VERSION) {
            let version = u32::try_from(version).unwrap_or(u32::MAX);
            return Err(FormatError::TooNew { what: WHAT, version, newest: VERSION });
        }
        let last_read = number(&mut reader)?;
        let last_uid = number(&mut reader)?;
        let last_uid =
            u32::try_from(last_uid).map_err(|_| reader.damaged(format!("{last_uid} is no UID")))?;
        let last_change = number(&mut reader)?;
        skip_blanks(&mut reader)?;
        let uids = read_set(&mut reader)?;
        Ok(Self { last_read, last_uid: Uid(last_uid), last_change, uids })
    }

    /// The value, as Cyrus writes it.
    pub fn write(&self) -> Vec<u8> {
        let Self { last_read, last_uid, last_change, uids } = self;
        format!("{VERSION} {last_read} {last_uid} {last_change} {}", uids.write()).into_bytes()
    }
}

/// A decimal number with blanks before it.
fn number(reader: &mut Reader<'_>) -> Result<i64, FormatError> {
    skip_blanks(reader)?;
    let sign = usize::from(reader.peek() == Some(b'-'));
    let digits = reader.rest()[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = reader.rest().get(..sign + digits).unwrap_or_default();
    match std::str::from_utf8(text).map(str::parse) {
        Ok(Ok(number)) => reader.take(text.len()).map(|_| number),
        _ => Err(reader.damaged("a number is missing, or too large")),
    }
}

fn skip_blanks(reader: &mut Reader<'_>) -> Result<(), FormatError> {
    let blanks = reader.rest().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    reader.take(blanks).map(|_| ())
}

fn read_set(reader: &mut Reader<'_>) -> Result<UidSet, FormatError> {
    let mut ranges = Vec::new();
    while !reader.is_empty() {
        if !ranges.is_empty() {
            reader.expect(b",")?;
        }
        let first = read_uid(reader)?;
        let last = if reader.peek() == Some(b':') {
            reader.expect(b":")?;
            read_uid(reader)?
        } else {
            first
        };
        ranges.push((first.min(last), first.max(last)));
    }
    Ok(UidSet::from_ranges(ranges))
}

fn read_uid(reader: &mut Reader<'_>) -> Result<u32, FormatError> {
    if !reader.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        return Err(reader.damaged("a UID is missing"));
    }
    let before = reader.clone();
    match u32::try_from(number(reader)?) {
        Ok(uid) if uid > 0 => Ok(uid),
        _ => Err(before.damaged("a UID is out of range")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_of_a_real_server() {
        let value = b"1 1795444976 35 1795444958 1:4";
        let seen = Seen::parse(value).expect("it is whole");
        assert_eq!(seen.last_read, 1_795_444_976);
        assert_eq!((seen.last_uid, seen.last_change), (Uid(35), 1_795_444_958));
        assert_eq!(seen.uids.ranges().collect::<Vec<_>>(), [(Uid(1), Uid(4))]);
        assert_eq!(seen.write(), value);
        let empty = Seen::parse(b"1 0 0 0 ").expect("nothing read yet");
        assert!(empty.uids.is_empty());
        assert_eq!(empty.write(), b"1 0 0 0 ");
    }

    #[test]
    fn sets_are_brought_into_order() {
        let set = UidSet::parse(b"9,3:1,2:5,7,6,4294967295").expect("all good UIDs");
        assert_eq!(set.write(), "1:7,9,4294967295");
        assert_eq!(set.len(), 9);
        for (uid, inside) in [(0, false), (1, true), (7, true), (8, false), (9, true), (10, false)]
        {
            assert_eq!(set.contains(Uid(uid)), inside, "{uid}");
        }
        assert!(set.contains(Uid(u32::MAX)));
    }

    #[test]
    fn what_is_no_state_is_said_to_be_none() {
        for value in [
            "",
            "1",
            "1 2",
            "1 2 3",
            "x",
            "1 2 -3 4 ",
            "1 2 3 4 0",
            "1 2 3 4 1,",
            "1 2 3 4 ,1",
            "1 2 3 4 1:*",
            "1 2 3 4 4294967296",
            "1 2 3 4 1 2",
            "1 99999999999999999999 3 4 ",
        ] {
            let parsed = Seen::parse(value.as_bytes());
            assert!(matches!(parsed, Err(FormatError::Damaged { .. })), "{value:?}: {parsed:?}");
        }
        let newer = Seen::parse(b"2 whatever");
        assert_eq!(newer, Err(FormatError::TooNew { what: WHAT, version: 2, newest: 1 }));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            uids in prop::collection::vec(1_u32.., 0..50),
            few in prop::collection::vec(1_u32..100, 0..50),
            last_read in any::<i64>(),
            last_uid in any::<u32>(),
        ) {
            let uids = UidSet::from_uids(uids.iter().chain(&few).copied().map(Uid));
            prop_assert!(few.iter().all(|uid| uids.contains(Uid(*uid))));
            let seen = Seen { last_read, last_uid: Uid(last_uid), last_change: 7, uids };
            prop_assert_eq!(Seen::parse(&seen.write()), Ok(seen));
        }

        #[test]
        fn no_bytes_panic(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut line = b"1 2 3 4 ".to_vec();
            line.extend_from_slice(&value);
            for value in [value, line] {
                if let Ok(seen) = Seen::parse(&value) {
                    prop_assert_eq!(Seen::parse(&seen.write()), Ok(seen));
                }
            }
        }
    }
}
