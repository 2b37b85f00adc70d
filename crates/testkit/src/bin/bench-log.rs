//! Writes logs for benchmarks: a busy server's week, or what nobody has ever seen.
//!
//! Usage: `bench-log EVERYDAY LINES learned|watched|strange FILE`; run by `cargo xtask bench watch`.
//!
//! EVERYDAY is the log that `cargo xtask watch-logs` makes. Its week, Monday to Sunday, becomes that of the
//! last whole week (`watched`), or of the one before (`learned`), with what each
//! second has as often as it takes to reach LINES. Of `strange`, each line has words of its own. FILE is
//! compressed if its name ends with `.zst`. Prints the number of lines.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use logwatch::time::{Civil, DAY, Time};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How long a stamp is.
const STAMP: usize = "Nov  2 00:00:00".len();

/// The days of the week that is repeated.
const MONDAY: i64 = 2;
const DAYS: i64 = 7;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn main() -> Outcome {
    let usage = "usage: bench-log EVERYDAY LINES learned|watched|strange FILE";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [everyday, lines, what, path] = &arguments[..] else { return Err(usage.into()) };
    let lines: usize = lines.parse()?;
    let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut out: Box<dyn Write> = match path.ends_with(".zst") {
        true => Box::new(zstd::Encoder::new(file, 1)?.auto_finish()),
        false => Box::new(file),
    };
    let today = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() as i64 / DAY;
    // 1970-01-01 was a Thursday.
    let monday = today - (today + 3) % DAYS;
    let written = match &what[..] {
        "learned" => repeat(everyday, lines, monday - 2 * DAYS, &mut out)?,
        "watched" => repeat(everyday, lines, monday - DAYS, &mut out)?,
        "strange" => invent(lines, monday, &mut out)?,
        _ => return Err(usage.into()),
    };
    out.flush()?;
    println!("{written}");
    Ok(())
}

/// Writes the week, which begins on that day.
fn repeat(everyday: &str, lines: usize, first: i64, out: &mut impl Write) -> Outcome<usize> {
    let log = String::from_utf8(zstd::decode_all(&fs::read(everyday)?[..])?)?;
    let stamps: Vec<String> =
        (first..first + DAYS).map(date).collect::<Option<_>>().ok_or("a day")?;
    let mut moved: Vec<String> = Vec::new();
    for line in log.lines() {
        let day: i64 = line.get(4..6).ok_or("a line without a stamp")?.trim().parse()?;
        if let Some(date) = stamps.get((day - MONDAY) as usize) {
            moved.push(format!("{date}{}\n", &line[6..]));
        }
    }
    let times = lines.div_ceil(moved.len());
    for second in moved.chunk_by(|a, b| a[..STAMP] == b[..STAMP]) {
        let text = second.concat();
        for _ in 0..times {
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(moved.len() * times)
}

/// Writes lines of one day that have nothing in common but their length.
fn invent(lines: usize, day: i64, out: &mut impl Write) -> Outcome<usize> {
    let date = date(day).ok_or("a day")?;
    let mut state = 1_u64;
    let mut word = || {
        // Knuth's MMIX generator; the upper bits are the good ones.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (0..8).map(|at| char::from(b'a' + (state >> (20 + 5 * at)) as u8 % 26)).collect::<String>()
    };
    for line in 0..lines {
        let second = line * 86_400 / lines;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let [a, b, c, d] = [word(), word(), word(), word()];
        writeln!(
            out,
            "{date} {hour:02}:{minute:02}:{second:02} mail1 cyrus/imap[1]: {a} {b} {c} {d}"
        )?;
    }
    Ok(lines)
}

/// `Nov  2`, for a day counted from 1970-01-01.
fn date(day: i64) -> Option<String> {
    let year = Time(day * DAY).year();
    let months = (1..=12).flat_map(|month| (1..=31).map(move |day| (month, day)));
    let is_it = |(month, of_month): &(u32, u32)| {
        let civil = Civil { year, month: *month, day: *of_month, hour: 0, minute: 0, second: 0 };
        civil.time().is_some_and(|time| time.day() == day)
    };
    let (month, day) = months.into_iter().find(is_it)?;
    Some(format!("{} {day:2}", MONTHS[month as usize - 1]))
}
