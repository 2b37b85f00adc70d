//! Writes the spool of one account, `glad`, or of many, for benchmarks, or delivers one more message
//! to `glad`.
//!
//! Usage: `bench-spool --out DIR --messages N [OPTION]...` and `bench-spool --deliver DIR`.
//! Prints what there is as JSON. A spool follows from its options alone.
//!
//! - `--accounts N`: `glad` and others like it, each with that many messages; otherwise one.
//! - `--mailboxes N`: how many there are; otherwise half the square root of the messages.
//! - `--copies PERCENT`: that many copies on top, as hard links, most in other mailboxes.
//! - `--size BYTES`: made-up messages of about that size; 400 where their number is all that matters,
//!   and from 60,000 on with attachments that hardly compress.
//! - `--corpus DIR`: real messages, instead of those of `cargo xtask corpus`.
//!
//! INBOX has two fifths of the mail, the second mailbox a tenth, and each further one less than
//! the one before. A corpus is used from its start, each message once; from the second round on,
//! each gets a header line of its own, so that no message comes twice but by `--copies`.

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use model::SystemFlags;
use serde_json::{Value, json};
use testkit::Rng;
use testkit::mail::{MailGenerator, Sizes, load_corpus, real_corpus};
use testkit::spool_builder::{
    EPOCH, Era, NewMessage, SpoolBuilder, SpoolOptions, StoredMessage, deliver,
};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// The account.
const USER: &str = "glad";

/// Where a spool says what it is.
const DESCRIPTION: &str = "bench-spool.json";

/// Messages of which copies may be made, at any time.
const COPIED: usize = 1024;

fn main() -> Outcome {
    let options = Options::parse(std::env::args().skip(1))?;
    let description = match &options.deliver {
        Some(spool) => one_more(spool)?,
        None => build(&options)?,
    };
    println!("{description}");
    Ok(())
}

#[derive(Debug, Default)]
struct Options {
    out: Option<PathBuf>,
    deliver: Option<PathBuf>,
    corpus: Option<PathBuf>,
    accounts: u64,
    messages: u64,
    mailboxes: Option<u64>,
    copies: u64,
    size: Option<usize>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self { accounts: 1, ..Self::default() };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} takes a value"))?;
            match name.as_str() {
                "--out" => options.out = Some(value.into()),
                "--deliver" => options.deliver = Some(value.into()),
                "--corpus" => options.corpus = Some(value.into()),
                "--accounts" => options.accounts = value.parse()?,
                "--messages" => options.messages = value.parse()?,
                "--mailboxes" => options.mailboxes = Some(value.parse()?),
                "--size" => options.size = Some(value.parse()?),
                "--copies" => options.copies = value.parse()?,
                _ => return Err(format!("no option is called {name}").into()),
            }
        }
        Ok(options)
    }
}

fn build(options: &Options) -> Outcome<Value> {
    let out = options.out.as_deref().ok_or("which directory? --out DIR")?;
    let mut source = Source::new(options)?;
    let era = SpoolOptions { cache: true, ..SpoolOptions::new(Era::V3_6) };
    let mut spool = SpoolBuilder::create(out, era)?;
    let mut inbox = PathBuf::new();
    let mut mailboxes = 0;
    for account in 0..options.accounts {
        let user = user(account);
        for (name, messages) in plan(&user, options.messages, options.mailboxes) {
            let mut mailbox = spool.mailbox(&name)?;
            if mailboxes == 0 {
                inbox = mailbox.directory().to_owned();
            }
            for _ in 0..messages {
                source.fill(&mut mailbox, options.copies)?;
            }
            spool.finish_mailbox(mailbox)?;
            spool.subscribe(&user, &name);
            mailboxes += 1;
        }
    }
    let spool = spool.finish()?;
    let mut conf = OpenOptions::new().append(true).open(&spool.imapd_conf)?;
    // Whoever runs the benchmark owns the files; root need not hand them to anybody.
    conf.write_all(b"cyrus_user: root\n")?;
    let description = json!({
        "imapd_conf": spool.imapd_conf,
        "spool": spool.partition,
        "account": USER,
        "inbox": inbox,
        "accounts": options.accounts,
        "mailboxes": mailboxes,
        "messages": options.messages * options.accounts,
        "copies": source.copies,
        "message_bytes": source.bytes,
    });
    fs::write(out.join(DESCRIPTION), description.to_string())?;
    Ok(description)
}

fn user(number: u64) -> String {
    if number == 0 { USER.to_owned() } else { format!("{USER}{number}") }
}

