//! The client: one connection, one command at a time, every wait bounded.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::wire::{self, Value};
use super::{ImapError, date_time};

/// How long a server may be silent. Generous, because tests share the machine with compilers.
const PATIENCE: Duration = Duration::from_secs(30);

/// A message to append.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append<'a> {
    /// The bytes, with CRLF line ends.
    pub message: &'a [u8],
    /// System and user flags, as `\Seen` or `$Forwarded`.
    pub flags: &'a [&'a str],
    /// Seconds since the epoch; the server's present time where `None`.
    pub internaldate: Option<i64>,
}

/// What the server says when a mailbox is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// Number of messages.
    pub exists: u64,
    /// UIDVALIDITY.
    pub uid_validity: u64,
    /// UIDNEXT.
    pub uid_next: u64,
    /// HIGHESTMODSEQ, 0 where the server keeps none.
    pub highest_modseq: u64,
    /// MAILBOXID, which Cyrus 3.6 makes of the uniqueid; empty where there is none.
    pub mailbox_id: String,
}

/// A connection to an IMAP server.
#[derive(Debug)]
pub struct ImapClient {
    input: BufReader<TcpStream>,
    output: TcpStream,
    greeting: String,
}

impl ImapClient {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> Result<Self, ImapError> {
        let failed = |source| ImapError::Io { command: format!("connect to {address}"), source };
        let output = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        output.set_nodelay(true).map_err(failed)?;
        output.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        output.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let input = BufReader::with_capacity(128 << 10, output.try_clone().map_err(failed)?);
        let mut client = Self { input, output, greeting: String::new() };
        let mut raw = Vec::new();
        wire::read_response(&mut client.input, &mut raw).map_err(failed)?;
        client.greeting = lossy(&raw);
        Ok(client)
    }

    /// The first line of the server.
    pub fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Logs in with a password in the clear.
    pub fn login(&mut self, user: &str, password: &str) -> Result<(), ImapError> {
        self.execute(Command::new("LOGIN").text(user).text(password)).map(drop)
    }

    /// Sends one command line as it is and returns the untagged responses.
    pub fn command(&mut self, line: &str) -> Result<Vec<Vec<u8>>, ImapError> {
        self.execute(Command::new(line)).map(|answer| answer.untagged)
    }

    /// Creates a mailbox.
    pub fn create(&mut self, mailbox: &str) -> Result<(), ImapError> {
        self.execute(Command::new("CREATE").text(mailbox)).map(drop)
    }

    /// Creates a mailbox for a purpose, as `\Sent` (RFC 6154).
    pub fn create_for(&mut self, mailbox: &str, purpose: &str) -> Result<(), ImapError> {
        self.execute(Command::new("CREATE").text(mailbox).raw(&format!("(USE ({purpose}))")))
            .map(drop)
    }

