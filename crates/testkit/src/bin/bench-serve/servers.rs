//! The master and the real replica, and what a run of `sync_client` takes.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use testkit::served::{NAME, PASSWORD};
use testkit::{Cyrus, CyrusBuilder, cyrus_or_skip};

use crate::Outcome;

/// A Cyrus whose files are real, and synced as it wants them.
pub fn cyrus() -> Outcome<CyrusBuilder> {
    let builder = cyrus_or_skip("bench-serve").ok_or("there is no Cyrus")?;
    let builder = builder.option("sync_authname", NAME).option("sync_password", PASSWORD);
    Ok(builder.option("sync_log", "yes").eatmydata(false))
}

/// The master. Its own files are not synced: what is measured is the replica.
pub fn master() -> Outcome<Cyrus> {
    Ok(cyrus()?.eatmydata(true).start()?)
}

/// What a run of `sync_client` took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time of `sync_client` itself.
    pub client_cpu: Duration,
}

/// Has the master send what a user has to a replica.
pub fn sync(master: &Cyrus, to: SocketAddr, user: &str) -> Outcome<Run> {
    // What was written before is nobody's to wait for: a sync of a file system would.
    nix::unistd::sync();
    let mut client = master.tool_command("sync_client");
    client.args(["-S", &to.to_string(), "-u", user]).stdin(Stdio::null());
    let before = children_cpu()?;
    let start = Instant::now();
    let output = client.output()?;
    let wall = start.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("sync_client to {to}: {}: {said}", output.status).into());
    }
    Ok(Run { wall, client_cpu: children_cpu()?.saturating_sub(before) })
}

/// Processor time of all children that were waited for: servers run on.
fn children_cpu() -> Outcome<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}
