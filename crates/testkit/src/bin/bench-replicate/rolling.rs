//! How long a delivered message takes to be on the replica.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cyrus_format::index::Index;
use serde_json::{Map, Value, json};
use testkit::Cyrus;
use testkit::Rng;
use testkit::bench::{Options, Outcome, cyrus, median, micros};
use testkit::mail::{MailGenerator, Sizes};
use testkit::process::wait_until;
use testkit::served::Served;

use crate::pairs::{Pair, What};

/// Whose mail it is.
const USER: &str = "glad";

/// The longest that a message may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The longest pause between two messages, in milliseconds: nobody knows when the next one comes.
const PAUSE_MAX: usize = 250;

/// One master and one replica after the other; the same messages, and the same pauses.
pub fn run(options: &Options) -> Outcome<Value> {
    let mut pairs = Map::new();
    for pair in [Pair::Theirs, Pair::OursToTheirs, Pair::Ours] {
        // The smallest interval that there is: a tenth of a second (imap/sync_client.c, 3.6).
        let master = cyrus()?.option("sync_repeat_interval", "0").eatmydata(true).start()?;
        master.create_user(USER)?;
        let times = if pair.is_to_cyrus() {
            let replica = cyrus()?.start()?;
            let client =
                |what| pair.client(&master, &options.cylinder, replica.sync_address(), what);
            client(What::User(USER)).measure()?;
            let inbox = replica.mailbox_directory(&format!("user/{USER}"))?;
            let _rolling = client(What::Rolling).keep()?;
            deliver(&master, &inbox.join("cyrus.index"), options)?
        } else {
            let replica = Served::start(&options.cylinder)?;
            let client = |what| pair.client(&master, &options.cylinder, replica.address(), what);
            client(What::User(USER)).measure()?;
            let index = find(replica.spool())?.ok_or("the replica has no mailbox")?;
            let _rolling = client(What::Rolling).keep()?;
            deliver(&master, &index, options)?
        };
        let document = json!({
            "times": times.len(),
            "median_us": micros(median(times.iter().copied())),
            "longest_us": micros(times.iter().copied().max().unwrap_or_default()),
        });
        eprintln!("rolling, {}: {document}", pair.name());
        pairs.insert(pair.name().to_owned(), document);
    }
    Ok(json!({ "pairs": pairs }))
}

/// Delivers messages, and waits for each until the replica's index counts it.
fn deliver(master: &Cyrus, index: &Path, options: &Options) -> Outcome<Vec<Duration>> {
    let repeat = options.number("--repeat")?;
    let (mut mail, mut rng) = (MailGenerator::new(7, Sizes::Small), Rng::new(7));
    let mut lmtp = master.lmtp()?;
    let mut times = Vec::new();
    // The first one is not counted: whoever has just started may have to be told of much.
    for number in 1..=repeat + 1 {
        thread::sleep(Duration::from_millis(rng.index(PAUSE_MAX) as u64));
        lmtp.deliver(&[USER], &mail.message())?;
        let start = Instant::now();
        if !wait_until(LIMIT, || announced(index) == Some(number)) {
            return Err(format!("message {number} does not reach the replica").into());
        }
        times.push(start.elapsed());
    }
    Ok(times.split_off(1))
}

fn announced(index: &Path) -> Option<u64> {
    let bytes = fs::read(index).ok()?;
    Index::parse(&bytes).ok().map(|index| index.announced().into())
}

/// The index of the only mailbox.
fn find(directory: &Path) -> Outcome<Option<PathBuf>> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() == "cyrus.index" {
            return Ok(Some(entry.path()));
        }
        if entry.file_type()?.is_dir()
            && let Some(found) = find(&entry.path())?
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
