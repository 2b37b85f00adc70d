//! What has become of the bytes of a message: everything that can be found out by reading them once,
//! or beside a good copy.

use std::fs::File;
use std::io::{self, Read};

use model::Guid;
use sha1::{Digest, Sha1};

use super::messages::Paced;
use crate::ports::Pace;

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// A run of NUL bytes. No message has any (RFC 5322, 2.3), but a file system leaves them where it had
/// promised room and lost the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NulRun {
    /// Where it begins, in bytes from the start.
    pub from: u64,
    /// How long it is.
    pub bytes: u64,
}

/// How a message differs from a good copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first byte that differs, or where the shorter one ends.
    pub first: u64,
    /// How many bytes differ, as far as both go.
    pub bytes: u64,
    /// How many bits of them.
    pub bits: u64,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dissection {
    pub size: u64,
    pub guid: Guid,
    /// What it would be if every line ended with CR LF.
    pub with_cr: Guid,
    /// What it would be if every line ended with LF.
    pub without_cr: Guid,
    /// What the first bytes are, as many as the record says; `None` if there are no more than those.
    pub front: Option<Guid>,
    /// The longest run of NUL bytes.
    pub nul: NulRun,
}

impl Dissection {
    /// Reads a file. `expected` is how many bytes it should have.
    pub fn of(file: File, expected: u64, pace: &dyn Pace) -> io::Result<Self> {
        let mut reading = Reading::default();
        let mut file = Paced::new(file, pace);
        let mut buffer = vec![0; PIECE];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(reading.finish()),
                Ok(n) => reading.take(&buffer[..n], expected),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[derive(Default)]
struct Reading {
    size: u64,
    whole: Sha1,
    with_cr: Sha1,
    without_cr: Sha1,
    front: Option<Guid>,
    /// CRs that have come and nothing behind them yet.
    crs: u64,
    nul: NulRun,
    run: NulRun,
}

impl Reading {
    fn take(&mut self, bytes: &[u8], expected: u64) {
        let left = expected.checked_sub(self.size).and_then(|left| usize::try_from(left).ok());
        if let Some((front, _)) = left.and_then(|left| bytes.split_at_checked(left))
            && front.len() < bytes.len()
        {
            self.front = Some(guid(self.whole.clone().chain_update(front)));
        }
        self.whole.update(bytes);
        self.find_nuls(bytes);
        self.size += bytes.len() as u64;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.take_line(line);
        }
    }

    /// Takes a line or a part of one.
    fn take_line(&mut self, line: &[u8]) {
        let (text, ends) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        let kept = text.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
        let (text, crs) = text.split_at(kept);
        if !text.is_empty() {
            self.flush_crs();
            self.with_cr.update(text);
            self.without_cr.update(text);
        }
        self.crs += crs.len() as u64;
        if ends {
            self.crs = 0;
            self.with_cr.update(b"\r\n");
            self.without_cr.update(b"\n");
        }
    }

    /// CRs that end no line belong to it.
    fn flush_crs(&mut self) {
        for _ in 0..std::mem::take(&mut self.crs) {
            self.with_cr.update(b"\r");
            self.without_cr.update(b"\r");
        }
    }

    fn find_nuls(&mut self, bytes: &[u8]) {
        for (at, byte) in (self.size..).zip(bytes) {
            if *byte != 0 {
                self.run.bytes = 0;
                continue;
            }
            if self.run.bytes == 0 {
                self.run.from = at;
            }
            self.run.bytes += 1;
            if self.run.bytes > self.nul.bytes {
                self.nul = self.run;
            }
        }
    }

    fn finish(mut self) -> Dissection {
        self.flush_crs();
        Dissection {
            size: self.size,
            guid: guid(self.whole),
            with_cr: guid(self.with_cr),
            without_cr: guid(self.without_cr),
            front: self.front,
            nul: self.nul,
        }
    }
}

fn guid(hash: Sha1) -> Guid {
    Guid(hash.finalize().into())
}

/// Looks for the one bit that makes these bytes those of a GUID: its byte from the start, and its number
/// there. Takes time in the square of their number.
pub(super) fn flipped_bit(bytes: &[u8], wanted: Guid) -> Option<(u64, u8)> {
    /// What SHA-1 takes at once: what comes before needs to be hashed only once.
    const BLOCK: usize = 64;
    let mut before = Sha1::new();
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        let start = number * BLOCK;
        let mut changed = block.to_vec();
        for at in 0..block.len() {
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                let rest = bytes.get(start + block.len()..).unwrap_or_default();
                let hash = before.clone().chain_update(&changed).chain_update(rest);
                if guid(hash) == wanted {
                    return Some(((start + at) as u64, bit));
                }
                changed[at] ^= 1 << bit;
            }
        }
        before.update(block);
    }
    None
}

