//! Whether the process that made something may still be at work.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use crate::files;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The name of its program, as the kernel has it: 15 bytes at most.
    pub command: String,
    /// Whose it is.
    pub uid: u32,
    /// When it started, nanoseconds since 1970, by the clock as it is now.
    pub started_at: i128,
}

/// Who made something, by the process number in its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    /// No process has that number.
    Gone,
    /// Another one has it now: it started after that was made.
    Followed(Process),
    /// It may be this one.
    Alive(Process),
    /// A process in a container has that number there.
    InContainer,
    /// Nobody has used it, but it is too new to tell.
    TooNew,
    /// The name has no number.
    Unknown,
}

impl Maker {
    /// Whether nobody will come back to what it made.
    pub fn is_gone(&self) -> bool {
        matches!(self, Maker::Gone | Maker::Followed(_))
    }
}

const SECOND: i128 = 1_000_000_000;

/// What root starts so much later is another process. As root, Cyrus' processes only begin; they have
/// become its user's before they put anything anywhere.
const ROOT_DOUBT: i128 = 3_600 * SECOND;

/// All processes there are.
pub(super) struct Processes {
    /// The numbers that processes have in containers.
    contained: BTreeSet<u32>,
    /// When the machine started, nanoseconds since 1970.
    booted_at: i128,
    /// Who Cyrus' processes belong to.
    cyrus_uid: Option<u32>,
}

impl Processes {
    /// Looks around.
    pub fn now(cyrus_uid: Option<u32>) -> io::Result<Self> {
        // Where others' processes are hidden (proc(5), `hidepid`), all of them would look gone.
        fs::metadata("/proc/1/stat")
            .map_err(|error| io::Error::new(error.kind(), "the processes of others are hidden"))?;
        let stat = fs::read_to_string("/proc/stat")?;
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime "));
        let booted: Option<i128> = booted.and_then(|seconds| seconds.trim().parse().ok());
        let unknown = || io::Error::other("/proc/stat does not say when this machine was started");
        let mut contained = BTreeSet::new();
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path().join("status");
            // Most of what is there is no process, and whoever ends meanwhile needs nothing.
            if let Ok(status) = fs::read_to_string(path) {
                contained.extend(numbers_within(&status));
            }
        }
        Ok(Self { contained, booted_at: booted.ok_or_else(unknown)? * SECOND, cyrus_uid })
    }

    /// Who made something that was last changed at that time, nanoseconds since 1970.
    pub fn maker(&self, pid: u32, changed_at: i128) -> io::Result<Maker> {
        Ok(match self.find(pid)? {
            Some(process) => judge(process, changed_at, self.cyrus_uid),
            None if self.contained.contains(&pid) => Maker::InContainer,
            None => Maker::Gone,
        })
    }

    /// The process that has that number here.
    fn find(&self, pid: u32) -> io::Result<Option<Process>> {
        let path = format!("/proc/{pid}");
        let read = |name: &str| fs::read_to_string(format!("{path}/{name}"));
        let (status, stat) = match read("status").and_then(|status| Ok((status, read("stat")?))) {
            Ok(found) => found,
            // ESRCH, if it ends between the two.
            Err(error) if is_no_process(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let unread = |name| io::Error::other(format!("{path}/{name} makes no sense"));
        let uid = effective_uid(&status).ok_or_else(|| unread("status"))?;
        let (command, ticks) = command_and_start(&stat).ok_or_else(|| unread("stat"))?;
        let per_second = i128::from(rustix::param::clock_ticks_per_second());
        let started_at = self.booted_at + i128::from(ticks) * SECOND / per_second.max(1);
        Ok(Some(Process { command, uid, started_at }))
    }
}

fn is_no_process(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    error.kind() == io::ErrorKind::NotFound || errno == Some(rustix::io::Errno::SRCH)
}

/// Whether this process may have made what was last changed then. In doubt it has. Of Cyrus' own, time
/// tells nothing: a clock that is set forward makes all of them start later than what they have made.
fn judge(process: Process, changed_at: i128, cyrus_uid: Option<u32>) -> Maker {
    let may_be_cyrus = cyrus_uid.is_none_or(|uid| uid == process.uid);
    let doubt = if process.uid == 0 { ROOT_DOUBT } else { SECOND };
    match !may_be_cyrus && process.started_at > changed_at + doubt {
        true => Maker::Followed(process),
        false => Maker::Alive(process),
    }
}

/// Who a process acts as (proc_pid_status(5)). Its directory in /proc is root's if it was root once.
fn effective_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The numbers of a process in the containers that it is in: all but the first, which is ours
/// (proc_pid_status(5), `NSpid`).
fn numbers_within(status: &str) -> impl Iterator<Item = u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    line.split_whitespace().skip(1).filter_map(|number| number.parse().ok())
}

