//! What a user waits for, with a real client and with the same sessions replayed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes, real_corpus};
use testkit::served::Served;
use testkit::{Cyrus, ImapClient};

use crate::replay::{Recorder, Session, replay};
use crate::servers::{Run, cyrus, master, sync};
use crate::{Options, Outcome};

/// Who has real mail, and who has many small messages.
const CORPUS: &str = "glad";
const SMALL: &str = "ann";

/// The tasks that are done for the first time, and by whom.
const INITIAL: [(&str, &str); 2] = [("initial", CORPUS), ("initial, small", SMALL)];

const WHO: [&str; 2] = ["Cyrus", "Cylinder"];

/// Messages that are appended at once on the master.
const APPENDED: usize = 200;

/// Something that happens on the master again and again, and is then replicated.
struct Task {
    name: &'static str,
    user: &'static str,
    times: usize,
    change: Change,
}

/// What happens, by its number.
type Change = Box<dyn FnMut(&mut ImapClient, usize) -> Outcome>;

/// What a task took, by run.
#[derive(Debug, Default)]
struct Times {
    cyrus: Vec<Run>,
    cylinder: Vec<Run>,
    /// Ours where compression is offered, as Cyrus does it.
    compressed: Vec<Run>,
    sessions: Vec<Session>,
}

pub fn run(options: &Options) -> Outcome<Value> {
    let master = master()?;
    let (corpus, small) = fill(&master, options)?;
    let real = cyrus()?.start()?;
    let ours = Served::start(&options.cylinder)?;
    let recorded = Served::start(&options.cylinder)?;
    let recorder = Recorder::start(recorded.address())?;
    let mut measured = Vec::new();
    for mut task in tasks(usize::try_from(options.number("--repeat")?)?) {
        let mut times = Times::default();
        for number in 0..task.times {
            let mut client = master.imap_as(task.user)?;
            client.select("INBOX")?;
            (task.change)(&mut client, number)?;
            client.logout()?;
            let of = |to: SocketAddr| sync(&master, to, task.user);
            // Nobody is always the first.
            if number % 2 == 0 {
                times.cyrus.push(of(real.sync_address())?);
                times.cylinder.push(of(ours.address())?);
            } else {
                times.cylinder.push(of(ours.address())?);
                times.cyrus.push(of(real.sync_address())?);
            }
            of(recorder.address)?;
            times.sessions.push(recorder.take()?);
        }
        let wall = |runs: &[Run]| median(runs.iter().map(|run| run.wall));
        let (cyrus, cylinder) = (wall(&times.cyrus), wall(&times.cylinder));
        eprintln!("{}: Cyrus {cyrus:.3?}, Cylinder {cylinder:.3?}", task.name);
        measured.push((task.name, times));
    }
    // Nothing is removed before all is measured: without a journal, ext4 looks at each inode that was
    // removed within the last minute before it makes another one.
    let mut kept = Vec::new();
    let mut replayed = Replayed::new();
    for round in 0..options.number("--rounds")? {
        let (pair, again) = (Fresh::start(options)?, Fresh::start(options)?);
        let compressing = Served::start_with(&options.cylinder, &["--compress"])?;
        pair.begin_anew(&master, &mut measured, round)?;
        for (name, user) in INITIAL {
            let run = sync(&master, compressing.address(), user)?;
            times_of(&mut measured, name)?.compressed.push(run);
        }
        again.replay(&measured, &mut replayed, round)?;
        kept.push((pair, again, compressing));
    }
    let document = json!({
        "corpus": corpus,
        "small": small,
        "rounds": options.number("--rounds")?,
        "tasks": document(&measured, &replayed),
    });
    drop((real, ours, recorded, kept));
    Ok(document)
}

/// What each session of each task took when it was replayed: on Cyrus, and on ours.
type Replayed = BTreeMap<&'static str, [Vec<Duration>; 2]>;

/// Two replicas that have nothing yet.
struct Fresh {
    real: Cyrus,
    ours: Served,
}

