//! What is to be looked at, after any number of lines.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use model::{MboxName, Userid};

use super::{BadLine, Entry, LINE_BYTES_MAX, WORDS};
use crate::names::NameRules;

/// Lines as they come, in pieces that may begin and end anywhere. What is kept grows with the number of
/// different lines only, and a line that came before costs one look into a table.
#[derive(Debug)]
pub struct Backlog<'r> {
    found: Found<'r>,
    /// Good lines that were read; of those about one mailbox, which are nearly all, its name.
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
            found: Found::new(rules),
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
            // What is kept of zeros is the same wherever pieces end.
            if self.rest.is_empty() && !self.is_too_long && !line.contains(&0) {
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
        for byte in part {
            // Of any number of zeros, one says as much.
            if *byte == 0 && self.rest.last() == Some(&0) {
                continue;
            }
            if self.rest.len() > LINE_BYTES_MAX {
                self.is_too_long = true;
                return;
            }
            self.rest.push(*byte);
        }
    }

    fn line(&mut self, line: &[u8]) {
        self.work.lines += 1;
        let key = of_one_mailbox(line).unwrap_or(line);
        let is_key_alone = key.len() == line.len() && !line.contains(&b' ');
        if !is_key_alone && self.known.contains(key) {
            return;
        }
        // Where a machine has crashed, a file system may have put zeros in front.
        let zeros = line.iter().take_while(|byte| **byte == 0).count();
        match Entry::parse(&line[zeros..]) {
            Ok(Some(entry)) => {
                self.known.insert(key.into());
                let may_be_two = entry.has_two_names() && has_glue(line);
                self.found.add(entry);
                if may_be_two {
                    self.unglue(line, true);
                }
            }
            Ok(None) => {}
            Err(why) => {
                self.work.malformed.add(line, why);
                self.mend(line);
            }
        }
    }

    /// Looks for entries in what is no line. A writer that died has left the beginning of his, perhaps
    /// with zeros behind it, and the next one has written on from there.
    fn mend(&mut self, line: &[u8]) {
        let mut parts = line.split(|byte| *byte == 0).filter(|part| !part.is_empty()).peekable();
        while let Some(part) = parts.next() {
            self.unglue(part, parts.peek().is_none());
        }
    }

    /// Takes entries apart that stand one behind the other, each torn but perhaps the last. What belongs to
    /// none is left out.
    fn unglue(&mut self, glued: &[u8], has_end: bool) {
        let (mut end, mut has_end) = (glued.len(), has_end);
        for space in glued.iter().enumerate().rev().filter(|(_, byte)| **byte == b' ') {
            let word = word_at_end(&glued[..space.0]);
            let Some(start) = word.filter(|_| space.0 < end) else { continue };
            let part = &glued[start..end];
            let is_one = match has_end {
                true => {
                    let entry = Entry::parse(part).ok().flatten();
                    entry.map(|entry| self.found.add(entry)).is_some()
                }
                false => self.torn_entry(part),
            };
            if is_one {
                (end, has_end) = (start, false);
            }
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
        if !torn.is_empty() {
            self.torn(&torn);
        }
        self.work.of_server = self.found.of_server;
        self.work.accounts = self.found.scopes();
        self.work
    }

    fn torn(&mut self, torn: &[u8]) {
        self.malformed(torn, BadLine::Names);
        torn.split(|byte| *byte == 0).for_each(|part| self.unglue(part, false));
    }

    /// Takes an entry whose end is missing; whether it is one as far as it goes.
    fn torn_entry(&mut self, torn: &[u8]) -> bool {
        // What is missing: a quotation mark, a second name, or the space in front of it as well.
        let ends = [&b""[..], b"\"", b"x", b" x"];
        let entry = ends.iter().find_map(|end| Entry::parse(&[torn, end].concat()).ok().flatten());
        entry.map(|entry| self.found.whole(&entry)).is_some()
    }
}

impl Work {
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
    fn has_two_names(&self) -> bool {
        matches!(
            self,
            Entry::DoubleMailbox(..)
                | Entry::Rename(..)
                | Entry::Sub(..)
                | Entry::UnSub(..)
                | Entry::Seen(..)
        )
    }

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

/// What was found, in a form that takes much of it quickly.
#[derive(Debug)]
struct Found<'r> {
    rules: &'r NameRules,
    /// Names may come twice.
    accounts: Vec<(Vec<MboxName>, bool)>,
    /// Their numbers.
    numbers: HashMap<Userid, usize>,
    /// The same by the names of INBOXes, whose owners were found out before.
    inboxes: HashMap<Box<[u8]>, usize>,
    of_server: u64,
}

