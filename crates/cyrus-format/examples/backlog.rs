//! How fast a sync log is read: `cargo run --release -p cyrus-format --example backlog -- LOG`.
//!
//! With `--make LINES USERS` in place of a log, writes one to standard output, as storms of deliveries
//! leave it.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Instant;

use cyrus_format::names::NameRules;
use cyrus_format::sync_log::Backlog;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: backlog LOG | --make LINES USERS";
    let mut args = env::args().skip(1);
    let first = args.next().ok_or(usage)?;
    if first == "--make" {
        let lines = args.next().ok_or(usage)?.parse()?;
        return make(lines, args.next().ok_or(usage)?.parse()?);
    }
    let start = Instant::now();
    let rules = NameRules::v3();
    let mut backlog = Backlog::new(&rules);
    let (mut log, mut piece) = (File::open(first)?, vec![0; 256 << 10]);
    loop {
        match log.read(&mut piece)? {
            0 => break,
            length => backlog.feed(&piece[..length]),
        }
    }
    let work = backlog.finish();
    let took = start.elapsed().as_secs_f64();
    let entries: u64 = work.accounts.values().map(|scope| scope.count()).sum();
    println!(
        "{} lines in {took:.3} s: {entries} entries of {} accounts, {} lines that are none",
        work.lines,
        work.accounts.len(),
        work.malformed.lines
    );
    Ok(())
}

fn make(lines: u64, users: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut state = 1_u64;
    for at in 0..lines {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (user, folder) = ((state >> 33) % users, (state >> 55) % 8);
        match at % 3 {
            0 => writeln!(out, "APPEND user.user{user:06}.folder{folder}")?,
            _ => writeln!(out, "MAILBOX user.user{user:06}.folder{folder}")?,
        }
    }
    Ok(out.flush()?)
}
