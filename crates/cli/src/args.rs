//! What can be typed. The doc comments here are the help text and the manual page.

mod audit;
mod compare;
mod durations;
mod heal;
mod reconstruct;
mod restore;
mod rolling;
mod split;
mod sweep;
mod vault;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::watching::journal::Matches;
use crate::watching::notify::Notify;
use durations::{seconds, span};

pub use audit::AuditArgs;
pub use compare::CompareArgs;
pub use heal::HealArgs;
pub use reconstruct::ReconstructArgs;
pub use restore::RestoreArgs;
pub use rolling::RollingArgs;
pub use split::{ResolveHow, SplitArgs};
pub use sweep::SweepArgs;
pub use vault::{BackupArgs, DiffArgs, FindArgs, HistoryArgs, PruneArgs, ShowArgs, VerifyArgs};

/// Keep the mail of a Cyrus IMAP server: snapshot accounts, keep their history, give mail back.
///
/// Data goes to standard output, talk to standard error. Exit codes: 0 done; 1 failed; 2 wrong
/// usage; 3 done, but something was found wrong (each finding is printed and kept in the
/// snapshot); 4 mail that was looked at is not whole, or not the same as elsewhere; 75 a lock was not
/// to be had in time, try again later; 255 a bug.
#[derive(Debug, Parser)]
#[command(name = "cylinder", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write one account, as it is at this instant, as a tar that concatenates.
    ///
    /// The server keeps running. Its locks are held only while metadata is copied to memory, and how
    /// long that was is reported. With --since, only what changed is written; appended to the former
    /// archive, or kept beside it, the two restore like one. Started by root, it acts as the cyrus
    /// user.
    Snapshot(SnapshotArgs),
    /// Keep the history of accounts in a vault: a directory, or an object store.
    ///
    /// Stores what changed since the last time, of each account one snapshot, and nothing of an
    /// account that did not change. A run that is stopped is continued by the next one. Any number of
    /// machines may back up to one vault. Exit code 1: some account was not backed up; 75: it was
    /// only busy.
    Backup(BackupArgs),
    /// List the snapshots of an account in a vault, or all accounts.
    ///
    /// Of an account, each snapshot. Of all accounts, in one line each, the age of the last snapshot,
    /// when and how the account was last verified, the number of snapshots, and what it takes up; the
    /// one whose last snapshot is oldest first.
    History(HistoryArgs),
    /// Print one message of an account in a vault
    Show(ShowArgs),
    /// Tell what differs between two snapshots of an account in a vault.
    ///
    /// Mailboxes that came, went or were renamed; messages that came or went, as clients saw it;
    /// flags, rights and subscriptions that changed. Exit code 0 whether or not anything differs.
    Diff(DiffArgs),
    /// Find messages in all snapshots of an account in a vault.
    ///
    /// Tells of each message that has all the texts that are given, in which mailboxes it was in
    /// which snapshots, and whether the newest one still has it. Case does not matter, and encoded
    /// words are decoded. Expunged messages whose files were kept, and deleted mailboxes, are
    /// searched as well. Without any text, all messages are listed.
    Find(FindArgs),
    /// Say whether what a vault holds can be given back.
    ///
    /// Looks at names and manifests always, and with --read-data at messages, too. What is damaged
    /// is named, and so is every message of every snapshot that is lost by it. With --drill, it is
    /// tried out instead. Exit code 3 if anything is wrong.
    Verify(VerifyArgs),
    /// Forget old snapshots of a vault, and reclaim what nobody needs any more.
    ///
    /// Of each account the newest snapshot is always kept, and those that a rule keeps. What the
    /// others alone hold is reclaimed when it is more than --max-garbage of the account: the kept
    /// snapshots are written anew, read back, and the old segments deleted by the first prune after
    /// a day. Safe beside backups, restores and other prunes.
    Prune(PruneArgs),
    /// Tell which accounts, snapshots and mailboxes an archive holds
    List(ListArgs),
    /// Give an account, or some of its mailboxes or messages, back from an archive or a vault.
    ///
    /// The target must not exist, or be an empty directory: nothing is ever overwritten.
    /// Every message is compared with its GUID on the way. With --mailbox and --guid, only messages
    /// that are in such a mailbox and have such a GUID are given.
    ///
    /// With csync:, mail comes back into a server that runs, while its owner is connected: into a new
    /// tree of folders, or to where it was. Nothing is removed or overwritten, and no UID is given out
    /// twice. What the server needs for that, and what messages are numbered, is told in
    /// docs/restore.md.
    Restore(RestoreArgs),
    /// Bring a replica up to date, in place of Cyrus' sync_client.
    ///
    /// Reads the spool of this server, compares it with what the replica tells, and sends what it
    /// lacks: to a sync_server of Cyrus, or to cylinder serve. What cannot be sent is named, and all
    /// else goes on. Nothing is removed from the replica unless it was removed here, and not much at
    /// once without --accept-removals. The password is read from standard input, or from a file.
    ///
    /// With --rolling, it follows the sync log, as sync_client -r does: whatever changes is sent at once,
    /// what cannot be sent is tried again, less and less often, and a replica that is away is waited for.
    /// SIGTERM and SIGINT end it when the accounts in hand are done, a second one at once.
    Replicate(ReplicateArgs),
    /// Be a replica of a Cyrus server, in place of its sync_server.
    ///
    /// Takes what sync_client sends, and keeps it in a spool like Cyrus' own, beneath a directory that
    /// nobody else writes to. Whoever is in the file of users may log in, with TLS or from this
    /// machine. SIGTERM and SIGINT end it when the commands at hand are done, a second one at once.
    /// What happens is told on standard error, a line each. Sockets are taken from systemd, too; one
    /// named tls begins with TLS.
    Serve(ServeArgs),
    /// Hand the spool of a replica to a Cyrus of its own.
    ///
    /// Looks at every mailbox and every message first, and whether the configuration leads Cyrus to
    /// them; whatever is wrong is told, and nothing is promoted then: exit code 3. Otherwise Cyrus'
    /// databases are brought up to date, all files given to Cyrus' user if this is root, and what Cyrus
    /// has no use for is removed. Then nobody can replicate into it any more. May be stopped at any
    /// time and run again. What is left to do is printed.
    Promote(PromoteArgs),
    /// Compare accounts at two places: a spool, a server, a vault, an archive.
    ///
    /// Says of each account whether it is the same at both, with each difference, the place that has
    /// what the other lacks, and the command that mends it. Nothing is changed anywhere. Where both
    /// places are servers, what differs is looked at again, for it may only be on its way. Exit code 4
    /// if anything differs or cannot be compared; 75 if it only changed too fast, or was busy.
    #[command(override_usage = "cylinder compare [OPTIONS] <A> <B> <ACCOUNT>...|--all")]
    Compare(CompareArgs),
    /// Give damaged messages their bytes back, from a replica, a vault, or another copy.
    ///
    /// Reads every message, as an audit does. What does not hash to its GUID, or has no file, gets the
    /// bytes of that GUID from another message of the spool, or from --from: written beside it, compared,
    /// and only then put in its place. Where nobody has them, nothing is touched. The server must not run;
    /// with --through it may: it is told to take a good copy under a new number, and to expunge the damaged
    /// message, by the same command. What is done is noted in --journal. Exit code 4 if something is left that is not whole.
    Heal(HealArgs),
    /// Make the metadata of mailboxes right again, in a spool that no server runs on.
    ///
    /// What records, indexes, cyrus.header and quotas lack or have wrong is made of what is left of them,
    /// of mailboxes.db, and of the messages. UIDs, flags and dates stay as long as anything tells of them;
    /// messages without a record get one. Every change is told, with the old value and the new one, before
    /// any is made; without --apply, none is. No message is given up, and no file of one removed. Exit code
    /// 4 if something is to be changed and is not, or is wrong and cannot be made right here.
    Reconstruct(ReconstructArgs),
    /// Remove what dead processes have left where messages wait: in stage. and sync.
    ///
    /// Whoever kills or merely ends a sync_server leaves the messages that it was given in
    /// sync./PID, for ever; what was expunged since still takes its room there. Tells what is left, by
    /// whom, whether that process is gone, and what a sweep sets free; --apply removes it, beside a
    /// server that runs. Of a file that has other names it is checked that it was not cut short. Exit
    /// code 3 if one was, or if something could not be looked at or removed.
    Sweep(SweepArgs),
    /// Say whether the mail of a server is whole: its spool against itself.
    ///
    /// Compares the files of each mailbox with each other, with its messages and with mailboxes.db,
    /// quotas with what they count, and with --full the bytes of each message with its GUID. Runs
    /// beside a live server; whatever looks wrong is looked at again before it is told. Of each
    /// damaged message, it reports what its record says, what its file has, what became of it, who
    /// shares the file, and where good bytes are. Nothing is changed. With --state, dates are kept, and
    /// a run that was stopped is continued by the next one. Exit code 4 if anything is wrong; 1: some
    /// account was not looked at; 75: it was only busy.
    Audit(AuditArgs),
    /// Watch the log, and make a noise for anything that is not everyday.
    ///
    /// Learns which lines come, how often and when, and tells of what is new, of what comes far too
    /// often, and of what has not come; some lines always make a noise. One trouble is one noise, and
    /// a count. With --learn, old logs are taken for everyday; with --replay, they are told what would
    /// have made a noise, with exit code 3 if anything did. SIGTERM and SIGINT end it.
    Watch(WatchArgs),
    /// Show the whole round on a small spool that comes with the program
    Demo(DemoArgs),
    /// Print the manual page, in roff
    #[command(hide = true)]
    Man,
}

