//! Many connections at once.

use std::fs;
use std::process::Command;

use testkit::process;

use crate::site::{LIMIT, Site};

const CONNECTIONS: usize = 500;

/// What an idle connection may take: its thread's stack, and what the protocol remembers.
const BYTES_EACH: usize = 64 << 10;

/// Set in the process that does nothing else.
const ALONE: &str = "CYLINDER_TEST_ALONE";

/// Memory that this process has, in bytes: of which the clients here take a part, too.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its size");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib << 10
}

/// In a process of its own, because what other tests take beside it would be counted, too.
#[test]
fn five_hundred_idle_connections_take_little() {
    if std::env::var_os(ALONE).is_some() {
        return measure();
    }
    let mut alone = Command::new(std::env::current_exe().expect("this program"));
    alone.args(["--exact", "crowd::five_hundred_idle_connections_take_little"]).env(ALONE, "1");
    let output = process::run(&mut alone, b"", LIMIT * 4).expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn measure() {
    let site = Site::start();
    // What is taken once is not counted.
    let mut first = site.master();
    assert_eq!(first.ask("NOOP"), "OK Noop completed");
    let before = resident();
    let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| site.client()).collect();
    for client in &mut clients {
        // A message of some size has passed through each.
        client.send(&[&b"x".repeat(60_000)[..], b"\r\n"].concat());
        assert!(client.line().starts_with("BAD "));
    }
    let each = resident().saturating_sub(before) / CONNECTIONS;
    println!("an idle connection takes {each} bytes");
    assert!(each <= BYTES_EACH, "{each}");
    assert_eq!(first.ask("GET USER alice"), "OK success");
    for client in &mut clients {
        assert_eq!(client.ask("NOOP"), "OK Noop completed");
    }
}
