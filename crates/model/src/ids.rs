//! Identifiers, one type each, so that no bare integer or byte string crosses a crate boundary.

use std::fmt;

/// Declares a number with a meaning.
macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Declares a byte string with a meaning. Cyrus' names are bytes; they print lossily.
macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Vec<u8>);

        impl $name {
            /// Takes the bytes as they are.
            pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
                Self(bytes.into())
            }

            /// The bytes as stored.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// Whether there is nothing in it.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.as_bytes().to_vec())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_bytes(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(\"{}\")"), self)
            }
        }
    };
}

/// Prints bytes for people: control characters and bytes that are not UTF-8 as `\xNN`.
fn write_bytes(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use fmt::Write;
    for chunk in bytes.utf8_chunks() {
        for ch in chunk.valid().chars() {
            if ch.is_control() {
                for byte in ch.to_string().bytes() {
                    write!(f, "\\x{byte:02x}")?;
                }
            } else {
                f.write_char(ch)?;
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    Ok(())
}

number_id! {
    /// A message's number in its mailbox: unique there, growing, never used twice (RFC 9051, 2.3.1.1).
    Uid(u32)
}

number_id! {
    /// A modification sequence: grows with every change of the account (RFC 7162).
    Modseq(u64)
}

number_id! {
    /// Tells one incarnation of a mailbox name from the next (RFC 9051, 2.3.1.1).
    UidValidity(u32)
}

bytes_id! {
    /// A mailbox's identity through all renames: 16 hex digits up to Cyrus 2.5, a UUID or 24
    /// random characters since 3.0. Never judged by its shape; may be empty in very old headers.
    UniqueId
}

bytes_id! {
    /// The owner of an account, as he logs in: `glad`, `fred.smith`, `ann@other.com`; or
    /// [`Userid::SHARED`].
    Userid
}

bytes_id! {
    /// A mailbox name in Cyrus' internal form: `user.glad.a^b`, `other.com!user.ann.x`.
    MboxName
}

bytes_id! {
    /// A partition: the name that the configuration gives to a root of the spool.
    Partition
}

impl MboxName {
    /// This name and those above it, the nearest first: `user.glad.Sent`, `user.glad`, `user`. A domain in
    /// front of them stays.
    pub fn and_above(&self) -> impl Iterator<Item = Self> + '_ {
        let name = self.as_bytes();
        let ends = (1..=name.len()).rev();
        let ends = ends.filter(|end| matches!(name.get(*end), None | Some(b'.')));
        ends.map(|end| Self::new(&name[..end]))
    }
}

impl Userid {
    /// The account of all mailboxes that no user owns, the shared ones of a server.
    ///
    /// No user is called so: `%` is a wildcard of LIST (RFC 9051, 6.3.9), and Cyrus makes no mailbox
    /// with one in its name (`imap/mboxname.c`: GOODCHARS, 2.3 to 3.12).
    pub const SHARED: &str = "%shared";

    /// [`Userid::SHARED`] as a value.
    pub fn shared() -> Self {
        Self::from(Self::SHARED)
    }

    /// Whether it is the account of the shared mailboxes.
    pub fn is_shared(&self) -> bool {
        self.0 == Self::SHARED.as_bytes()
    }

    /// The user, if it is one: what Cyrus locks, hashes and keeps by owner.
    pub fn user(&self) -> Option<&Self> {
        (!self.is_shared()).then_some(self)
    }
}

/// SHA-1 of a message's bytes; all zero where Cyrus does not know it (2.3 with `guid_mode: off`).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 20]);

impl Guid {
    /// The GUID that means "unknown".
    pub const ZERO: Guid = Guid([0; 20]);

    /// Whether this is the unknown GUID.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The 40 lower-case hex digits, without allocating.
    pub fn to_hex(&self) -> [u8; 40] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 40];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }

    /// Reads exactly 40 hex digits of either case; anything else is `None`.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        let hex: &[u8; 40] = hex.try_into().ok()?;
        let mut guid = [0; 20];
        for (byte, pair) in guid.iter_mut().zip(hex.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16)?;
            let low = (pair[1] as char).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(guid))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_below_others() {
        let above = |name: &str| -> Vec<String> {
            MboxName::from(name).and_above().map(|name| name.to_string()).collect()
        };
        assert_eq!(above("user.glad.Sent"), ["user.glad.Sent", "user.glad", "user"]);
        assert_eq!(above("a.test!user.ann"), ["a.test!user.ann", "a.test!user", "a"]);
        assert_eq!(above(""), [] as [&str; 0]);
    }

    #[test]
    fn guid_prints_and_reads_the_same_forty_digits() {
        let hex = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        let guid = Guid::from_hex(hex.as_bytes()).expect("forty digits");
        assert_eq!(guid.to_string(), hex);
        assert_eq!(guid.to_hex(), hex.as_bytes());
        assert_eq!(Guid::from_hex(hex.to_uppercase().as_bytes()), Some(guid));
    }

    #[test]
    fn anything_but_forty_hex_digits_is_no_guid() {
        for wrong in ["", "da39", &"g".repeat(40), &"0".repeat(41)] {
            assert_eq!(Guid::from_hex(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn nobody_but_the_account_of_shared_mailboxes_is_no_user() {
        assert!(Userid::shared().is_shared());
        assert_eq!(Userid::shared().user(), None);
        assert_eq!(Userid::shared().to_string(), "%shared");
        for name in ["", "shared", "%", "%Shared", "%shared@other.com"] {
            let user = Userid::from(name);
            assert_eq!(user.user(), Some(&user), "{name}");
        }
    }

    #[test]
    fn names_print_control_and_foreign_bytes_visibly() {
        let name = MboxName::new(b"user.a\x00b\xffc\x1f".as_slice());
        assert_eq!(name.to_string(), "user.a\\x00b\\xffc\\x1f");
    }
}
