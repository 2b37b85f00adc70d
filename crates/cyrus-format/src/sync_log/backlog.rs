//! What is to be looked at, after any number of lines.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use model::{MboxName, Userid};

use super::{BadLine, Entry, LINE_BYTES_MAX};
use crate::names::NameRules;

/// Lines as they come, in pieces that may begin and end anywhere. What is kept grows with the number of
/// different lines only, and a line that came before costs one look into a table.
#[derive(Debug)]
pub struct Backlog<'r> {
    rules: &'r NameRules,
    /// Good lines that were read.
    known: HashSet<Box<[u8]>>,
    /// The beginning of a line whose end is still to come.
    rest: Vec<u8>,
    /// That line is longer than any.
    is_too_long: bool,
    work: Work,
}

/// What is to be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// How much of which accounts. Mailboxes that no user owns are one account.
    pub accounts: BTreeMap<Userid, Scope>,
    /// How many lines were read, whatever was in them.
    pub lines: u64,
    /// Lines that are none.
    pub malformed: Malformed,
    /// Lines about annotations of the server itself, which belong to no account.
    pub of_server: u64,
}

/// How much of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// These mailboxes.
    Mailboxes(BTreeSet<MboxName>),
    /// All that there is.
    Whole,
}

/// Lines that nobody can read, or that ended before their time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Malformed {
    /// How many.
    pub lines: u64,
    /// The first of them, no more of it than a line may have, and what is wrong with it.
    pub example: Option<(Vec<u8>, BadLine)>,
}

impl<'r> Backlog<'r> {
    /// Without a line.
    pub fn new(rules: &'r NameRules) -> Self {
        Self {
            rules,
            known: HashSet::new(),
            rest: Vec::new(),
            is_too_long: false,
            work: Work::default(),
        }
    }

    /// Takes what follows.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = piece.split_at(end);
            piece = &behind[1..];
            if self.rest.is_empty() && !self.is_too_long {
                self.line(line);
                continue;
            }
            self.keep(line);
            let whole = std::mem::take(&mut self.rest);
            match std::mem::take(&mut self.is_too_long) {
                true => self.malformed(&whole, BadLine::TooLong),
                false => self.line(&whole),
            }
        }
        self.keep(piece);
    }

    /// Keeps a part of a line.
    fn keep(&mut self, part: &[u8]) {
        let room = (LINE_BYTES_MAX + 1).saturating_sub(self.rest.len());
        self.is_too_long |= part.len() > room;
        self.rest.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn line(&mut self, line: &[u8]) {
        self.work.lines += 1;
        if self.known.contains(line) {
            return;
        }
        // Where a machine has crashed, a file system may have put zeros in front.
        let zeros = line.iter().take_while(|byte| **byte == 0).count();
        match Entry::parse(&line[zeros..]) {
            Ok(Some(entry)) => {
                self.known.insert(line.into());
                self.work.add(&entry, self.rules);
            }
            Ok(None) => {}
            Err(why) => self.work.malformed.add(line, why),
        }
    }

    fn malformed(&mut self, line: &[u8], why: BadLine) {
        self.work.lines += 1;
        self.work.malformed.add(line, why);
    }

    /// What is to be looked at. A last line without an end was torn: its name may go on, and nobody
    /// knows how, so that all of the account counts whose name it is.
    pub fn finish(mut self) -> Work {
        let torn = std::mem::take(&mut self.rest);
        if torn.is_empty() {
            return self.work;
        }
        self.malformed(&torn, BadLine::Names);
        // What is missing: a quotation mark, a second name, or the space in front of it as well.
        for end in [&b""[..], b"\"", b"x", b" x"] {
            if let Ok(Some(entry)) = Entry::parse(&[torn.as_slice(), end].concat()) {
                for account in entry.accounts(self.rules) {
                    self.work.whole(account);
                }
                break;
            }
        }
        self.work
    }
}

impl Work {
    /// Adds what an entry is about.
    pub fn add(&mut self, entry: &Entry, rules: &NameRules) {
        match entry {
            Entry::Append(name) | Entry::Mailbox(name) => self.mailbox(name, rules),
            Entry::DoubleMailbox(from, to) => {
                self.mailbox(from, rules);
                self.mailbox(to, rules);
            }
            Entry::Annotation(name) if name.is_empty() => self.of_server += 1,
            Entry::Annotation(name) => self.mailbox(name, rules),
            _ => entry.accounts(rules).into_iter().for_each(|account| self.whole(account)),
        }
    }

    fn mailbox(&mut self, name: &MboxName, rules: &NameRules) {
        let scope = self.accounts.entry(owner(name, rules));
        let scope = scope.or_insert_with(|| Scope::Mailboxes(BTreeSet::new()));
        if let Scope::Mailboxes(names) = scope {
            names.insert(name.clone());
        }
    }

    fn whole(&mut self, account: Userid) {
        self.accounts.insert(account, Scope::Whole);
    }

    /// The same as lines of a sync log, as few as possible.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.accounts.iter().flat_map(|(account, scope)| match scope {
            Scope::Whole => vec![Entry::User(account.clone())],
            Scope::Mailboxes(names) => names.iter().cloned().map(Entry::Mailbox).collect(),
        })
    }
}

impl Scope {
    /// How many entries it stands for.
    pub fn count(&self) -> u64 {
        match self {
            Scope::Whole => 1,
            Scope::Mailboxes(names) => names.len() as u64,
        }
    }
}

impl Malformed {
    fn add(&mut self, line: &[u8], why: BadLine) {
        self.lines += 1;
        if self.example.is_none() {
            self.example = Some((line[..line.len().min(LINE_BYTES_MAX)].to_vec(), why));
        }
    }
}

impl Entry {
    /// Whose it is: of what was renamed from one user to another, both.
    pub fn accounts(&self, rules: &NameRules) -> BTreeSet<Userid> {
        match self {
            Entry::Append(name)
            | Entry::Mailbox(name)
            | Entry::UnMailbox(name)
            | Entry::Quota(name)
            | Entry::Annotation(name) => [owner(name, rules)].into(),
            Entry::DoubleMailbox(from, to) | Entry::Rename(from, to) => {
                [owner(from, rules), owner(to, rules)].into()
            }
            Entry::User(user)
            | Entry::UnUser(user)
            | Entry::Meta(user)
            | Entry::Sieve(user)
            | Entry::Sub(user, _)
            | Entry::UnSub(user, _)
            | Entry::Seen(user, _) => [user.clone()].into(),
        }
    }
}

fn owner(name: &MboxName, rules: &NameRules) -> Userid {
    rules.owner(name).unwrap_or_else(Userid::shared)
}