/// The program's name and when it was started, in ticks since the machine was (proc_pid_stat(5)).
fn command_and_start(stat: &str) -> Option<(String, u64)> {
    // The name stands in brackets, and may have some itself.
    let (front, rest) = stat.rsplit_once(')')?;
    let (_, command) = front.split_once('(')?;
    let ticks = rest.split_whitespace().nth(19)?;
    Some((command.to_owned(), ticks.parse().ok()?))
}

/// Now, nanoseconds since 1970.
pub(super) fn now() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    files::nanos(now.tv_sec, now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CYRUS: Option<u32> = Some(103);

    fn process(uid: u32, started_at: i128) -> Process {
        Process { command: "x".into(), uid, started_at: started_at * SECOND }
    }

    #[test]
    fn whoever_started_later_did_not_make_it_unless_he_may_be_cyrus() {
        let changed = 100_000 * SECOND;
        let follows = |uid, started| judge(process(uid, started), changed, CYRUS).is_gone();
        assert!(follows(1_000, 100_002) && !follows(1_000, 100_001), "somebody else's");
        assert!(!follows(0, 103_600) && follows(0, 103_601), "as root it begins");
        let nobody = judge(process(1_000, 200_000), changed, None);
        assert!(!nobody.is_gone(), "who is to say whose Cyrus is");
    }

    /// What it made at noon is from yesterday, once the clock was a day late and is set right.
    #[test]
    fn a_clock_that_is_set_kills_no_process_of_cyrus() {
        let (noon, day) = (100_000, 86_400);
        for started in [noon - 60, noon + 3_601, noon - 60 + day] {
            let judged = judge(process(103, started), noon * SECOND, CYRUS);
            assert!(matches!(judged, Maker::Alive(_)), "{judged:?}");
        }
    }

    #[test]
    fn we_are_alive_and_others_are_not() {
        let me = std::process::id();
        let maker = |cyrus_uid, changed_at| {
            let processes = Processes::now(cyrus_uid).expect("a machine");
            processes.maker(me, changed_at).expect("known")
        };
        let Maker::Alive(found) = maker(None, now()) else { panic!("{:?}", maker(None, now())) };
        assert!(found.started_at < now() && found.started_at > now() - 3_600 * SECOND);
        assert_eq!(found.uid, rustix::process::geteuid().as_raw());
        let others = Some(found.uid + 1);
        assert!(matches!(maker(others, 0), Maker::Followed(_)), "{:?}", maker(others, 0));
        assert!(matches!(maker(Some(found.uid), 0), Maker::Alive(_)));
        // Above the highest number that Linux gives (PID_MAX_LIMIT).
        let processes = Processes::now(None).expect("a machine");
        assert_eq!(processes.maker(4_194_305, 0).expect("known"), Maker::Gone);
    }

    #[test]
    fn a_process_is_whom_it_acts_as() {
        let status = "Name:\timapd\nUid:\t0\t103\t103\t103\nGid:\t8\t8\t8\t8\n";
        assert_eq!(effective_uid(status), Some(103));
        assert_eq!(effective_uid("Name:\tUid:\n"), None);
    }

    #[test]
    fn a_process_is_known_by_its_numbers_in_containers_too() {
        let numbers = |status: &str| numbers_within(status).collect::<Vec<_>>();
        assert_eq!(numbers("Name:\timapd\nNSpid:\t4711\t12\t1\n"), [12, 1]);
        assert!(numbers("Name:\timapd\nNSpid:\t4711\n").is_empty() && numbers("").is_empty());
    }

    #[test]
    fn a_name_may_have_brackets() {
        let rest = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        let stat = format!("7 (a) (b) {rest}");
        assert_eq!(command_and_start(&stat), Some(("a) (b".to_owned(), 98_765)));
        for cut in ["", "7 (a", "7 (a)", "7 (a) S 1"] {
            assert_eq!(command_and_start(cut), None, "{cut}");
        }
    }
}
