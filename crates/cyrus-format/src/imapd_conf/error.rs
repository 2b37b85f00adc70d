//! Why Cyrus would not start, where, and what to do about it.

use std::fmt;

use thiserror::Error;

/// Where in the configuration something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfPlace {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; the first one of a continued line.
    pub line: usize,
}

impl fmt::Display for ConfPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfError {
    /// Not `key: value`.
    #[error("{place}: {found:?} is not an option; write it as \"name: value\", or put # before it")]
    NotAnOption {
        /// Where.
        place: ConfPlace,
        /// What stands there, shortened.
        found: String,
    },
    /// `key:` and nothing more, which Cyrus does not accept.
    #[error("{place}: option {key} has no value; give it one or remove the line")]
    EmptyValue {
        /// Where.
        place: ConfPlace,
        /// The option.
        key: String,
    },
    /// The same option again, which Cyrus does not accept.
    #[error("{place}: option {key} is set a second time, first at {first}; remove one of the two")]
    Duplicate {
        /// Where the second one is.
        place: ConfPlace,
        /// The option.
        key: String,
        /// Where the first one is.
        first: ConfPlace,
    },
    /// A directive other than `@include`.
    #[error("{place}: {directive} is not a directive; only @include is")]
    UnknownDirective {
        /// Where.
        place: ConfPlace,
        /// What stands there.
        directive: String,
    },
    /// An included file cannot be read.
    #[error("{place}: cannot include {path}: {why}; correct the path or its permissions")]
    Include {
        /// Where it is included.
        place: ConfPlace,
        /// The file.
        path: String,
        /// Why it cannot be read.
        why: String,
    },
    /// An included file that was read before, maybe by including itself.
    #[error("{place}: {path} is included a second time; include it once only")]
    IncludedTwice {
        /// Where it is included again.
        place: ConfPlace,
        /// The file.
        path: String,
    },
    /// More files than any server has.
    #[error("{place}: more than {limit} files are included; merge some of them")]
    TooManyFiles {
        /// Where the one too many is included.
        place: ConfPlace,
        /// How many there may be.
        limit: usize,
    },
    /// A switch that is neither on nor off.
    #[error("{place}: option {key} is \"{value}\"; write yes or no, in lower case")]
    NotASwitch {
        /// Where.
        place: ConfPlace,
        /// The option.
        key: String,
        /// Its value.
        value: String,
    },
    /// A word that the option does not know.
    #[error("{place}: option {key} does not know \"{value}\"; it takes {allowed}")]
    UnknownWord {
        /// Where.
        place: ConfPlace,
        /// The option.
        key: String,
        /// The word.
        value: String,
        /// The words there are.
        allowed: String,
    },
    /// `defaultpartition` with anything but letters and digits.
    #[error("{place}: \"{value}\" cannot name a partition; use letters and digits only")]
    PartitionName {
        /// Where.
        place: ConfPlace,
        /// The name.
        value: String,
    },
    /// An option that must be there.
    #[error("{file}: option {key} is missing; is this the file that Cyrus reads?")]
    Missing {
        /// The outermost file.
        file: String,
        /// The option.
        key: &'static str,
    },
}
