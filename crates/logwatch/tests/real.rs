//! What a real Cyrus 3.6.1 and its replica logged: nine days on which nothing happened, and then one
//! trouble after the other. `cargo xtask watch-logs` makes them. Troubles that are hard to bring about are
//! written after the calls of `syslog` in its source.

use logwatch::line::LineReader;
use logwatch::time::{Civil, Time};
use logwatch::{Mode, Watcher};

const EVERYDAY: &[u8] = include_bytes!("data/everyday.zst");
const INCIDENTS: &[u8] = include_bytes!("data/incidents.zst");
const INJECTED: &str = include_str!("data/injected.log");

/// The last day of the month in which all of it happened.
fn now() -> Time {
    let civil = Civil { year: 2026, month: 11, day: 30, hour: 0, minute: 0, second: 0 };
    civil.time().expect("a day")
}

fn text(packed: &[u8]) -> String {
    let bytes = zstd::decode_all(packed).expect("zstd");
    String::from_utf8(bytes).expect("lines of UTF-8")
}

fn learn<'a>(lines: impl IntoIterator<Item = &'a str>) -> Watcher {
    let mut watcher = Watcher::default();
    let mut reader = LineReader::new(now());
    for line in lines {
        watcher.take(&reader.read(line.as_bytes()), Mode::Learn);
    }
    watcher
}

/// The names of all noises, each with its line.
fn watch<'a>(watcher: &mut Watcher, lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut reader = LineReader::new(now());
    let mut noises = Vec::new();
    for line in lines {
        watcher.take(&reader.read(line.as_bytes()), Mode::Watch);
    }
    noises.extend(watcher.noises(watcher.now().plus(3)));
    let told = noises
        .iter()
        .map(|noise| format!("{} {}", noise.cause.name(), String::from_utf8_lossy(&noise.message)));
    told.collect()
}

#[test]
fn days_on_which_nothing_happens_make_no_noise() {
    let log = text(EVERYDAY);
    // From Monday to Sunday; the next two days are watched.
    let end = log.find("Nov  9 ").expect("a second Monday");
    let mut watcher = learn(log[..end].lines());
    let noises = watch(&mut watcher, log[end..].lines());
    assert!(noises.is_empty(), "{}", noises.join("\n"));
    assert!(watcher.templates().count() < 100, "{} templates", watcher.templates().count());
}

#[test]
fn each_trouble_makes_one_noise_and_the_right_one() {
    let everyday = learn(text(EVERYDAY).lines());
    let incidents = text(INCIDENTS) + INJECTED;
    assert!(incidents.matches("# ").count() >= 30);
    let mut wrong = Vec::new();
    for incident in incidents.split("# ").skip(1) {
        let (title, lines) = incident.split_once('\n').expect("a title");
        let (_, name) = title.split_once(' ').expect("a name");
        let noises = watch(&mut everyday.clone(), lines.lines());
        let is_right = noises.len() == 1 && noises[0].split(' ').next() == Some(name);
        if !is_right {
            wrong.push(format!("{title}:\n    {}", noises.join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_stops_coming_is_missed_within_two_hours() {
    let log = text(EVERYDAY);
    let end = log.find("Nov 10 12:").expect("a Tuesday");
    let mut watcher = learn(log[..end].lines());
    // The servers go on, but nobody checkpoints any more.
    let rest = log[end..].lines().filter(|line| !line.contains("checkpointing"));
    let noises = watch(&mut watcher, rest);
    let names: Vec<&str> = noises.iter().filter_map(|noise| noise.split(' ').next()).collect();
    assert_eq!(names, ["silence"], "{noises:?}");
}

#[test]
fn what_was_learned_survives_being_kept() {
    let log = text(EVERYDAY);
    let end = log.find("Nov  9 ").expect("a second Monday");
    let kept = learn(log[..end].lines()).encode();
    assert!(kept.len() < 64 << 10, "{} bytes", kept.len());
    let mut watcher = Watcher::decode(&kept, Default::default()).expect("a state");
    assert!(watch(&mut watcher, log[end..].lines()).is_empty());
}
