//! A `/dev/log` of one's own, and a clock that runs fast.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Set in the namespace where `/dev` is private.
const INSIDE: &str = "CYLINDER_WATCH_LOGS_INSIDE";

/// Makes a private `/dev` with the devices that Cyrus needs, and goes on as `$0`.
const PRIVATE_DEV: &str = r#"
dev=$(mktemp -d)
mount -t tmpfs -o mode=755 none "$dev"
for node in null zero full random urandom tty; do
    touch "$dev/$node"
    mount --bind "/dev/$node" "$dev/$node"
done
mkdir "$dev/shm"
mount --bind /dev/shm "$dev/shm"
ln -s /proc/self/fd "$dev/fd"
mount --move "$dev" /dev
rmdir "$dev"
exec "$0" "$@"
"#;

/// Starts this program anew where `/dev/log` is nobody else's; returns once that is so.
pub fn enter_namespace() -> Outcome {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-euc", PRIVATE_DEV]).arg(std::env::current_exe()?);
    let error = inside.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    Err(format!("run unshare: {error}").into())
}

/// Takes what is sent to `/dev/log`.
pub struct Collector {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// What the fast clock showed, and when.
    clock: (i64, Instant),
    /// Seconds of the log for each real one, between two settings of the clock.
    faster: i64,
    lines: Vec<(i64, String)>,
}

impl Collector {
    pub fn start() -> io::Result<Self> {
        let socket = UnixDatagram::bind("/dev/log")?;
        fs::set_permissions("/dev/log", Permissions::from_mode(0o666))?;
        let shared = Shared {
            clock: (crate::everyday::START, Instant::now()),
            faster: 1,
            lines: Vec::new(),
        };
        let shared = Arc::new(Mutex::new(shared));
        let taken = shared.clone();
        thread::spawn(move || {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length) = socket.recv(&mut bytes) {
                let mut shared = taken.lock().unwrap_or_else(PoisonError::into_inner);
                let time = shared.now();
                // What a syslog daemon makes of line ends.
                let text = String::from_utf8_lossy(&bytes[..length]).replace('\n', "#012");
                shared.lines.push((time, text));
            }
        });
        Ok(Self { shared })
    }

    /// So many seconds of the log are a real one, from now on, between two settings of the clock.
    pub fn run_faster(&self, times: i64) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).faster = times;
    }

    /// Sets the clock, once all that has been sent is taken.
    pub fn set_clock(&self, time: i64) {
        self.settle();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.clock = (time, Instant::now());
    }

    /// Sets the clock, unless it is ahead because what came before took so long.
    pub fn push_clock(&self, time: i64) {
        self.settle();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.clock = (time.max(shared.now()), Instant::now());
    }

    /// Whether a line with this text has come.
    pub fn has(&self, text: &str) -> bool {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.lines.iter().any(|(_, line)| line.contains(text))
    }

    /// All lines so far, and forgets them. `masters` are hosts by the process ids of their masters.
    pub fn take(&self, masters: &[(u32, &str)]) -> Vec<u8> {
        self.settle();
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let masters: BTreeMap<String, &str> =
            masters.iter().map(|(pid, host)| (format!("master[{pid}]"), *host)).collect();
        let lines = std::mem::take(&mut shared.lines);
        lines.iter().map(|(time, line)| written(*time, line, &masters)).collect::<String>().into()
    }

    /// Waits until nothing new comes: a sender is done once its line is queued, and the queue is
    /// short.
    fn settle(&self) {
        let count = || self.shared.lock().map_or(0, |shared| shared.lines.len());
        let mut before = usize::MAX;
        while count() != before {
            before = count();
            thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Shared {
    fn now(&self) -> i64 {
        let (time, at) = self.clock;
        time + (at.elapsed().as_millis() as i64) * self.faster / 1000
    }
}

/// The line as a syslog daemon writes it: with the host, and the stamp of the fast clock.
fn written(time: i64, line: &str, masters: &BTreeMap<String, &str>) -> String {
    let text = line.split_once('>').map_or(line, |(_, text)| text);
    let text = text.get("Nov 26 19:15:36 ".len()..).unwrap_or(text);
    let tag = text.split(':').next().unwrap_or_default();
    let (host, text) = match text.strip_prefix("replica/") {
        Some(text) => ("mail2", format!("cyrus/{text}")),
        None => (masters.get(tag).copied().unwrap_or("mail1"), text.to_owned()),
    };
    format!("{} {host} {text}\n", stamp(time))
}

/// `Nov  2 08:00:00`, for days of one November.
fn stamp(time: i64) -> String {
    let second = time.rem_euclid(86_400);
    let day = time.div_euclid(86_400) + 1;
    format!("Nov {day:2} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}
