//! What goes wrong below Cyrus: processes that are killed, and calls that fail.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::Cyrus;
use testkit::process::{Group, wait_until};

use crate::Outcome;

/// How long strace may take to begin.
const LIMIT: Duration = Duration::from_secs(60);

/// The processes of one server that run a program.
pub fn processes(server: &Cyrus, program: &str) -> Outcome<Vec<String>> {
    let config = server.imapd_conf().display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&config)
            && command.split(' ').next().is_some_and(|path| path.ends_with(program))
        {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// Runs a command of the system.
pub fn system(program: &str, arguments: &[&str]) -> Outcome {
    let status = Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {status}").into()) }
}

/// Lets calls of processes fail, as `openat:error=EIO`; those that concern this path, if there is one.
pub fn with_fault(
    processes: &[String],
    fault: &str,
    path: Option<&Path>,
    act: impl FnOnce() -> Outcome,
) -> Outcome {
    let said = tempfile::NamedTempFile::new()?;
    let mut strace = Command::new("strace");
    for pid in processes {
        strace.args(["-p", pid]);
    }
    let calls = fault.split(':').next().unwrap_or_default();
    strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={fault}")]);
    if let Some(path) = path {
        strace.arg("-P").arg(path);
    }
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.reopen()?);
    let mut group = Group::spawn_guarded(&mut strace)?;
    let text = || fs::read_to_string(said.path()).unwrap_or_default();
    if !wait_until(LIMIT, || text().matches(" attached").count() >= processes.len()) {
        return Err(format!("strace: {}", text()).into());
    }
    let outcome = act();
    group.terminate(LIMIT);
    outcome
}
