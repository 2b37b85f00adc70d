//! Counting tests from what the test runners print.

use std::fmt;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Whether no test ran at all.
    pub fn is_empty(&self) -> bool {
        self.passed + self.failed == 0
    }

    /// Takes in one line of output: a closing line of `cargo nextest` or of `cargo test` is
    /// counted, any other is not.
    pub fn read_line(&mut self, line: &str) {
        let plain = without_escapes(line);
        let plain = plain.trim();
        if let Some(rest) = plain.strip_prefix("test result:") {
            // `ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s`
            let counts = rest.split_once('.').map_or(rest, |(_, counts)| counts);
            self.add(counts.split(';'));
        } else if plain.starts_with("Summary [") {
            // `Summary [ 0.1s] 4 tests run: 3 passed (1 slow), 1 failed, 2 skipped`
            let counts = plain.split_once("run:").map_or("", |(_, counts)| counts);
            self.add(without_parentheses(counts).split(','));
        }
    }

    fn add<'a>(&mut self, counts: impl Iterator<Item = &'a str>) {
        for count in counts {
            let Some((number, what)) = count.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what.trim() {
                "passed" => self.passed += number,
                "failed" | "exec failed" | "timed out" => self.failed += number,
                "ignored" | "filtered out" | "skipped" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Drops the terminal's colour sequences: escape, bracket, parameters, a final letter.
fn without_escapes(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read_line(line));
        tally
    }

    #[test]
    fn closing_lines_of_both_runners_add_up() {
        let tally = tally_of(&[
            "     Summary [   1.234s] 13 tests run: 11 passed (1 slow, 1 leaky), 1 failed, \
             1 timed out, 2 skipped\n",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; \
             finished in 0.01s\n",
        ]);
        assert_eq!(tally, Tally { passed: 16, failed: 2, skipped: 6 });
        assert_eq!(tally.to_string(), "16 passed, 2 failed, 6 skipped");
    }

    #[test]
    fn colours_do_not_hide_a_closing_line() {
        let line = "\x1b[32;1m     Summary\x1b[0m [   0.1s] \x1b[1m2\x1b[0m tests run: \
                    \x1b[1m2\x1b[0m \x1b[32;1mpassed\x1b[0m, \x1b[1m0\x1b[0m skipped";
        assert_eq!(tally_of(&[line]), Tally { passed: 2, failed: 0, skipped: 0 });
    }

    #[test]
    fn other_lines_count_nothing() {
        let tally = tally_of(&["running 3 tests", "test a ... ok", "3 passed", "Summary"]);
        assert!(tally.is_empty());
        assert_eq!(tally, Tally::default());
    }
}
