//! Child processes that cannot outlive a test, however it ends.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often a condition is looked at while waiting for it.
const GLANCE: Duration = Duration::from_millis(2);

/// Looks at a condition until it holds or `limit` has passed; returns whether it held.
pub fn wait_until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(GLANCE);
    }
    true
}

/// Runs a command to its end with that input, and returns what it wrote.
///
/// # Errors
///
/// As [`Command::spawn`] has them; [`io::ErrorKind::TimedOut`] if it had to be killed at `limit`.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut group = Group::spawn(command)?;
    let stdin = group.leader.stdin.take();
    let stdout = group.leader.stdout.take();
    let stderr = group.leader.stderr.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read its input is free not to.
            stdin.map(|mut pipe| pipe.write_all(input))
        });
        let stdout = scope.spawn(move || drain(stdout));
        let stderr = scope.spawn(move || drain(stderr));
        let mut outcome = Ok(None);
        let ended = wait_until(limit, || {
            outcome = group.leader.try_wait();
            !matches!(outcome, Ok(None))
        });
        group.kill();
        let status = match outcome? {
            Some(status) if ended => status,
            _ => return Err(io::Error::new(io::ErrorKind::TimedOut, "killed after its time")),
        };
        let lost = |_| io::Error::other("a reader of the output panicked");
        let stdout = stdout.join().map_err(lost)??;
        let stderr = stderr.join().map_err(lost)??;
        Ok(Output { status, stdout, stderr })
    })
}

fn drain(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// A process and its descendants in a process group of their own. All of it is killed when this
/// is dropped, and also when the process that holds it dies without dropping anything.
#[derive(Debug)]
pub struct Group {
    leader: Child,
    guard: Option<Child>,
}

impl Group {
    /// Starts the command as the leader of a new process group.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let leader = command.process_group(0).spawn()?;
        Ok(Self { leader, guard: None })
    }

    /// Also starts a guard: a shell that waits for this process to go away, seen by the end of a
    /// pipe, and then kills the group. For groups that live as long as a test.
    pub fn spawn_guarded(command: &mut Command) -> io::Result<Self> {
        let mut group = Self::spawn(command)?;
        let guard = Command::new("/bin/sh")
            .args(["-c", "read -r never; kill -s KILL -- \"-$0\""])
            .arg(group.leader.id().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        group.guard = Some(guard);
        Ok(group)
    }

    /// The process that was started, for its pipes.
    pub fn leader(&mut self) -> &mut Child {
        &mut self.leader
    }

    /// Whether the leader is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.leader.try_wait(), Ok(None))
    }

    /// Asks all processes to end, and kills those that have not within `grace`.
    pub fn terminate(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        wait_until(grace, || !self.is_running() && !self.has_members());
        self.kill();
    }

    /// Kills all processes and waits until they are gone.
    pub fn kill(&mut self) {
        let gone = wait_until(Duration::from_secs(10), || {
            self.signal(Signal::KILL);
            !self.is_running() && !self.has_members()
        });
        if let Some(mut guard) = self.guard.take() {
            // Both fail only if it has gone already.
            let _ = guard.kill();
            let _ = guard.wait();
        }
        if !gone {
            eprintln!("process group {} survives SIGKILL", self.leader.id());
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.leader.id()).ok().and_then(Pid::from_raw) {
            // ESRCH: there is nobody left, which is what was wanted.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Whether any process of the group lives. Zombies don't count: whoever inherited them may
    /// take his time.
    fn has_members(&self) -> bool {
        let group = self.leader.id().to_string();
        let Ok(processes) = fs::read_dir("/proc") else { return false };
        processes
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .any(|stat| is_living_member(&stat, &group))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `PID (COMMAND) STATE PPID PGRP …`; the command may hold spaces and parentheses (proc(5)).
fn is_living_member(stat: &str, group: &str) -> bool {
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let mut fields = fields.split(' ');
    let state = fields.next();
    fields.nth(1) == Some(group) && !matches!(state, Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_input_pass_through() {
        let long = vec![b'x'; 300_000];
        let output = run(&mut shell("cat; echo e >&2; exit 3"), &long, Duration::from_secs(20))
            .expect("the shell runs");
        assert_eq!(output.stdout, long);
        assert_eq!(output.stderr, b"e\n");
        assert_eq!(output.status.code(), Some(3));
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_its_children() {
        let mut command = shell("sleep 600 & sleep 600");
        let error = run(&mut command, b"", Duration::from_millis(50)).expect_err("it is killed");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_dropped_group_leaves_nobody() {
        let mut command = shell("trap '' TERM; sleep 600 & echo started; wait");
        let mut group = Group::spawn_guarded(command.stdout(Stdio::piped())).expect("it starts");
        let mut line = [0; 8];
        let stdout = group.leader().stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut line).expect("the shell says so");
        assert!(group.has_members());
        let id = group.leader.id().to_string();
        drop(group);
        let members = fs::read_dir("/proc")
            .expect("there is /proc")
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .filter(|stat| is_living_member(stat, &id))
            .count();
        assert_eq!(members, 0);
    }

    #[test]
    fn group_members_are_told_by_state_and_group() {
        assert!(is_living_member("7 (a) b) S 1 42 42 0", "42"));
        assert!(!is_living_member("7 (a) Z 1 42 42 0", "42"));
        assert!(!is_living_member("7 (a) S 42 1 42 0", "42"));
    }
}
