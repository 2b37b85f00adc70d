//! docs/benchmarks.md, from what was measured.

use std::fmt::Write;
use std::time::Duration;

use super::computer::Computer;
use super::curve::Point;
use super::goals::{Results, Verdict};
use super::lock::Locks;
use super::options::Options;
use super::race::{Performance, Race};
use super::racers::CYLINDER;
use super::sample::Series;

/// The whole page.
pub fn render(options: &Options, computer: &Computer, results: &Results) -> String {
    let mut page = String::from(OPENING);
    machine(&mut page, &options.typed, options.repeat, computer);
    page.push_str("\n## What was to be reached\n\n");
    verdicts(&mut page, &results.verdicts());
    for race in results.races.iter().chain(&results.account) {
        page.push_str(&describe(race));
        if race.of(CYLINDER).is_some_and(|ours| ours.unchanged.0.is_empty()) {
            full(&mut page, race);
        } else {
            full(&mut page, race);
            incremental(&mut page, race);
        }
    }
    if !results.curve.is_empty() {
        curve(&mut page, &results.curve);
    }
    if let Some(of) = &results.locks {
        locks(&mut page, of);
    }
    page.push_str(CHOICES);
    page
}

const OPENING: &str = "\
# Benchmarks

This page is written by `cargo xtask bench snapshot --write`. All programs run side by side, in
turns, on the same disk, with the mail in the page cache and everything written before synced to
disk. Times are from the start of the first program of a pipe to the end of the last: the median of
all runs, and the best. Memory is the most that the program (of several processes, the largest) had
resident. Ratios are of medians.

";

const CHOICES: &str = "
## What is compared

- The mail is the public corpus of the SpamAssassin project, 6,046 messages as they arrived. Larger
  accounts repeat it, each time with one header line more, so that no two messages are the same. On
  top come 12 % of copies, hard links to another message as Cyrus makes them. Two fifths are in
  INBOX, a tenth in Sent, the rest in folders of decreasing size. The mailboxes have cyrus.header,
  cyrus.index and a cyrus.cache that is a little smaller than Cyrus 3.6 would have made it.
- What all others copy is the directory of the partition. cylinder reads mailboxes.db and the
  account's own files as well, computes SHA-1 of every message and compares it with the index, and
  SHA-256 of the metadata. It leaves cyrus.cache out, as Cyrus makes it anew; GNU tar without
  cyrus.cache shows what that is worth.
- `cylinder backup` stores into a vault in a directory: compressed with zstd, with the envelopes of
  all messages, and synced to the disk before it ends.
- GNU tar writes to a pipe that `cat` reads, as cylinder does: tar would not read the mail if it
  wrote to /dev/null. With `-g` it writes what changed since a full run.
- restic has its defaults: a local repository, its own cache in an empty directory, automatic
  compression, encryption. (`--no-scan` came with 0.15; with `--quiet` there is no progress to
  show.) borg has no encryption, once with its default compression, lz4, once with none. Both
  deduplicate across snapshots.
- rsync copies to a second directory on the same disk.
- An unchanged run comes three times in each round; a delivery is one message in INBOX.
- In the table of growing accounts, messages are made up and have about 400 bytes, in 100
  mailboxes at every size, without copies. System calls are counted by strace, in a run of its own.
- The lock times are those that `cylinder snapshot --json` reports for locks of the user and of
  cyrus.index; name locks, which stop no client, are held longer.
";

/// Where it was measured, and by which command.
pub fn machine(page: &mut String, typed: &str, rounds: usize, computer: &Computer) {
    let Computer { processors, memory_mib, kernel, file_system, load, date, versions, missing } =
        computer;
    let _ = writeln!(
        page,
        "Measured on {date} by `{typed}`, with {rounds} rounds:\n\n\
         - {processors}, {} MiB of memory, {kernel}, {file_system}; load {load} at the start.\n\
         - {}.",
        count(*memory_mib),
        versions.join("; "),
    );
    for (program, package) in missing {
        let _ = writeln!(
            page,
            "- **{program} is not installed, so its rows are missing**: `apt-get install {package}`."
        );
    }
}

/// What was reached, as a table.
pub fn verdicts(page: &mut String, verdicts: &[Verdict]) {
    page.push_str("| goal | | measured | limit | |\n| --- | --- | --- | --- | --- |\n");
    for Verdict { goal, about, measured, limit, reached } in verdicts {
        let reached = if *reached { "reached" } else { "**not reached**" };
        let _ = writeln!(page, "| {goal} | {about} | {measured} | {limit} | {reached} |");
    }
}

