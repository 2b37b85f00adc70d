//! What a master says.
//!
//! The framer hands out a command as a [line](crate::framer::Event::Line) or as
//! [data](crate::framer::Event::Data); here it gets its meaning. [`Command::write`] is the way back.

mod apply;
mod get;

use cyrus_format::dlist::{DlistRef, Literals};
use model::{MboxName, Modseq, Partition, UidValidity, UniqueId};
use thiserror::Error;

pub use apply::{Apply, Expunge, Rename, Reserve, SieveName, SieveScript, Subscription};
pub use get::{Fetch, Get};

use crate::framer::{Data, Reason, Refused};
use crate::mailbox::Mailbox;
use crate::message::FileWriter;
use crate::record::RecordWriter;
use crate::reply::{No, Reply};
use crate::sasl::SaslData;
use crate::wire::{Fields, ValueError, Writer};

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Log in.
    Authenticate {
        /// The SASL mechanism, in capitals.
        mechanism: String,
        /// The first response, if it came along.
        initial: Option<SaslData>,
    },
    /// Begin TLS.
    StartTls,
    /// Compress from now on.
    Compress {
        /// How, in capitals; Cyrus knows `DEFLATE`.
        algorithm: String,
    },
    /// Are you there?
    Noop,
    /// Forget the messages that were reserved or sent.
    Restart,
    /// Good-bye.
    Exit,
    /// Not of this protocol: before each session, `sync_client` since 3.0 tries whether this is an
    /// IMAP server, and waits ten seconds for an answer with this tag.
    Capability {
        /// `C01`
        tag: Vec<u8>,
    },
    /// Tell.
    Get(Get),
    /// Do.
    Apply(Apply),
    /// Add the records that came before this to a mailbox, with new UIDs (3.0 to 3.12).
    Restore(Box<Restore>),
}

/// RESTORE MAILBOX: where messages of a backup go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restore {
    /// Its name.
    pub mboxname: MboxName,
    /// Its identity; with the next two, the mailbox is made if it is not there.
    pub uniqueid: Option<UniqueId>,
    /// Its MODSEQ.
    pub highestmodseq: Option<Modseq>,
    /// Its incarnation.
    pub uidvalidity: Option<UidValidity>,
    /// Where it is made.
    pub partition: Option<Partition>,
    /// With which rights.
    pub acl: Option<Vec<u8>>,
}

