//! A real Cyrus 3.6 in a temporary directory: its servers, its tools, and nothing left behind.

mod builder;
mod error;
mod require;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

pub use builder::CyrusBuilder;
pub use error::CyrusError;
pub use require::{CyrusUser, cyrus_or_skip};

use crate::imap::{ImapClient, ImapView};
use crate::lmtp::LmtpClient;
use crate::process::{self, Group, wait_until};
use error::io_error;

/// How long servers may take to come up, on a machine that is busy with other things.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long they may take to say good-bye.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// How long a tool may run.
const TOOL_LIMIT: Duration = Duration::from_secs(120);

/// A Cyrus of one's own. Dropping it stops the servers and removes the temporary directory;
/// directories that existed before stay.
#[derive(Debug)]
pub struct Cyrus {
    // Dropped in this order: the servers go before their files.
    running: Option<Group>,
    server_name: String,
    user: CyrusUser,
    services: Services,
    imapd_conf: PathBuf,
    cyrus_conf: PathBuf,
    directories: BTreeMap<String, PathBuf>,
    preload: Option<PathBuf>,
    directory: TempDir,
}

/// Where the servers listen.
#[derive(Clone, Copy, Debug)]
struct Services {
    imap: SocketAddr,
    lmtp: SocketAddr,
    sync: SocketAddr,
    sieve: SocketAddr,
}

/// What a tool wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolOutput {
    /// Its standard output.
    pub stdout: String,
    /// Its error output.
    pub stderr: String,
}

impl Cyrus {
    /// Starts the servers and waits until IMAP and LMTP answer. The databases are recovered
    /// first, which also converts those of older releases.
    pub fn start(&mut self) -> Result<(), CyrusError> {
        let log_path = self.log_path();
        let log = File::create(&log_path).map_err(io_error("make the master's log"))?;
        let errors = log.try_clone().map_err(io_error("share the master's log"))?;
        let mut master = Command::new(require::MASTER);
        master.arg("-C").arg(&self.imapd_conf).arg("-M").arg(&self.cyrus_conf);
        master.arg("-p").arg(self.pid_file()).arg("-D");
        master.stdin(Stdio::null()).stdout(log).stderr(errors).current_dir("/");
        self.set_environment(&mut master);
        let mut group = Group::spawn_guarded(&mut master).map_err(io_error("start the master"))?;
        self.await_servers(&mut group)?;
        self.running = Some(group);
        Ok(())
    }

    /// Stops the servers in good order; does nothing if they don't run.
    pub fn stop(&mut self) {
        if let Some(mut group) = self.running.take() {
            group.terminate(STOP_GRACE);
        }
    }