/// What `snapshot` takes.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// The account: the user's name as he logs in, or %shared for the mailboxes that no user owns
    pub account: String,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Write only what changed since this archive; plain, gzip or zstd, repeatable
    #[arg(long, value_name = "FILE")]
    pub since: Vec<PathBuf>,
    /// Compress the output
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Compress::None)]
    pub compress: Compress,
    /// Write to this file: it appears only when it is complete [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub talk: TalkArgs,
    /// Threads that read messages, and as many that compress [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
}

/// Where the server is.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server's configuration
    #[arg(short = 'C', long = "config", value_name = "FILE", default_value = "/etc/imapd.conf")]
    pub config: PathBuf,
    /// The Cyrus release that runs there, if it is not to be found out from the spool
    #[arg(long, value_name = "X.Y")]
    pub cyrus_version: Option<String>,
    /// Wait at most this long for a lock, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub lock_wait: Duration,
}

/// How to report.
#[derive(Clone, Copy, Debug, Args)]
pub struct TalkArgs {
    /// Report as one JSON document instead of text
    #[arg(long)]
    pub json: bool,
    /// Show no progress bar, even on a terminal
    #[arg(long)]
    pub no_progress: bool,
}

/// What `list` takes.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The archive, in one file or several; plain, gzip or zstd, any concatenation
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only this account
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What `replicate` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["user", "mailbox", "all", "rolling"]))]
pub struct ReplicateArgs {
    /// The replica: csync://HOST or csync://USER@HOST:PORT, with csyncs:// for TLS from the start
    /// [default port: 2005; default user: sync_authname of the configuration, or cyrus]
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// Read the password from this file, which only its owner can read [default: standard input]
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Accounts: users' names as they log in, and %shared for the mailboxes that no user owns; repeatable
    #[arg(long, value_name = "USER", num_args = 1..)]
    pub user: Vec<String>,
    /// Single mailboxes, named as administrators do; repeatable
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub mailbox: Vec<String>,
    /// All accounts of the server, %shared included
    #[arg(long, conflicts_with_all = ["user", "mailbox"])]
    pub all: bool,
    /// Say what would be sent, and send nothing; what both sides have changed, record by record
    #[arg(long)]
    pub dry_run: bool,
    /// Accounts that are sent at the same time, each over a connection of its own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,
    /// Do what would be stopped, and remove mailboxes that the replica alone has
    #[arg(long)]
    pub accept_removals: bool,
    /// Stop at an account of which more than this would be removed, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_removals: u8,
    /// Put new mailboxes on this partition of the replica [default: one of the same name as here]
    #[arg(long, value_name = "NAME")]
    pub partition: Option<String>,
    /// Believe the certificates in this file, in PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// Send the password in the clear to a replica that is not this machine and offers no TLS
    #[arg(long)]
    pub cleartext: bool,
    #[command(flatten)]
    pub split: SplitArgs,
    #[command(flatten)]
    pub rolling: RollingArgs,
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// What `serve` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["spool", "add_user"]))]
pub struct ServeArgs {
    /// Who may log in: a file with a line for each, `name:hash`, that only its owner can read
    #[arg(long, value_name = "FILE")]
    pub users: PathBuf,
    /// Add this user, or give him another password, read from standard input; it holds at once
    #[arg(long, value_name = "NAME", conflicts_with_all = ["listen", "tls_listen", "tls_cert"])]
    pub add_user: Option<String>,
    /// Where the replica is kept; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// Listen at this address and port; masters may ask for TLS; repeatable
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Vec<String>,
    /// The same, with TLS from the start; repeatable
    #[arg(long, value_name = "ADDRESS:PORT", requires = "tls_cert")]
    pub tls_listen: Vec<String>,
    /// The certificate and those that vouch for it, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Offer compression where there is no TLS, for a slow tunnel: masters spend most time on it
    #[arg(long)]
    pub compress: bool,
    /// Take at most this many connections at the same time
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_connections: u16,
}

/// What `promote` takes.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The spool that cylinder serve keeps; it must not be served meanwhile
    #[arg(long, value_name = "DIR")]
    pub spool: PathBuf,
    /// The configuration that the new Cyrus gets
    #[arg(short = 'C', long = "config", value_name = "FILE")]
    pub config: PathBuf,
    /// Read every message, and compare it with its GUID
    #[arg(long)]
    pub full: bool,
    /// Promote even if mail is damaged or missing; what is found is lost then, or for reconstruct
    #[arg(long)]
    pub accept_losses: bool,
    /// Only look; what a killed server left is put in order all the same
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What `demo` takes.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Work in this new directory, and keep it [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// What `watch` takes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("task").args(["learn", "replay", "explain", "accept", "list", "log"]))]
#[command(group = clap::ArgGroup::new("source").args(["log", "journal"]).multiple(true))]
pub struct WatchArgs {
    /// Follow this log, through all rotations; repeatable
    #[arg(long, value_name = "FILE")]
    pub log: Vec<PathBuf>,
    /// Follow the journal, through journalctl: what is of these fields, by default all that came by
    /// syslog's facilities mail and local6
    #[arg(
        long,
        value_name = "FIELD=VALUE ..",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "SYSLOG_FACILITY=2 SYSLOG_FACILITY=22",
        conflicts_with_all = ["learn", "replay", "explain", "accept", "list"],
    )]
    pub journal: Option<Matches>,
    /// Where what is everyday is kept, and how far logs were read
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cylinder/watch")]
    pub state: PathBuf,
    /// Tell by stderr, journal, desktop, command:PROGRAM, webhook:URL, mail:ADDRESS or nagios:FILE;
    /// repeatable
    /// [default: stderr]
    #[arg(long, value_name = "HOW", requires = "source")]
    pub notify: Vec<Notify>,
    /// Take these old logs for everyday, also what journalctl -o json has written; plain, gzip,
    /// zstd, xz or bzip2, in any order
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub learn: Vec<PathBuf>,
    /// Tell what in these logs would have made a noise, and keep nothing
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub replay: Vec<PathBuf>,
    /// Tell what is known of a line
    #[arg(long, value_name = "LINE")]
    pub explain: Option<String>,
    /// Make no noise of this for a while; its id is in each noise
    #[arg(long, value_name = "ID")]
    pub accept: Option<String>,
    /// For how long: a number with s, m, h or d
    #[arg(long = "for", value_name = "TIME", requires = "accept", default_value = "7d", value_parser = span)]
    pub span: Duration,
    /// List what goes on, what is accepted, and how much is known
    #[arg(long)]
    pub list: bool,
    /// Print JSON: for --replay, one object a line
    #[arg(long)]
    pub json: bool,
}

/// How an output is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compress {
    /// Not at all
    None,
    /// Independent gzip members
    Gzip,
    /// Independent zstd frames and a seek table
    Zstd,
}

/// How a restored spool is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// As it was in the snapshot
    Source,
    /// By unique id, as Cyrus 3.6 and later do
    Uuid,
    /// By name, as Cyrus up to 3.4 does
    Name,
}