/// Why a command cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommandError {
    /// An empty line.
    #[error("no command")]
    Null,
    /// The first word means nothing.
    #[error("an unknown command")]
    Unrecognized,
    /// An argument is missing behind this word.
    #[error("{0} without an argument")]
    MissingArgument(&'static str),
    /// There is one too many.
    #[error("{0} with too many arguments")]
    ExtraArguments(&'static str),
    /// A response that is no base64.
    #[error("not base64")]
    Base64,
    /// GET or APPLY of a thing that is none.
    #[error("nothing that can be got or applied")]
    UnknownName,
    /// It cannot be read.
    #[error("read the command")]
    Refused(#[from] Refused),
    /// A field is missing or ill-formed.
    #[error("read the argument")]
    Value(#[from] ValueError),
}

impl CommandError {
    /// What Cyrus 3.6 answers.
    pub fn reply(&self) -> Reply {
        match self {
            CommandError::Null => Reply::bad("Null command"),
            CommandError::Unrecognized => Reply::unrecognized(),
            CommandError::MissingArgument(word) => {
                Reply::bad(format!("Missing required argument to {word}"))
            }
            CommandError::ExtraArguments(word) => {
                Reply::bad(format!("Unexpected extra arguments to {word}"))
            }
            CommandError::Base64 => Reply::No(No::Other("bad protocol / cancel".into())),
            CommandError::UnknownName => Reply::No(No::ProtocolError),
            CommandError::Value(_) => Reply::No(No::BadParameters),
            CommandError::Refused(refused) => {
                let verb = String::from_utf8_lossy(&refused.verb);
                let verb = verb.strip_prefix("SYNC").unwrap_or(&verb);
                let failed = format!("IMAP_PROTOCOL_ERROR Failed to parse {verb} line");
                match (verb, &refused.reason) {
                    // Cyrus dies of these, so that it has no words for them.
                    (_, reason @ Reason::TooLarge { .. }) => {
                        Reply::bad(format!("{failed}: {reason}"))
                    }
                    ("GET" | "APPLY" | "RESTORE", _) => Reply::bad(failed),
                    _ => Reply::unrecognized(),
                }
            }
        }
    }
}

impl Command {
    /// Reads a command that has no value.
    ///
    /// # Errors
    /// If it is none, or has too few or too many arguments.
    pub fn from_line(line: &[u8]) -> Result<Self, CommandError> {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let (first, arguments) = words.split_first().ok_or(CommandError::Null)?;
        let none = |word, command| match arguments {
            [] => Ok(command),
            _ => Err(CommandError::ExtraArguments(word)),
        };
        match (first.to_ascii_uppercase().as_slice(), arguments) {
            (b"", []) => Err(CommandError::Null),
            (b"AUTHENTICATE", _) => authenticate(arguments),
            (b"STARTTLS", _) => none("Starttls", Command::StartTls),
            (b"COMPRESS", []) => Err(CommandError::MissingArgument("Compress")),
            (b"COMPRESS", [algorithm]) => Ok(Command::Compress { algorithm: capitals(algorithm) }),
            (b"COMPRESS", _) => Err(CommandError::ExtraArguments("Compress")),
            (b"NOOP", _) => none("Noop", Command::Noop),
            (b"RESTART", _) => none("Restart", Command::Restart),
            (b"EXIT", _) => none("Exit", Command::Exit),
            (_, [word]) if word.eq_ignore_ascii_case(b"CAPABILITY") => {
                Ok(Command::Capability { tag: first.to_vec() })
            }
            _ => Err(CommandError::Unrecognized),
        }
    }

    /// Reads the same within IMAP; also returns its tag. What IMAP has under another name gets ours.
    ///
    /// # Errors
    /// As for [`Command::from_line`].
    pub fn from_imap_line(line: &[u8]) -> Result<(Vec<u8>, Self), CommandError> {
        let mut words = line.splitn(2, |byte| *byte == b' ');
        let tag = words.next().unwrap_or_default();
        let rest = words.next().ok_or(CommandError::Null)?;
        let command = match rest.to_ascii_uppercase().as_slice() {
            b"CAPABILITY" => Command::Capability { tag: tag.to_vec() },
            b"SYNCRESTART" => Command::Restart,
            b"LOGOUT" => Command::Exit,
            b"RESTART" | b"EXIT" => return Err(CommandError::Unrecognized),
            _ => Self::from_line(rest)?,
        };
        Ok((tag.to_vec(), command))
    }

    /// Reads a command with a value.
    ///
    /// # Errors
    /// If the thing is unknown, or its value is not what it should be.
    pub fn from_data(data: Data<'_>) -> Result<Self, CommandError> {
        let value = DlistRef::parse_exact(data.value)
            .map_err(|_| CommandError::Refused(data.refuse("keys and values out of order")))?;
        match data.verb.strip_prefix(b"SYNC").unwrap_or(data.verb) {
            b"GET" => Get::parse(data.name, &value).map(Command::Get),
            b"APPLY" => Apply::parse(data.name, &value).map(Command::Apply),
            b"RESTORE" => match data.name.strip_prefix(b"LOCAL_").unwrap_or(data.name) {
                b"MAILBOX" => Ok(Command::Restore(Box::new(Restore::parse(&value)?))),
                _ => Err(CommandError::UnknownName),
            },
            _ => Err(CommandError::Unrecognized),
        }
    }

    /// Appends the command, without files and records. A `tag` makes it one within IMAP.
    pub fn write(&self, tag: Option<&str>, out: &mut Vec<u8>) {
        match self {
            Command::Get(get) => {
                begin("GET", get.name(), tag, out);
                get.write(&mut Writer::new(out, Literals::Plus));
            }
            Command::Apply(apply) => {
                begin("APPLY", apply.name(), tag, out);
                apply.write(&mut Writer::new(out, Literals::Plus));
            }
            Command::Restore(restore) => {
                begin("RESTORE", "MAILBOX", tag, out);
                restore.write(&mut Writer::new(out, Literals::Plus));
            }
            line => {
                if let Some(tag) = tag {
                    out.extend_from_slice(format!("{tag} ").as_bytes());
                }
                line.write_line(tag.is_some(), out);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the beginning of [`Apply::Message`]; its files are to follow.
    pub fn begin_files(tag: Option<&str>, out: &mut Vec<u8>) -> FileWriter {
        begin("APPLY", Apply::Message.name(), tag, out);
        FileWriter::begin(out)
    }

    /// Appends the beginning of [`Apply::Mailbox`]; its records are to follow.
    pub fn begin_mailbox(mailbox: &Mailbox, tag: Option<&str>, out: &mut Vec<u8>) -> RecordWriter {
        begin("APPLY", "MAILBOX", tag, out);
        mailbox.begin(Literals::Plus, out)
    }

    fn write_line(&self, imap: bool, out: &mut Vec<u8>) {
        let text = match self {
            Command::Authenticate { mechanism, .. } => format!("AUTHENTICATE {mechanism}"),
            Command::StartTls => "STARTTLS".to_owned(),
            Command::Compress { algorithm } => format!("COMPRESS {algorithm}"),
            Command::Noop => "NOOP".to_owned(),
            Command::Restart => if imap { "SYNCRESTART" } else { "RESTART" }.to_owned(),
            Command::Exit => if imap { "LOGOUT" } else { "EXIT" }.to_owned(),
            _ => String::new(),
        };
        match self {
            Command::Capability { tag } if !imap => out.extend([tag, &b" CAPABILITY"[..]].concat()),
            Command::Capability { .. } => out.extend_from_slice(b"CAPABILITY"),
            _ => out.extend_from_slice(text.as_bytes()),
        }
        if let Command::Authenticate { initial: Some(initial), .. } = self {
            out.push(b' ');
            match initial.as_bytes() {
                [] => out.push(b'='),
                _ => initial.encode(out),
            }
        }
    }
}

/// Appends what precedes a value.
fn begin(verb: &str, name: &str, tag: Option<&str>, out: &mut Vec<u8>) {
    let text = match tag {
        Some(tag) => format!("{tag} SYNC{verb} {name} "),
        None => format!("{verb} {name} "),
    };
    out.extend_from_slice(text.as_bytes());
}

fn authenticate(arguments: &[&[u8]]) -> Result<Command, CommandError> {
    let (mechanism, initial) = match arguments {
        [] => return Err(CommandError::MissingArgument("Authenticate")),
        [mechanism] => (mechanism, None),
        [mechanism, initial] => (mechanism, Some(initial)),
        _ => return Err(CommandError::ExtraArguments("Authenticate")),
    };
    let initial = initial.map(|text| SaslData::decode(text).ok_or(CommandError::Base64));
    Ok(Command::Authenticate { mechanism: capitals(mechanism), initial: initial.transpose()? })
}

fn capitals(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_uppercase()
}

/// A list of names. Cyrus takes the values of keys for one, too.
fn names<'a>(value: &'a DlistRef<'a>) -> Result<impl Iterator<Item = &'a [u8]>, ValueError> {
    let names: Option<Vec<&[u8]>> = match value {
        DlistRef::List(items) => items.iter().map(DlistRef::as_bytes).collect(),
        DlistRef::Kv(pairs) => pairs.iter().map(|(_, item)| item.as_bytes()).collect(),
        _ => None,
    };
    Ok(names.ok_or(ValueError::Shape("a list of names"))?.into_iter())
}

impl Restore {
    fn parse(value: &DlistRef<'_>) -> Result<Self, ValueError> {
        let fields = Fields::of(value)?;
        Ok(Self {
            mboxname: MboxName::new(fields.bytes("MBOXNAME")?),
            uniqueid: fields.opt_bytes("UNIQUEID")?.map(UniqueId::new),
            highestmodseq: fields.opt_num("HIGHESTMODSEQ")?.map(Modseq),
            uidvalidity: fields.opt_num("UIDVALIDITY")?.map(UidValidity),
            partition: fields.opt_bytes("PARTITION")?.map(Partition::new),
            acl: fields.opt_bytes("ACL")?.map(<[u8]>::to_vec),
        })
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.pairs(|w| {
            if let Some(uniqueid) = &self.uniqueid {
                w.key("UNIQUEID").string(uniqueid.as_bytes());
            }
            w.key("MBOXNAME").string(self.mboxname.as_bytes());
            if let Some(modseq) = self.highestmodseq {
                w.key("HIGHESTMODSEQ").num(modseq.0);
            }
            if let Some(uidvalidity) = self.uidvalidity {
                w.key("UIDVALIDITY").num(uidvalidity.0.into());
            }
            if let Some(partition) = &self.partition {
                w.key("PARTITION").string(partition.as_bytes());
            }
            if let Some(acl) = &self.acl {
                w.key("ACL").string(acl);
            }
            w.key("RECORD").list(|_| {});
        });
    }
}
