//! Makes the logs that `cylinder watch` is tried on: nine days of a real Cyrus 3.6.1 and its replica,
//! and then one trouble after the other, all produced for real.
//!
//! Usage: `watch-logs DIRECTORY [incidents]`; run by `cargo xtask watch-logs`, as root. It writes
//! `everyday.zst`, the lines of both servers in their order, unless only the other is wanted, and
//! `incidents.zst`, those of each trouble behind a line with its name. Half an hour of these days takes a fraction of a second: the stamps are those of a
//! clock that runs as fast. All else is as Cyrus wrote it.

mod everyday;
mod incidents;
mod passwords;
mod sieve;
mod syslog;
mod tamper;

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use passwords::Passwords;
use syslog::Collector;
use tempfile::TempDir;
use testkit::{Cyrus, cyrus_or_skip};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Who has mail there.
const USERS: [&str; 8] = ["glad", "iris", "ann", "bob", "eve", "mara", "theo", "zoe"];

/// A master, its replica, and what they log.
struct Lab {
    master: Cyrus,
    replica: Cyrus,
    log: Collector,
    passwords: Passwords,
    /// The master's certificate and key, and where passwords are asked for.
    files: TempDir,
}

fn main() -> Outcome {
    let target = std::env::args().nth(1).ok_or("usage: watch-logs DIRECTORY [incidents]")?;
    let only_incidents = std::env::args().nth(2).is_some();
    syslog::enter_namespace()?;
    let mut lab = Lab::start()?;
    if !only_incidents {
        everyday::run(&lab)?;
        let everyday = lab.log.take(&lab.masters());
        write(&Path::new(&target).join("everyday.zst"), &everyday)?;
    }
    let incidents = incidents::run(&mut lab)?;
    write(&Path::new(&target).join("incidents.zst"), &incidents)
}

impl Lab {
    fn start() -> Outcome<Self> {
        let log = Collector::start()?;
        let files =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir()?;
        let passwords = Passwords::listen(&files.path().join("mux"))?;
        let mux = path_of(&files, "mux");
        let builder = || cyrus_or_skip("watch-logs").ok_or("the real Cyrus is needed");
        let asking = || -> Outcome<_> {
            let asking = builder()?.option("sasl_pwcheck_method", "saslauthd");
            Ok(asking.option("sasl_saslauthd_path", &mux))
        };
        let mut replica = asking()?
            .option("syslog_prefix", "replica")
            .option("failedloginpause", "0s")
            .prepare()?;
        add_services(&replica)?;
        replica.start()?;
        let address = replica.sync_address();
        make_certificate(files.path(), &replica)?;
        let mut master = asking()?
            .option("sync_host", &address.ip().to_string())
            .option("sync_port", &address.port().to_string())
            .option("sync_authname", "cyrus")
            .option("sync_password", passwords::RIGHT)
            .option("sync_log", "yes")
            .option("conversations", "yes")
            .option("search_engine", "squat")
            .option("mailnotifier", "log")
            .option("tls_server_cert", &path_of(&files, "cert.pem"))
            .option("tls_server_key", &path_of(&files, "key.pem"))
            // Otherwise whoever fails waits for three seconds.
            .option("failedloginpause", "0s")
            .extra_partition("small")
            .prepare()?;
        add_services(&master)?;
        master.start()?;
        for user in USERS {
            master.create_user(user)?;
            master.admin()?.set_quota(&format!("user/{user}"), "STORAGE 100000")?;
        }
        Ok(Self { master, replica, log, passwords, files })
    }

    /// The process ids of those masters that run: their lines do not say whose they are.
    fn masters(&self) -> Vec<(u32, &'static str)> {
        let pid = |cyrus: &Cyrus| -> Option<u32> {
            fs::read_to_string(cyrus.root().join("master.pid")).ok()?.trim().parse().ok()
        };
        let both = [(pid(&self.master), "mail1"), (pid(&self.replica), "mail2")];
        both.into_iter().filter_map(|(pid, host)| Some((pid?, host))).collect()
    }
}

fn path_of(files: &TempDir, name: &str) -> String {
    files.path().join(name).display().to_string()
}

/// Those that few tests need: who passes on that mail has come, in two ways.
fn add_services(cyrus: &Cyrus) -> Outcome {
    let path = cyrus.root().join("cyrus.conf");
    let program = |name: &str| format!("{name} -C {}", cyrus.imapd_conf().display());
    let socket = cyrus.config_directory().join("socket/notify");
    let more = format!(
        "SERVICES {{\n  notify cmd=\"{}\" listen=\"{}\" proto=\"udp\" prefork=1\n",
        program("notifyd"),
        socket.display(),
    );
    let daemon = format!("DAEMON {{\n  idled cmd=\"{}\"\n}}\n", program("idled"));
    let text = fs::read_to_string(&path)?.replace("SERVICES {\n", &more) + &daemon;
    Ok(fs::write(path, text)?)
}

/// Makes `cert.pem` and `key.pem`, which Cyrus may read.
fn make_certificate(directory: &Path, cyrus: &Cyrus) -> Outcome {
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]);
    openssl.args(["-days", "30", "-keyout"]).arg(&key).arg("-out").arg(&cert);
    let output = openssl.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(std::os::unix::fs::chown(key, Some(cyrus.user().uid), Some(cyrus.user().gid))?)
}

fn write(path: &Path, log: &[u8]) -> Outcome {
    fs::write(path, zstd::encode_all(log, 19)?)?;
    let lines = log.iter().filter(|byte| **byte == b'\n').count();
    println!("{}: {lines} lines, {} bytes", path.display(), path.metadata()?.len());
    Ok(())
}