    /// Where the number of the master process stands while it runs.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.path().join("master.pid")
    }

    /// Kills the servers, as a crash would.
    pub fn crash(&mut self) {
        self.running = None;
    }

    /// A connection to the IMAP server, logged in as that user.
    pub fn imap_as(&self, user: &str) -> Result<ImapClient, CyrusError> {
        let mut client = ImapClient::connect(self.services.imap)?;
        client.login(user, "any")?;
        Ok(client)
    }

    /// A connection to the IMAP server, logged in as the admin.
    pub fn admin(&self) -> Result<ImapClient, CyrusError> {
        self.imap_as("cyrus")
    }

    /// A connection to the LMTP server.
    pub fn lmtp(&self) -> Result<LmtpClient, CyrusError> {
        Ok(LmtpClient::connect(self.services.lmtp)?)
    }

    /// Creates the INBOX of a user, `glad` or `ann@other.test`.
    pub fn create_user(&self, user: &str) -> Result<(), CyrusError> {
        Ok(self.admin()?.create(&format!("user/{user}"))?)
    }

    /// Everything that a user can see.
    pub fn view(&self, user: &str) -> Result<ImapView, CyrusError> {
        Ok(ImapView::of(&mut self.imap_as(user)?)?)
    }

    /// Where the IMAP server listens.
    pub fn imap_address(&self) -> SocketAddr {
        self.services.imap
    }

    /// Where the LMTP server listens.
    pub fn lmtp_address(&self) -> SocketAddr {
        self.services.lmtp
    }

    /// Where the replication server listens.
    pub fn sync_address(&self) -> SocketAddr {
        self.services.sync
    }

    /// Where the server of ManageSieve listens.
    pub fn sieve_address(&self) -> SocketAddr {
        self.services.sieve
    }

    /// The user whom the servers run as.
    pub fn user(&self) -> CyrusUser {
        self.user
    }

    /// The temporary directory.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// imapd.conf.
    pub fn imapd_conf(&self) -> &Path {
        &self.imapd_conf
    }

    /// The configuration directory.
    pub fn config_directory(&self) -> &Path {
        &self.directories["configdirectory"]
    }

    /// The root of the default partition.
    pub fn spool(&self) -> &Path {
        &self.directories["partition-default"]
    }

    /// The directory of an option that holds one, as `archivepartition-default`.
    pub fn directory(&self, option: &str) -> Option<&Path> {
        self.directories.get(option).map(PathBuf::as_path)
    }

    /// The data directory of a mailbox, as `user/glad/Sent`, from Cyrus' own `mbpath`.
    pub fn mailbox_directory(&self, mailbox: &str) -> Result<PathBuf, CyrusError> {
        Ok(PathBuf::from(self.tool("mbpath", &[mailbox])?.stdout.trim_end()))
    }

    /// Runs one of Cyrus' tools as user cyrus with the configuration of this server, as
    /// `tool("reconstruct", &["-V", "9", "user/glad/x"])`.
    ///
    /// # Errors
    ///
    /// [`CyrusError::Tool`] if it ends with anything but 0.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Result<ToolOutput, CyrusError> {
        self.tool_with_input(name, arguments, b"")
    }

    /// Runs a tool that reads its standard input, as `ctl_mboxlist -u`.
    ///
    /// # Errors
    ///
    /// [`CyrusError::Tool`] if it ends with anything but 0.
    pub fn tool_with_input(
        &self,
        name: &str,
        arguments: &[&str],
        input: &[u8],
    ) -> Result<ToolOutput, CyrusError> {
        let mut tool = self.tool_command(name);
        tool.args(arguments);
        let command = format!("{name} {}", arguments.join(" "));
        let output = process::run(&mut tool, input, TOOL_LIMIT)
            .map_err(io_error(format!("run {command}")))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(ToolOutput { stdout, stderr })
        } else {
            Err(CyrusError::Tool { command, status: output.status.to_string(), stdout, stderr })
        }
    }

    /// A command that runs a tool as user cyrus with the configuration of this server, for those
    /// who want to run it their own way. The arguments are still to come.
    pub fn tool_command(&self, name: &str) -> Command {
        let mut tool = Command::new(Path::new(require::PROGRAMS).join(name));
        tool.arg("-C").arg(&self.imapd_conf).current_dir("/");
        tool.uid(self.user.uid).gid(self.user.gid);
        self.set_environment(&mut tool);
        tool
    }

    fn set_environment(&self, command: &mut Command) {
        command.env_remove("CYRUS_PREFIX");
        if let Some(library) = &self.preload {
            command.env("LD_PRELOAD", library);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("master.log")
    }

    fn await_servers(&self, group: &mut Group) -> Result<(), CyrusError> {
        let mut reason = String::new();
        let ready = wait_until(START_LIMIT, || {
            if !group.is_running() {
                return true;
            }
            let answers = [self.services.imap, self.services.lmtp].map(|at| self.answers(at));
            reason = answers.iter().filter_map(|answer| answer.clone().err()).collect();
            reason.is_empty()
        });
        if ready && group.is_running() {
            return Ok(());
        }
        if ready {
            reason = "its master ended".into();
        }
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        Err(CyrusError::NotReady { reason, log })
    }

    /// Whether our own server greets at that address, or why not.
    fn answers(&self, address: SocketAddr) -> Result<(), String> {
        let greet = || {
            let mut stream = TcpStream::connect_timeout(&address, START_LIMIT)?;
            stream.set_read_timeout(Some(START_LIMIT))?;
            let mut greeting = [0; 512];
            let length = stream.read(&mut greeting)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&greeting[..length]).into_owned())
        };
        match greet() {
            Ok(greeting) if greeting.contains(&self.server_name) => Ok(()),
            Ok(greeting) => Err(format!("{address} greets with {greeting:?}. ")),
            Err(error) => Err(format!("{address}: {error}. ")),
        }
    }
}

impl Drop for Cyrus {
    fn drop(&mut self) {
        self.stop();
    }
}
