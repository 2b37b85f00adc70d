//! Replication to a replica that is killed again and again, at instants that a seed chooses.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use csync::untagged::Untagged;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use crate::dialogue::Dialogue;
use crate::imap::Append;
use crate::leftovers::{self, Leftovers};
use crate::mail::{MailGenerator, Sizes};
use crate::process::wait_until;
use crate::served::Served;
use crate::{Cyrus, Rng};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Whose mail is replicated.
const USER: &str = "glad";
/// How long a process may take to be gone.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to greet, and a busy machine to let it.
const GREETING_LIMIT: Duration = Duration::from_secs(5);
/// How often a master tries before it is given up: a real replica may have to be tried again.
const TRIES: usize = 3;

/// A replica that can be killed.
pub trait Victim {
    /// Where it takes connections.
    fn address(&self) -> SocketAddr;

    /// Kills what serves; tells whether there was anybody.
    ///
    /// # Errors
    ///
    /// What the system says.
    fn kill(&mut self) -> io::Result<bool>;

    /// Lets it serve again.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    fn resume(&mut self) -> io::Result<()>;

    /// Where its mail is.
    fn spool(&self) -> PathBuf;
}

impl Victim for Served {
    fn address(&self) -> SocketAddr {
        self.address()
    }

    fn kill(&mut self) -> io::Result<bool> {
        self.kill();
        Ok(true)
    }

    fn resume(&mut self) -> io::Result<()> {
        self.resume()
    }

    fn spool(&self) -> PathBuf {
        self.spool().to_owned()
    }
}

/// Its `sync_server` is killed; its master process, which is not, starts others.
impl Victim for Cyrus {
    fn address(&self) -> SocketAddr {
        self.sync_address()
    }

    fn kill(&mut self) -> io::Result<bool> {
        signal_all(self, "sync_server", Signal::KILL)
    }

    /// A master starts no server more that was killed five times within ten seconds, until it is told to
    /// read its configuration again (`master/master.c`, 3.6). It may have been told before it has heard of
    /// the last of them; so it is told until a server greets.
    fn resume(&mut self) -> io::Result<()> {
        let pid = fs::read_to_string(self.pid_file())?;
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        kill_process(pid, Signal::HUP)?;
        let greets = || {
            let greets = greets(self.sync_address());
            // That it is gone shows to whoever tries next.
            let _ = greets || kill_process(pid, Signal::HUP).is_ok();
            greets
        };
        match wait_until(LIMIT, greets) {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn spool(&self) -> PathBuf {
        self.spool().to_owned()
    }
}

/// Whether whoever listens there says anything.
fn greets(address: SocketAddr) -> bool {
    let greeting = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(GREETING_LIMIT))?;
        stream.read(&mut [0])
    });
    greeting.is_ok_and(|read| read > 0)
}

/// Sends a signal to all of a server's processes of that name, and waits until they are gone; tells
/// whether there were any.
///
/// # Errors
///
/// If there is no telling which processes there are, or one of them does not end.
pub fn signal_all(server: &Cyrus, name: &str, signal: Signal) -> io::Result<bool> {
    let ours = server.imapd_conf().as_os_str().as_encoded_bytes().to_vec();
    let mut told = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(words) = fs::read(entry.path().join("cmdline")) else { continue };
        let mut words = words.split(|byte| *byte == 0);
        let is_it = words.next().is_some_and(|program| program.ends_with(name.as_bytes()));
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && is_it
            && words.any(|word| word == ours)
        {
            told.push(entry.path());
            // It may have ended by itself.
            let _ = kill_process(pid, signal);
        }
    }
    // Once its parent has taken note: what a master is told before, it forgets over this.
    let is_gone = |path: &PathBuf| !path.exists();
    match wait_until(LIMIT, || told.iter().all(is_gone)) {
        true => Ok(!told.is_empty()),
        false => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A master on which things happen.
#[derive(Debug)]
pub struct Campaign<'m> {
    master: &'m Cyrus,
    rng: Rng,
    mail: MailGenerator,
    /// How long it took to replicate what happened last.
    took: Duration,
    /// How many changes there were.
    rounds: u64,
}

impl<'m> Campaign<'m> {
    /// Makes a user on the master.
    ///
    /// # Errors
    ///
    /// If that is not possible.
    pub fn begin(master: &'m Cyrus, seed: u64) -> Outcome<Self> {
        master.create_user(USER)?;
        master.imap_as(USER)?.create("INBOX/copies")?;
        let mail = MailGenerator::new(seed, Sizes::Small);
        Ok(Self { master, rng: Rng::new(seed), mail, took: Duration::from_millis(200), rounds: 0 })
    }

