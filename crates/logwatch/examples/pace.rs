//! How fast lines are taken: `cargo run --release -p logwatch --example pace -- LOG [TIMES]`.
//!
//! The log is read into memory, learned once, and then watched so often; its lines must be of syslog.

use std::env;
use std::fs;
use std::time::Instant;

use logwatch::line::LineReader;
use logwatch::time::Time;
use logwatch::{Mode, Watcher};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: pace LOG [TIMES]";
    let mut args = env::args().skip(1);
    let log = fs::read(args.next().ok_or(usage)?)?;
    let times: u32 = args.next().map_or(Ok(1), |times| times.parse())?;
    let mut watcher = Watcher::default();
    // As far ahead as stamps without a year go.
    let mut reader = LineReader::new(Time(4_102_444_800));
    let mut pass = |mode| {
        let mut noises = 0;
        for line in log.split_inclusive(|byte| *byte == b'\n') {
            watcher.take(&reader.read(line), mode);
        }
        noises += watcher.noises(watcher.now().plus(2)).len();
        noises
    };
    pass(Mode::Learn);
    let start = Instant::now();
    let noises: usize = (0..times).map(|_| pass(Mode::Watch)).sum();
    let took = start.elapsed().as_secs_f64();
    let lines = log.split_inclusive(|byte| *byte == b'\n').count() as f64 * f64::from(times);
    println!("{lines} lines in {took:.3} s: {:.0} lines/s, {noises} noises", lines / took);
    println!("{} templates", watcher.templates().count());
    Ok(())
}
