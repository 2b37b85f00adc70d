//! Lines that always matter, and words that tell of failures.

mod table;

use crate::mask::{Kind, WORDS_MAX, words};

pub use table::ALARMS;

/// How much a noise matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look when there is time.
    Notice,
    /// Something is not as it should be.
    Warning,
    /// Something does not work, or mail may be damaged.
    Error,
    /// Mail does not flow, or is being damaged.
    Critical,
}

/// A message that makes a noise whenever it comes.
#[derive(Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What it is called, also in `--json` and by those who accept it: never changed.
    pub name: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Parts of the message, all of which it has, whatever their case; in lower case.
    pub needles: &'static [&'static str],
    /// Whether it explains whatever else goes wrong at the same time.
    pub is_cause: bool,
    /// What has happened.
    pub meaning: &'static str,
    /// What to do next.
    pub next: &'static str,
}

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// The first alarm of the table that a message is, by what Cyrus' authors wrote of it: what strangers
/// call their mailboxes, and write into subjects, is none.
pub fn find(message: &[u8]) -> Option<&'static Alarm> {
    let message = written(message);
    if table::EVERYDAY.iter().any(|needles| has_all(&message, needles)) {
        return None;
    }
    ALARMS.iter().find(|alarm| has_all(&message, alarm.needles))
}

/// The place of an alarm in the table: those nearer to the cause come first.
pub fn rank(alarm: &Alarm) -> usize {
    ALARMS.iter().position(|other| other.name == alarm.name).unwrap_or(ALARMS.len())
}

/// Whether a message tells of something that did not work, by the same words.
pub fn is_failure(message: &[u8]) -> bool {
    let message = written(message);
    table::FAILURES.iter().any(|word| has(&message, word))
}

/// A message with its masks, in lower case.
fn written(message: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(message.len());
    let (mut end, mut count) = (0, 0);
    words(message, |word| {
        end += word.glue.len() + word.body.len();
        count += 1;
        written.extend_from_slice(word.glue);
        written.extend_from_slice(match word.kind {
            Kind::Word => word.body,
            kind => kind.placeholder().as_bytes(),
        });
    });
    if count < WORDS_MAX {
        // What stands behind the last word is in no word's glue.
        written.extend_from_slice(&message[end..]);
    }
    written.make_ascii_lowercase();
    written
}

fn has_all(message: &[u8], needles: &[&str]) -> bool {
    needles.iter().all(|needle| has(message, needle))
}

fn has(message: &[u8], needle: &str) -> bool {
    message.windows(needle.len()).any(|part| part == needle.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(message: &str) -> Option<&'static str> {
        find(message.as_bytes()).map(|alarm| alarm.name)
    }

    #[test]
    fn messages_of_every_release_have_their_names() {
        for (message, expected) in [
            // 2.3
            ("process 1234 exited, signaled to death by 11", "crash"),
            ("IOERROR: locking index for user.glad: Input/output error", "disk-failing"),
            ("LOSTQUOTA: unable to record use of 12 bytes in quota file x", "quota-lost"),
            ("Error in do_user(glad): bailing out!", "sync-bailed-out"),
            ("SYNCERROR: guid mismatch user.glad 3", "guid-mismatch"),
            ("skiplist recovery /x: damaged record at 12, truncating here", "database-damaged"),
            // 2.5 and 3.x
            (
                "IOERROR: refreshing index failed: mailbox=<user.a> error=<Mailbox has an invalid format>",
                "index-damaged",
            ),
            ("connect(127.0.0.1) failed: Connection refused", "server-unreachable"),
            ("IOERROR: GUID mismatch: mailbox=<user.glad> record=<3>", "guid-mismatch"),
            (
                "process type:SERVICE name:imap path:/x age:1s pid:7 signaled to death by signal 11 (Segmentation fault)",
                "crash",
            ),
            ("IOERROR: open failed: filename=</x> syserror=<No space left on device>", "disk-full"),
            ("IOERROR: write failed: syserror=<Read-only file system>", "disk-read-only"),
            (
                "ERROR: too many failures for service imap/ipv4, disabling until next SIGHUP",
                "service-disabled",
            ),
            ("DBERROR: opening /x/mailboxes.db: cyrusdb error", "database-error"),
            ("Can not connect to server 'replica.example.org'", "replica-unreachable"),
            ("time of day clock went backwards", "clock-jump"),
            ("index corrupted, needs reconstruct user.glad", "index-corrupt"),
        ] {
            assert_eq!(name(message), Some(expected), "{message}");
        }
    }

    #[test]
    fn what_only_looks_bad_is_no_alarm() {
        for message in [
            "IOERROR: fstating sieve script /var/spool/sieve/g/glad/defaultbc: No such file or directory",
            "login: localhost [127.0.0.1] glad plaintext User logged in",
            "badlogin: localhost [127.0.0.1] plaintext (glad) [SASL(-13): authentication failure]",
            "DBERROR db4: 2 lockers",
            "open: user glad opened user.glad.DBERROR",
            "auditlog: create sessionid=<x> mailbox=<user.glad.no space left on device> acl=<x>",
            "MAIL, , glad, INBOX,  \"From: x#012Subject: IOERROR: \"no space left on device\"#012\"",
            "process 12 exited, status 0",
            "graceful shutdown",
            "process type:SERVICE name:sync path:/x age:4.4s pid:1 signaled to death by signal 15 (Terminated)",
        ] {
            assert_eq!(name(message), None, "{message}");
        }
    }

    #[test]
    fn every_alarm_can_be_told_apart_and_acted_upon() {
        let mut names: Vec<_> = ALARMS.iter().map(|alarm| alarm.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALARMS.len());
        for alarm in ALARMS {
            assert!(!alarm.needles.is_empty() && alarm.needles.iter().all(|part| !part.is_empty()));
            assert!(
                alarm.needles.iter().all(|part| *part == part.to_lowercase()),
                "{}",
                alarm.name
            );
            assert!(alarm.meaning.ends_with('.') && !alarm.next.is_empty(), "{}", alarm.name);
            // What comes earlier in the table must not hide it.
            let message = alarm.needles.join(" ... ");
            assert_eq!(name(&message), Some(alarm.name), "{message}");
        }
    }

    #[test]
    fn failures_are_told_by_their_words() {
        assert!(is_failure(b"Unable to open the door"));
        assert!(is_failure(b"sieve: FAILED to parse"));
        assert!(!is_failure(b"Expunged 3 messages from user.glad"));
    }
}
