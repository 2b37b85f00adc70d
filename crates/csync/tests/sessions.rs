//! Sessions of a real `sync_client` 3.6.1 with a real `sync_server` 3.6.1, as recorded between them.

mod recording;

use std::collections::VecDeque;

use csync::banner::{Banner, Progress};
use csync::client::{self, Client, ClientError};
use csync::command::{Apply, Command};
use csync::framer::{Event, Framer, Limits, Stream};
use csync::message::FileWriter;
use csync::record::{Record, RecordWriter};
use csync::reply::{No, Reply};
use csync::sasl::SaslData;
use csync::server::{Action, Rights, Server};
use csync::untagged::{Untagged, begin_mailbox, begin_message, end_message};
use recording::{Connection, recordings};

#[test]
fn what_masters_say_is_written_as_it_was_read() {
    for (name, connections) in recordings("real-") {
        for connection in connections {
            let again = rewrite_commands(&connection);
            assert_same(&name, &connection.master, &again);
        }
    }
}

#[test]
fn what_replicas_say_is_written_as_it_was_read() {
    for (name, connections) in recordings("") {
        for connection in connections {
            let again = rewrite_replies(&connection);
            assert_same(&name, &connection.replica, &again);
        }
    }
}

#[test]
fn our_server_answers_like_the_real_one() {
    for (name, connections) in recordings("") {
        for connection in connections.iter().filter(|connection| !connection.is_imap()) {
            // Ours answers the question for IMAP with its tag, so that the master need not wait.
            let ours = String::from_utf8(serve(connection)).expect("text");
            assert_same(&name, &connection.replica, ours.replace("C01 BAD", "BAD").as_bytes());
        }
    }
}

#[test]
fn our_client_understands_the_real_replica() {
    for (name, connections) in recordings("real-") {
        for connection in connections.iter().filter(|connection| !connection.is_imap()) {
            let said = converse(connection);
            assert_same(&name, &connection.master, &said);
        }
    }
}

/// Lets our client send the commands that were recorded, one at a time, and read what was answered.
fn converse(connection: &Connection) -> Vec<u8> {
    let (banner, mut answers) = answers(&connection.replica);
    let mut greeting = Vec::new();
    banner.write(&mut greeting);
    let mut client = Client::default();
    assert_eq!(client.next(&mut greeting.as_slice()), Ok(Some(client::Event::Banner)));
    assert_eq!(client.banner(), &banner);

    let mut framer = Framer::new(Stream::Commands, Limits::default());
    let (mut input, mut out, mut begin) = (connection.master.as_slice(), Vec::new(), 0);
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        let command = match event {
            Event::Line(line) if !client.is_idle() => {
                let response = SaslData::decode(line).expect("a response");
                client.respond(&response, &mut out).expect("it was asked for");
                None
            }
            Event::Line(line) => Some(Command::from_line(line).expect("a command")),
            Event::Data(data) => Some(Command::from_data(data).expect("a command")),
            _ => continue,
        };
        let end = connection.master.len() - input.len();
        if let Some(command) = command {
            let length = out.len();
            client.send(&command, &mut out).expect("one at a time");
            assert_eq!(client.send(&command, &mut Vec::new()), Err(ClientError::Busy));
            if matches!(command, Command::Apply(Apply::Message | Apply::Mailbox(_))) {
                // Its files or records are those that were recorded.
                out.truncate(length);
                out.extend_from_slice(&connection.master[begin..end]);
            }
        }
        begin = end;
        hear(&mut client, &answers.pop_front().expect("an answer"));
    }
    out
}

/// Reads one answer.
fn hear(client: &mut Client, answer: &Answer) {
    let mut text = answer.untagged.clone();
    answer.reply.write(&mut text);
    let mut input = text.as_slice();
    let mut last = None;
    while let Some(event) = client.next(&mut input).expect("a good answer") {
        assert_eq!(last, None, "nothing comes behind the reply");
        match event {
            client::Event::Done(reply) => last = Some(reply),
            client::Event::Challenge(challenge) => last = Some(Reply::Challenge(challenge)),
            _ => {}
        }
    }
    assert_eq!(last.as_ref(), Some(&answer.reply));
    client.deflate_started();
}

