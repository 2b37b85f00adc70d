//! Many accounts that replicas have already, as every night.

use serde_json::{Map, Value, json};
use testkit::Cyrus;
use testkit::bench::{Options, Outcome, Run, cyrus, master};
use testkit::imap::Append;
use testkit::mail::{MailGenerator, Sizes};
use testkit::served::Served;

use crate::pairs::{Pair, What, document};

/// Beside INBOX.
const FOLDERS: [&str; 4] = ["Sent", "Drafts", "Trash", "Lists"];

/// Messages in each INBOX.
const MESSAGES: usize = 5;

pub fn run(options: &Options) -> Outcome<Value> {
    let accounts = options.number("--accounts")?;
    let master = master()?;
    (0..accounts).try_for_each(|number| fill(&master, number))?;
    let replicas = (cyrus()?.start()?, Served::start(&options.cylinder)?);
    let send = |pair: Pair| {
        let to = if pair.is_to_cyrus() { replicas.0.sync_address() } else { replicas.1.address() };
        pair.client(&master, &options.cylinder, to, What::All).measure()
    };
    let mut runs: Vec<(Pair, Vec<Run>)> = Pair::ALL.map(|pair| (pair, Vec::new())).into();
    // What one of the masters finds to do behind the other is done before it is measured.
    let first: Map<String, Value> = Pair::ALL
        .into_iter()
        .map(|pair| Ok((pair.name().to_owned(), document(&[send(pair)?]))))
        .collect::<Outcome<_>>()?;
    for _ in 0..2 {
        Pair::ALL.into_iter().try_for_each(|pair| send(pair).map(drop))?;
    }
    for round in 0..options.number("--repeat")? {
        for (pair, runs) in &mut runs {
            let run = send(*pair)?;
            eprintln!("unchanged {round}, {}: {:.3?}", pair.name(), run.wall);
            runs.push(run);
        }
        runs.rotate_left(1);
    }
    let pairs: Map<String, Value> =
        runs.iter().map(|(pair, runs)| (pair.name().to_owned(), document(runs))).collect();
    Ok(json!({
        "accounts": accounts,
        "mailboxes": FOLDERS.len() + 1,
        "first": first,
        "pairs": pairs,
    }))
}

fn fill(master: &Cyrus, number: u64) -> Outcome {
    let user = format!("user{number}");
    master.create_user(&user)?;
    let mut client = master.imap_as(&user)?;
    FOLDERS.iter().try_for_each(|folder| client.create(&format!("INBOX/{folder}")))?;
    let mail = MailGenerator::new(number, Sizes::Small).messages(MESSAGES);
    let mail: Vec<_> = mail.iter().map(|message| Append { message, ..Append::default() }).collect();
    client.append_all("INBOX", &mail)?;
    client.logout()?;
    Ok(())
}
