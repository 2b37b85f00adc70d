//! `cylinder demo`: the whole round on a spool that comes with the program.
//!
//! Every command that it shows is parsed and run as if it had been typed.

mod change;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use tempfile::TempDir;

use crate::args::{Cli, DemoArgs};
use crate::error::{CliError, Exit};
use crate::render;

/// A small server of two accounts, made by Cyrus 3.6.1 (`cargo xtask demo-spool`).
const SPOOL: &[u8] = include_bytes!("../../demo/spool.tar.zst");

/// The folder that gets lost.
const LOST: &str = "INBOX.Travel";

/// Runs it all in a directory of its own.
pub fn run(args: &DemoArgs) -> Result<Exit, CliError> {
    let place = Place::make(args)?;
    let started = Instant::now();
    let here = std::env::current_dir();
    std::env::set_current_dir(place.path())
        .map_err(|error| failed("enter the demo's directory", error))?;
    let shown = show(place.path());
    if let Ok(here) = here {
        // Only so that removing the directory does not pull it from under our feet.
        let _ = std::env::set_current_dir(here);
    }
    shown?;
    say(&format!("\nDone in {}.", render::micros(elapsed(started))));
    if let Place::Kept(path) = &place {
        say(&format!("Everything is still in {}; look around.", path.display()));
    }
    Ok(Exit::Done)
}

fn show(place: &Path) -> Result<(), CliError> {
    say("A Cyrus server with two accounts, glad and iris, is unpacked into server/.");
    unpack(place).map_err(|error| failed("unpack the bundled spool", error))?;

    title("A snapshot: one account at one instant, as a tar");
    cylinder("snapshot -C server/imapd.conf glad -o glad.tar")?;

    title("Mail arrives, a message is flagged");
    let arrived = change::deliver(Path::new("server"), "INBOX", ARRIVAL)?;
    change::flag(Path::new("server"), LOST, 1)?;
    say(&format!("INBOX has a new message {arrived}; message 1 of {LOST} is flagged."));

    title("An incremental: only what changed since");
    cylinder("snapshot -C server/imapd.conf glad --since glad.tar -o glad.1.tar")?;
    cylinder("snapshot -C server/imapd.conf iris -o iris.tar")?;

    title("Any number concatenate, and the result is still a tar");
    say("$ cat glad.tar glad.1.tar iris.tar > backup.tar");
    concatenate(&["glad.tar", "glad.1.tar", "iris.tar"], "backup.tar")
        .map_err(|error| failed("concatenate the snapshots", error))?;
    cylinder("list backup.tar")?;

    title("A folder is lost");
    let lost = change::mailbox_dir(Path::new("server"), LOST)?;
    say(&format!("$ rm -r server/{}", lost.display()));
    let lost = Path::new("server").join(lost);
    fs::remove_dir_all(&lost).map_err(|error| failed("lose the folder", error))?;
    say("The next snapshot notices, saves the rest, and exits with 3:");
    expect(cylinder("snapshot -C server/imapd.conf glad -o broken.tar")?, Exit::Findings)?;

    title("It comes back");
    cylinder(&format!("restore glad --from backup.tar --mailbox {LOST} --to dir:restored"))?;
    let restored = Path::new("restored").join(change::mailbox_dir(Path::new("restored"), LOST)?);
    say(&format!("$ cp -r {} {}", restored.display(), lost.display()));
    copy_tree(&restored, &lost).map_err(|error| failed("put the folder back", error))?;

    title("And is what it was: every message is hashed again and compared with its GUID");
    expect(
        cylinder("snapshot -C server/imapd.conf glad --since backup.tar -o glad.2.tar")?,
        Exit::Done,
    )?;
    expect(cylinder("snapshot -C server/imapd.conf glad -o whole.tar")?, Exit::Done)
}

/// The message that arrives during the demo.
const ARRIVAL: &[u8] = b"From: Iris <iris@example.org>\r\n\
    To: Glad <glad@example.org>\r\n\
    Subject: The clay arrived\r\n\
    Date: Mon, 23 Nov 2026 19:00:00 +0000\r\n\
    Message-ID: <clay@example.org>\r\n\
    \r\n\
    Forty lines fit on one side. It will outlast us.\r\n";

/// Where the demo takes place.
enum Place {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Place {
    fn make(args: &DemoArgs) -> Result<Self, CliError> {
        match &args.keep {
            None => {
                let dir = TempDir::with_prefix("cylinder-demo-");
                Ok(Self::Temporary(
                    dir.map_err(|error| failed("make a temporary directory", error))?,
                ))
            }
            Some(path) => {
                let what = format!("make {}", path.display());
                fs::create_dir(path).map_err(|error| {
                    failed(&what, error).hint("name a directory that does not exist yet")
                })?;
                Ok(Self::Kept(path.canonicalize().map_err(|error| failed(&what, error))?))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(path) => path,
        }
    }
}

fn unpack(place: &Path) -> io::Result<()> {
    let server = place.join("server");
    tar::Archive::new(zstd::Decoder::new(SPOOL)?).unpack(&server)?;
    let server = server.display();
    let mut conf = format!(
        "configdirectory: {server}/conf\n\
         partition-default: {server}/spool\n\
         defaultpartition: default\n\
         sievedir: {server}/conf/sieve\n\
         unixhierarchysep: yes\n"
    );
    if rustix::process::geteuid().is_root() {
        // No Cyrus needs to be installed, so there may be no cyrus user to act as.
        conf.push_str("cyrus_user: root\n");
    }
    fs::write(place.join("server/imapd.conf"), conf)
}

/// Shows a command, runs it, and tells how long it took.
fn cylinder(line: &str) -> Result<Exit, CliError> {
    say(&format!("$ cylinder {line}"));
    let words = std::iter::once("cylinder").chain(line.split(' '));
    let cli = Cli::try_parse_from(words).map_err(|error| failed("parse the command", error))?;
    let started = Instant::now();
    let exit = crate::run(&cli.command)?;
    say(&format!("  ({})", render::micros(elapsed(started))));
    Ok(exit)
}

fn expect(found: Exit, wanted: Exit) -> Result<(), CliError> {
    if found == wanted {
        return Ok(());
    }
    Err(CliError::plain("the demo did not go as it should; please report this"))
}

fn concatenate(parts: &[&str], whole: &str) -> io::Result<()> {
    let mut out = fs::File::create(whole)?;
    for part in parts {
        io::copy(&mut fs::File::open(part)?, &mut out)?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

fn title(text: &str) {
    say(&format!("\n== {text}"));
}

/// To standard error, like the reports of the commands, so that both stay in order.
fn say(text: &str) {
    // Nobody is left to be told when standard error itself is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn failed(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CliError {
    CliError::failed(format!("cannot {what}"), error)
}
