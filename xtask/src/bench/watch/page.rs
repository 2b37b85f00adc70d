//! docs/benchmarks-watch.md, from what was measured.

use std::fmt::Write;
use std::time::Duration;

use super::{Measured, Options, Results};
use crate::bench::computer::Computer;
use crate::bench::goals::Verdict;
use crate::bench::page::{count, machine, mib, per_second, time, verdicts};
use crate::bench::sample::Series;

/// Lines that are to be read in a second.
const LEAST_PACE: u64 = 1_000_000;

/// Memory that may be taken, in KiB.
const MOST_MEMORY: u64 = 64 << 10;

/// What a noise may take.
const MOST_LATENCY: Duration = Duration::from_secs(2);

const OPENING: &str = "\
# Benchmarks of the watch

This page is written by `cargo xtask bench watch --write`. The log is a week of a real Cyrus and its replica
(`cargo xtask watch-logs`), in which each second has what it had many times over; the week before has been
learned. `cylinder watch --replay` reads it to its end and has nothing to tell, else the benchmark fails. It is
one thread. Times are whole runs, from a warm page cache. A noise waits a second for its cause, so that none is
told much earlier.

";

/// The whole page.
pub fn render(options: &Options, computer: &Computer, results: &Results) -> String {
    let mut page = String::from(OPENING);
    machine(&mut page, &options.typed, options.repeat, computer);
    page.push_str("\n## What was to be reached\n\n");
    verdicts(&mut page, &judge(results));
    race(&mut page, results);
    memory(&mut page, results);
    page
}

fn judge(results: &Results) -> Vec<Verdict> {
    let pace = per_second(results.lines, &results.ours);
    let peak = results.many.run.peak_kib();
    let slowest = results.latency.iter().max().copied().unwrap_or(Duration::MAX);
    vec![
        Verdict {
            goal: 1,
            about: format!("{} everyday lines, on one core", count(results.lines)),
            measured: format!("{} lines/s", count(pace)),
            limit: "1,000,000 lines/s",
            reached: pace >= LEAST_PACE,
        },
        Verdict {
            goal: 2,
            about: format!("memory after {} lines", count(results.many.lines)),
            measured: mib(peak << 10),
            limit: "64 MiB",
            reached: peak < MOST_MEMORY,
        },
        Verdict {
            goal: 3,
            about: "from a line to its noise, at the longest".into(),
            measured: time(slowest),
            limit: "2 s",
            reached: slowest < MOST_LATENCY,
        },
    ]
}

fn race(page: &mut String, results: &Results) {
    let Results { lines, bytes, ours, grep, logcheck, .. } = results;
    let _ = writeln!(
        page,
        "\n## The same file\n\n{} lines, {}. `grep -c` counts the lines of one program; logcheck's `grep -E -v` \
         takes one file of Debian's rules after the other, as logcheck does, in a single round. Both run in the \
         C locale.\n\n\
         | | median | lines/s | processor | memory |\n| --- | ---: | ---: | ---: | ---: |",
        count(*lines),
        mib(*bytes),
    );
    let all = [("cylinder watch", ours), ("grep -c", grep), ("logcheck's grep -E", logcheck)];
    for (name, series) in all.into_iter().filter(|(_, series)| !series.0.is_empty()) {
        row(page, name, *lines, series);
    }
}

fn memory(page: &mut String, results: &Results) {
    page.push_str(
        "\n## Many lines\n\nThe first log is everyday, and compressed with zstd; of the second, each line has \
         four words that nobody has ever seen.\n\n\
         | | time | lines/s | processor | memory |\n| --- | ---: | ---: | ---: | ---: |\n",
    );
    for (name, Measured { lines, run }) in
        [("everyday", &results.many), ("strange", &results.strange)]
    {
        row(page, &format!("{} {name}", count(*lines)), *lines, run);
    }
}

fn row(page: &mut String, name: &str, lines: u64, series: &Series) {
    let _ = writeln!(
        page,
        "| {name} | {} | {} | {} | {} |",
        time(series.median()),
        count(per_second(lines, series)),
        time(series.cpu()),
        mib(series.peak_kib() << 10),
    );
}