/// The mailboxes of an account and how many messages each has.
fn plan(user: &str, messages: u64, mailboxes: Option<u64>) -> Vec<(String, u64)> {
    let mailboxes = mailboxes.unwrap_or(messages.isqrt() / 2).max(1);
    let mut plan = vec![(format!("user.{user}"), messages)];
    if mailboxes == 1 {
        return plan;
    }
    let weight = |rank: u64| 1.0 / rank as f64;
    let sum: f64 = (2..mailboxes).map(weight).sum();
    for number in 1..mailboxes {
        let share = match number {
            1 if mailboxes > 2 => 0.1,
            1 => 0.6,
            _ => 0.5 * weight(number) / sum,
        };
        let count = ((messages as f64 * share) as u64).min(plan[0].1);
        plan[0].1 -= count;
        plan.push((name_of(user, number), count));
    }
    plan
}

fn name_of(user: &str, number: u64) -> String {
    match (number, number % 3) {
        (1, _) => format!("user.{user}.Sent"),
        (_, 0) => format!("user.{user}.Lists.list{number}"),
        (_, 1) => format!("user.{user}.Archive.{}.part{number}", 2000 + number % 20),
        _ => format!("user.{user}.Folder {number}"),
    }
}

/// Where messages come from.
struct Source {
    rng: Rng,
    corpus: Vec<Vec<u8>>,
    made_up: MailGenerator,
    made: u64,
    copies: u64,
    bytes: u64,
    /// With the time of arrival, which a copy keeps.
    copied: Vec<(StoredMessage, i64, Vec<u8>)>,
}

impl Source {
    fn new(options: &Options) -> Outcome<Self> {
        let corpus = match &options.corpus {
            _ if options.size.is_some() => Vec::new(),
            Some(directory) => load_corpus(directory)?,
            None => real_corpus()?,
        };
        if corpus.is_empty() && options.size.is_none() {
            return Err("the corpus is empty".into());
        }
        Ok(Self {
            rng: Rng::new(options.messages),
            corpus,
            made_up: MailGenerator::new(1, Sizes::About(options.size.unwrap_or_default())),
            made: 0,
            copies: 0,
            bytes: 0,
            copied: Vec::new(),
        })
    }

    /// Adds a message to a mailbox, and sometimes a copy of another one behind it.
    fn fill(
        &mut self,
        mailbox: &mut testkit::spool_builder::MailboxBuilder,
        copies: u64,
    ) -> Outcome {
        if self.rng.chance(copies) && !self.copied.is_empty() {
            let message = self.flags();
            let (original, arrived, bytes) = &self.copied[self.rng.index(self.copied.len())];
            let copy = NewMessage { bytes, internaldate: *arrived, ..message };
            mailbox.link(original, &copy)?;
            self.copies += 1;
        }
        let message = self.flags();
        let arrived = message.internaldate;
        let bytes = self.next();
        let stored = mailbox.add(&NewMessage { bytes: &bytes, ..message })?;
        self.bytes += bytes.len() as u64;
        if copies > 0 && self.copied.len() < COPIED {
            self.copied.push((stored, arrived, bytes));
        } else if copies > 0 {
            let place = self.rng.index(COPIED);
            self.copied[place] = (stored, arrived, bytes);
        }
        Ok(())
    }

    /// Most mail is read, some is answered, a little is flagged, tagged, or expunged but not yet
    /// cleaned away.
    fn flags(&mut self) -> NewMessage<'static> {
        let mut flags = 0;
        for (percent, flag) in
            [(80, SystemFlags::SEEN), (10, SystemFlags::ANSWERED), (3, SystemFlags::FLAGGED)]
        {
            if self.rng.chance(percent) {
                flags |= flag.0;
            }
        }
        NewMessage {
            internaldate: EPOCH + self.made as i64 * 60,
            system_flags: SystemFlags(flags),
            user_flags: if self.rng.chance(5) { &["$Forwarded", "NonJunk"] } else { &[] },
            expunged: self.rng.chance(1).then_some(EPOCH + 100_000_000),
            ..NewMessage::default()
        }
    }

    fn next(&mut self) -> Vec<u8> {
        let number = self.made as usize;
        self.made += 1;
        if self.corpus.is_empty() {
            return self.made_up.message();
        }
        let (round, place) = (number / self.corpus.len(), number % self.corpus.len());
        let message = &self.corpus[place];
        if round == 0 { message.clone() } else { marked(message, round) }
    }
}

/// The message with a header line that tells which round it is from.
fn marked(message: &[u8], round: usize) -> Vec<u8> {
    [format!("X-Round: {round}\r\n").as_bytes(), message].concat()
}

/// Delivers a message that the spool does not have to its INBOX.
fn one_more(spool: &Path) -> Outcome<Value> {
    let description: Value = serde_json::from_slice(&fs::read(spool.join(DESCRIPTION))?)?;
    let inbox = description["inbox"].as_str().ok_or("the spool does not say where INBOX is")?;
    let records = fs::metadata(Path::new(inbox).join("cyrus.index"))?.len();
    // The longer the index is, the later it is: another message each time.
    let message = MailGenerator::new(records, Sizes::About(5_000)).message();
    let uid = deliver(Path::new(inbox), &message, EPOCH + 200_000_000 + records as i64)?;
    Ok(json!({ "uid": uid }))
}
