//! A spool, and the programs that read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::bench::{Options, Outcome, cyrus, measure, median, micros};
use testkit::mail::{Sizes, real_corpus};
use testkit::spool_builder::{Era, Filling, SpoolBuilder, SpoolOptions, fill};
use testkit::{Cyrus, cyrus_or_skip};

/// Accounts and mailboxes that the corpus is spread over.
const ACCOUNTS: usize = 10;
const MAILBOXES: usize = 10;

/// What `sha1sum` takes at once: enough that starting it is nothing, few enough that all processors
/// have something to do.
const FILES: usize = 200;

/// Metadata that an audit reads, by the names of its files.
const METADATA: [&str; 4] = ["cyrus.header", "cyrus.index", "cyrus.cache", "cyrus.annotations"];

/// A spool that a Cyrus could serve, if one is installed.
pub struct Ground {
    /// Where all of it is.
    pub scratch: TempDir,
    /// Its imapd.conf.
    pub conf: PathBuf,
    partition: PathBuf,
    /// A server that could be started on it.
    pub cyrus: Option<Cyrus>,
    /// How many messages it has.
    pub messages: u64,
}

impl Ground {
    /// Builds one.
    pub fn build(filling: &Filling, corpus: &[Vec<u8>], cache: bool) -> Outcome<Self> {
        let scratch = tempfile::tempdir()?;
        let options = SpoolOptions { cache, ..SpoolOptions::new(Era::V3_6) };
        let mut builder = SpoolBuilder::create(&scratch.path().join("spool"), options)?;
        let messages = fill(&mut builder, filling, corpus)?;
        let spool = builder.finish()?;
        if cyrus_or_skip("a benchmark").is_none() {
            let conf = fs::read_to_string(&spool.imapd_conf)? + "cyrus_user: root\n";
            fs::write(&spool.imapd_conf, conf)?;
            let (conf, partition) = (spool.imapd_conf, spool.partition);
            return Ok(Self { scratch, conf, partition, cyrus: None, messages });
        }
        // Cyrus' user has to get there.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(scratch.path(), mode)?;
        let prepared = cyrus()?
            .directory("configdirectory", &spool.config_directory)
            .directory("partition-default", &spool.partition)
            .give_to_cyrus()
            .prepare()?;
        let (conf, partition) = (prepared.imapd_conf().to_owned(), spool.partition);
        Ok(Self { scratch, conf, partition, cyrus: Some(prepared), messages })
    }

    fn audit(&self, options: &Options, depth: &str) -> Command {
        let mut command = Command::new(&options.cylinder);
        command.args(["audit", "--all", depth, "--no-progress", "-C"]).arg(&self.conf);
        command
    }

    /// `sha1sum` of all messages on all processors.
    fn sha1sum(&self) -> Outcome<Command> {
        let processors = std::thread::available_parallelism()?;
        let list = self.list(&|name| name.ends_with('.'))?;
        Ok(shell(&format!(
            "xargs -0 -P {processors} -n {FILES} sha1sum < {} > /dev/null",
            list.display()
        )))
    }

    /// `cat` of all metadata.
    fn cat(&self) -> Outcome<Command> {
        let list = self.list(&|name| METADATA.contains(&name))?;
        Ok(shell(&format!("xargs -0 cat < {} > /dev/null", list.display())))
    }

    /// What Cyrus has for the same: it parses and hashes every message, and changes nothing.
    fn reconstruct(&self) -> Option<Command> {
        let cyrus = self.cyrus.as_ref()?;
        let mut command = cyrus.tool_command("reconstruct");
        command.args(["-n", "-G", "-q", "user/*"]);
        Some(command)
    }

    /// A file with the paths of all files of some names, each with a NUL behind it.
    fn list(&self, is_wanted: &dyn Fn(&str) -> bool) -> Outcome<PathBuf> {
        let mut paths = Vec::new();
        find(&self.partition, is_wanted, &mut paths)?;
        paths.sort();
        let list = self.scratch.path().join(format!("list-{}", paths.len()));
        let text: Vec<u8> = paths
            .iter()
            .flat_map(|path| [path.as_os_str().as_encoded_bytes(), b"\0"].concat())
            .collect();
        fs::write(&list, text)?;
        Ok(list)
    }

