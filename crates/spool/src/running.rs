//! Whether somebody is at work in a spool: a Cyrus, or a replica that is served. What replaces files
//! behind their backs must not begin then.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cyrus_format::imapd_conf::ImapdConf;

use crate::staging::roots;

/// What Cyrus' master is called: by Debian, and by itself.
const MASTERS: [&str; 3] = ["cyrmaster", "cyrus-master", "master"];

/// The configuration that a master has that is told of none (master(8), `-C`).
const CONF: &str = "/etc/imapd.conf";

/// Modes of open files that write (open(2), O_ACCMODE).
const ACCESS_MODE: u32 = 0o3;

/// Somebody who is at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The process.
    pub pid: u32,
    /// Its program, as it calls itself.
    pub command: String,
    /// What it has open to write to; nothing if it is a master that may start others.
    pub file: Option<PathBuf>,
}

/// Looks for a process that has a file of this server open to write to, or that is the master of it.
/// Processes that may not be looked at do not count: only root and Cyrus' user see those that matter.
///
/// # Errors
/// What keeps the processes from being listed.
pub fn running(conf_file: &Path, conf: &ImapdConf) -> io::Result<Option<Running>> {
    let own = std::process::id();
    let conf_file = conf_file.canonicalize().unwrap_or_else(|_| conf_file.to_owned());
    let mut places = roots(conf);
    places.push(conf.configdirectory().to_owned());
    let places: Vec<PathBuf> =
        places.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let pid = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse().ok());
        let Some(pid) = pid.filter(|pid| *pid != own) else { continue };
        let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
        let arguments: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        let command = || String::from_utf8_lossy(arguments[0]).into_owned();
        if is_master_of(&arguments, &conf_file) {
            return Ok(Some(Running { pid, command: command(), file: None }));
        }
        if let Some(file) = written_by(&path, &places) {
            return Ok(Some(Running { pid, command: command(), file: Some(file) }));
        }
    }
    Ok(None)
}

fn is_master_of(arguments: &[&[u8]], conf_file: &Path) -> bool {
    let program = Path::new(OsStr::from_bytes(arguments.first().copied().unwrap_or_default()));
    if !program.file_name().is_some_and(|name| MASTERS.iter().any(|master| name == *master)) {
        return false;
    }
    let named = arguments.iter().position(|argument| *argument == b"-C");
    let named = named.and_then(|at| arguments.get(at + 1)).map(|name| OsStr::from_bytes(name));
    let named = Path::new(named.unwrap_or(OsStr::new(CONF)));
    named.canonicalize().is_ok_and(|named| named == conf_file)
}

/// A file below one of these places that the process has open to write to.
fn written_by(process: &Path, places: &[PathBuf]) -> Option<PathBuf> {
    for entry in fs::read_dir(process.join("fd")).ok()?.flatten() {
        let Ok(file) = fs::read_link(entry.path()) else { continue };
        if !places.iter().any(|place| file.starts_with(place)) {
            continue;
        }
        let info = process.join("fdinfo").join(entry.file_name());
        let info = fs::read_to_string(info).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        // In doubt it writes.
        if flags.is_none_or(|flags| flags & ACCESS_MODE != 0) {
            return Some(file);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_is_known_by_its_configuration() {
        let directory = tempfile::tempdir().expect("a directory");
        let conf = directory.path().join("imapd.conf");
        fs::write(&conf, "").expect("written");
        let conf = conf.canonicalize().expect("it is there");
        let name = conf.as_os_str().as_bytes();
        let is_one = |arguments: &[&[u8]]| is_master_of(arguments, &conf);
        assert!(is_one(&[b"/usr/sbin/cyrmaster", b"-l", b"32", b"-C", name, b""]));
        assert!(is_one(&[b"/usr/lib/cyrus/bin/master", b"-C", name]));
        assert!(!is_one(&[b"/usr/sbin/cyrmaster", b"-C"]) && !is_one(&[b"/usr/sbin/cyrmaster"]));
        assert!(!is_one(&[b"/usr/bin/vi", b"-C", name]) && !is_one(&[b""]) && !is_one(&[]));
    }
}