/// Compares a file with a good copy.
pub(super) fn difference(bad: File, good: File, pace: &dyn Pace) -> io::Result<Difference> {
    let (mut bad, mut good) = (Paced::new(bad, pace), Paced::new(good, pace));
    let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut at, mut first) = (0, None);
    let (mut bytes, mut bits) = (0, 0);
    loop {
        let [n, m] = [fill(&mut bad, &mut ours)?, fill(&mut good, &mut theirs)?];
        for (a, b) in ours[..n].iter().zip(&theirs[..m]) {
            if a != b {
                first = first.or(Some(at));
                bytes += 1;
                bits += u64::from((a ^ b).count_ones());
            }
            at += 1;
        }
        if n != m || n == 0 {
            return Ok(Difference { first: first.unwrap_or(at), bytes, bits });
        }
    }
}

/// Reads until the buffer is full, or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pieces: &[&[u8]], expected: u64) -> Dissection {
        let mut reading = Reading::default();
        pieces.iter().for_each(|piece| reading.take(piece, expected));
        reading.finish()
    }

    fn sha1(bytes: &[u8]) -> Guid {
        Guid(Sha1::digest(bytes).into())
    }

    #[test]
    fn line_ends_are_made_one_wherever_the_pieces_end() {
        for pieces in [
            &[b"a\r\nb\n\r\r\nc\rd\r".as_slice()][..],
            &[b"a\r", b"\nb", b"\n\r", b"\r\nc", b"\r", b"d\r"],
            &[b"a", b"\r\n", b"b\n\r\r", b"\n", b"c\rd", b"\r"],
        ] {
            let found = of(pieces, 0);
            assert_eq!(found.guid, sha1(&pieces.concat()));
            assert_eq!(found.with_cr, sha1(b"a\r\nb\r\n\r\nc\rd\r"));
            assert_eq!(found.without_cr, sha1(b"a\nb\n\nc\rd\r"));
        }
    }

    #[test]
    fn what_is_too_long_is_known_by_its_front() {
        for pieces in [&[b"abcdef".as_slice()][..], &[b"abc", b"def"], &[b"ab", b"cd", b"ef"]] {
            assert_eq!(of(pieces, 3).front, Some(sha1(b"abc")));
            assert_eq!(of(pieces, 0).front, Some(sha1(b"")));
            assert_eq!(of(pieces, 6).front, None);
            assert_eq!(of(pieces, 9).front, None);
        }
    }

    #[test]
    fn the_longest_run_of_nuls_is_found_across_pieces() {
        let found = of(&[b"a\0b\0\0", b"\0\0c\0\0\0"], 0);
        assert_eq!(found.nul, NulRun { from: 3, bytes: 4 });
        assert_eq!(of(&[b"abc"], 0).nul, NulRun::default());
    }

    #[test]
    fn a_flipped_bit_is_found_in_every_block() {
        let good: Vec<u8> = (0..200_u8).collect();
        for (at, bit) in [(0, 0), (63, 7), (64, 1), (130, 3), (199, 6)] {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert_eq!(flipped_bit(&bad, sha1(&good)), Some((at as u64, bit)));
        }
        let mut worse = good.clone();
        worse[5] ^= 3;
        assert_eq!(flipped_bit(&worse, sha1(&good)), None);
        assert_eq!(flipped_bit(b"", sha1(&good)), None);
    }
}
