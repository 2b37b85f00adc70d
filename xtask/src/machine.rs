//! What the tests need of this machine: a real Cyrus, and the tools that judge our archives.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process;

/// Debian packages with the server that the interoperability tests start for themselves.
const CYRUS: &[&str] =
    &["cyrus-imapd", "cyrus-replication", "cyrus-admin", "libsasl2-modules", "eatmydata"];

/// Debian packages with the programs that have to read what we wrote, and `strace`, which counts
/// system calls.
const TOOLS: &[&str] = &["busybox", "libarchive-tools", "python3", "strace", "zstd"];

/// What there is once [`prepare`] is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// A real Cyrus can be started: it is installed, and we may become its user.
    pub cyrus: bool,
    /// Every tool is installed.
    pub tools: bool,
}

/// Installs what is missing where that is possible, and says what will be skipped where not.
pub fn prepare() -> Result<Machine, String> {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        eprintln!("Not a Debian: tests skip whatever they do not find.");
        return Ok(Machine::default());
    }
    let root = is_root();
    let absent = missing(&installed()?);
    if !absent.is_empty() && root {
        install(&absent)?;
    }
    let absent = if root { missing(&installed()?) } else { absent };
    let machine = Machine {
        cyrus: root && !absent.iter().any(|package| CYRUS.contains(package)),
        tools: !absent.iter().any(|package| TOOLS.contains(package)),
    };
    report(machine, root, &absent);
    Ok(machine)
}

/// Names the consequences of what is missing, and how to mend it.
fn report(machine: Machine, root: bool, absent: &[&str]) {
    if !machine.cyrus {
        let reason = if root { "it is not installed" } else { "that takes root" };
        eprintln!("Skipped: every test that starts a real Cyrus; {reason}.");
    }
    if !machine.tools {
        eprintln!("Skipped: tests that need one of the missing tools.");
    }
    if !absent.is_empty() {
        eprintln!("Missing; install with: apt-get install {}", absent.join(" "));
    }
    for pid in running_masters() {
        eprintln!("A Cyrus master runs here (pid {pid}); tests use ports and places of their own.");
    }
}

fn missing(installed: &[String]) -> Vec<&'static str> {
    let wanted = CYRUS.iter().chain(TOOLS).copied();
    wanted.filter(|package| !installed.iter().any(|name| name == package)).collect()
}

fn installed() -> Result<Vec<String>, String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status} ${Package}\n"]);
    let all = process::output(&mut query)?;
    Ok(all.lines().filter_map(|line| line.strip_prefix("installed ")).map(String::from).collect())
}

/// Installs packages, and stops the server that Debian may start while doing so: nobody asked for
/// that one, and before this call there was no Cyrus here that anybody could miss.
fn install(packages: &[&str]) -> Result<(), String> {
    process::run(apt_get().arg("update"))?;
    process::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))?;
    if packages.contains(&"cyrus-imapd") && !running_masters().is_empty() {
        process::run(Command::new("invoke-rc.d").args(["cyrus-imapd", "stop"]))?;
    }
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// Process ids of Cyrus masters, whoever started them.
fn running_masters() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        fs::read_link(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| exe.ends_with("cyrmaster") || exe.ends_with("cyrus/bin/master"))
    })
    .collect()
}

/// Whether we run as root: a process owns its own entry in /proc.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_missing() {
        let all: Vec<String> = CYRUS.iter().chain(TOOLS).map(|name| name.to_string()).collect();
        assert!(missing(&all).is_empty());
        assert_eq!(missing(&all[1..]), ["cyrus-imapd"]);
    }
}
