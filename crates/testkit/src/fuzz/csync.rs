//! The replication protocol.

use ::csync::banner::Banner;
use ::csync::client::Client;
use ::csync::command::{Command, Get};
use ::csync::framer::{Event, Framer, Limits, Stream};
use ::csync::record::Record;
use ::csync::reply::Reply;
use ::csync::server::{Action, Server};
use ::csync::untagged::Untagged;

/// Limits that inputs can reach.
const TIGHT: Limits = Limits {
    line_bytes_max: 200,
    string_bytes_max: 300,
    value_bytes_max: 1000,
    items_max: 60,
    depth_max: 6,
    file_bytes_max: 300,
};

/// The first byte says how the rest is cut; that makes no difference, and nothing is made up.
pub(super) fn framer(bytes: &[u8]) {
    let Some((cut, rest)) = bytes.split_first() else { return };
    for stream in [Stream::Commands, Stream::ImapCommands, Stream::Replies] {
        for limits in [Limits::default(), TIGHT] {
            let whole = events(stream, limits, [rest]);
            let pieces = events(stream, limits, rest.chunks(usize::from(*cut) + 1));
            assert_eq!(whole, pieces);
        }
    }
}

/// Everything that is found, in words. The bytes of a file are one.
fn events<'a>(
    stream: Stream,
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<String> {
    let mut framer = Framer::new(stream, limits);
    let (mut seen, mut given, mut taken) = (Vec::new(), 0, 0);
    let mut file: Vec<u8> = Vec::new();
    for mut input in pieces {
        given += input.len();
        loop {
            match framer.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::FileBytes(bytes))) => file.extend_from_slice(bytes),
                Ok(Some(Event::FileEnd)) => seen.push(format!("{:?}", std::mem::take(&mut file))),
                Ok(Some(event)) => {
                    taken += match &event {
                        Event::Line(bytes) | Event::Record(bytes) => bytes.len(),
                        Event::Data(data) => data.value.len(),
                        _ => 0,
                    };
                    seen.push(format!("{event:?}"));
                }
                Err(fatal) => {
                    seen.push(fatal.to_string());
                    return seen;
                }
            }
        }
    }
    // A space may be put between two items, a CR in front of a LF, and NIL for a file.
    assert!(taken <= 2 * given + 16, "{taken} bytes of {given}");
    seen
}

/// A session: what was understood is written as something that means the same, and every command
/// gets one answer.
pub(super) fn commands(bytes: &[u8]) {
    let mut out = Vec::new();
    let banner = Banner { deflate: true, ..Banner::new("r", "1") };
    let mut server = Server::start_trusted(banner, TIGHT, &mut out);
    let mut input = bytes;
    while let Ok(Some(action)) = server.next(&mut input, &mut out) {
        match action {
            Action::Records(Some(command)) => same_command(&command),
            Action::Record(record) => same_record(&record),
            Action::Get(get) => same_command(&Command::Get(get)),
            Action::Apply(apply) => same_command(&Command::Apply(apply)),
            Action::Restore(restore) => same_command(&Command::Restore(restore)),
            Action::StartDeflate => server.deflate_started(),
            Action::Close => break,
            _ => {}
        }
        // Says nothing if there is nothing to be done.
        server.done(&mut out);
    }
    for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r").expect("a line ends in CRLF");
        let known = line.starts_with(b"* ") || line.ends_with(b"Unrecognized command");
        assert!(known || Reply::parse(line).is_ok(), "{line:?}");
    }
}

fn same_command(command: &Command) {
    let mut text = Vec::new();
    command.write(None, &mut text);
    let mut framer = Framer::new(Stream::Commands, Limits::default());
    let mut input = text.as_slice();
    let mut again = None;
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        match event {
            Event::Line(line) => again = Some(Command::from_line(line)),
            Event::Data(data) => again = Some(Command::from_data(data)),
            Event::Records(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(again.and_then(Result::ok).as_ref(), Some(command));
}

fn same_record(record: &Record) {
    let mut text = Vec::new();
    record.write(&mut text);
    assert_eq!(Record::parse(&text).as_ref(), Ok(record));
}

/// What a replica says to one command after the other.
pub(super) fn replies(bytes: &[u8]) {
    let mut framer = Framer::new(Stream::Replies, TIGHT);
    let mut input = bytes;
    while let Ok(Some(event)) = framer.next(&mut input) {
        match event {
            Event::Line(line) => {
                let Ok(reply) = Reply::parse(line) else { continue };
                let mut text = Vec::new();
                reply.write(&mut text);
                let line = text.strip_suffix(b"\r\n").expect("a line ends in CRLF");
                Reply::parse(line).expect("what was written is a reply");
            }
            Event::Data(data) => {
                if let Ok(untagged) = Untagged::from_data(data) {
                    same_untagged(&untagged);
                }
            }
            Event::Record(text) => {
                if let Ok(record) = Record::parse(text) {
                    same_record(&record);
                }
            }
            _ => {}
        }
    }
    let mut client = Client::new(TIGHT);
    let mut input = bytes;
    loop {
        let heard = client.next(&mut input);
        let sent = client.send(&Command::Get(Get::User("a".into())), &mut Vec::new());
        if heard.is_err() || (heard == Ok(None) && sent.is_err()) {
            break;
        }
        if heard == Ok(None) && input.is_empty() {
            break;
        }
    }
}

fn same_untagged(untagged: &Untagged) {
    let mut text = Vec::new();
    untagged.write(&mut text);
    let mut framer = Framer::new(Stream::Replies, Limits::default());
    let mut input = text.as_slice();
    let mut again = None;
    while let Some(event) = framer.next(&mut input).expect("a good stream") {
        if let Event::Data(data) = event {
            again = Untagged::from_data(data).ok();
        }
    }
    assert_eq!(again.as_ref(), Some(untagged));
}
