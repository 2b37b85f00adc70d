//! One account of real mail, to replicas that have nothing.

use serde_json::{Map, Value, json};
use testkit::Cyrus;
use testkit::bench::{Options, Outcome, Run, cyrus, master};
use testkit::imap::Append;
use testkit::mail::real_corpus;
use testkit::served::Served;

use crate::pairs::{Pair, What, document};

/// Who has it.
const USER: &str = "glad";

/// Messages that are appended at once on the master.
const APPENDED: usize = 200;

pub fn run(options: &Options) -> Outcome<Value> {
    let master = master()?;
    let messages = fill(&master, usize::try_from(options.number("--messages")?)?)?;
    // Where files were removed, ext4 takes minutes to make others as fast as before.
    let mut kept = Vec::new();
    let mut runs: Vec<(Pair, Vec<Run>)> = Pair::ALL.map(|pair| (pair, Vec::new())).into();
    for round in 0..options.number("--repeat")? {
        for (pair, runs) in &mut runs {
            let (run, replica) = send(*pair, &master, options)?;
            kept.push(replica);
            eprintln!("initial {round}, {}: {:.3?}", pair.name(), run.wall);
            runs.push(run);
        }
        // Nobody is always the first.
        runs.rotate_left(1);
    }
    let pairs: Map<String, Value> =
        runs.iter().map(|(pair, runs)| (pair.name().to_owned(), document(runs))).collect();
    Ok(json!({ "messages": messages, "pairs": pairs }))
}

/// A replica that has been sent to, and does nothing any more.
enum Replica {
    Theirs(#[expect(dead_code, reason = "it is kept for its files")] Cyrus),
    Ours(#[expect(dead_code, reason = "it is kept for its files")] Served),
}

fn send(pair: Pair, master: &Cyrus, options: &Options) -> Outcome<(Run, Replica)> {
    let client = |to| pair.client(master, &options.cylinder, to, What::User(USER));
    if pair.is_to_cyrus() {
        let mut replica = cyrus()?.start()?;
        let run = client(replica.sync_address()).measure()?;
        replica.stop();
        return Ok((run, Replica::Theirs(replica)));
    }
    let mut replica = Served::start(&options.cylinder)?;
    let run = client(replica.address()).measure()?;
    replica.kill();
    Ok((run, Replica::Ours(replica)))
}

fn fill(master: &Cyrus, wanted: usize) -> Outcome<usize> {
    let corpus: Vec<Vec<u8>> = real_corpus()?.into_iter().take(wanted).collect();
    master.create_user(USER)?;
    let mut client = master.imap_as(USER)?;
    for chunk in corpus.chunks(APPENDED) {
        let chunk: Vec<_> =
            chunk.iter().map(|message| Append { message, ..Append::default() }).collect();
        client.append_all("INBOX", &chunk)?;
    }
    client.logout()?;
    Ok(corpus.len())
}
