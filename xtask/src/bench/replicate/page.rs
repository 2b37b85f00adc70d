//! docs/benchmarks-replicate.md, from what was measured.

use std::fmt::Write;

use serde_json::Value;

use super::Results;
use crate::bench::computer::Computer;
use crate::bench::goals::Verdict;
use crate::bench::json::{micros, number};
use crate::bench::page::{count, machine, time, verdicts};

/// The whole page.
pub fn render(typed: &str, computer: &Computer, cyrus: &str, results: &Results) -> String {
    let mut page = String::from(OPENING);
    let repeat = results.initial.as_ref().map_or(1, |of| number(&of["pairs"]["ours"]["times"]));
    machine(&mut page, typed, usize::try_from(repeat).unwrap_or(usize::MAX), computer);
    let _ = writeln!(page, "- Cyrus: Debian's cyrus-imapd {cyrus}.");
    page.push_str("\n## What was to be reached\n\n");
    verdicts(&mut page, &judge(results));
    if let Some(of) = &results.initial {
        initial(&mut page, of);
    }
    if let Some(of) = &results.unchanged {
        unchanged(&mut page, of);
    }
    if let Some(of) = &results.rolling {
        rolling(&mut page, of);
    }
    page
}

const OPENING: &str = "\
# Benchmarks of the master

This page is written by `cargo xtask bench replicate --write`. The real `sync_client` and `cylinder
replicate` send the same mail of the same master, in turns, to replicas on the same disk: Cyrus' own
`sync_server` and `cylinder serve`. Both replicas sync what they write; all that was written before is
synced first. Times are whole runs of the program, its start and login included: medians.

";

fn judge(results: &Results) -> Vec<Verdict> {
    let verdict = |goal, of: &Option<Value>, about, field: &str, pair: [&str; 2], least, limit| {
        let pairs = &of.as_ref()?["pairs"];
        let [theirs, ours] = pair.map(|name| micros(&pairs[name][field]).as_secs_f64());
        let faster = theirs / ours;
        let measured = format!("{faster:.1} times as fast");
        Some(Verdict { goal, about, measured, limit, reached: faster >= least })
    };
    let messages = |of: &Option<Value>| count(of.as_ref().map_or(0, |of| number(&of["messages"])));
    let accounts = |of: &Option<Value>| count(of.as_ref().map_or(0, |of| number(&of["accounts"])));
    let Results { initial, unchanged, rolling } = results;
    let first = format!("initial, {} messages", messages(initial));
    let nothing = format!("{} unchanged accounts", accounts(unchanged));
    let to_theirs = ["theirs", "ours_to_theirs"];
    let to_ours = ["theirs", "ours"];
    let (wall, median) = ("wall_us", "median_us");
    let all = [
        verdict(1, initial, format!("{first}, to sync_server"), wall, to_theirs, 1.0, "1.0"),
        verdict(1, initial, format!("{first}, ours to ours"), wall, to_ours, 5.0, "5.0"),
        verdict(2, unchanged, format!("{nothing}, at sync_server"), wall, to_theirs, 20.0, "20.0"),
        verdict(2, unchanged, format!("{nothing}, ours at ours"), wall, to_ours, 20.0, "20.0"),
        verdict(
            3,
            rolling,
            "delivered, to sync_server".to_owned(),
            median,
            to_theirs,
            10.0,
            "10.0",
        ),
        verdict(3, rolling, "delivered, ours to ours".to_owned(), median, to_ours, 10.0, "10.0"),
    ];
    all.into_iter().flatten().collect()
}

/// How pairs are called.
const PAIRS: [(&str, &str); 4] = [
    ("theirs", "sync_client to sync_server"),
    ("ours_to_theirs", "cylinder replicate to sync_server"),
    ("theirs_to_ours", "sync_client to cylinder serve"),
    ("ours", "cylinder replicate to cylinder serve"),
];

fn initial(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## One account of real mail\n\n{} messages of the corpus, to a replica that has just been \
         started and has nothing.\n\n\
         | | time | client's processor time |\n| --- | ---: | ---: |",
        count(number(&of["messages"])),
    );
    pairs(page, &of["pairs"]);
}

fn unchanged(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## {} accounts without news\n\n{} mailboxes each; `sync_client -A` and `cylinder replicate \
         --all`. Both clients have been there before, so that neither finds work that the other has \
         left.\n\n\
         | | time | client's processor time |\n| --- | ---: | ---: |",
        count(number(&of["accounts"])),
        count(number(&of["mailboxes"])),
    );
    pairs(page, &of["pairs"]);
}

fn pairs(page: &mut String, pairs: &Value) {
    for (field, name) in PAIRS.into_iter().filter(|(field, _)| pairs[*field].is_object()) {
        let at = |what: &str| time(micros(&pairs[field][what]));
        let _ = writeln!(page, "| {name} | {} | {} |", at("wall_us"), at("client_cpu_us"));
    }
}

fn rolling(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## From a delivered message to the replica\n\nMessages are delivered by LMTP, with random pauses \
         of up to a quarter of a second. The time is from the server's answer to when the replica's \
         index counts the message. `sync_client -R` has `sync_repeat_interval: 0`, which makes it look \
         ten times a second.\n\n\
         | | median | longest |\n| --- | ---: | ---: |",
    );
    let pairs = &of["pairs"];
    for (field, name) in PAIRS.into_iter().filter(|(field, _)| pairs[*field].is_object()) {
        let at = |what: &str| time(micros(&pairs[field][what]));
        let _ = writeln!(page, "| {name} | {} | {} |", at("median_us"), at("longest_us"));
    }
}