impl<'r> Found<'r> {
    fn new(rules: &'r NameRules) -> Self {
        let (numbers, inboxes) = (HashMap::new(), HashMap::new());
        Self { rules, accounts: Vec::new(), numbers, inboxes, of_server: 0 }
    }

    /// Adds what an entry is about.
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Append(name) | Entry::Mailbox(name) => self.mailbox(name),
            Entry::DoubleMailbox(from, to) => {
                self.mailbox(from);
                self.mailbox(to);
            }
            Entry::Annotation(name) if name.is_empty() => self.of_server += 1,
            Entry::Annotation(name) => self.mailbox(name),
            entry => self.whole(&entry),
        }
    }

    fn mailbox(&mut self, name: MboxName) {
        let inbox = inbox_of(name.as_bytes());
        let known = inbox.and_then(|inbox| self.inboxes.get(inbox)).copied();
        let number = known.unwrap_or_else(|| {
            let number = self.number(owner(&name, self.rules));
            if let Some(inbox) = inbox {
                self.inboxes.insert(inbox.into(), number);
            }
            number
        });
        if let Some((names, _)) = self.accounts.get_mut(number) {
            names.push(name);
        }
    }

    fn whole(&mut self, entry: &Entry) {
        for account in entry.accounts(self.rules) {
            let number = self.number(account);
            if let Some((names, whole)) = self.accounts.get_mut(number) {
                names.clear();
                *whole = true;
            }
        }
    }

    fn number(&mut self, account: Userid) -> usize {
        *self.numbers.entry(account).or_insert_with(|| {
            self.accounts.push((Vec::new(), false));
            self.accounts.len() - 1
        })
    }

    fn scopes(mut self) -> BTreeMap<Userid, Scope> {
        let mut scope = |number: usize| match self.accounts.get_mut(number) {
            Some((names, false)) => Scope::Mailboxes(std::mem::take(names).into_iter().collect()),
            _ => Scope::Whole,
        };
        self.numbers.into_iter().map(|(account, number)| (account, scope(number))).collect()
    }
}

/// What the owner of an ordinary name follows from: `user.glad` of `user.glad.Sent`. `None` for all names
/// that have to be looked at as a whole.
fn inbox_of(name: &[u8]) -> Option<&[u8]> {
    let user = name.strip_prefix(b"user.")?;
    let is_odd = |byte: &u8| matches!(byte, 0 | b'!' | 0x1d | 0x1f);
    if name.ends_with(b".") || name.windows(2).any(|two| two == b"..") || name.iter().any(is_odd) {
        return None;
    }
    let end = user.iter().position(|byte| *byte == b'.').unwrap_or(user.len());
    name.get(..name.len() - user.len() + end)
}

/// The name in a line about one mailbox, if it is written without quotation marks, whichever of the two
/// words stands in front of it.
fn of_one_mailbox(line: &[u8]) -> Option<&[u8]> {
    let name = line.strip_prefix(b"MAILBOX ").or_else(|| line.strip_prefix(b"APPEND "))?;
    // No other line begins like a name, which has no spaces.
    let is_name =
        name.starts_with(b"user.") && !name.iter().any(|byte| matches!(byte, b' ' | b'"'));
    is_name.then_some(name)
}

/// Where the word begins that stands at the end of this, the longest if it is one of several.
fn word_at_end(text: &[u8]) -> Option<usize> {
    let words = WORDS.iter().filter(|word| text.ends_with(word));
    words.map(|word| text.len() - word.len()).min()
}

/// Whether the second name of an entry may be the first one of another, whose word stands at the end of
/// the first name.
fn has_glue(line: &[u8]) -> bool {
    let space = line.iter().rposition(|byte| *byte == b' ');
    space.and_then(|space| word_at_end(&line[..space])).is_some_and(|start| start > 0)
}

fn owner(name: &MboxName, rules: &NameRules) -> Userid {
    rules.owner(name).unwrap_or_else(Userid::shared)
}
