//! Counting tests from what the test runners print.

use std::fmt;

/// Who runs the tests. What one of them prints may be quoted by the other: nextest shows the output
/// of a failed test, closing line and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// `cargo test`.
    Cargo,
    /// `cargo nextest run`.
    Nextest,
}

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

    /// Takes in one line of a runner's output; only its closing lines count.
    pub fn read_line(&mut self, runner: Runner, line: &str) {
        let plain = without_escapes(line);
        let plain = plain.trim();
        match runner {
            // `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; ...`
            Runner::Cargo if plain.starts_with("test result:") => {
                let counts = plain.split_once('.').map_or("", |(_, counts)| counts);
                self.add(counts.split(';'));
            }
            // `Summary [ 0.1s] 4 tests run: 3 passed (1 slow), 1 failed, 2 skipped`
            Runner::Nextest if plain.starts_with("Summary [") => {
                let counts = plain.split_once("run:").map_or("", |(_, counts)| counts);
                self.add(without_parentheses(counts).split(','));
            }
            Runner::Cargo | Runner::Nextest => {}
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

    const CARGO: &str = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; \
                         3 filtered out; finished in 0.01s\n";
    const NEXTEST: &str = "     Summary [   1.234s] 13 tests run: 11 passed (1 slow, 1 leaky), \
                           1 failed, 1 timed out, 2 skipped\n";

    fn tally_of(lines: &[(Runner, &str)]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|(runner, line)| tally.read_line(*runner, line));
        tally
    }

    #[test]
    fn closing_lines_of_both_runners_add_up() {
        let tally = tally_of(&[(Runner::Nextest, NEXTEST), (Runner::Cargo, CARGO)]);
        assert_eq!(tally, Tally { passed: 16, failed: 2, skipped: 6 });
        assert_eq!(tally.to_string(), "16 passed, 2 failed, 6 skipped");
    }

    #[test]
    fn colours_do_not_hide_a_closing_line() {
        let line = "\x1b[32;1m     Summary\x1b[0m [   0.1s] \x1b[1m2\x1b[0m tests run: \
                    \x1b[1m2\x1b[0m \x1b[32;1mpassed\x1b[0m, \x1b[1m0\x1b[0m skipped";
        let tally = tally_of(&[(Runner::Nextest, line)]);
        assert_eq!(tally, Tally { passed: 2, failed: 0, skipped: 0 });
    }

    #[test]
    fn other_lines_count_nothing() {
        let tally = tally_of(&[
            (Runner::Nextest, "    test result: FAILED. 0 passed; 1 failed; 0 ignored"),
            (Runner::Cargo, NEXTEST),
            (Runner::Cargo, "test a ... ok"),
            (Runner::Nextest, "3 passed"),
        ]);
        assert!(tally.is_empty());
        assert_eq!(tally, Tally::default());
    }
}
