//! Makes the logs that `cylinder watch` is tried on: nine days of a real Cyrus 3.6.1 and its replica,
//! and then one trouble after the other, all produced for real.
//!
//! Usage: `watch-logs DIRECTORY`; run by `cargo xtask watch-logs`, as root. It writes `everyday.zst`,
//! the lines of both servers in their order, and `incidents.zst`, those of each trouble behind a line
//! with its name. Half an hour of these days takes a fraction of a second: the stamps are those of a
//! clock that runs as fast. All else is as Cyrus wrote it.

mod everyday;
mod incidents;
mod syslog;

use std::error::Error;
use std::fs;
use std::path::Path;

use syslog::Collector;
use testkit::{Cyrus, cyrus_or_skip};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Who has mail there.
const USERS: [&str; 8] = ["glad", "iris", "ann", "bob", "eve", "mara", "theo", "zoe"];

/// A master, its replica, and what they log.
struct Lab {
    master: Cyrus,
    replica: Cyrus,
    log: Collector,
}

fn main() -> Outcome {
    let target = std::env::args().nth(1).ok_or("usage: watch-logs DIRECTORY")?;
    syslog::enter_namespace()?;
    let mut lab = Lab::start()?;
    everyday::run(&lab)?;
    let everyday = lab.log.take(&lab.masters());
    write(&Path::new(&target).join("everyday.zst"), &everyday)?;
    let incidents = incidents::run(&mut lab)?;
    write(&Path::new(&target).join("incidents.zst"), &incidents)
}

impl Lab {
    fn start() -> Outcome<Self> {
        let log = Collector::start()?;
        let builder = || cyrus_or_skip("watch-logs").ok_or("the real Cyrus is needed");
        let replica = builder()?.option("syslog_prefix", "replica").start()?;
        let address = replica.sync_address();
        let master = builder()?
            .option("sync_host", &address.ip().to_string())
            .option("sync_port", &address.port().to_string())
            .option("sync_authname", "cyrus")
            .option("sync_password", "any")
            .option("conversations", "yes")
            // Otherwise whoever fails waits for three seconds.
            .option("failedloginpause", "0s")
            .extra_partition("small")
            .start()?;
        for user in USERS {
            master.create_user(user)?;
            master.admin()?.set_quota(&format!("user/{user}"), "STORAGE 100000")?;
        }
        Ok(Self { master, replica, log })
    }

    /// The process ids of those masters that run: their lines do not say whose they are.
    fn masters(&self) -> Vec<(u32, &'static str)> {
        let pid = |cyrus: &Cyrus| -> Option<u32> {
            fs::read_to_string(cyrus.root().join("master.pid")).ok()?.trim().parse().ok()
        };
        let both = [(pid(&self.master), "mail1"), (pid(&self.replica), "mail2")];
        both.into_iter().filter_map(|(pid, host)| Some((pid?, host))).collect()
    }
}

fn write(path: &Path, log: &[u8]) -> Outcome {
    fs::write(path, zstd::encode_all(log, 19)?)?;
    let lines = log.iter().filter(|byte| **byte == b'\n').count();
    println!("{}: {lines} lines, {} bytes", path.display(), path.metadata()?.len());
    Ok(())
}
