//! docs/benchmarks-serve.md, from what was measured.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use super::Results;
use crate::bench::computer::Computer;
use crate::bench::goals::Verdict;
use crate::bench::page::{count, machine, mib, time, verdicts};

/// Most memory of a connection, in KiB.
const MOST_MEMORY: u64 = 64 << 10;

/// How much faster a first synchronisation has to be.
const FASTER: f64 = 3.0;

/// The whole page.
pub fn render(typed: &str, computer: &Computer, cyrus: &str, results: &Results) -> String {
    let mut page = String::from(OPENING);
    let rounds = results.race.as_ref().map_or(1, |race| number(&race["rounds"]));
    machine(&mut page, typed, usize::try_from(rounds).unwrap_or(1), computer);
    let _ = writeln!(page, "- Cyrus: Debian's cyrus-imapd {cyrus}.");
    page.push_str("\n## What was to be reached\n\n");
    verdicts(&mut page, &judge(results));
    if let Some(of) = &results.race {
        race(&mut page, of);
    }
    if !results.memory.is_empty() {
        memory(&mut page, &results.memory);
    }
    if let Some(of) = &results.leftovers {
        leftovers(&mut page, of);
    }
    page
}

const OPENING: &str = "\
# Benchmarks of the replica

This page is written by `cargo xtask bench serve --write`. The same real `sync_client` sends the same
mail of one master to Cyrus' `sync_server` and to `cylinder serve`, in turns, on the same disk, and
both sync what they write. Times are medians.

";

fn judge(results: &Results) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for task in results.race.iter().flat_map(|race| list(&race["tasks"])) {
        let is_first = text(&task["name"]).starts_with("initial");
        let (least, limit) = if is_first { (FASTER, "3.0") } else { (1.0, "1.0") };
        for (way, field) in [("sync_client", "wall_us"), ("replayed", "replayed_us")] {
            let (theirs, ours) = (&task["cyrus"][field], &task["cylinder"][field]);
            let faster = micros(theirs).as_secs_f64() / micros(ours).as_secs_f64();
            verdicts.push(Verdict {
                goal: if is_first { 1 } else { 2 },
                about: format!("{}, {way}", text(&task["name"])),
                measured: format!("{faster:.1} times as fast as Cyrus"),
                limit,
                reached: faster >= least,
            });
        }
    }
    for of in &results.memory {
        let peak = list(&of["steps"]).filter_map(|step| step["peak_kib"].as_u64()).max();
        let peak = peak.unwrap_or_default();
        verdicts.push(Verdict {
            goal: 3,
            about: format!("memory, {} records", count(number(&of["records"]))),
            measured: mib(peak * 1024),
            limit: "64.0 MiB",
            reached: peak <= MOST_MEMORY,
        });
    }
    if let Some(of) = &results.leftovers {
        let left: u64 = LEFT.iter().map(|(field, _)| number(&of["cylinder"][field])).sum();
        verdicts.push(Verdict {
            goal: 4,
            about: format!("left behind by {} kills", number(&of["cylinder"]["killed"])),
            measured: left.to_string(),
            limit: "0",
            reached: left == 0,
        });
    }
    verdicts
}

fn race(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## Speed\n\n{} messages of the corpus in one account, {} small ones in another. The first \
         two columns are whole runs of `sync_client -u`, its start and login included; then \
         come its own processor time, which no server can save, and the same commands said again \
         without it.\n\n\
         | | Cyrus | cylinder | client's processor time | Cyrus, replayed | cylinder, replayed |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |",
        count(number(&of["corpus"])),
        count(number(&of["small"])),
    );
    for task in list(&of["tasks"]) {
        let at = |server: &str, field: &str| time(micros(&task[server][field]));
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            text(&task["name"]),
            at("cyrus", "wall_us"),
            at("cylinder", "wall_us"),
            at("cylinder", "client_cpu_us"),
            at("cyrus", "replayed_us"),
            at("cylinder", "replayed_us"),
        );
    }
    page.push_str(
        "\nCyrus offers compression to whoever has no TLS, and `sync_client` uses it; cylinder does so with \
         `--compress` only. Then these runs take as long, of which the client computes:\n\n\
         | | cylinder --compress | client's processor time |\n| --- | ---: | ---: |\n",
    );
    for task in list(&of["tasks"]).filter(|task| text(&task["name"]).starts_with("initial")) {
        let of = &task["compressed"];
        let [wall, cpu] = ["wall_us", "client_cpu_us"].map(|field| time(micros(&of[field])));
        let _ = writeln!(page, "| {} | {wall} | {cpu} |", text(&task["name"]));
    }
}

fn memory(page: &mut String, sizes: &[Value]) {
    page.push_str(
        "\n## Memory\n\nThe most that the server's process has resident, with one connection whose \
         master is made up: a mailbox in one command, and what follows.\n\n|",
    );
    for of in sizes {
        let _ = write!(page, " | {} records", count(number(&of["records"])));
    }
    page.push_str(" |\n| ---");
    sizes.iter().for_each(|_| page.push_str(" | ---:"));
    page.push_str(" |\n");
    let names = sizes.first().into_iter().flat_map(|of| list(&of["steps"]));
    for (at, name) in names.map(|step| text(&step["name"])).enumerate() {
        let _ = write!(page, "| {name}");
        for step in sizes.iter().map(|of| &of["steps"][at]) {
            let peak = mib(number(&step["peak_kib"]) * 1024);
            let _ = write!(page, " | {}, {peak}", time(micros(&step["wall_us"])));
        }
        page.push_str(" |\n");
    }
}

/// Fields of what was left, and what they are.
const LEFT: [(&str, &str); 6] = [
    ("staged", "staged files"),
    ("unfinished", "files that were to replace others"),
    ("unnamed", "message files that no record names"),
    ("extra_links", "names of messages beyond those of records"),
    ("missing", "records without their file"),
    ("damaged", "indexes with a problem"),
];

fn leftovers(page: &mut String, of: &Value) {
    let _ = writeln!(
        page,
        "\n## What a kill leaves behind\n\nMail comes, is copied, flagged, expunged and renamed; while \
         `sync_client` replicates that, the server is killed (`kill -9`) at a random instant; it \
         starts again, and the master runs until it is content. Both servers get the same {} \
         rounds. Nobody cleans up but the servers themselves; then their spools are counted.\n\n\
         | | Cyrus' sync_server | cylinder serve |\n| --- | ---: | ---: |",
        count(number(&of["cyrus"]["rounds"])),
    );
    let mut row = |what: &str, field: &str| {
        let [theirs, ours] = ["cyrus", "cylinder"].map(|server| number(&of[server][field]));
        let _ = writeln!(page, "| {what} | {} | {} |", count(theirs), count(ours));
    };
    row("kills that met a server", "killed");
    row("rounds after which both sides were equal", "converged");
    for (field, what) in LEFT {
        row(what, field);
    }
    let [theirs, ours] =
        ["cyrus", "cylinder"].map(|server| mib(number(&of[server]["staged_bytes"])));
    let _ = writeln!(page, "| what staged files weigh | {theirs} | {ours} |");
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn micros(value: &Value) -> Duration {
    Duration::from_micros(number(value))
}
