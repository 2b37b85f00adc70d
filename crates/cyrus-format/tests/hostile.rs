//! Real files, broken in ways that can be repeated: nothing may panic, run away, or be taken for
//! whole when a checksum says otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use cyrus_format::cache;
use cyrus_format::dlist::Dlist;
use cyrus_format::expunge;
use cyrus_format::header::MailboxHeader;
use cyrus_format::index::{Index, IndexProblem};

/// Broken copies of each file.
const ROUNDS: u64 = 400;

/// A generator of numbers that look random and are the same in every run (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }
}

/// Breaks `bytes` in one to four ways; `other` is what splices come from.
fn broken(bytes: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = numbers.below(bytes.len());
        match numbers.below(6) {
            0 => bytes[at] ^= 1 << numbers.below(8),
            1 => bytes.truncate(at),
            2 => {
                let to = (at + numbers.below(16)).min(bytes.len());
                bytes.drain(at..to);
            }
            3 => {
                let from = numbers.below(other.len());
                let to = (from + numbers.below(64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            4 => {
                // Lengths, counts and offsets are words at multiples of four.
                let extreme = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX][numbers.below(5)];
                let word = at / 4 * 4;
                if let Some(place) = bytes.get_mut(word..word + 4) {
                    place.copy_from_slice(&extreme.to_be_bytes());
                }
            }
            _ => bytes[at] = [0, b'(', b')', b'{', b'%', b'"', b'\t', b'\n'][numbers.below(8)],
        }
    }
    bytes
}

/// Runs `check` on broken copies of every sample called `name`.
fn hammer(name: &str, check: impl Fn(&[u8])) {
    let files: Vec<Vec<u8>> =
        folders().into_iter().filter_map(|folder| fs::read(folder.join(name)).ok()).collect();
    assert!(files.len() >= 11, "{} samples of {name}", files.len());
    let mut numbers = Numbers(0x5eed_0f1e_1d5e_ed00 | name.len() as u64);
    for (at, file) in files.iter().enumerate() {
        let other = &files[(at + 1) % files.len()];
        for _ in 0..ROUNDS {
            check(&broken(file, other, &mut numbers));
        }
    }
}

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/indexes");
    let mut folders: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

#[test]
fn indexes() {
    hammer("cyrus.index", |bytes| {
        let Ok(index) = Index::parse(bytes) else { return };
        let found = index.records().count() + index.records_in_tail().count();
        assert!(found <= bytes.len() / 60);
        let present = index.len();
        assert!(present <= usize::try_from(index.announced()).expect("64 bits"));
        let announced = index.announced();
        let truncated = IndexProblem::Truncated { announced, present };
        let short = u64::from(announced) > present as u64;
        assert_eq!(index.problems().contains(&truncated), short);
        let merged = expunge::merge(&index, &index);
        assert_eq!(merged.records.len(), present);
    });
}

#[test]
fn headers() {
    hammer("cyrus.header", |bytes| {
        let Ok(header) = MailboxHeader::parse(bytes) else { return };
        assert!(header.user_flags.len() <= 128);
        let written = header.write().expect("what was read as a dlist can be written as one");
        assert_eq!(MailboxHeader::parse(&written), Ok(header));
    });
}

#[test]
fn dlists() {
    hammer("cyrus.header", |bytes| {
        let body = bytes.iter().position(|byte| *byte == b'%').unwrap_or_default();
        if let Ok((value, used)) = Dlist::parse(&bytes[body..]) {
            assert!(used <= bytes.len() - body);
            assert_eq!(Dlist::parse_exact(&value.to_vec()), Ok(value));
        }
    });
}

#[test]
fn caches() {
    hammer("cyrus.cache", |bytes| {
        assert_eq!(cache::generation(bytes).is_ok(), bytes.len() >= 4);
        for offset in (0..bytes.len() as u64 + 8).step_by(4) {
            if let Ok(record) = cache::record_at(bytes, offset) {
                assert!(record.raw().len() >= 40 && record.raw().len() + 4 <= bytes.len());
            }
        }
    });
}
