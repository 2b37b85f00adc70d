//! Messages by what their envelopes say, through all snapshots of an account.
//!
//! A [`Search`] is fed with segments in the order of their lineage: with each one's catalogue
//! first, then, if it is a snapshot that counts, with what its mailboxes list. A segment that
//! holds a message precedes the snapshots that list it, so that one pass is enough. An index that
//! has not changed since the snapshot before is not read again.

use std::collections::BTreeMap;

use model::state::{Digest, MailboxKey};
use model::{Guid, MboxName, Uid};
use segment::chain::Chain;
use segment::manifest::{ManifestHead, StoredMailbox};

use crate::archive::ArchiveError;
use crate::base::{key_of, read_exceptions};
use crate::catalog::Envelope;
use crate::exceptions;
use crate::held::Held;
use crate::records::{EXPUNGE, INDEX, Records};
use crate::words::decode;

/// What to look for in envelopes: each text that is given must be in its field. Case and the width
/// of blanks do not matter, and encoded words are decoded before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// In From.
    pub from: Option<String>,
    /// In To.
    pub to: Option<String>,
    /// In Subject.
    pub subject: Option<String>,
    /// In Message-ID.
    pub message_id: Option<String>,
}

impl Query {
    fn matches(&self, envelope: &Envelope) -> bool {
        let fields = [
            (&self.from, &envelope.from),
            (&self.to, &envelope.to),
            (&self.subject, &envelope.subject),
            (&self.message_id, &envelope.message_id),
        ];
        let is_in = |text: &str, value: &[u8]| folded(&decode(value)).contains(text);
        fields.into_iter().all(|(text, value)| text.as_ref().is_none_or(|text| is_in(text, value)))
    }

    fn folded(self) -> Self {
        let fold = |text: Option<String>| text.map(|text| folded(&text));
        Self {
            from: fold(self.from),
            to: fold(self.to),
            subject: fold(self.subject),
            message_id: fold(self.message_id),
        }
    }
}

fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.push_str(&word.to_lowercase());
    }
    folded
}

/// A set of messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guids(Vec<Guid>);

impl Guids {
    /// Whether this message is in it.
    pub fn contains(&self, guid: &Guid) -> bool {
        self.0.binary_search(guid).is_ok()
    }

    fn add(&mut self, guids: impl Iterator<Item = Guid>) {
        self.0.extend(guids);
        // Fast where nearly all are in order already.
        self.0.sort();
        self.0.dedup();
    }
}

/// How a mailbox has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Clients see it.
    Visible,
    /// It is expunged, and its file is kept.
    Expunged,
    /// Its mailbox is deleted, and kept.
    Deleted,
}

/// Where a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'f> {
    /// The mailbox's internal name, when the message was last there.
    pub mailbox: &'f MboxName,
    /// Its number there.
    pub uid: Uid,
    /// How it was there.
    pub state: State,
    /// The first snapshot that has it there, by the number under which it was fed.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

/// A search that goes on.
pub struct Search<'p> {
    query: Query,
    /// Messages whose envelopes match; `None` if all do.
    matching: Option<Guids>,
    /// Which mailboxes are wanted, by their internal names.
    wanted: &'p dyn Fn(&[u8]) -> bool,
    mailboxes: BTreeMap<MailboxKey, Mailbox>,
    names: Vec<MboxName>,
    newest_fed: Option<u32>,
}

/// What is known of a mailbox.
struct Mailbox {
    listing: Listing,
    /// Its name in the snapshot that had it last: where that is in the list of all.
    name: u32,
    /// That snapshot.
    seen: u32,
    /// Whether its messages have been found to be in a mailbox that is wanted.
    is_wanted: bool,
    /// By UID, GUID and state.
    spans: Vec<Span>,
}

/// What decides which messages a mailbox lists, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listing {
    files: Vec<(String, Digest)>,
    deleted: bool,
}

impl Listing {
    fn of(stored: &StoredMailbox) -> Self {
        let deciding = stored
            .files
            .iter()
            .filter(|file| [INDEX, EXPUNGE, exceptions::FILE].contains(&&*file.name));
        let files = deciding.map(|file| (file.name.clone(), file.sha256)).collect();
        Self { files, deleted: stored.deleted }
    }
}

type Key = (Uid, Guid, State);

