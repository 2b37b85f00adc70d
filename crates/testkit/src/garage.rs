//! Three servers of Garage on the loopback interface, which together are one object store.
//!
//! What is written there is on all three, as long as all are there; any two of them are enough.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Group, run, wait_until};
use crate::s3;
use crate::skip::{Need, skip};

/// Names the program; it is not looked for anywhere else.
const VARIABLE: &str = "CYLINDER_GARAGE";

/// How many servers there are, and on how many of them everything is.
const NODES: usize = 3;

const BUCKET: &str = "vault";
const KEY: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// For one command, and until servers that have just started know each other.
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster. It is gone, with all that it holds, when this is dropped.
#[derive(Debug)]
pub struct Garage {
    program: PathBuf,
    nodes: Vec<Node>,
    _root: TempDir,
}

#[derive(Debug)]
struct Node {
    config: PathBuf,
    rpc: SocketAddr,
    s3: SocketAddr,
    server: Option<Group>,
}

impl Garage {
    /// Starts a cluster, or notes that `test` is skipped where `CYLINDER_GARAGE` names no program.
    ///
    /// # Panics
    ///
    /// Instead of skipping, if `CYLINDER_REQUIRE_GARAGE` is set; if a server does not come up.
    pub fn or_skip(test: &str) -> Option<Self> {
        let started = Self::if_wanted();
        if started.is_none() {
            skip(test, Need::Garage, VARIABLE);
        }
        started
    }

    /// Starts a cluster if `CYLINDER_GARAGE` names the program.
    ///
    /// # Panics
    ///
    /// If a server does not come up.
    pub fn if_wanted() -> Option<Self> {
        let program = std::env::var_os(VARIABLE)?;
        Some(Self::start(program.into()).expect("Garage starts"))
    }

    fn start(program: PathBuf) -> io::Result<Self> {
        let root = tempfile::tempdir()?;
        let nodes = reserve(root.path())?;
        let mut garage = Self { program, nodes, _root: root };
        garage.configure()?;
        for node in &mut garage.nodes {
            let log = File::create(node.config.with_file_name("log"))?;
            let mut command = Command::new(&garage.program);
            command.arg("-c").arg(&node.config).arg("server");
            command.stdout(log.try_clone()?).stderr(log);
            node.server = Some(Group::spawn_guarded(&mut command)?);
        }
        // A server makes its identity when it starts; then the first is told of the others.
        let mut peers = Vec::with_capacity(NODES);
        for node in 0..NODES {
            peers.push(garage.command_once_possible(node, &["node", "id", "-q"])?);
        }
        for peer in &peers[1..] {
            garage.command_once_possible(0, &["node", "connect", peer])?;
        }
        garage.lay_out(&peers)?;
        Ok(garage)
    }

    fn configure(&self) -> io::Result<()> {
        for node in &self.nodes {
            let directory = node.config.with_file_name("");
            let text = format!(
                "metadata_dir = \"{directory}meta\"\ndata_dir = \"{directory}data\"\n\
                 db_engine = \"sqlite\"\nreplication_factor = {NODES}\n\
                 rpc_bind_addr = \"{rpc}\"\nrpc_public_addr = \"{rpc}\"\n\
                 rpc_secret = \"{SECRET}\"\n\
                 [s3_api]\ns3_region = \"{region}\"\napi_bind_addr = \"{s3}\"\n",
                directory = directory.display(),
                rpc = node.rpc,
                region = s3::REGION,
                s3 = node.s3,
            );
            fs::write(&node.config, text)?;
        }
        Ok(())
    }

    /// Makes one store of the servers, with one bucket in it.
    fn lay_out(&self, peers: &[String]) -> io::Result<()> {
        let ids = peers.iter().map(|peer| peer.split('@').next().unwrap_or_default());
        let assign: Vec<&str> =
            ["layout", "assign", "-z", "here", "-c", "10G"].into_iter().chain(ids).collect();
        // Until they have found each other, and then until the layout is known to all.
        self.command_once_possible(0, &assign)?;
        self.command(0, &["layout", "apply", "--version", "1"])?;
        let import = ["key", "import", "--yes", "-n", "test", KEY, SECRET];
        self.command_once_possible(0, &import)?;
        self.command(0, &["bucket", "create", BUCKET])?;
        let allow = ["bucket", "allow", "--read", "--write", "--owner", BUCKET, "--key", KEY];
        self.command(0, &allow)?;
        // Two of them took that for done; the third may still refuse whoever comes.
        let knows = |node: usize| {
            let told = self.command(node, &["bucket", "info", BUCKET]);
            told.is_ok_and(|text| {
                text.lines().any(|line| line.contains(KEY) && line.contains("RWO"))
            })
        };
        match wait_until(LIMIT, || (0..NODES).all(knows)) {
            true => Ok(()),
            false => Err(io::Error::other("a server of Garage never heard of the bucket")),
        }
    }

    /// The same, asked until there is an answer.
    fn command_once_possible(&self, node: usize, arguments: &[&str]) -> io::Result<String> {
        let mut said = self.command(node, arguments);
        wait_until(LIMIT, || {
            if said.is_err() {
                said = self.command(node, arguments);
            }
            said.is_ok()
        });
        said
    }

    /// What a command of the program says, without the end of the line.
    fn command(&self, node: usize, arguments: &[&str]) -> io::Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(&self.nodes[node].config).args(arguments);
        let output = run(&mut command, b"", LIMIT)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("garage {arguments:?}: {said}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// The `AWS_` variables that lead to one of the servers.
    pub fn settings(&self, node: usize) -> Vec<(String, String)> {
        s3::settings(self.nodes[node].s3, KEY, SECRET)
    }

    /// The URL of a place in the bucket; an empty prefix means all of it.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    /// Kills one of the servers, as a power cut would end it.
    pub fn kill(&mut self, node: usize) {
        // Its processes are killed when it is dropped, and it is waited for.
        self.nodes[node].server = None;
    }
}

/// Directories and free ports for all servers, on a loopback address that no other test has.
fn reserve(root: &Path) -> io::Result<Vec<Node>> {
    let [_, high, middle, low] = process::id().wrapping_mul(67).to_be_bytes();
    let address = Ipv4Addr::new(127, high.clamp(1, 254), middle, low.clamp(1, 254));
    // All are held until all are known, so that none is given twice.
    let mut listeners = Vec::new();
    let mut free = || -> io::Result<SocketAddr> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        listeners.push(listener);
        Ok(address)
    };
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let directory = root.join(number.to_string());
        fs::create_dir(&directory)?;
        let config = directory.join("garage.toml");
        nodes.push(Node { config, rpc: free()?, s3: free()?, server: None });
    }
    Ok(nodes)
}
