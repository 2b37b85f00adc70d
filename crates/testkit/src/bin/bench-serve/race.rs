//! What a user waits for, with a real client and with the same sessions replayed.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::bench::{Options, Outcome, Run, cyrus, master, measure, median, micros};
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes, real_corpus};
use testkit::served::Served;
use testkit::{Cyrus, ImapClient};

use crate::replay::{Recorder, Session, replay};

/// Who has real mail, and who has many small messages.
const CORPUS: &str = "glad";
const SMALL: &str = "ann";

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
    drop((real, ours, recorded));
    let replayed = [replay_on_cyrus(&measured)?, replay_on_cylinder(options, &measured)?];
    Ok(json!({
        "corpus": corpus,
        "small": small,
        "tasks": document(&measured, &replayed),
    }))
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
        task("initial", CORPUS, 1, Box::new(|_, _| Ok(()))),
        task("initial, small", SMALL, 1, Box::new(|_, _| Ok(()))),
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

/// How long each session of each task takes on a replica that has nothing before.
fn replay_all(to: SocketAddr, measured: &[(&'static str, Times)]) -> Outcome<Vec<Vec<Duration>>> {
    let of = |times: &Times| times.sessions.iter().map(|session| replay(to, session)).collect();
    measured.iter().map(|(_, times)| of(times)).collect()
}

fn replay_on_cyrus(measured: &[(&'static str, Times)]) -> Outcome<Vec<Vec<Duration>>> {
    replay_all(cyrus()?.start()?.sync_address(), measured)
}

fn replay_on_cylinder(
    options: &Options,
    measured: &[(&'static str, Times)],
) -> Outcome<Vec<Vec<Duration>>> {
    replay_all(Served::start(&options.cylinder)?.address(), measured)
}

fn document(measured: &[(&'static str, Times)], replayed: &[Vec<Vec<Duration>>; 2]) -> Value {
    let of = |runs: &[Run], replayed: &[Duration]| {
        json!({
            "wall_us": micros(median(runs.iter().map(|run| run.wall))),
            "client_cpu_us": micros(median(runs.iter().map(|run| run.client_cpu))),
            "replayed_us": micros(median(replayed.iter().copied())),
        })
    };
    let tasks = measured.iter().enumerate().map(|(at, (name, times))| {
        json!({
            "name": name,
            "times": times.cylinder.len(),
            "cyrus": of(&times.cyrus, &replayed[0][at]),
            "cylinder": of(&times.cylinder, &replayed[1][at]),
        })
    });
    tasks.collect()
}

/// Has the master send what a user has to a replica.
fn sync(master: &Cyrus, to: SocketAddr, user: &str) -> Outcome<Run> {
    let mut client = master.tool_command("sync_client");
    measure(client.args(["-S", &to.to_string(), "-u", user]), b"")
}