fn assert_same(name: &str, want: &[u8], have: &[u8]) {
    let differs = want.iter().zip(have).position(|(want, have)| want != have);
    if want != have {
        let at = differs.unwrap_or(want.len().min(have.len())).saturating_sub(80);
        let show = |text: &[u8]| {
            String::from_utf8_lossy(&text[at.min(text.len())..text.len().min(at + 200)])
                .into_owned()
        };
        panic!("{name}:\nrecorded: {:?}\nours:     {:?}", show(want), show(have));
    }
}

/// Reads all that the master says, and writes it anew from what was understood.
fn rewrite_commands(connection: &Connection) -> Vec<u8> {
    let imap = connection.is_imap();
    let stream = if imap { Stream::ImapCommands } else { Stream::Commands };
    let mut framer = Framer::new(stream, Limits::default());
    let (mut input, mut out) = (connection.master.as_slice(), Vec::new());
    let mut records: Option<RecordWriter> = None;
    let mut files: Option<FileWriter> = None;
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        match event {
            Event::Line(line) if imap => {
                let (tag, command) = Command::from_imap_line(line).expect("a command");
                command.write(tag_of(&tag).as_deref(), &mut out);
            }
            Event::Line(line) => match Command::from_line(line) {
                Ok(command) => command.write(None, &mut out),
                // A response of SASL.
                Err(_) => out.extend([line, b"\r\n"].concat()),
            },
            Event::File(head) => {
                let writer = files.get_or_insert_with(|| {
                    let rest = &connection.master[out.len()..];
                    let word = rest.split(|byte| *byte == b' ').next().filter(|_| imap);
                    Command::begin_files(tag_of(word.unwrap_or_default()).as_deref(), &mut out)
                });
                writer.file(&head, &mut out);
            }
            Event::FileBytes(bytes) => out.extend_from_slice(bytes),
            Event::FileEnd => {}
            Event::Records(data) => {
                let command = Command::from_data(data).expect("all but the records");
                let Command::Apply(Apply::Mailbox(mailbox)) = command else { panic!("a mailbox") };
                let tag = tag_of(data.tag);
                records = Some(Command::begin_mailbox(&mailbox, tag.as_deref(), &mut out));
            }
            Event::Record(record) => {
                let record = Record::parse(record).expect("a record");
                records.as_mut().expect("records have begun").record(&record, &mut out);
            }
            Event::Data(data) => {
                let command = Command::from_data(data).expect("a command");
                match (records.take(), files.take()) {
                    (Some(records), _) => records.finish(&mut out),
                    (_, Some(files)) => files.finish(&mut out),
                    _ => command.write(tag_of(data.tag).as_deref(), &mut out),
                }
            }
            Event::Refused(refused) => panic!("{refused}"),
        }
    }
    out
}

fn tag_of(tag: &[u8]) -> Option<String> {
    (!tag.is_empty()).then(|| String::from_utf8(tag.to_vec()).expect("a tag"))
}

/// The same for the replica.
fn rewrite_replies(connection: &Connection) -> Vec<u8> {
    let mut framer = Framer::new(Stream::Replies, Limits::default());
    let (mut input, mut out) = (connection.replica.as_slice(), Vec::new());
    let mut banner = Some(Banner::default());
    let mut records: Option<RecordWriter> = None;
    let mut message = false;
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        match event {
            Event::Line(line) => match &mut banner {
                Some(reading) => {
                    if reading.take(line) == Progress::Complete {
                        reading.write(&mut out);
                        banner = None;
                    }
                }
                None if connection.is_imap() || line.starts_with(b"* ") => {
                    out.extend([line, b"\r\n"].concat());
                }
                None => Reply::parse(line).expect("a reply").write(&mut out),
            },
            Event::File(head) => {
                begin_message(&head, &mut out);
                message = true;
            }
            Event::FileBytes(bytes) => out.extend_from_slice(bytes),
            Event::FileEnd => end_message(&mut out),
            Event::Records(data) => {
                let untagged = Untagged::from_data(data).expect("all but the records");
                let Untagged::Mailbox(mailbox) = untagged else { panic!("a mailbox") };
                records = Some(begin_mailbox(&mailbox, &mut out));
            }
            Event::Record(record) => {
                let record = Record::parse(record).expect("a record");
                records.as_mut().expect("records have begun").record(&record, &mut out);
            }
            Event::Data(data) => {
                let untagged = Untagged::from_data(data).expect("a reply");
                if let Some(records) = records.take() {
                    records.finish(&mut out);
                } else if !std::mem::take(&mut message) {
                    untagged.write(&mut out);
                }
            }
            Event::Refused(refused) => panic!("{refused}: {:?}", refused.reason),
        }
    }
    out
}

