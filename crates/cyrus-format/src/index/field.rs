//! How single fields lie in the file. Everything is big-endian.

use model::{Guid, Modseq, SystemFlags, Timestamp, Uid, UidValidity, UserFlags};

use super::MailboxOptions;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A way to store a `T` in `WIDTH` bytes.
pub(super) trait Stored<T> {
    /// Takes the value from `raw`, or its part of the value where two fields share one.
    fn load(raw: &[u8], value: &mut T);

    /// Puts the value into `raw`; `false` if it does not fit.
    #[must_use]
    fn store(value: &T, raw: &mut [u8]) -> bool;
}

/// Declares ways to store, each with its number of bytes.
macro_rules! ways {
    ($($(#[$doc:meta])* $way:ident: $width:literal;)*) => { $(
        $(#[$doc])*
        pub(super) struct $way;

        impl $way {
            pub(super) const WIDTH: usize = $width;
        }
    )* };
}

ways! {
    /// A number of 16 bits.
    U16: 2;
    /// A number of 32 bits.
    U32: 4;
    /// A number of 64 bits.
    U64: 8;
    /// Whole seconds since 1970, unsigned. Nanoseconds are dropped.
    Secs: 4;
    /// Nanoseconds since 1970, unsigned.
    Nanos: 8;
    /// The lower part of a number of 48 bits.
    Low32: 4;
    /// The upper part of a number of 48 bits.
    High16: 2;
    /// A number of 32 bits that the file holds twice; only written, as the other one is read.
    Again: 4;
    /// A SHA-1.
    Sha1: 20;
    /// 128 flags, flag 0 being the lowest bit of the first word.
    Words: 16;
}

/// What a field of 32 bits can stand for.
trait Number: Copy {
    fn from_stored(number: u32) -> Self;
    fn to_wide(self) -> u64;
}

macro_rules! numbers {
    ($($target:ty, $from:expr, $to:expr;)*) => { $(
        impl Number for $target {
            #[inline(always)]
            fn from_stored(number: u32) -> Self {
                ($from)(number)
            }

            #[inline(always)]
            fn to_wide(self) -> u64 {
                ($to)(self)
            }
        }
    )* };
}

numbers! {
    u32, |number| number, u64::from;
    u64, u64::from, |number| number;
    Uid, Uid, |uid: Uid| u64::from(uid.0);
    UidValidity, UidValidity, |validity: UidValidity| u64::from(validity.0);
    SystemFlags, SystemFlags, |flags: SystemFlags| u64::from(flags.0);
    MailboxOptions, MailboxOptions, |options: MailboxOptions| u64::from(options.0);
}

impl<T: Number> Stored<T> for U32 {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut T) {
        *value = T::from_stored(u32_of(raw));
    }

    #[inline(always)]
    fn store(value: &T, raw: &mut [u8]) -> bool {
        match u32::try_from(value.to_wide()) {
            Ok(number) => put(raw, number.to_be_bytes()),
            Err(_) => false,
        }
    }
}

impl Stored<u32> for Again {
    #[inline(always)]
    fn load(_raw: &[u8], _value: &mut u32) {}

    #[inline(always)]
    fn store(value: &u32, raw: &mut [u8]) -> bool {
        U32::store(value, raw)
    }
}

impl Stored<u64> for U64 {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut u64) {
        *value = u64_of(raw);
    }

    #[inline(always)]
    fn store(value: &u64, raw: &mut [u8]) -> bool {
        put(raw, value.to_be_bytes())
    }
}

impl Stored<Modseq> for U64 {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut Modseq) {
        *value = Modseq(u64_of(raw));
    }

    #[inline(always)]
    fn store(value: &Modseq, raw: &mut [u8]) -> bool {
        put(raw, value.0.to_be_bytes())
    }
}

impl Stored<u16> for U16 {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut u16) {
        *value = u16_of(raw);
    }

    #[inline(always)]
    fn store(value: &u16, raw: &mut [u8]) -> bool {
        put(raw, value.to_be_bytes())
    }
}

impl Stored<u64> for Low32 {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut u64) {
        *value |= u64::from(u32_of(raw));
    }

    #[inline(always)]
    fn store(value: &u64, raw: &mut [u8]) -> bool {
        let [_, _, _, _, low @ ..] = value.to_be_bytes();
        put(raw, low)
    }
}

impl Stored<u64> for High16 {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut u64) {
        *value |= u64::from(u16_of(raw)) << 32;
    }

    #[inline(always)]
    fn store(value: &u64, raw: &mut [u8]) -> bool {
        match u16::try_from(value >> 32) {
            Ok(high) => put(raw, high.to_be_bytes()),
            Err(_) => false,
        }
    }
}

impl Stored<Timestamp> for Secs {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut Timestamp) {
        *value = Timestamp::from_secs(i64::from(u32_of(raw)));
    }

    #[inline(always)]
    fn store(value: &Timestamp, raw: &mut [u8]) -> bool {
        match u32::try_from(value.secs) {
            Ok(secs) => put(raw, secs.to_be_bytes()),
            Err(_) => false,
        }
    }
}

impl Stored<Timestamp> for Nanos {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut Timestamp) {
        let nanos = u64_of(raw);
        // Neither can fail: the seconds fit 35 bits, the rest 30.
        value.secs = (nanos / NANOS_PER_SECOND) as i64;
        value.nanos = (nanos % NANOS_PER_SECOND) as u32;
    }

    #[inline(always)]
    fn store(value: &Timestamp, raw: &mut [u8]) -> bool {
        let nanos = u64::from(value.nanos);
        let whole = u64::try_from(value.secs).ok().and_then(|s| s.checked_mul(NANOS_PER_SECOND));
        match whole.and_then(|whole| whole.checked_add(nanos)) {
            Some(sum) if nanos < NANOS_PER_SECOND => put(raw, sum.to_be_bytes()),
            _ => false,
        }
    }
}

impl Stored<Guid> for Sha1 {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut Guid) {
        value.0 = raw.first_chunk().copied().unwrap_or_default();
    }

    #[inline(always)]
    fn store(value: &Guid, raw: &mut [u8]) -> bool {
        put(raw, value.0)
    }
}

impl Stored<UserFlags> for Words {
    #[inline(always)]
    fn load(raw: &[u8], value: &mut UserFlags) {
        for (word, raw) in value.0.iter_mut().zip(raw.chunks_exact(4)) {
            *word = u32_of(raw);
        }
    }

    #[inline(always)]
    fn store(value: &UserFlags, raw: &mut [u8]) -> bool {
        value.0.iter().zip(raw.chunks_exact_mut(4)).all(|(word, raw)| put(raw, word.to_be_bytes()))
    }
}

/// Puts the bytes at the start of `raw`; `false` if they are more.
#[inline(always)]
fn put<const N: usize>(raw: &mut [u8], bytes: [u8; N]) -> bool {
    match raw.first_chunk_mut() {
        Some(chunk) => {
            *chunk = bytes;
            true
        }
        None => false,
    }
}

// The tables hand out exactly as many bytes as a field has, so the zeros below stand for nothing.

#[inline(always)]
fn u16_of(raw: &[u8]) -> u16 {
    raw.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

#[inline(always)]
fn u32_of(raw: &[u8]) -> u32 {
    raw.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[inline(always)]
fn u64_of(raw: &[u8]) -> u64 {
    raw.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
