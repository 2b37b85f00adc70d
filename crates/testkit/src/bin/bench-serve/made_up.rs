//! How much memory a server needs for a mailbox of any size, with a master that is made up.

use std::time::Instant;

use csync::command::Command;
use csync::framer::FileHead;
use csync::mailbox::{Contents, Mailbox, Records, Since};
use csync::record::Record;
use model::{Guid, Modseq, Partition, SystemFlags, Timestamp, Uid, UidValidity};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use testkit::bench::{Options, Outcome};
use testkit::dialogue::Dialogue;
use testkit::served::Served;

/// Different messages. Each has as many links as there are records for it.
const MESSAGES: u32 = 1_000;

const BUFFER: usize = 1 << 16;

const NAME: &str = "user.glad";

/// Sends a mailbox in one command, changes all of it, changes one record, asks for all of it.
pub fn run(options: &Options) -> Outcome<Value> {
    let records = u32::try_from(options.number("--records")?)?;
    let mut server = Served::start(&options.cylinder)?;
    let mut dialogue = Dialogue::begin(server.address())?;
    dialogue.log_in()?;
    // What is taken once, as for a password, is not counted.
    server.peak_kib()?;
    send_messages(&mut dialogue)?;
    let mut steps = Vec::new();
    let mut step = |name: &str, dialogue: &mut Dialogue, command: Master| -> Outcome {
        let start = Instant::now();
        command.say(dialogue)?;
        let wall = u64::try_from(start.elapsed().as_micros())?;
        steps.push(json!({ "name": name, "wall_us": wall, "peak_kib": server.peak_kib()? }));
        Ok(())
    };
    let all =
        Master { from: 1, to: records, last: records, modseq: 10, flags: SystemFlags::default() };
    step("all records", &mut dialogue, all)?;
    let flags = Master { modseq: 20, flags: SystemFlags::SEEN, ..all };
    step("flags of all records", &mut dialogue, flags)?;
    let middle = records / 2;
    let one = Master { from: middle, to: middle, modseq: 30, flags: SystemFlags::FLAGGED, ..all };
    step("flags of one record", &mut dialogue, one)?;
    let next = records + 1;
    let more = Master { from: next, to: next, last: next, modseq: 40, ..all };
    step("one message more", &mut dialogue, more)?;
    let start = Instant::now();
    ask(&mut dialogue, format!("GET FULLMAILBOX {NAME}\r\n").as_bytes())?;
    let wall = u64::try_from(start.elapsed().as_micros())?;
    let peak = server.peak_kib()?;
    steps.push(json!({ "name": "told", "wall_us": wall, "peak_kib": peak }));
    Ok(json!({ "records": records, "steps": steps }))
}

fn ask(dialogue: &mut Dialogue, command: &[u8]) -> Outcome {
    dialogue.say(command)?;
    expect_ok(dialogue)
}

fn expect_ok(dialogue: &mut Dialogue) -> Outcome {
    match dialogue.answer()? {
        answer if answer.starts_with("OK") => Ok(()),
        answer => Err(format!("the replica answers {answer}").into()),
    }
}

fn text(number: u32) -> String {
    format!("Subject: {number}\r\n\r\nThis is message {number}.\r\n")
}

fn guid(number: u32) -> Guid {
    Guid(Sha1::digest(text(number)).into())
}

fn send_messages(dialogue: &mut Dialogue) -> Outcome {
    let mut out = Vec::new();
    let mut files = Command::begin_files(None, &mut out);
    for number in 0..MESSAGES {
        let text = text(number);
        let size = u32::try_from(text.len())?;
        let partition = Partition::new("default");
        files.file(&FileHead { partition, guid: guid(number), size }, &mut out);
        out.extend_from_slice(text.as_bytes());
    }
    files.finish(&mut out);
    ask(dialogue, &out)
}

/// A state of the mailbox, told from one record to another.
#[derive(Clone, Copy)]
struct Master {
    from: u32,
    to: u32,
    /// The highest UID of the mailbox.
    last: u32,
    modseq: u64,
    flags: SystemFlags,
}

impl Master {
    fn say(self, dialogue: &mut Dialogue) -> Outcome {
        let guids: Vec<(Guid, u32)> = (0..MESSAGES)
            .map(|number| Ok((guid(number), u32::try_from(text(number).len())?)))
            .collect::<Outcome<_>>()?;
        let mut out = Vec::new();
        let mut writer = Command::begin_mailbox(&self.mailbox(), None, &mut out);
        for uid in self.from..=self.to {
            let (guid, size) = guids[(uid % MESSAGES) as usize];
            let record = Record {
                uid: Uid(uid),
                modseq: Modseq(self.modseq),
                last_updated: Timestamp::from_secs(1_700_000_000),
                system_flags: self.flags,
                internaldate: Timestamp::from_secs(1_600_000_000),
                size,
                guid,
                ..Record::default()
            };
            writer.record(&record, &mut out);
            if out.len() > BUFFER {
                dialogue.say(&out)?;
                out.clear();
            }
        }
        writer.finish(&mut out);
        ask(dialogue, &out)
    }

    fn mailbox(self) -> Mailbox {
        Mailbox {
            uniqueid: "madeupmailbox".into(),
            mboxname: NAME.into(),
            highestmodseq: Modseq(self.modseq),
            contents: Some(Contents {
                last_uid: Uid(self.last),
                uidvalidity: UidValidity(1),
                partition: Some(Partition::new("default")),
                acl: b"glad\tlrswipkxtecdan\t".to_vec(),
                since: Some(Since::default()),
                records: Records::Listed,
                ..Contents::default()
            }),
            ..Mailbox::default()
        }
    }
}
