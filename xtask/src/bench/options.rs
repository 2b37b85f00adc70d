//! What can be typed behind `cargo xtask bench snapshot`.

use crate::Failure;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The sizes of the races on real mail, in messages.
    pub races: Vec<u64>,
    /// The size of the account that hardly changes, and of the single mailbox for lock times.
    pub account: u64,
    /// The sizes of the accounts of tiny messages.
    pub curve: Vec<u64>,
    /// How many rounds each race has.
    pub repeat: usize,
    /// The one goal to measure; otherwise all.
    pub only: Option<u8>,
    /// Whether to write the page.
    pub write: bool,
    /// What was typed, for the page.
    pub typed: String,
}

/// How the options are called.
pub const ARGUMENTS: &str =
    "snapshot [--quick] [--only GOAL] [--messages N,..] [--repeat N] [--write]";

impl Options {
    /// Reads the arguments behind `bench`.
    pub fn parse(args: &[String]) -> Result<Self, Failure> {
        let Some(("snapshot", rest)) = args.split_first().map(|(what, rest)| (what.as_str(), rest))
        else {
            return Err(Failure::Usage(format!("bench {ARGUMENTS}")));
        };
        let mut options = Self::of(rest.iter().any(|arg| arg == "--quick"));
        options.typed = format!("cargo xtask bench {}", args.join(" "));
        let mut rest = rest.iter();
        while let Some(arg) = rest.next() {
            let mut value = || {
                rest.next().ok_or_else(|| Failure::Usage(format!("{arg} takes a value"))).cloned()
            };
            match arg.as_str() {
                "--quick" => {}
                "--write" => options.write = true,
                "--only" => options.only = Some(goal(&value()?)?),
                "--repeat" => options.repeat = number(arg, &value()?)? as usize,
                "--messages" => {
                    let sizes = value()?;
                    let sizes = sizes.split(',').map(|size| number(arg, size));
                    options.races = sizes.collect::<Result<_, _>>()?;
                }
                other => return Err(Failure::Usage(format!("unknown option `{other}`"))),
            }
        }
        Ok(options)
    }

    fn of(quick: bool) -> Self {
        let (races, account, curve, repeat) = if quick {
            (vec![6_046], 10_000, vec![1_000, 10_000], 3)
        } else {
            (vec![6_046, 60_460, 604_600], 100_000, vec![1_000, 10_000, 100_000, 1_000_000], 5)
        };
        Self { races, account, curve, repeat, only: None, write: false, typed: String::new() }
    }

    /// Whether this goal is to be measured.
    pub fn wants(&self, goal: u8) -> bool {
        self.only.is_none_or(|only| only == goal)
    }

    /// How many rounds a race of that many messages has: fewer where each takes minutes.
    pub fn rounds(&self, messages: u64) -> usize {
        if messages > 200_000 { self.repeat.div_ceil(2) } else { self.repeat }
    }
}

fn goal(text: &str) -> Result<u8, Failure> {
    let goal = text.parse().ok().filter(|goal| (1..=6).contains(goal));
    goal.ok_or_else(|| Failure::Usage(format!("there is no goal `{text}`, only 1 to 6")))
}

fn number(option: &str, text: &str) -> Result<u64, Failure> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| Failure::Usage(format!("{option} takes a positive number, not `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Options> {
        Options::parse(&crate::bench::words(line)).ok()
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let options =
            parse("snapshot --repeat 2 --messages 10,20 --quick --only 3").expect("valid");
        assert_eq!(options.races, [10, 20]);
        assert_eq!((options.repeat, options.only, options.account), (2, Some(3), 10_000));
        assert!(options.wants(3) && !options.wants(1));
        let all = parse("snapshot --write").expect("valid");
        assert_eq!((all.write, all.account, all.rounds(604_600)), (true, 100_000, 3));
        assert!((1..=6).all(|goal| all.wants(goal)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["", "restore", "snapshot --only 7", "snapshot --repeat 0", "snapshot --only"] {
            assert_eq!(parse(line), None, "{line}");
        }
        assert_eq!(parse("snapshot --messages 1,,2"), None);
        assert_eq!(parse("snapshot fast"), None);
    }
}