    fn bytes(&self, is_wanted: &dyn Fn(&str) -> bool) -> Outcome<u64> {
        let mut paths = Vec::new();
        find(&self.partition, is_wanted, &mut paths)?;
        let sizes = paths.iter().map(|path| Ok(fs::metadata(path)?.len()));
        sizes.sum::<std::io::Result<u64>>().map_err(Into::into)
    }
}

fn find(dir: &Path, is_wanted: &dyn Fn(&str) -> bool, found: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            find(&entry.path(), is_wanted, found)?;
        } else if entry.file_name().to_str().is_some_and(is_wanted) {
            found.push(entry.path());
        }
    }
    Ok(())
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]);
    command
}

/// Runs them in turns, so that nobody is always the first, and gives the median of each.
pub fn race(
    commands: &mut [Command],
    repeat: u64,
    before: &dyn Fn() -> Outcome,
) -> Outcome<Vec<Duration>> {
    let mut times = vec![Vec::new(); commands.len()];
    for round in 0..usize::try_from(repeat)? {
        for place in 0..commands.len() {
            let at = (round + place) % commands.len();
            before()?;
            let run = measure(&mut commands[at], b"")?;
            eprintln!("{:?} {:.3?}", commands[at].get_program(), run.wall);
            times[at].push(run.wall);
        }
    }
    Ok(times.into_iter().map(|times| median(times.into_iter())).collect())
}

/// Forgets what is in memory of files, if that is allowed.
fn drop_caches() -> std::io::Result<()> {
    nix::unistd::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}

pub fn full(options: &Options) -> Outcome<Value> {
    let (messages, repeat) = (options.number("--messages")?, options.number("--repeat")?);
    let corpus = real_corpus()?;
    let each = usize::try_from(messages)? / (ACCOUNTS * MAILBOXES);
    let (users, mailboxes) = (ACCOUNTS, MAILBOXES);
    // The corpus says how large they are.
    let filling =
        Filling { users, mailboxes, messages: each, duplicates: 0, ..Filling::small(1, 1) };
    let ground = Ground::build(&filling, &corpus, false)?;
    let mut commands = vec![ground.audit(options, "--full"), ground.sha1sum()?];
    commands.extend(ground.reconstruct());
    // Everything is in memory once it was read.
    race(&mut commands[..2], 1, &|| Ok(()))?;
    let warm = race(&mut commands, repeat, &|| Ok(()))?;
    let cold = match drop_caches() {
        Ok(()) => Some(race(&mut commands[..2], repeat.div_ceil(2), &|| Ok(drop_caches()?))?),
        Err(_) => None,
    };
    let us = |times: &[Duration], at: usize| times.get(at).map(|time| micros(*time));
    Ok(json!({
        "messages": ground.messages,
        "bytes": ground.bytes(&|name| name.ends_with('.'))?,
        "rounds": repeat,
        "cylinder_us": us(&warm, 0),
        "sha1sum_us": us(&warm, 1),
        "reconstruct_us": us(&warm, 2),
        "cold": cold.map(|cold| json!({
            "cylinder_us": us(&cold, 0),
            "sha1sum_us": us(&cold, 1),
        })),
    }))
}

pub fn quick(options: &Options) -> Outcome<Value> {
    let number = |name: &str| -> Outcome<usize> { Ok(usize::try_from(options.number(name)?)?) };
    let (users, mailboxes) = (number("--accounts")?, number("--mailboxes")?);
    let (messages, sizes) = (number("--messages")?, Sizes::Small);
    let filling = Filling { users, sizes, ..Filling::small(mailboxes, messages) };
    let ground = Ground::build(&filling, &[], true)?;
    let mut commands = [ground.audit(options, "--quick"), ground.cat()?];
    race(&mut commands, 1, &|| Ok(()))?;
    let times = race(&mut commands, options.number("--repeat")?, &|| Ok(()))?;
    Ok(json!({
        "accounts": users,
        "mailboxes": users * mailboxes,
        "messages": ground.messages,
        "bytes": ground.bytes(&|name| METADATA.contains(&name))?,
        "rounds": options.number("--repeat")?,
        "cylinder_us": micros(times[0]),
        "cat_us": micros(times[1]),
    }))
}
