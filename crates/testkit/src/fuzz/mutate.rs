//! Inputs made from other inputs.

use crate::rng::Rng;

/// Inputs grow no further than this.
const LONGEST: usize = 64 << 10;

/// Makes inputs; which ones follows from the target's name.
#[derive(Debug)]
pub(super) struct Mutator {
    rng: Rng,
}

impl Mutator {
    pub fn new(target: &str) -> Self {
        let seed = target.bytes().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte));
        Self { rng: Rng::new(seed) }
    }

    /// One seed with one to four changes, and that seed's name.
    pub fn input<'a>(&mut self, seeds: &'a [(String, Vec<u8>)]) -> (&'a str, Vec<u8>) {
        let (origin, seed) = self.rng.pick(seeds);
        let mut input = seed.clone();
        for _ in 0..self.rng.between(1, 4) {
            let (_, other) = self.rng.pick(seeds);
            self.change(&mut input, other);
        }
        input.truncate(LONGEST);
        (origin, input)
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        if input.is_empty() {
            input.extend_from_slice(other);
            return;
        }
        let at = self.rng.index(input.len());
        match self.rng.below(10) {
            0 => input[at] ^= 1 << self.rng.below(8),
            1 => input[at] = *self.rng.pick(&[0, 1, 0x1f, 0x20, 0x7f, 0x80, 0xfe, 0xff]),
            2 => input[at] = self.rng.next_u64() as u8,
            3 => input.truncate(at),
            4 => self.splice(input, at, other),
            5 => self.repeat(input, at),
            6 => {
                let end = (at + 1 + self.rng.index(16)).min(input.len());
                input.drain(at..end);
            }
            7 => self.bump_digits(input, at),
            _ => self.bump_number(input, at),
        }
    }

    /// Goes on with a part of another seed.
    fn splice(&mut self, input: &mut Vec<u8>, at: usize, other: &[u8]) {
        let from = self.rng.index(other.len());
        let part = &other[from..];
        if self.rng.chance(50) {
            input.truncate(at);
            input.extend_from_slice(part);
        } else {
            let few = &part[..part.len().min(1 + self.rng.index(64))];
            input.splice(at..at, few.iter().copied());
        }
    }

    /// Says a part twice.
    fn repeat(&mut self, input: &mut Vec<u8>, at: usize) {
        let end = (at + 1 + self.rng.index(128)).min(input.len());
        let part = input[at..end].to_vec();
        input.splice(end..end, part);
    }

    /// Changes a number of 2, 4 or 8 bytes, as lengths, counts and offsets are, in either order
    /// of bytes: to one nearby, or to one that is too large for whatever it is.
    fn bump_number(&mut self, input: &mut [u8], at: usize) {
        let width = *self.rng.pick(&[2, 4, 4, 8]);
        let at = at / width * width;
        let length = input.len() as u64;
        let Some(field) = input.get_mut(at..at + width) else { return };
        let little = self.rng.chance(15);
        if little {
            field.reverse();
        }
        let old = field.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
        let delta = self.rng.between(1, 9);
        let new = match self.rng.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::MAX >> 1,
            3 => length,
            4 => length.wrapping_add(delta).wrapping_sub(5),
            5 => old.wrapping_sub(delta),
            6 => old << 8,
            _ => old.wrapping_add(delta),
        };
        field.copy_from_slice(&new.to_be_bytes()[8 - width..]);
        if little {
            field.reverse();
        }
    }

    /// Changes the next decimal digit, as in the lengths of literals and the sizes of tar.
    fn bump_digits(&mut self, input: &mut [u8], at: usize) {
        let digit = input[at..].iter_mut().find(|byte| byte.is_ascii_digit());
        if let Some(digit) = digit {
            *digit = b'0' + self.rng.below(10) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_target_always_gets_the_same_inputs() {
        let seeds = [("a".to_owned(), b"first seed 123".to_vec()), ("b".to_owned(), vec![0; 40])];
        let inputs = |target| -> Vec<Vec<u8>> {
            let mut mutator = Mutator::new(target);
            (0..500).map(|_| mutator.input(&seeds).1).collect()
        };
        let once = inputs("x");
        assert_eq!(once, inputs("x"));
        assert_ne!(once, inputs("y"));
        assert!(once.iter().all(|input| input.len() <= LONGEST));
        let changed = once.iter().filter(|input| seeds.iter().all(|(_, seed)| seed != *input));
        assert!(changed.count() > 450);
    }

    #[test]
    fn empty_seeds_do_no_harm() {
        let seeds = [("empty".to_owned(), Vec::new())];
        let mut mutator = Mutator::new("x");
        for _ in 0..100 {
            assert_eq!(mutator.input(&seeds).1, b"");
        }
    }
}
