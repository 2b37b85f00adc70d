//! docs/benchmarks-audit.md, from what was measured.

use std::fmt::Write;

use serde_json::Value;

use super::Results;
use crate::bench::computer::Computer;
use crate::bench::goals::Verdict;
use crate::bench::json::{micros, number};
use crate::bench::page::{count, machine, mib, time, verdicts};

/// How fast a full audit has to be at least, as a part of `sha1sum`.
const RATE: f64 = 0.8;

/// How many times as long as `cat` a quick one may take.
const TIMES: f64 = 2.0;

/// The whole page.
pub fn render(typed: &str, computer: &Computer, cyrus: Option<&str>, results: &Results) -> String {
    let mut page = String::from(OPENING);
    let parts = [&results.full, &results.quick, &results.compare];
    let rounds = parts.into_iter().flatten().map(|of| number(&of["rounds"])).max().unwrap_or(1);
    machine(&mut page, typed, usize::try_from(rounds).unwrap_or(1), computer);
    if let Some(cyrus) = cyrus {
        let _ = writeln!(page, "- Cyrus: Debian's cyrus-imapd {cyrus}.");
    }
    page.push_str("\n## What was to be reached\n\n");
    verdicts(&mut page, &judge(results));
    if let Some(of) = &results.full {
        full(&mut page, of);
    }
    if let Some(of) = &results.quick {
        quick(&mut page, of);
    }
    if let Some(of) = &results.compare {
        compare(&mut page, of);
    }
    page
}

const OPENING: &str = "\
# Benchmarks of audits

This page is written by `cargo xtask bench audit --write`. `cylinder audit` and the programs that read the
same files of the same spool run in turns; and so do `cylinder compare` and `sync_client`, of which both ask
the same servers. Times are medians, and everything is in memory, unless it is
said otherwise.

";

/// How many times as long one field took as another.
fn ratio(of: &Value, field: &str, other: &str) -> f64 {
    micros(&of[field]).as_secs_f64() / micros(&of[other]).as_secs_f64()
}

fn judge(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    if let Some(of) = &results.full {
        let rate = ratio(of, "sha1sum_us", "cylinder_us");
        verdicts.push(Verdict {
            goal: 1,
            about: "--full".to_owned(),
            measured: format!("{:.0} % of the rate of sha1sum", rate * 100.0),
            limit: "80 %",
            reached: rate >= RATE,
        });
    }
    if let Some(of) = &results.quick {
        let times = ratio(of, "cylinder_us", "cat_us");
        verdicts.push(Verdict {
            goal: 2,
            about: format!("--quick, {} accounts", count(number(&of["accounts"]))),
            measured: format!("{times:.1} times as long as cat"),
            limit: "2.0",
            reached: times <= TIMES,
        });
    }
    if let Some(of) = &results.compare {
        // Those that come with each connection, to log in, are counted with the others.
        let trips = per_account(of, "one_by_one");
        verdicts.push(Verdict {
            goal: 3,
            about: format!("compare --quick, {} accounts", count(number(&of["accounts"]))),
            measured: format!("{trips:.2} round trips per account"),
            limit: "1, and logging in",
            reached: trips <= 1.0 + LOGIN / number(&of["accounts"]) as f64,
        });
    }
    verdicts
}

/// Round trips that a connection may take beside those of accounts.
const LOGIN: f64 = 5.0;

/// How often a racer waits for the server, for each account.
fn per_account(of: &Value, racer: &str) -> f64 {
    number(&of["racers"][racer]["line"]["trips"]) as f64 / number(&of["accounts"]) as f64
}