/// A message in a mailbox: 44 bytes, for a million of them may have to be held.
#[derive(Clone, Debug)]
struct Span {
    key: Key,
    name: u32,
    first: u32,
    last: u32,
    /// Whether the snapshot that had the mailbox last has the message there; then its `last` and
    /// `name` are still to be told.
    is_open: bool,
    /// Whether a mailbox that is wanted had it.
    is_wanted: bool,
}

impl<'p> Search<'p> {
    /// Begins a search. Of messages that match, those are found that were in a mailbox that is
    /// `wanted`, in any snapshot; where else they were is told all the same.
    pub fn new(query: Query, wanted: &'p dyn Fn(&[u8]) -> bool) -> Self {
        let matching = (query != Query::default()).then(Guids::default);
        Self::of(query.folded(), matching, wanted)
    }

    fn of(query: Query, matching: Option<Guids>, wanted: &'p dyn Fn(&[u8]) -> bool) -> Self {
        let (mailboxes, names) = Default::default();
        Self { query, matching, wanted, mailboxes, names, newest_fed: None }
    }

    /// Looks through the catalogue of a segment; tells whether any message of it matches.
    pub fn catalogue(&mut self, envelopes: impl IntoIterator<Item = Envelope>) -> bool {
        let mut envelopes = envelopes.into_iter();
        let Some(matching) = &mut self.matching else { return envelopes.next().is_some() };
        let matches = envelopes.filter(|envelope| self.query.matches(envelope));
        let guids: Vec<Guid> = matches.map(|envelope| envelope.guid).collect();
        let any = !guids.is_empty();
        if any {
            matching.add(guids.into_iter());
        }
        any
    }

    /// Looks at what a snapshot lists, by its manifest. Its `number` is the caller's: higher for
    /// later ones. Mailboxes that cannot be read are passed over, and told.
    pub fn snapshot(
        &mut self,
        number: u32,
        chain: &Chain<'_>,
        head: &ManifestHead,
    ) -> Vec<ArchiveError> {
        self.newest_fed = Some(number);
        // What a damaged index listed, nobody knows.
        let readable = head.mailboxes.iter().filter(|stored| stored.index_version.is_some());
        readable.filter_map(|stored| self.mailbox(number, chain, stored).err()).collect()
    }

