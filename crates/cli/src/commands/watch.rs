//! `cylinder watch`: a noise for anything that is not everyday.

mod daemon;

use std::path::PathBuf;

use logwatch::line::LineReader;
use logwatch::time::Time;
use logwatch::{Mode, Watcher};

use crate::args::WatchArgs;
use crate::error::{CliError, Exit};
use crate::render::{count, print};
use crate::watching::store::{Store, parse_key};
use crate::watching::{self, logs, show, wall};

/// Runs the command.
pub fn run(args: &WatchArgs) -> Result<Exit, CliError> {
    let store = Store::new(&args.state);
    match args {
        WatchArgs { explain: Some(line), .. } => explain(&store, line),
        WatchArgs { accept: Some(id), .. } => accept(&store, id, args),
        WatchArgs { list: true, .. } => list(&store, args.json),
        _ if !args.replay.is_empty() => replay(&store, args),
        _ if !args.learn.is_empty() => learn(&store, &args.learn),
        _ => daemon::run(&store, args),
    }
}

/// Takes old logs for everyday.
fn learn(store: &Store, paths: &[PathBuf]) -> Result<Exit, CliError> {
    let _lock = store.lock()?;
    let mut kept = store.load()?;
    let before = kept.watcher.lines();
    let logs = logs::in_order(paths, watching::now())?;
    let known = kept.watcher.now();
    if let Some((first, path)) = logs.iter().find(|(first, _)| first.0 > i64::MIN && *first < known)
    {
        let (path, first) = (path.display(), wall(*first));
        return Err(CliError::plain(format!(
            "{path} begins at {first}, and all up to {} is known",
            wall(known)
        ))
        .hint(
            "what is usual is learned in the order of time: give all logs at once to a new --state",
        ));
    }
    read_logs(&mut kept.watcher, logs, Mode::Learn)?;
    store.save(&kept.watcher, &kept.places, kept.cursor.as_deref())?;
    let lines = count(kept.watcher.lines() - before, "line");
    eprintln!("{lines} learned; {} known", count(kept.watcher.templates().count() as u64, "kind"));
    Ok(Exit::Done)
}

/// Tells what would have made a noise, and keeps nothing.
fn replay(store: &Store, args: &WatchArgs) -> Result<Exit, CliError> {
    let mut watcher = store.load()?.watcher;
    let lines = watcher.lines();
    let logs = logs::in_order(&args.replay, watching::now())?;
    read_logs(&mut watcher, logs, Mode::Watch)?;
    watcher.stop_waiting();
    let noises = watcher.noises(watcher.now());
    let text: String = match args.json {
        true => noises.iter().map(|noise| show::json_line(&show::document(noise))).collect(),
        false => noises.iter().map(show::text).collect(),
    };
    print("the noises", text)?;
    let lines = count(watcher.lines() - lines, "line");
    eprintln!("{lines}, {}", count(noises.len() as u64, "noise"));
    Ok(if noises.is_empty() { Exit::Done } else { Exit::Findings })
}

/// Reads logs from the first line to the last.
fn read_logs(
    watcher: &mut Watcher,
    logs: Vec<(Time, PathBuf)>,
    mode: Mode,
) -> Result<(), CliError> {
    let now = watching::now();
    let mut reader = LineReader::new(now);
    logs::merge(logs, now, &mut |line| watching::take(watcher, &mut reader, line, mode))
}

/// Tells what is known of a line.
fn explain(store: &Store, line: &str) -> Result<Exit, CliError> {
    let watcher = store.load()?.watcher;
    let line = LineReader::new(watching::now()).read(line.as_bytes());
    print("the explanation", show::explanation(&watcher.explain(&line)))?;
    Ok(Exit::Done)
}

fn accept(store: &Store, id: &str, args: &WatchArgs) -> Result<Exit, CliError> {
    let id = show::parse_id(id).ok_or_else(|| {
        CliError::usage(format!("{id} is no id of a noise"))
            .hint("eight hex digits, as --list and each noise show them")
    })?;
    let now = watching::now();
    let until = now.plus(i64::try_from(args.span.as_secs()).unwrap_or(i64::MAX));
    store.accept(id, until, now)?;
    let known = store.said()?;
    if !known.keys().any(|key| parse_key(key).is_some_and(|(known, _)| known == id)) {
        eprintln!("cylinder: no noise with this id has been told here yet");
    }
    eprintln!("{} makes no noise until {}", show::id(id), wall(until));
    Ok(Exit::Done)
}

/// Tells what goes on, what is accepted, and what is known.
fn list(store: &Store, json: bool) -> Result<Exit, CliError> {
    let watcher = store.load()?.watcher;
    let open = watcher.open().iter().map(|incident| &incident.noise);
    let accepted = store.accepted()?;
    let (lines, kinds) = (watcher.lines(), watcher.templates().count() as u64);
    let text = if json {
        let open: Vec<_> = open.map(show::document).collect();
        let accepted: Vec<_> = accepted
            .iter()
            .map(|(id, until)| serde_json::json!({ "id": show::id(*id), "until": wall(*until) }))
            .collect();
        let since = watcher.since().map(wall);
        show::json_line(&serde_json::json!({
            "open": open, "accepted": accepted, "lines": lines, "kinds": kinds, "since": since,
        }))
    } else {
        let accepted = accepted
            .iter()
            .map(|(id, until)| format!("{} accepted until {}\n", show::id(*id), wall(*until)));
        let mut text: String = open.map(show::text).chain(accepted).collect();
        if text.is_empty() {
            text.push_str("nothing goes on\n");
        }
        let since =
            watcher.since().map_or_else(String::new, |since| format!(" since {}", wall(since)));
        text.push_str(&format!("{}{since}, {}\n", count(lines, "line"), count(kinds, "kind")));
        text
    };
    print("the list", text)?;
    Ok(Exit::Done)
}