fn times_of<'m>(measured: &'m mut [(&'static str, Times)], name: &str) -> Outcome<&'m mut Times> {
    let found = measured.iter_mut().find(|(task, _)| *task == name);
    Ok(found.map(|(_, times)| times).ok_or("a task is missing")?)
}

impl Fresh {
    fn start(options: &Options) -> Outcome<Self> {
        Ok(Self { real: cyrus()?.start()?, ours: Served::start(&options.cylinder)? })
    }

    /// Nobody is always the first.
    fn in_turns(&self, round: u64) -> [(usize, SocketAddr); 2] {
        let [cyrus, ours] = [(0, self.real.sync_address()), (1, self.ours.address())];
        if round.is_multiple_of(2) { [cyrus, ours] } else { [ours, cyrus] }
    }

    /// Replicates for the first time once more.
    fn begin_anew(
        &self,
        master: &Cyrus,
        measured: &mut [(&'static str, Times)],
        round: u64,
    ) -> Outcome {
        for (name, user) in INITIAL {
            let times = times_of(measured, name)?;
            for (at, address) in self.in_turns(round) {
                let run = sync(master, address, user)?;
                eprintln!("{name}, round {round}, {}: {:.3?}", WHO[at], run.wall);
                [&mut times.cyrus, &mut times.cylinder][at].push(run);
            }
        }
        Ok(())
    }

    /// Says what was recorded, session by session.
    fn replay(
        &self,
        measured: &[(&'static str, Times)],
        replayed: &mut Replayed,
        round: u64,
    ) -> Outcome {
        for (at, address) in self.in_turns(round) {
            for (name, times) in measured {
                for session in &times.sessions {
                    let took = replay(address, session)?;
                    if INITIAL.iter().any(|(initial, _)| initial == name) {
                        eprintln!("{name}, replayed, round {round}, {}: {took:.3?}", WHO[at]);
                    }
                    replayed.entry(name).or_default()[at].push(took);
                }
            }
        }
        Ok(())
    }
}

/// Gives the master its mail: how many real and how many small messages.
fn fill(master: &Cyrus, options: &Options) -> Outcome<(usize, usize)> {
    let wanted = usize::try_from(options.number("--messages")?)?;
    let corpus: Vec<Vec<u8>> = real_corpus()?.into_iter().take(wanted).collect();
    let wanted = usize::try_from(options.number("--flagged")?)?;
    let small = MailGenerator::new(4, Sizes::Small).messages(wanted);
    for (user, mail) in [(CORPUS, &corpus), (SMALL, &small)] {
        master.create_user(user)?;
        let mut client = master.imap_as(user)?;
        for chunk in mail.chunks(APPENDED) {
            let chunk: Vec<_> =
                chunk.iter().map(|message| Append { message, ..Append::default() }).collect();
            client.append_all("INBOX", &chunk)?;
        }
        client.logout()?;
    }
    Ok((corpus.len(), small.len()))
}

fn tasks(repeat: usize) -> Vec<Task> {
    let mut news = MailGenerator::new(5, Sizes::Small);
    let task = |name, user, times, change: Change| Task { name, user, times, change };
    vec![
        task(INITIAL[0].0, CORPUS, 1, Box::new(|_, _| Ok(()))),
        task(INITIAL[1].0, SMALL, 1, Box::new(|_, _| Ok(()))),
        task("unchanged", CORPUS, repeat, Box::new(|_, _| Ok(()))),
        task(
            "all flags",
            SMALL,
            2,
            Box::new(|client, number| {
                let flag = ["\\Flagged", "$Label1"][number % 2];
                Ok(client.store("1:*", "+FLAGS", &[flag])?)
            }),
        ),
        task(
            "one flag",
            SMALL,
            repeat,
            Box::new(|client, number| {
                Ok(client.store(&(number + 100).to_string(), "+FLAGS", &["\\Answered"])?)
            }),
        ),
        task(
            "append",
            SMALL,
            repeat,
            Box::new(move |client, _| {
                let message = news.message();
                let append = Append { message: &message, ..Append::default() };
                client.append("INBOX", append)?;
                Ok(())
            }),
        ),
    ]
}

fn document(measured: &[(&'static str, Times)], replayed: &Replayed) -> Value {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let of = |runs: &[Run], replayed: &[Duration]| {
        json!({
            "wall_us": micros(median(runs.iter().map(|run| run.wall))),
            "client_cpu_us": micros(median(runs.iter().map(|run| run.client_cpu))),
            "replayed_us": micros(median(replayed.iter().copied())),
        })
    };
    let nothing = [Vec::new(), Vec::new()];
    let tasks = measured.iter().map(|(name, times)| {
        let [cyrus, cylinder] = replayed.get(name).unwrap_or(&nothing);
        json!({
            "name": name,
            "times": times.cylinder.len(),
            "cyrus": of(&times.cyrus, cyrus),
            "cylinder": of(&times.cylinder, cylinder),
            "compressed": of(&times.compressed, &[]),
        })
    });
    tasks.collect()
}

/// The middle one.
fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
