//! `cylinder serve` as a program of its own.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::process::Group;

/// Who may log in.
pub const NAME: &str = "cyrus";
/// His password.
pub const PASSWORD: &str = "any";

/// A server with a spool of its own, both gone when this is dropped.
#[derive(Debug)]
pub struct Served {
    group: Option<Group>,
    program: PathBuf,
    more: Vec<String>,
    address: SocketAddr,
    spool: PathBuf,
    directory: TempDir,
}

impl Served {
    /// Starts one with an empty spool.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn start(program: &Path) -> io::Result<Self> {
        Self::start_with(program, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn start_with(program: &Path, more: &[&str]) -> io::Result<Self> {
        let mut directory = tempfile::Builder::new();
        // Cyrus' user has to be able to look into it.
        directory.prefix("cylinder-replica-").permissions(Permissions::from_mode(0o755));
        let directory = directory.tempdir()?;
        let spool = directory.path().join("spool");
        let mut add = Command::new(program);
        add.args(["serve", "--add-user", NAME, "--users"]).arg(directory.path().join("users"));
        let mut add = add.stdin(Stdio::piped()).spawn()?;
        add.stdin.take().map(|mut pipe| pipe.write_all(PASSWORD.as_bytes())).transpose()?;
        if !add.wait()?.success() {
            return Err(io::Error::other("no user could be added"));
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let program = program.to_owned();
        let more = more.iter().map(|argument| (*argument).to_owned()).collect();
        let mut server = Self { group: None, program, more, address, spool, directory };
        server.resume()?;
        Ok(server)
    }

    /// Starts it anew on the same spool; it listens somewhere else then.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub fn resume(&mut self) -> io::Result<()> {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--users"]);
        command.arg(self.directory.path().join("users")).arg("--spool").arg(&self.spool);
        command.args(&self.more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut group = Group::spawn_guarded(&mut command)?;
        let stderr = group.leader().stderr.take();
        let mut lines = BufReader::new(stderr.ok_or(io::ErrorKind::BrokenPipe)?).lines();
        let mut log = File::options().append(true).create(true).open(self.log_path())?;
        loop {
            let line = lines.next().ok_or_else(|| io::Error::other(self.log()))??;
            writeln!(log, "{line}")?;
            if let Some((_, address)) = line.split_once("listening at ") {
                self.address = address.parse().map_err(io::Error::other)?;
                break;
            }
        }
        // Ends with the server.
        thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| writeln!(log, "{line}"))
        });
        self.group = Some(group);
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its mail is.
    pub fn spool(&self) -> &Path {
        &self.spool
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.group = None;
    }

    /// The most memory that it had since it was started, or since the last call, in KiB.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn peak_kib(&mut self) -> io::Result<u64> {
        let group = self.group.as_mut().ok_or_else(|| io::Error::other("it does not run"))?;
        let id = group.leader().id();
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        fs::write(format!("/proc/{id}/clear_refs"), "5")?;
        peak.ok_or_else(|| io::Error::other("no VmHWM"))
    }
}
