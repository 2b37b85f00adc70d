//! `cylinder serve` as a program: its users, its refusals, systemd, and how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use testkit::process::{self, Group};

use super::program::{CYLINDER, Ran, cylinder};
use super::sample::scratch;

pub const LIMIT: Duration = Duration::from_secs(60);

/// How long a server that ends waits for the commands at hand.
const DRAIN: Duration = Duration::from_secs(30);

/// Adds a user, whose password comes by standard input.
pub fn add_user(users: &Path, name: &str, password: &str) -> (i32, String) {
    let mut command = Command::new(CYLINDER);
    command.arg("serve").arg("--users").arg(users).args(["--add-user", name]);
    let output = process::run(&mut command, password.as_bytes(), LIMIT).expect("it runs");
    assert!(output.stdout.is_empty());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect("it ends by itself"), stderr)
}

/// A file with one user, `repl`, whose password is `secret`.
pub fn users(directory: &Path) -> PathBuf {
    let users = directory.join("users");
    assert_eq!(add_user(&users, "repl", "secret\n"), (0, String::new()));
    users
}

/// Serves the spool beside the file of users, which is to be refused.
pub fn serve(users: &Path, more: &[&str]) -> Ran {
    let spool = users.with_file_name("spool");
    let mut arguments = vec!["serve".as_ref(), "--users".as_ref(), users.as_os_str()];
    arguments.extend(["--spool".as_ref(), spool.as_os_str()]);
    arguments.extend(more.iter().map(std::ffi::OsStr::new));
    cylinder(arguments)
}

#[test]
fn a_user_is_added_and_nobody_else_can_read_it() {
    let directory = scratch();
    let users = users(directory.path());
    let text = fs::read_to_string(&users).expect("it is there");
    assert!(text.starts_with("repl:$argon2id$") && text.lines().count() == 1, "{text}");
    assert_eq!(users.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    assert_eq!(add_user(&users, "other", "x"), (0, String::new()));
    assert_eq!(add_user(&users, "repl", "changed\r\n"), (0, String::new()));
    let changed = fs::read_to_string(&users).expect("it is there");
    assert!(changed.lines().count() == 2 && !changed.contains(text.trim_end()), "{changed}");
    for (name, password) in [("a:b", "x\n"), ("", "x\n"), ("empty", "\n"), ("none", "")] {
        let (code, stderr) = add_user(&users, name, password);
        assert!(code == 1 && stderr.starts_with("cylinder: cannot use the users: "), "{stderr}");
    }
    assert_eq!(fs::read_to_string(&users).expect("it is there"), changed);
}

#[test]
fn what_cannot_be_served_is_refused_with_a_hint() {
    let directory = scratch();
    let users = users(directory.path());
    for (more, code, error, hint) in [
        (&[][..], 2, "it is not said where to listen", "--listen 127.0.0.1:2005"),
        (&["--listen", "0.0.0.0:0"], 2, "there is no TLS for 0.0.0.0:", "--tls-cert and --tls-key"),
        (&["--listen", "nowhere"], 1, "cannot listen at nowhere", "an address and a port"),
        (
            &["--listen", "127.0.0.1:0", "--tls-cert", "/dev/null", "--tls-key", "/dev/null"],
            1,
            "cannot offer TLS",
            "",
        ),
    ] {
        let ran = serve(&users, more).expect(code);
        assert!(ran.error().contains(error) && ran.stderr.contains(hint), "{}", ran.stderr);
    }
    let listen = &["--listen", "127.0.0.1:0"];
    fs::set_permissions(&users, fs::Permissions::from_mode(0o640)).expect("it is ours");
    let ran = serve(&users, listen).expect(1);
    assert!(ran.stderr.contains("hint: chmod 600 "), "{}", ran.stderr);
    fs::remove_file(&users).expect("it is ours");
    let ran = serve(&users, listen).expect(1);
    assert!(ran.stderr.contains("hint: make it with --add-user"), "{}", ran.stderr);
    assert!(!directory.path().join("spool").exists());
}

/// The command that serves a spool to those users.
fn serving(users: &Path, spool: &Path) -> Command {
    let mut command = Command::new(CYLINDER);
    command.args(["serve", "--listen", "127.0.0.1:0", "--users"]).arg(users);
    command.arg("--spool").arg(spool);
    command
}

/// A running server, and what it says.
pub struct Server {
    pub group: Group,
    lines: BufReader<ChildStderr>,
}

impl Server {
    pub fn start(command: &mut Command) -> Self {
        let mut group = Group::spawn_guarded(command.stderr(Stdio::piped())).expect("it starts");
        let lines = BufReader::new(group.leader().stderr.take().expect("a pipe"));
        Self { group, lines }
    }

    /// Serves a spool to those users.
    pub fn of(users: &Path, spool: &Path) -> Self {
        Self::start(&mut serving(users, spool))
    }

    /// The next line with that text, cut behind it.
    pub fn line(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("a pipe") > 0, "no {text:?}");
            if let Some((_, rest)) = line.split_once(text) {
                return rest.trim_end().to_owned();
            }
        }
    }

    pub fn address(&mut self) -> SocketAddr {
        self.line("cylinder: listening at ").parse().expect("an address")
    }

    /// Tells it to end, and returns its exit code.
    pub fn end(mut self) -> Option<i32> {
        self.group.terminate(LIMIT);
        self.group.leader().wait().expect("it ended").code()
    }
}