    /// Some mail comes, and some of what is there is copied, flagged, expunged, renamed.
    ///
    /// # Errors
    ///
    /// What the master says.
    pub fn change(&mut self) -> Outcome {
        self.rounds += 1;
        let mut client = self.master.imap_as(USER)?;
        let count = 3 + usize::try_from(self.rng.below(12))?;
        let mail = self.mail.messages(count);
        let mail: Vec<_> =
            mail.iter().map(|message| Append { message, ..Append::default() }).collect();
        let uids = client.append_all("INBOX", &mail)?;
        client.select("INBOX")?;
        let (first, last) = (uids.first().ok_or("a UID")?, uids.last().ok_or("a UID")?);
        client.copy(&format!("{first}:{last}"), "INBOX/copies")?;
        client.store(&format!("1:{first}"), "+FLAGS", &["\\Seen"])?;
        client.store(&first.to_string(), "+FLAGS", &["\\Deleted", "$Label1"])?;
        client.expunge()?;
        match self.rounds % 4 {
            1 => client.create(&format!("INBOX/folder{}", self.rounds))?,
            2 => {
                let old = format!("INBOX/folder{}", self.rounds - 1);
                client.copy(&last.to_string(), &old)?;
                client.rename(&old, &format!("INBOX/other{}", self.rounds))?;
            }
            3 => client.delete(&format!("INBOX/other{}", self.rounds - 1))?,
            _ => {}
        }
        Ok(client.logout()?)
    }

    /// Replicates what has happened, kills the replica meanwhile, and lets it serve again. Tells
    /// whether there was anybody to kill.
    ///
    /// # Errors
    ///
    /// If nothing can be started.
    pub fn strike(&mut self, victim: &mut dyn Victim) -> Outcome<bool> {
        let mut client = self.client(victim.address());
        let mut client = client.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let most = u64::try_from(self.took.as_micros())?.max(1);
        // An instant is what is wanted: nothing waits for anything here.
        thread::sleep(Duration::from_micros(self.rng.below(most)));
        let killed = victim.kill()?;
        // It would try to reach a server that is gone for as long as it takes.
        client.kill()?;
        client.wait()?;
        victim.resume()?;
        Ok(killed)
    }

    /// Replicates until the master is content; tells whether the replica has then what it has.
    ///
    /// # Errors
    ///
    /// If nothing can be started, or somebody cannot be asked.
    pub fn converges(&mut self, victim: &dyn Victim) -> Outcome<bool> {
        for _ in 0..TRIES {
            let start = Instant::now();
            let output = self.client(victim.address()).output()?;
            if output.status.success() {
                self.took = start.elapsed();
                return Ok(mailboxes(self.master.sync_address(), USER)?
                    == mailboxes(victim.address(), USER)?);
            }
        }
        Ok(false)
    }

    fn client(&self, to: SocketAddr) -> std::process::Command {
        let mut client = self.master.tool_command("sync_client");
        client.args(["-S", &to.to_string(), "-u", USER]).stdin(Stdio::null());
        client
    }
}

/// What a replica has left behind.
///
/// # Errors
///
/// If its spool cannot be read.
pub fn left_by(victim: &dyn Victim) -> io::Result<Leftovers> {
    leftovers::below(&victim.spool())
}

/// The mailboxes of a user as a replica tells them: their names, and what has to be the same.
///
/// # Errors
///
/// If it does not tell.
pub fn mailboxes(at: SocketAddr, user: &str) -> Outcome<BTreeMap<String, [u64; 5]>> {
    let mut dialogue = Dialogue::begin(at)?;
    dialogue.log_in()?;
    dialogue.say(format!("GET USER {user}\r\n").as_bytes())?;
    let (replies, _) = dialogue.replies()?;
    let mailbox = |reply: &Untagged| {
        let Untagged::Mailbox(mailbox) = reply else { return None };
        let contents = mailbox.contents.as_ref()?;
        let numbers = [
            contents.sync_crc.unwrap_or_default().into(),
            contents.sync_crc_annot.unwrap_or_default().into(),
            contents.last_uid.0.into(),
            mailbox.highestmodseq.0,
            contents.uidvalidity.0.into(),
        ];
        Some((mailbox.mboxname.to_string(), numbers))
    };
    Ok(replies.iter().filter_map(mailbox).collect())
}