    fn mailbox(
        &mut self,
        number: u32,
        chain: &dyn Held,
        stored: &StoredMailbox,
    ) -> Result<(), ArchiveError> {
        let listing = Listing::of(stored);
        let name = MboxName::new(stored.name.as_bytes());
        let known = self.mailboxes.get(&key_of(stored));
        let listed = match known {
            Some(known) if known.listing == listing => None,
            _ => Some(self.listed(chain, stored)?),
        };
        let name = match known.filter(|known| self.names[known.name as usize] == name) {
            Some(known) => known.name,
            None => {
                self.names.push(name);
                u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let mailbox = self.mailboxes.entry(key_of(stored)).or_insert_with(|| Mailbox {
            listing: listing.clone(),
            name,
            seen: number,
            is_wanted: false,
            spans: Vec::new(),
        });
        if let Some(listed) = listed {
            mailbox.list(listing, &listed, number);
        }
        if mailbox.name != name {
            mailbox.is_wanted = false;
        }
        (mailbox.name, mailbox.seen) = (name, number);
        if !mailbox.is_wanted && (self.wanted)(stored.name.as_bytes()) {
            mailbox.is_wanted = true;
            mailbox.spans.iter_mut().for_each(|span| span.is_wanted |= span.is_open);
        }
        Ok(())
    }

    /// The messages that a mailbox lists, as far as they match and are stored, by UID.
    fn listed(&self, chain: &dyn Held, stored: &StoredMailbox) -> Result<Vec<Key>, ArchiveError> {
        if self.matching.as_ref().is_some_and(|matching| matching.0.is_empty()) {
            return Ok(Vec::new());
        }
        let mut files = BTreeMap::new();
        for file in &stored.files {
            if [INDEX, EXPUNGE].contains(&file.name.as_str()) {
                files.insert(file.name.clone(), chain.file(file)?);
            }
        }
        let contents = read_exceptions(chain, stored)?;
        let mut listed = Vec::new();
        for record in Records::read(&files).linked() {
            let guid = contents.stored(record.uid, record.guid);
            let Some(guid) = guid.filter(|guid| !guid.is_zero()) else { continue };
            let state = match (stored.deleted, record.is_expunged()) {
                (_, true) => State::Expunged,
                (true, false) => State::Deleted,
                (false, false) => State::Visible,
            };
            if self.matching.as_ref().is_none_or(|matching| matching.contains(&guid)) {
                listed.push((record.uid, guid, state));
            }
        }
        Ok(listed)
    }

    /// The messages, of those that match, that clients see in the snapshot that was fed last.
    pub fn visible(&self) -> Guids {
        let mut visible = Guids::default();
        let there = self.mailboxes.values().filter(|m| Some(m.seen) == self.newest_fed);
        let spans = there.flat_map(|mailbox| &mailbox.spans);
        let open = spans.filter(|span| span.is_open && span.key.2 == State::Visible);
        visible.add(open.map(|span| span.key.1));
        visible
    }

    /// The messages, of those that match, that clients see in another snapshot, which does not
    /// count, and what could not be read of it.
    pub fn visible_in(&self, chain: &Chain<'_>, head: &ManifestHead) -> (Guids, Vec<ArchiveError>) {
        let mut other = Self::of(self.query.clone(), self.matching.clone(), self.wanted);
        let errors = other.snapshot(0, chain, head);
        (other.visible(), errors)
    }

    /// Ends the search. If `gone_from` is given, only those messages are found that clients saw,
    /// in a mailbox that is wanted, and that are not in it.
    pub fn finish(mut self, gone_from: Option<&Guids>) -> Found {
        let mut spans = Vec::new();
        for mailbox in self.mailboxes.values_mut() {
            mailbox.close();
            spans.append(&mut mailbox.spans);
        }
        spans.sort_unstable_by_key(|Span { key: (uid, guid, state), first, name, .. }| {
            (*guid, *first, *state, *name, *uid)
        });
        let is_found = |spans: &[Span]| match gone_from {
            None => spans.iter().any(|span| span.is_wanted),
            Some(visible) => {
                let was_seen = |span: &Span| span.is_wanted && span.key.2 == State::Visible;
                spans.iter().any(was_seen) && !visible.contains(&spans[0].key.1)
            }
        };
        let of_one = |a: &Span, b: &Span| a.key.1 == b.key.1;
        let found = spans.chunk_by(of_one).filter(|spans| is_found(spans));
        let guids = Guids(found.map(|spans| spans[0].key.1).collect());
        Found { names: self.names, spans, guids }
    }
}

impl Mailbox {
    /// Tells of all messages that are there how long they have been.
    fn close(&mut self) {
        for span in self.spans.iter_mut().filter(|span| span.is_open) {
            if span.last <= self.seen {
                (span.last, span.name) = (self.seen, self.name);
            }
            span.is_open = false;
        }
    }

    /// Takes over what a snapshot lists, by UID.
    fn list(&mut self, listing: Listing, listed: &[Key], number: u32) {
        self.close();
        self.listing = listing;
        self.is_wanted = false;
        let known = self.spans.len();
        for key in listed {
            let (spans, _) = self.spans.split_at_mut(known);
            match spans.binary_search_by_key(key, |span| span.key) {
                Ok(at) => {
                    spans[at].is_open = true;
                    spans[at].first = spans[at].first.min(number);
                }
                Err(_) => self.spans.push(Span {
                    key: *key,
                    name: self.name,
                    first: number,
                    last: number,
                    is_open: true,
                    is_wanted: false,
                }),
            }
        }
        self.spans.sort_by_key(|span| span.key);
    }
}

/// What was found.
pub struct Found {
    names: Vec<MboxName>,
    /// By GUID.
    spans: Vec<Span>,
    guids: Guids,
}

impl Found {
    /// How many messages.
    pub fn len(&self) -> usize {
        self.guids.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.guids.0.is_empty()
    }

    /// Which of them this message is, counted by GUID; `None` if it is not among them.
    pub fn position(&self, guid: &Guid) -> Option<usize> {
        self.guids.0.binary_search(guid).ok()
    }

    /// The messages, by GUID.
    pub fn guids(&self) -> impl Iterator<Item = &Guid> {
        self.guids.0.iter()
    }

    /// Where a message was, the place where it was first in front.
    pub fn places(&self, guid: &Guid) -> impl Iterator<Item = Place<'_>> {
        let from = self.spans.partition_point(|span| span.key.1 < *guid);
        let spans = self.spans[from..].iter().take_while(move |span| span.key.1 == *guid);
        spans.map(|span| Place {
            mailbox: &self.names[span.name as usize],
            uid: span.key.0,
            state: span.key.2,
            first: span.first,
            last: span.last,
        })
    }
}
