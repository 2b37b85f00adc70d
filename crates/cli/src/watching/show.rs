//! Noises as text for people and as JSON for programs.

use std::fmt::Write as _;

use logwatch::Explanation;
use logwatch::noise::{Cause, Noise, NoiseId};
use serde_json::{Value, json};

use super::wall;
use crate::render::{count, plain};

/// Text of strangers, fit for a terminal.
pub fn safe(bytes: &[u8]) -> String {
    plain(&String::from_utf8_lossy(bytes))
}

/// An id as people type it.
pub fn id(id: NoiseId) -> String {
    format!("{:08x}", id.0)
}

/// What [`id`] printed.
pub fn parse_id(text: &str) -> Option<NoiseId> {
    u32::from_str_radix(text, 16).ok().map(NoiseId)
}

/// In one line: when, how bad, what, who.
pub fn headline(noise: &Noise) -> String {
    let pid = noise.pid.map_or_else(String::new, |pid| format!("[{pid}]"));
    let process = format!("{}{pid}", safe(&noise.process));
    let mut line =
        format!("{} {} {}:", wall(noise.time), noise.cause.severity().as_str(), noise.cause.name());
    for part in [safe(&noise.host), process, format!("({})", id(noise.id))] {
        if !part.is_empty() {
            line.push(' ');
            line.push_str(&part);
        }
    }
    line
}

/// With the line, what it means, and what to do.
pub fn text(noise: &Noise) -> String {
    let mut text = headline(noise);
    for line in &noise.context {
        let _ = write!(text, "\n    before: {}", safe(line));
    }
    let said = if noise.message.is_empty() { &noise.pattern } else { &noise.message };
    let _ = write!(text, "\n    {}\n    {}", safe(said), noise.cause.meaning());
    if let Cause::Silence { last } = noise.cause {
        let _ = write!(text, " It came last at {}.", wall(last));
    }
    if noise.count > 1 || noise.related > 0 {
        let related = count(noise.related, "line");
        let _ = write!(text, "\n    {} of it, and {related} that it may explain", noise.count);
    }
    let _ = writeln!(text, "\n    next: {}", noise.cause.next());
    text
}

/// As one object.
pub fn document(noise: &Noise) -> Value {
    let last = match noise.cause {
        Cause::Silence { last } => Some(wall(last)),
        _ => None,
    };
    json!({
        "id": id(noise.id),
        "name": noise.cause.name(),
        "severity": noise.cause.severity().as_str(),
        "time": wall(noise.time),
        "host": String::from_utf8_lossy(&noise.host),
        "process": String::from_utf8_lossy(&noise.process),
        "pid": noise.pid,
        "session": String::from_utf8_lossy(&noise.session),
        "line": String::from_utf8_lossy(&noise.message),
        "context": noise.context.iter().map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>(),
        "template": String::from_utf8_lossy(&noise.pattern),
        "why": noise.cause.meaning(),
        "last": last,
        "next": noise.cause.next(),
        "count": noise.count,
        "related": noise.related,
    })
}

/// JSON in one line, fit for a terminal: what it would obey is escaped, also beyond ASCII.
pub fn json_line(value: &Value) -> String {
    let escaped = |ch: char| match ch.is_control() {
        true => format!("\\u{:04x}", u32::from(ch)),
        false => ch.to_string(),
    };
    let mut line: String = value.to_string().chars().map(escaped).collect();
    line.push('\n');
    line
}

/// What is known of a line.
pub fn explanation(known: &Explanation<'_>) -> String {
    let mut text = String::new();
    match (known.template, known.habit) {
        (Some(template), Some(habit)) => {
            let _ = writeln!(text, "template: {}", safe(&template.pattern));
            if known.differs {
                let _ = writeln!(text, "          but for some words, which would become <*>");
            }
            let times = count(habit.count, "time");
            let days = count(habit.days.into(), "day");
            let _ = writeln!(
                text,
                "seen:     {times} on {days}, from {} to {}",
                wall(habit.first),
                wall(habit.last)
            );
            let missed = match habit.due() {
                Some(due) => format!("if it has not come by {}", wall(due)),
                None => "never, as it does not come every day".to_owned(),
            };
            let _ = writeln!(text, "missed:   {missed}");
        }
        _ => text.push_str("template: nothing like it has been seen\n"),
    }
    match known.alarm {
        Some(alarm) => {
            let _ = writeln!(text, "always a noise: {} ({})", alarm.name, alarm.severity.as_str());
            let _ = writeln!(text, "    {}\n    next: {}", alarm.meaning, alarm.next);
        }
        None if known.template.is_none() || known.differs => {
            let name = if known.is_failure { "unknown-failure" } else { "never-seen" };
            let _ = writeln!(text, "a noise: {name}, unless nothing has been learned yet");
        }
        None if known.is_failure => text.push_str("it tells of a failure, and is everyday\n"),
        None => text.push_str("it is everyday\n"),
    }
    text
}
