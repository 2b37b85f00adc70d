//! What is said of a line that is not everyday.

use crate::alarms::{Alarm, Severity};
use crate::time::Time;

/// What of a line is kept with a noise, in bytes.
pub const LINE_BYTES_MAX: usize = 1000;

/// So many lines are kept with a noise.
pub const CONTEXT_LINES_MAX: usize = 3;

/// What a noise is known by: the same for the same cause, also after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoiseId(pub u32);

/// Why something is not everyday.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It always matters.
    Alarm(&'static Alarm),
    /// A failure that is not known, or not known long enough to be everyday.
    UnknownFailure,
    /// Nothing like it has ever been seen.
    NeverSeen,
    /// It comes far more often than usual.
    Rate {
        /// So many lines.
        count: u32,
        /// In so many seconds.
        within: u32,
        /// So many at most are usual.
        usual: u32,
    },
    /// This failure is known, but not for this user or mailbox.
    FirstFailure,
    /// It comes every day, and has not come.
    Silence {
        /// When it came last.
        last: Time,
    },
    /// More kinds of lines came than are kept.
    TooManyKinds,
    /// More noises than anybody would listen to: those that follow are only counted.
    TooManyNoises,
}

/// Something that somebody should hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// What it is known by, for those who accept it.
    pub id: NoiseId,
    /// Why it is one.
    pub cause: Cause,
    /// When the line was written.
    pub time: Time,
    /// The host that the line tells.
    pub host: Vec<u8>,
    /// The program.
    pub process: Vec<u8>,
    /// Its process id.
    pub pid: Option<u32>,
    /// The client's session.
    pub session: Vec<u8>,
    /// What the line says; at most [`LINE_BYTES_MAX`] of it. Bytes of strangers: not for a terminal
    /// as they are.
    pub message: Vec<u8>,
    /// What the same process said before, oldest first: at most [`CONTEXT_LINES_MAX`] lines, as far
    /// as they are still known.
    pub context: Vec<Vec<u8>>,
    /// Its template.
    pub pattern: Vec<u8>,
    /// How often it came within this noise.
    pub count: u64,
    /// How many other lines were put down to the same cause.
    pub related: u64,
}

impl Cause {
    /// What it is called; never changed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alarm(alarm) => alarm.name,
            Self::UnknownFailure => "unknown-failure",
            Self::NeverSeen => "never-seen",
            Self::Rate { .. } => "storm",
            Self::FirstFailure => "first-failure",
            Self::Silence { .. } => "silence",
            Self::TooManyKinds => "too-many-kinds",
            Self::TooManyNoises => "too-many-noises",
        }
    }

    /// How much it matters.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Alarm(alarm) => alarm.severity,
            Self::Silence { .. } | Self::TooManyNoises => Severity::Error,
            Self::UnknownFailure | Self::Rate { .. } | Self::TooManyKinds => Severity::Warning,
            Self::NeverSeen | Self::FirstFailure => Severity::Notice,
        }
    }

    /// What has happened.
    pub fn meaning(&self) -> String {
        match self {
            Self::Alarm(alarm) => alarm.meaning.to_owned(),
            Self::UnknownFailure => "A failure of a kind that is not everyday.".to_owned(),
            Self::NeverSeen => "Nothing like this has been seen before.".to_owned(),
            Self::Rate { count, within, usual } => {
                let span = if *within == 60 { "a minute" } else { "an hour" };
                format!("{count} of these came in {span}, where {usual} are usual.")
            }
            Self::FirstFailure => {
                "This failure is known, but not of this user or mailbox.".to_owned()
            }
            Self::Silence { .. } => "This comes every day, and has not come.".to_owned(),
            Self::TooManyKinds => {
                "The log has more kinds of lines than are kept: what is new is no longer told."
                    .to_owned()
            }
            Self::TooManyNoises => {
                "Too much is going on: what follows is counted, and told in the digest.".to_owned()
            }
        }
    }

    /// What to do next.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Alarm(alarm) => alarm.next,
            Self::UnknownFailure => "look at what it names; or --accept it",
            Self::NeverSeen => "if it is harmless, nothing: it is known from now on",
            Self::Rate { .. } => "look who sends them: clients, or a program in a loop",
            Self::FirstFailure => "ask the user; cylinder audit USER, for damage",
            Self::Silence { .. } => "look whether it still runs: cyrus.conf, systemctl status",
            Self::TooManyKinds => "look at the newest lines: somebody may be writing them",
            Self::TooManyNoises => "cylinder watch --list",
        }
    }

    /// Which of two causes of the same trouble gives it its name: the lower one.
    pub(crate) fn rank(&self) -> usize {
        match self {
            Self::Alarm(alarm) => crate::alarms::rank(alarm),
            Self::Rate { .. } => 1000,
            Self::Silence { .. } => 1001,
            Self::UnknownFailure => 1002,
            Self::FirstFailure => 1003,
            Self::NeverSeen | Self::TooManyKinds | Self::TooManyNoises => 1004,
        }
    }

    /// Whether other trouble at the same time is put down to it.
    pub(crate) fn explains_all(&self) -> bool {
        matches!(self, Self::Alarm(alarm) if alarm.is_cause)
    }

    /// Whether it is one without anything having been learned.
    pub(crate) fn always_matters(&self) -> bool {
        matches!(self, Self::Alarm(_) | Self::TooManyKinds)
    }

    /// Whether it may well be a mere consequence of an alarm at the same time.
    pub(crate) fn may_follow(&self) -> bool {
        matches!(self, Self::UnknownFailure | Self::NeverSeen | Self::FirstFailure)
    }
}