fn describe(race: &Race) -> String {
    let spool = &race.spool;
    format!(
        "\n## {} messages\n\n\
         {} messages of {} and {} copies in {} mailboxes; cyrus.cache {}. {} rounds.\n",
        count(spool.messages),
        count(spool.messages),
        mib(spool.message_bytes),
        count(spool.copies),
        count(spool.mailboxes),
        mib(race.cache_bytes),
        race.rounds,
    )
}

fn full(page: &mut String, race: &Race) {
    page.push_str(
        "\n| full | median | best | messages/s | processor | memory | output |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    let records = race.spool.messages + race.spool.copies;
    for Performance { name, full, stored, .. } in &race.results {
        if full.0.is_empty() {
            continue;
        }
        let _ = writeln!(
            page,
            "| {name} | {} | {} | {} | {} | {} |",
            median_and_best(full),
            count(per_second(records, full)),
            time(full.cpu()),
            mib(full.peak_kib() * 1024),
            stored.map_or_else(|| "-".to_string(), mib),
        );
    }
}

fn incremental(page: &mut String, race: &Race) {
    page.push_str(
        "\n| incremental | unchanged, median | best | memory | one new, median | best |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for Performance { name, unchanged, delivered, .. } in &race.results {
        if unchanged.0.is_empty() {
            continue;
        }
        let delivered = match delivered.0.is_empty() {
            true => "- | -".to_string(),
            false => median_and_best(delivered),
        };
        let _ = writeln!(
            page,
            "| {name} | {} | {} | {delivered} |",
            median_and_best(unchanged),
            mib(unchanged.peak_kib() * 1024),
        );
    }
    if let Some(held) = race.of(CYLINDER).and_then(Performance::longest_lock) {
        let _ = writeln!(page, "\ncylinder's longest user or index lock: {}.", time(held));
    }
}

fn curve(page: &mut String, points: &[Point]) {
    page.push_str(
        "\n## Growing accounts\n\n\
         | messages | metadata | full | messages/s | with zstd | unchanged | `cat` of metadata | \
         calls (on messages) | most memory |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for point in points {
        let calls = point.calls.map_or_else(
            || "-".to_string(),
            |calls| format!("{} ({})", count(calls.all), count(calls.on_messages)),
        );
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} | {} | {calls} | {} |",
            count(point.messages),
            mib(point.metadata_bytes),
            time(point.full.median()),
            count(per_second(point.messages, &point.full)),
            time(point.zstd.median()),
            time(point.unchanged.median()),
            time(point.cat.median()),
            mib(point.peak_kib() * 1024),
        );
    }
}

fn locks(page: &mut String, locks: &Locks) {
    let Locks { messages, metadata_bytes, full, unchanged, cat, start } = locks;
    let _ = writeln!(
        page,
        "\n## Locks\n\n\
         One mailbox of {} messages; its cyrus.header and cyrus.index have {}.\n\n\
         | | median |\n| --- | ---: |\n\
         | longest user or index lock, full | {} |\n\
         | longest user or index lock, unchanged | {} |\n\
         | `cat` of the two files | {} |\n\
         | `cat` of nothing | {} |",
        count(*messages),
        mib(*metadata_bytes),
        time(*full),
        time(*unchanged),
        time(*cat),
        time(*start),
    );
}

fn median_and_best(series: &Series) -> String {
    format!("{} | {}", time(series.median()), time(series.best()))
}

/// How many of them in a second.
pub fn per_second(messages: u64, series: &Series) -> u64 {
    (messages as f64 / series.median().as_secs_f64()) as u64
}

/// A number with commas between thousands.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A time with three or four digits.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.001 => format!("{:.2} ms", seconds * 1e3),
        ..1.0 => format!("{:.1} ms", seconds * 1e3),
        ..100.0 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(["1", "999", "1,000", "604,600"], [1, 999, 1_000, 604_600].map(count));
        assert_eq!(mib(3 << 19), "1.5 MiB");
        let times = [150, 12_345, 1_234_567, 123_456_789].map(Duration::from_micros);
        assert_eq!(times.map(time), ["0.15 ms", "12.3 ms", "1.23 s", "123 s"]);
    }
}
