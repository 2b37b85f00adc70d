//! What `replicate --rolling` takes.

use std::path::PathBuf;

use clap::Args;

/// What `replicate --rolling` takes beside all else.
#[derive(Debug, Args)]
pub struct RollingArgs {
    /// Follow the sync log of this server, in place of sync_client -r, until a signal comes
    #[arg(long, conflicts_with_all = ["user", "mailbox", "all", "dry_run", "accept_removals"])]
    pub rolling: bool,
    /// The channel of the sync log [default: the one without a name]
    #[arg(long, value_name = "NAME", requires = "rolling")]
    pub channel: Option<String>,
    /// Work off what the log has now, and end
    #[arg(long, requires = "rolling")]
    pub once: bool,
    /// Where pieces of the log are kept until they are on the replica, and what is left as it is
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cylinder/rolling")]
    pub state: PathBuf,
    /// Print how it is doing, and end: with exit code 0 if all is well, 3 if something is left as it
    /// is, 1 if the replica is away or nobody replicates
    #[arg(long, requires = "rolling", conflicts_with = "once")]
    pub status: bool,
    /// Write how it is doing to this file, too, as JSON [default: only to status.json in --state]
    #[arg(long, value_name = "FILE", requires = "rolling")]
    pub status_file: Option<PathBuf>,
    /// Write metrics to this file, for the textfile collector of Prometheus
    #[arg(long, value_name = "FILE", requires = "rolling")]
    pub metrics: Option<PathBuf>,
}