    /// Renames a mailbox and what is below it.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), ImapError> {
        self.execute(Command::new("RENAME").text(from).text(to)).map(drop)
    }

    /// Deletes a mailbox.
    pub fn delete(&mut self, mailbox: &str) -> Result<(), ImapError> {
        self.execute(Command::new("DELETE").text(mailbox)).map(drop)
    }

    /// Subscribes to a mailbox.
    pub fn subscribe(&mut self, mailbox: &str) -> Result<(), ImapError> {
        self.execute(Command::new("SUBSCRIBE").text(mailbox)).map(drop)
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, mailbox: &str) -> Result<(), ImapError> {
        self.execute(Command::new("UNSUBSCRIBE").text(mailbox)).map(drop)
    }

    /// Gives a user rights to a mailbox (RFC 4314).
    pub fn set_acl(&mut self, mailbox: &str, user: &str, rights: &str) -> Result<(), ImapError> {
        self.execute(Command::new("SETACL").text(mailbox).text(user).text(rights)).map(drop)
    }

    /// Sets or, with `None`, removes an annotation of a mailbox, or of the server where `mailbox`
    /// is empty (RFC 5464). Entries are `/private/comment`, `/shared/comment` and the like.
    pub fn set_metadata(
        &mut self,
        mailbox: &str,
        entry: &str,
        value: Option<&str>,
    ) -> Result<(), ImapError> {
        let command = Command::new("SETMETADATA").text(mailbox).raw(&format!("({entry}"));
        let command = match value {
            Some(value) => command.text(value),
            None => command.raw("NIL"),
        };
        self.execute(command.close()).map(drop)
    }

    /// Annotates messages of the selected mailbox (RFC 5257): `entry` is `/comment` or
    /// `/altsubject`, `attribute` is `value.priv` or `value.shared`.
    pub fn annotate(
        &mut self,
        uids: &str,
        entry: &str,
        attribute: &str,
        value: &str,
    ) -> Result<(), ImapError> {
        let command = Command::new("UID STORE")
            .raw(uids)
            .raw(&format!("ANNOTATION ({entry} ({attribute}"))
            .text(value)
            .close();
        self.execute(command.close()).map(drop)
    }

    /// Sets quota limits, as `STORAGE 100000 MESSAGE 5000` (RFC 9208; storage counts in KiB).
    pub fn set_quota(&mut self, root: &str, limits: &str) -> Result<(), ImapError> {
        self.execute(Command::new("SETQUOTA").text(root).raw(&format!("({limits})"))).map(drop)
    }

    /// The names of the mailboxes that match a pattern, sorted.
    pub fn list(&mut self, pattern: &str) -> Result<Vec<String>, ImapError> {
        let mut names = Vec::new();
        for (_, name) in self.list_attributes(pattern)? {
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// The attributes and names of the mailboxes that match a pattern, in the server's order.
    pub fn list_attributes(
        &mut self,
        pattern: &str,
    ) -> Result<Vec<(Vec<String>, String)>, ImapError> {
        let command = Command::new("LIST").text("").text(pattern);
        self.listing(command, b"LIST")
    }

    /// The names that the user is subscribed to, sorted.
    pub fn subscriptions(&mut self) -> Result<Vec<String>, ImapError> {
        let listed = self.listing(Command::new("LSUB").text("").text("*"), b"LSUB")?;
        let mut names: Vec<String> = listed
            .into_iter()
            .filter(|(attributes, _)| !attributes.iter().any(|word| word == "\\Noselect"))
            .map(|(_, name)| name)
            .collect();
        names.sort();
        Ok(names)
    }

    /// Opens a mailbox for reading and writing.
    pub fn select(&mut self, mailbox: &str) -> Result<Selected, ImapError> {
        self.execute(Command::new("SELECT").text(mailbox)).map(|answer| answer.selected())
    }

    /// Opens a mailbox for reading only.
    pub fn examine(&mut self, mailbox: &str) -> Result<Selected, ImapError> {
        self.execute(Command::new("EXAMINE").text(mailbox)).map(|answer| answer.selected())
    }

    /// Closes the mailbox without expunging anything (RFC 3691).
    pub fn unselect(&mut self) -> Result<(), ImapError> {
        self.execute(Command::new("UNSELECT")).map(drop)
    }

    /// The answer to STATUS with those items, as a number each; 0 where the server names none.
    pub fn status(&mut self, mailbox: &str, items: &[&str]) -> Result<Vec<u64>, ImapError> {
        let command = Command::new("STATUS").text(mailbox).raw(&format!("({})", items.join(" ")));
        let answer = self.execute(command)?;
        let mut numbers = vec![0; items.len()];
        for raw in &answer.untagged {
            let values = wire::parse(raw);
            let Some(pairs) = values.last().filter(|_| is_response(&values, b"STATUS")) else {
                continue;
            };
            for pair in pairs.items().chunks_exact(2) {
                let name = pair[0].text().unwrap_or_default();
                if let Some(at) = items.iter().position(|item| item.eq_ignore_ascii_case(&name)) {
                    numbers[at] = pair[1].number().unwrap_or(0);
                }
            }
        }
        Ok(numbers)
    }

    /// Appends one message and returns its UID.
    pub fn append(&mut self, mailbox: &str, message: Append<'_>) -> Result<u32, ImapError> {
        let uids = self.append_all(mailbox, &[message])?;
        uids.first().copied().ok_or_else(|| ImapError::Unexpected {
            command: format!("APPEND {mailbox}"),
            text: "no APPENDUID".into(),
        })
    }

    /// Appends messages in one transaction (RFC 3502) and returns their UIDs.
    pub fn append_all(
        &mut self,
        mailbox: &str,
        messages: &[Append<'_>],
    ) -> Result<Vec<u32>, ImapError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = Command::new("APPEND").text(mailbox);
        for message in messages {
            command = command.raw(&format!("({})", message.flags.join(" ")));
            if let Some(secs) = message.internaldate {
                command = command.text(&date_time(secs));
            }
            command = command.literal(message.message);
        }
        let answer = self.execute(command)?;
        Ok(answer.code("APPENDUID").and_then(|words| expand(words.get(1)?)).unwrap_or_default())
    }

    /// Changes flags of messages of the selected mailbox; `change` is `+FLAGS`, `-FLAGS` or `FLAGS`.
    pub fn store(&mut self, uids: &str, change: &str, flags: &[&str]) -> Result<(), ImapError> {
        let line = format!("UID STORE {uids} {change}.SILENT ({})", flags.join(" "));
        self.execute(Command::new(&line)).map(drop)
    }

    /// Copies messages of the selected mailbox and returns their new UIDs.
    pub fn copy(&mut self, uids: &str, to: &str) -> Result<Vec<u32>, ImapError> {
        let answer = self.execute(Command::new("UID COPY").raw(uids).text(to))?;
        Ok(answer.code("COPYUID").and_then(|words| expand(words.get(2)?)).unwrap_or_default())
    }

    /// Moves messages of the selected mailbox (RFC 6851).
    pub fn move_to(&mut self, uids: &str, to: &str) -> Result<(), ImapError> {
        self.execute(Command::new("UID MOVE").raw(uids).text(to)).map(drop)
    }

    /// Expunges every message of the selected mailbox that is flagged `\Deleted`.
    pub fn expunge(&mut self) -> Result<(), ImapError> {
        self.execute(Command::new("EXPUNGE")).map(drop)
    }

    /// Expunges those that are named and flagged `\Deleted` (RFC 4315).
    pub fn uid_expunge(&mut self, uids: &str) -> Result<(), ImapError> {
        self.execute(Command::new("UID EXPUNGE").raw(uids)).map(drop)
    }

    /// The UIDs of the selected mailbox that match, as `ALL` or `DELETED`, ascending.
    pub fn search(&mut self, criteria: &str) -> Result<Vec<u32>, ImapError> {
        let answer = self.execute(Command::new("UID SEARCH").raw(criteria))?;
        let mut uids = Vec::new();
        for raw in &answer.untagged {
            let values = wire::parse(raw);
            if is_response(&values, b"SEARCH") {
                uids.extend(values[2..].iter().filter_map(uid_of));
            }
        }
        uids.sort_unstable();
        Ok(uids)
    }

    /// The bytes of one message of the selected mailbox; `None` if there is none with that UID.
    pub fn body(&mut self, uid: u32) -> Result<Option<Vec<u8>>, ImapError> {
        let mut body = None;
        self.fetch(&uid.to_string(), "BODY.PEEK[]", &mut |fetched| {
            body = fetched.get("BODY[]").and_then(Value::bytes).map(<[u8]>::to_vec);
        })?;
        Ok(body)
    }

    /// Fetches items, and the UID, of messages of the selected mailbox. Each message is handed over
    /// as it comes; they are never held all at once.
    pub fn fetch(
        &mut self,
        uids: &str,
        items: &str,
        each: &mut dyn FnMut(Fetched<'_>),
    ) -> Result<(), ImapError> {
        let command = Command::new("UID FETCH").raw(uids).raw(&format!("(UID {items})"));
        self.execute_each(command, &mut |raw| {
            let values = wire::parse(raw);
            if values.get(2).and_then(Value::bytes) != Some(b"FETCH") {
                return;
            }
            each(Fetched { pairs: values.get(3).map(Value::items).unwrap_or_default() });
        })
        .map(drop)
    }

    /// Begins to wait for news of the selected mailbox (RFC 2177).
    pub fn idle(&mut self) -> Result<(), ImapError> {
        let failed = |source| ImapError::Io { command: "IDLE".to_owned(), source };
        self.output.write_all(b"T IDLE\r\n").map_err(failed)?;
        let mut raw = Vec::new();
        wire::read_response(&mut self.input, &mut raw).map_err(failed)?;
        match raw.starts_with(b"+") {
            true => Ok(()),
            false => Err(ImapError::Unexpected { command: "IDLE".to_owned(), text: lossy(&raw) }),
        }
    }

    /// Goes on waiting until there is news that ends with this word, and returns all that came.
    pub fn idle_until(&mut self, word: &str) -> Result<Vec<String>, ImapError> {
        let failed = |source| ImapError::Io { command: "IDLE".to_owned(), source };
        let (mut news, mut raw) = (Vec::new(), Vec::new());
        while !news.last().is_some_and(|line: &String| line.ends_with(word)) {
            wire::read_response(&mut self.input, &mut raw).map_err(failed)?;
            news.push(lossy(&raw));
        }
        self.output.write_all(b"DONE\r\n").map_err(failed)?;
        loop {
            wire::read_response(&mut self.input, &mut raw).map_err(failed)?;
            match raw.starts_with(b"T OK") {
                true => return Ok(news),
                false => news.push(lossy(&raw)),
            }
        }
    }

    /// Says good-bye.
    pub fn logout(mut self) -> Result<(), ImapError> {
        self.execute(Command::new("LOGOUT")).map(drop)
    }

    fn listing(
        &mut self,
        command: Command,
        response: &[u8],
    ) -> Result<Vec<(Vec<String>, String)>, ImapError> {
        let answer = self.execute(command)?;
        let mut found = Vec::new();
        for raw in &answer.untagged {
            let values = wire::parse(raw);
            if is_response(&values, response)
                && let [_, _, attributes, _, name, ..] = values.as_slice()
            {
                let attributes = attributes.items().iter().filter_map(Value::text).collect();
                found.push((attributes, name.text().unwrap_or_default()));
            }
        }
        Ok(found)
    }

    fn execute(&mut self, command: Command) -> Result<Answer, ImapError> {
        let mut untagged = Vec::new();
        let tagged = self.execute_each(command, &mut |raw| untagged.push(raw.to_vec()))?;
        Ok(Answer { untagged, tagged })
    }

    /// Sends a command, hands over each untagged response, and returns the text behind `OK`.
    fn execute_each(
        &mut self,
        command: Command,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<String, ImapError> {
        let name = command.name();
        let failed = |source| ImapError::Io { command: name.clone(), source };
        self.output.write_all(&command.bytes).map_err(failed)?;
        self.output.write_all(b"\r\n").map_err(failed)?;
        let mut raw = Vec::new();
        loop {
            wire::read_response(&mut self.input, &mut raw).map_err(failed)?;
            if raw.starts_with(b"* ") {
                each(&raw);
                continue;
            }
            let text = lossy(&raw);
            let command = name.clone();
            return match text.strip_prefix("T ").and_then(|rest| rest.split_once(' ')) {
                Some(("OK", rest)) => Ok(rest.to_owned()),
                Some(("NO", rest)) => Err(ImapError::No { command, text: rest.to_owned() }),
                Some(("BAD", rest)) => Err(ImapError::Bad { command, text: rest.to_owned() }),
                _ => Err(ImapError::Unexpected { command, text }),
            };
        }
    }
}

/// What was fetched of one message.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    pairs: &'a [Value<'a>],
}

impl<'a> Fetched<'a> {
    /// The value of an item, as `FLAGS` or `BODY[]`.
    pub fn get(&self, item: &str) -> Option<&'a Value<'a>> {
        let named = |pair: &&[Value<'_>]| pair[0].bytes() == Some(item.as_bytes());
        self.pairs.chunks_exact(2).find(named).map(|pair| &pair[1])
    }

    /// The value of an item as text; empty where there is none.
    pub fn text(&self, item: &str) -> String {
        self.get(item).and_then(Value::text).unwrap_or_default()
    }

    /// The value of an item as a number; 0 where there is none.
    pub fn number(&self, item: &str) -> u64 {
        self.get(item).and_then(Value::number).unwrap_or(0)
    }

    /// The UID; 0 where the response has none.
    pub fn uid(&self) -> u32 {
        u32::try_from(self.number("UID")).unwrap_or(0)
    }
}

struct Answer {
    untagged: Vec<Vec<u8>>,
    tagged: String,
}

impl Answer {
    /// The words of a response code behind its name, from the tagged line or an untagged `OK`.
    fn code(&self, name: &str) -> Option<Vec<String>> {
        let untagged = self.untagged.iter().map(|raw| lossy(raw));
        untagged.chain([self.tagged.clone()]).find_map(|text| {
            let (_, code) = text.split_once('[')?;
            let (code, _) = code.split_once(']')?;
            let mut words = code.split(' ');
            (words.next() == Some(name)).then(|| words.map(str::to_owned).collect())
        })
    }

    fn code_number(&self, name: &str) -> u64 {
        self.code(name).and_then(|words| words.first()?.parse().ok()).unwrap_or(0)
    }

    fn selected(&self) -> Selected {
        let exists = self.untagged.iter().find_map(|raw| {
            let values = wire::parse(raw);
            (values.get(2)?.bytes()? == b"EXISTS").then(|| values[1].number()).flatten()
        });
        let id = self.code("MAILBOXID").and_then(|words| words.into_iter().next());
        Selected {
            exists: exists.unwrap_or(0),
            uid_validity: self.code_number("UIDVALIDITY"),
            uid_next: self.code_number("UIDNEXT"),
            highest_modseq: self.code_number("HIGHESTMODSEQ"),
            mailbox_id: id.unwrap_or_default().trim_matches(['(', ')']).to_owned(),
        }
    }
}

/// A command under construction; the tag is always `T`, as there is only one at a time.
struct Command {
    bytes: Vec<u8>,
}

impl Command {
    fn new(start: &str) -> Self {
        Self { bytes: format!("T {start}").into_bytes() }
    }

    fn raw(mut self, word: &str) -> Self {
        self.bytes.push(b' ');
        self.bytes.extend_from_slice(word.as_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return self.literal(text.as_bytes());
        }
        self.bytes.extend_from_slice(b" \"");
        for byte in text.bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.bytes.push(b'\\');
            }
            self.bytes.push(byte);
        }
        self.bytes.push(b'"');
        self
    }

    /// A literal that does not wait for the server's go-ahead (RFC 7888).
    fn literal(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(format!(" {{{}+}}\r\n", bytes.len()).as_bytes());
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn close(mut self) -> Self {
        self.bytes.push(b')');
        self
    }

    /// The beginning of the command, for errors.
    fn name(&self) -> String {
        let line = self.bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = line.strip_prefix(b"T ").unwrap_or(line);
        lossy(&line[..line.len().min(120)])
    }
}

pub(super) fn is_response(values: &[Value<'_>], name: &[u8]) -> bool {
    values.get(1).and_then(Value::bytes) == Some(name)
}

fn uid_of(value: &Value<'_>) -> Option<u32> {
    u32::try_from(value.number()?).ok()
}

fn lossy(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).trim_end().to_owned()
}

/// The numbers of a set like `4:6,9`; a server that names millions is not believed.
fn expand(set: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in set.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last - first > 10_000_000 {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}