/// Lets our server answer, with what was recorded where it depends on mail.
fn serve(connection: &Connection) -> Vec<u8> {
    let (banner, mut answers) = answers(&connection.replica);
    let denied = answers.iter().any(|answer| answer.reply == Reply::No(No::PermissionDenied));
    let rights = if denied { Rights::Nobody } else { Rights::Admin };
    let (mut input, mut out) = (connection.master.as_slice(), Vec::new());
    let mut server = Server::start(banner, Limits::default(), &mut out);
    loop {
        let step = out.len();
        let action = server.next(&mut input, &mut out).expect("a good stream");
        // What the server says by itself is no question to the recording.
        for _ in 0..count_replies(&out[step..]) {
            answers.pop_front().expect("an answer was recorded");
        }
        let Some(action) = action else { break };
        match action {
            Action::Authenticate { .. } | Action::Response(_) => {
                login(&mut server, rights, &answers.pop_front().expect("an answer"), &mut out);
            }
            Action::Get(_) | Action::Apply(_) | Action::Restore(_) | Action::Restart => {
                // A session that was cut off has no last answer.
                let Some(answer) = answers.pop_front() else { break };
                out.extend_from_slice(&answer.untagged);
                match &answer.reply {
                    Reply::Ok(_) => server.done(&mut out),
                    Reply::No(no) => server.refuse(no, &mut out),
                    Reply::Bye(_) => server.shut_down(&mut out),
                    other => panic!("{other:?}"),
                }
            }
            Action::StartDeflate => server.deflate_started(),
            Action::StartTls | Action::Close => break,
            _ => {}
        }
    }
    out
}

#[derive(Debug)]
struct Answer {
    /// What precedes the reply.
    untagged: Vec<u8>,
    reply: Reply,
}

/// The banner, and what was said to each command.
fn answers(replica: &[u8]) -> (Banner, VecDeque<Answer>) {
    let mut framer = Framer::new(Stream::Replies, Limits::default());
    let (mut input, mut banner, mut complete) = (replica, Banner::default(), false);
    let mut answers = VecDeque::new();
    let mut begin = 0;
    loop {
        let before = replica.len() - input.len();
        let Some(event) = framer.next(&mut input).expect("a good stream") else { break };
        let Event::Line(line) = event else { continue };
        if !complete {
            complete = banner.take(line) == Progress::Complete;
        } else if let Ok(reply) = Reply::parse(line) {
            answers.push_back(Answer { untagged: replica[begin..before].to_vec(), reply });
        }
        begin = replica.len() - input.len();
    }
    (banner, answers)
}

fn count_replies(out: &[u8]) -> usize {
    let mut framer = Framer::new(Stream::Replies, Limits::default());
    let (mut input, mut count) = (out, 0);
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        count += usize::from(matches!(event, Event::Line(line) if !line.starts_with(b"* ")));
    }
    count
}

fn login(server: &mut Server, rights: Rights, answer: &Answer, out: &mut Vec<u8>) {
    match &answer.reply {
        Reply::Challenge(challenge) => server.challenge(challenge.clone(), out),
        Reply::Ok(text) => {
            let protection = text.strip_prefix("Success (").and_then(|text| text.strip_suffix(")"));
            server.logged_in(rights, protection.expect("how it is protected"), out);
        }
        other => {
            let mut line = Vec::new();
            other.write(&mut line);
            let text = String::from_utf8(line).expect("text");
            server.login_failed(text.strip_prefix("NO ").expect("a refusal").trim_end(), out);
        }
    }
}