/// A connection, and the greeting.
pub fn greeted(address: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("it can wait");
    let mut greeting = String::new();
    let mut byte = [0];
    while !(greeting.contains("* OK ") && greeting.ends_with('\n')) {
        stream.read_exact(&mut byte).expect("it greets");
        greeting.push(char::from(byte[0]));
    }
    (stream, greeting)
}

#[test]
fn a_server_tells_systemd_how_it_is_and_ends_by_sigterm() {
    let directory = scratch();
    let users = users(directory.path());
    let socket = directory.path().join("notify");
    let notify = UnixDatagram::bind(&socket).expect("a socket");
    notify.set_read_timeout(Some(LIMIT)).expect("it can wait");
    let spool = directory.path().join("spool");
    let mut command = serving(&users, &spool);
    command.env("NOTIFY_SOCKET", &socket).env_remove("JOURNAL_STREAM");
    let mut server = Server::start(&mut command);
    let (mut stream, greeting) = greeted(server.address());
    assert!(greeting.contains(" Cyrus sync server "), "{greeting}");
    let heard = || {
        let mut text = [0; 64];
        let length = notify.recv(&mut text).expect("it says so");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert_eq!(heard(), "READY=1");
    assert_eq!(server.end(), Some(0));
    assert_eq!(heard(), "STOPPING=1");
    let mut last = String::new();
    stream.read_to_string(&mut last).expect("it closes");
    assert_eq!(last, "BYE shutting down\r\n");
}

/// A connection that has logged in.
pub fn master(address: SocketAddr) -> BufReader<TcpStream> {
    let (stream, _) = greeted(address);
    let mut master = BufReader::new(stream);
    let answer = ask(&mut master, b"AUTHENTICATE PLAIN AHJlcGwAc2VjcmV0");
    assert!(answer.starts_with("OK Success"), "{answer}");
    master
}

/// Says a command and returns the first line of the answer.
pub fn ask(master: &mut BufReader<TcpStream>, command: &[u8]) -> String {
    master.get_mut().write_all(&[command, b"\r\n"].concat()).expect("it listens");
    let mut line = String::new();
    master.read_line(&mut line).expect("it answers");
    line
}

#[test]
fn a_second_sigterm_cuts_the_command_in_hand() {
    let directory = scratch();
    let (users, spool) = (users(directory.path()), directory.path().join("spool"));
    let mut server = Server::of(&users, &spool);
    let mut master = master(server.address());
    let begun = b"APPLY MESSAGE (%{default 0000000000000000000000000000000000000000 12}\r\nSubj";
    master.get_mut().write_all(begun).expect("it listens");
    let id = server.group.leader().id();
    // The message in the making is a file without a name.
    let is_begun = || {
        let open = fs::read_dir(format!("/proc/{id}/fd")).expect("it runs").flatten();
        let mut targets = open.filter_map(|entry| fs::read_link(entry.path()).ok());
        targets.any(|to| to.starts_with(&spool) && to.to_string_lossy().ends_with(" (deleted)"))
    };
    assert!(process::wait_until(LIMIT, is_begun), "it has not begun to take the message");
    let pid = Pid::from_raw(id.try_into().expect("a process id"));
    let since = Instant::now();
    kill(pid, Signal::SIGTERM).expect("it runs");
    assert_eq!(server.line("stopping; connections that are still open: "), "1");
    kill(pid, Signal::SIGTERM).expect("it runs");
    assert_eq!(server.line("cut in the middle of a command: "), "1");
    assert!(since.elapsed() < DRAIN, "it was waited for");
    let mut rest = Vec::new();
    // It may also be told that its bytes were not read.
    let _ = master.read_to_end(&mut rest);
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(server.group.leader().wait().expect("it ended").code(), Some(0));
}

#[test]
fn a_server_takes_the_sockets_that_systemd_opened() {
    let directory = scratch();
    let users = users(directory.path());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null";
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script, CYLINDER, "serve", "--users"]).arg(&users).arg("--spool");
    command.arg(directory.path().join("spool")).stdin(Stdio::from(OwnedFd::from(listener)));
    let mut server = Server::start(&mut command);
    assert_eq!(server.address(), address);
    greeted(address);
    assert_eq!(server.end(), Some(0));
}

#[test]
fn compression_is_offered_where_it_is_asked_for() {
    let directory = scratch();
    let (users, spool) = (users(directory.path()), directory.path().join("spool"));
    for (more, is_offered) in [(None, false), (Some("--compress"), true)] {
        let mut server = Server::start(serving(&users, &spool).args(more));
        let (_stream, greeting) = greeted(server.address());
        assert_eq!(greeting.contains("* COMPRESS DEFLATE"), is_offered, "{greeting}");
        assert_eq!(server.end(), Some(0));
    }
}