fn full(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## Every byte\n\n{} messages of the corpus, over and over ({}), in ten accounts of ten mailboxes. \
         `sha1sum` runs on all processors. `reconstruct -n -G` is what Cyrus has: it parses and hashes each \
         message, compares it with its record, and changes nothing.\n\n\
         | | time | MiB/s |\n| --- | ---: | ---: |",
        count(number(&of["messages"])),
        mib(number(&of["bytes"])),
    );
    let mut row = |what: &str, us: &Value| {
        if us.is_null() {
            return;
        }
        let took = micros(us);
        let rate = number(&of["bytes"]) as f64 / f64::from(1 << 20) / took.as_secs_f64();
        let _ = writeln!(page, "| {what} | {} | {rate:.0} |", time(took));
    };
    row("cylinder audit --full", &of["cylinder_us"]);
    row("sha1sum", &of["sha1sum_us"]);
    row("reconstruct -n -G", &of["reconstruct_us"]);
    row("cylinder audit --full, nothing in memory", &of["cold"]["cylinder_us"]);
    row("sha1sum, nothing in memory", &of["cold"]["sha1sum_us"]);
}

fn quick(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## Metadata alone\n\n{} accounts with {} mailboxes and {} messages. `cat` reads cyrus.header, \
         cyrus.index and cyrus.cache of all of them ({}); the audit reads them under Cyrus' locks, and looks \
         at the size of each message's file, too.\n\n| | time |\n| --- | ---: |",
        count(number(&of["accounts"])),
        count(number(&of["mailboxes"])),
        count(number(&of["messages"])),
        mib(number(&of["bytes"])),
    );
    for (what, field) in [("cylinder audit --quick", "cylinder_us"), ("cat", "cat_us")] {
        let _ = writeln!(page, "| {what} | {} |", time(micros(&of[field])));
    }
}

fn compare(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## A fleet and its replicas\n\n{} accounts with {} mailboxes and {} messages, which the replicas \
         have all of. `sync_client -A` would send what differs, and asks for the same to find out; it has one \
         connection. `cylinder compare --quick` has four, unless `--jobs 1` is said. Round trips are counted \
         on a line between, those of logging in among them.\n\n\
         | | time | round trips per account | connections |\n| --- | ---: | ---: | ---: |",
        count(number(&of["accounts"])),
        count(number(&of["mailboxes"])),
        count(number(&of["messages"])),
    );
    for (what, racer) in [
        ("sync_client -A, sync_server", "theirs"),
        ("cylinder compare --quick --jobs 1, sync_server", "one_by_one"),
        ("cylinder compare --quick, sync_server", "ours"),
        ("cylinder compare --quick, cylinder serve", "at_ours"),
        ("cylinder compare --quick, two spools", "spools"),
    ] {
        let this = &of["racers"][racer];
        let took = time(micros(&this["wall_us"]));
        let _ = match &this["line"] {
            Value::Null => writeln!(page, "| {what} | {took} | | |"),
            line => writeln!(
                page,
                "| {what} | {took} | {:.2} | {} |",
                per_account(of, racer),
                number(&line["connections"]),
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fleet_is_judged_by_what_an_account_costs() {
        let racer =
            |trips: u64| json!({"wall_us": 2_000, "line": {"connections": 1, "trips": trips}});
        let of = |trips: u64| {
            let racers = json!({
                "theirs": racer(204),
                "one_by_one": racer(trips),
                "ours": racer(112),
                "at_ours": racer(112),
                "spools": {"wall_us": 1_000, "line": null},
            });
            json!({"accounts": 100, "mailboxes": 1_000, "messages": 5, "racers": racers})
        };
        let judged = |trips: u64| {
            let results = Results { compare: Some(of(trips)), ..Results::default() };
            judge(&results).pop().map(|verdict| (verdict.measured, verdict.reached))
        };
        assert_eq!(judged(103), Some(("1.03 round trips per account".to_owned(), true)));
        assert_eq!(judged(203).map(|(_, reached)| reached), Some(false));
        let mut page = String::new();
        compare(&mut page, &of(103));
        let rows = [
            "| sync_client -A, sync_server | 2.0 ms | 2.04 | 1 |",
            "| cylinder compare --quick --jobs 1, sync_server | 2.0 ms | 1.03 | 1 |",
            "| cylinder compare --quick, two spools | 1.0 ms | | |",
        ];
        assert!(rows.iter().all(|row| page.contains(row)), "{page}");
    }
}
