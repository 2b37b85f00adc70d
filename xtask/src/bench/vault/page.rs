//! docs/benchmarks-vault.md, from what was measured.

use std::fmt::Write;

use super::contest::{Contest, Performance};
use super::growth::Point;
use super::programs::Task;
use super::verdicts::about;
use super::{Options, Results};
use crate::bench::computer::Computer;
use crate::bench::page::{count, machine, mib, per_second, time, verdicts};
use crate::bench::sample::Series;

/// The whole page.
pub fn render(options: &Options, computer: &Computer, results: &Results) -> String {
    let mut page = String::from(OPENING);
    machine(&mut page, &options.typed, options.rounds, computer);
    page.push_str("\n## What was to be reached\n\n");
    verdicts(&mut page, &results.verdicts());
    for contest in results.accounts.iter().chain(&results.fleet).chain(&results.large) {
        page.push_str(&table(contest));
    }
    if !results.growth.is_empty() {
        growth(&mut page, &results.growth);
    }
    page.push_str(CHOICES);
    page
}

const OPENING: &str = "\
# Benchmarks of the vault

This page is written by `cargo xtask bench vault --write`. All programs run side by side, in turns,
on the same disk, with everything written before synced to it. Times are medians; memory is the most
that a program had resident. Ratios are of medians.

";

const CHOICES: &str = "
## What is compared

- Vault, repositories and what is restored are directories on one disk. The mail of the first tables
  is the public corpus of the SpamAssassin project, as in the [benchmarks of snapshots](benchmarks.md),
  single accounts with 12 % of copies; that of the table with large messages is made up, with
  attachments that hardly compress.
- restic and borg copy the directory of the partition, with cyrus.cache; cylinder reads the account's
  other files too, and compares every message with its GUID. restic has its defaults: encryption,
  its own cache, automatic compression. borg has no encryption and its default compression.
- One message is the hundredth of INBOX: `cylinder show --mailbox INBOX --uid 100`, `restic dump
  latest FILE`, `borg extract --stdout`. Both others are told its file; cylinder finds it by its UID.
- GNU tar unpacks an archive of the same directory, without compression and without comparing
  anything; it syncs nothing. cylinder decompresses, compares every message with its GUID, hands the
  files to Cyrus' user and syncs them. It takes more processor time than GNU tar, on all processors:
  to be as fast it needs two of them that nobody else uses, and a disk that takes the mail at once.
- Nothing is removed between the rounds, and every round has directories of its own: ext4 takes ten
  times as long to make files just after others were removed.
";

/// What the programs showed.
pub fn table(contest: &Contest) -> String {
    let (spool, mut page) = (&contest.spool, String::new());
    let _ = writeln!(
        page,
        "\n## {}\n\n{} messages of {} and {} copies in {} mailboxes. Rounds: {}.\n\n\
         | | first backup | messages/s | memory | stored | unchanged | one message | all restored | \
         verified |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        about(contest),
        count(spool.messages),
        mib(spool.message_bytes),
        count(spool.copies),
        count(spool.mailboxes),
        contest.rounds,
    );
    let records = spool.messages + spool.copies;
    for Performance { program, tasks, stored } in &contest.results {
        let of = |task: Task| tasks.get(&task);
        let median = |task: Task| of(task).map_or("-".to_owned(), |runs| time(runs.median()));
        let first = |value: &dyn Fn(&Series) -> String| of(Task::First).map_or("-".into(), value);
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            program.name(),
            median(Task::First),
            first(&|runs| count(per_second(records, runs))),
            first(&|runs| mib(runs.peak_kib() * 1024)),
            stored.map_or("-".to_owned(), mib),
            median(Task::Unchanged),
            median(Task::Message),
            median(Task::Restore),
            median(Task::Verify),
        );
    }
    page
}

/// Times and memory, a column for each size.
fn growth(page: &mut String, points: &[Point]) {
    page.push_str(
        "\n## Growing accounts\n\nMessages of about 400 bytes in 100 mailboxes; run once.\n\n|",
    );
    points.iter().for_each(|point| {
        let _ = write!(page, " | {} messages", count(point.messages));
    });
    page.push_str(" |\n| ---");
    points.iter().for_each(|_| page.push_str(" | ---:"));
    page.push_str(" |\n");
    let names = points.first().map(|point| point.runs.as_slice()).unwrap_or_default();
    for (at, (name, _)) in names.iter().enumerate() {
        let _ = write!(page, "| {name}");
        for (_, sample) in points.iter().filter_map(|point| point.runs.get(at)) {
            let _ = write!(page, " | {}, {}", time(sample.wall), mib(sample.peak_kib * 1024));
        }
        page.push_str(" |\n");
    }
}
