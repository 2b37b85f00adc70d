//! The templates that are known: what is left of messages when their masks are on.
//!
//! After Drain (He, Zhu, Zheng, Lyu: "Drain: An Online Log Parsing Approach with Fixed Depth Tree",
//! ICWS 2017): messages of one program, of the same number of words and with the same first word
//! share a leaf, and within it those that differ in few words are one template, with gaps for these.
//! What Drain does for every line, we do only for wordings that are new: one that has been seen
//! before, word for word, is looked up by its hash.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::alarms::{self, Alarm};
use crate::mask::{Hash, Kind, Word, words};

/// What a book holds at most. Lines are hostile: whoever can log in can make up any number.
#[derive(Clone, Copy, Debug)]
pub struct BookLimits {
    /// Templates; what is new beyond is all one.
    pub templates_max: usize,
    /// Wordings that are looked up by their hash.
    pub wordings_max: usize,
    /// Templates of one leaf; beyond, they are merged.
    pub leaf_max: usize,
}

impl Default for BookLimits {
    fn default() -> Self {
        Self { templates_max: 4096, wordings_max: 65_536, leaf_max: 32 }
    }
}

/// A shown template is no longer, in bytes.
const PATTERN_BYTES_MAX: usize = 400;

/// Which template of a book; in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateIndex(pub u32);

/// The template of everything that came after the book was full.
pub const OVERFLOW: TemplateIndex = TemplateIndex(0);

/// In place of a word's key: any word.
const GAP: u64 = 0;

/// What messages have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What it is known by, also after a restart.
    pub id: u32,
    /// The program.
    pub process: Vec<u8>,
    /// How it reads, with `<user>` and the like for masks and `<*>` for gaps.
    pub pattern: Vec<u8>,
    /// Its words' keys, or [`GAP`].
    pub(crate) keys: Vec<u64>,
    /// The leaf where it is found.
    pub(crate) leaf: u64,
}

/// How new a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Its template was known.
    None,
    /// It is a known template but for some words, which are gaps from now on.
    Words,
    /// Its template is new.
    Template,
    /// It is new, and there is no room for more.
    Overflow,
}

/// What a book says of a message.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its template.
    pub template: TemplateIndex,
    /// Whether that is news.
    pub news: News,
    /// What always matters about it.
    pub alarm: Option<&'static Alarm>,
    /// Whether it tells of something that did not work.
    pub is_failure: bool,
    /// A hash of the first user or mailbox that it names.
    pub subject: Option<u64>,
}

/// What is known of one wording.
#[derive(Clone, Copy, Debug)]
struct Wording {
    template: TemplateIndex,
    alarm: Option<&'static Alarm>,
    is_failure: bool,
}

/// Keys that are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = Hash::new(self.0).bytes(bytes).end();
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A table whose keys are hashes.
pub(crate) type Table<T> = HashMap<u64, T, BuildHasherDefault<Hashed>>;

/// All templates.
#[derive(Clone, Debug)]
pub struct Book {
    limits: BookLimits,
    templates: Vec<Template>,
    wordings: Table<Wording>,
    leaves: Table<Vec<TemplateIndex>>,
}

impl Book {
    /// A book that knows nothing.
    pub fn new(limits: BookLimits) -> Self {
        let overflow = Template {
            id: 0,
            process: Vec::new(),
            pattern: b"(whatever came when no more templates could be kept)".to_vec(),
            keys: Vec::new(),
            leaf: 0,
        };
        Self::with(limits, vec![overflow])
    }

    /// A book of these templates, the first of which is that of all others.
    pub(crate) fn with(limits: BookLimits, templates: Vec<Template>) -> Self {
        let mut leaves: Table<Vec<TemplateIndex>> = Table::default();
        for (index, template) in (0..).map(TemplateIndex).zip(&templates).skip(1) {
            leaves.entry(template.leaf).or_default().push(index);
        }
        Self { limits, templates, wordings: Table::default(), leaves }
    }

    /// All templates, in the order of their indexes.
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// A template of this book.
    pub fn template(&self, index: TemplateIndex) -> &Template {
        &self.templates[index.0 as usize]
    }

    /// Finds the template of a message, and makes one if there is none.
    #[inline]
    pub fn read(&mut self, process: &[u8], message: &[u8]) -> Found {
        let sight = Sight::of(process, message);
        if let Some(wording) = self.wordings.get(&sight.key) {
            return found(wording, News::None, sight.subject);
        }
        let (template, news) = self.place(process, message);
        let wording = judge(template, message);
        if self.wordings.len() >= self.limits.wordings_max {
            // The everyday ones are back at once.
            self.wordings.clear();
        }
        if news != News::Overflow {
            self.wordings.insert(sight.key, wording);
        }
        found(&wording, news, sight.subject)
    }

    /// The same without changing anything: the template that a message has, or would be merged
    /// with; `None` if it is wholly new.
    pub fn look(&self, process: &[u8], message: &[u8]) -> Option<Found> {
        let subject = Sight::of(process, message).subject;
        let parts = Parts::of(process, message);
        let (template, gaps) = self.nearest(&parts)?;
        let news = if gaps == 0 { News::None } else { News::Words };
        Some(found(&judge(template, message), news, subject))
    }

    fn place(&mut self, process: &[u8], message: &[u8]) -> (TemplateIndex, News) {
        let parts = Parts::of(process, message);
        match self.nearest(&parts) {
            Some((index, 0)) => (index, News::None),
            Some((index, _)) => {
                self.widen(index, &parts);
                (index, News::Words)
            }
            None if self.templates.len() >= self.limits.templates_max => (OVERFLOW, News::Overflow),
            None => (self.add(process, parts), News::Template),
        }
    }

    /// The template that differs least, if that is little enough, and in how many words.
    fn nearest(&self, parts: &Parts<'_>) -> Option<(TemplateIndex, usize)> {
        let leaf = self.leaves.get(&parts.leaf)?;
        let gaps = |index: &TemplateIndex| (parts.gaps(&self.template(*index).keys), *index);
        let (gaps, index) = leaf.iter().map(gaps).min()?;
        let is_near = parts.is_near(gaps) || leaf.len() >= self.limits.leaf_max;
        is_near.then_some((index, gaps))
    }

    fn widen(&mut self, index: TemplateIndex, parts: &Parts<'_>) {
        let template = &mut self.templates[index.0 as usize];
        for (known, key) in template.keys.iter_mut().zip(&parts.keys) {
            if known != key {
                *known = GAP;
            }
        }
        template.pattern = parts.pattern(&template.keys);
    }

    fn add(&mut self, process: &[u8], parts: Parts<'_>) -> TemplateIndex {
        let index = TemplateIndex(u32::try_from(self.templates.len()).unwrap_or(u32::MAX));
        let hash = parts.keys.iter().fold(Hash::new(parts.leaf), |hash, key| hash.number(*key));
        let id = (hash.end() >> 32) as u32;
        let pattern = parts.pattern(&parts.keys);
        let (process, leaf) = (process.to_vec(), parts.leaf);
        self.templates.push(Template { id, process, pattern, keys: parts.keys, leaf });
        self.leaves.entry(leaf).or_default().push(index);
        index
    }
}

fn found(wording: &Wording, news: News, subject: Option<u64>) -> Found {
    let Wording { template, alarm, is_failure } = *wording;
    Found { template, news, alarm, is_failure, subject }
}

/// What its words tell of a message, whatever it is about.
fn judge(template: TemplateIndex, message: &[u8]) -> Wording {
    let alarm = alarms::find(message);
    Wording { template, alarm, is_failure: alarms::is_failure(message) }
}

/// A message at a glance.
struct Sight {
    key: u64,
    subject: Option<u64>,
}

impl Sight {
    #[inline]
    fn of(process: &[u8], message: &[u8]) -> Self {
        let mut key = Hash::new(1).bytes(process);
        let mut subject = None;
        words(message, |word| {
            key = key.number(word.key());
            if word.kind.is_subject() && subject.is_none() {
                subject = Some(Hash::new(2).bytes(word.body).end());
            }
        });
        Self { key: key.end(), subject }
    }
}

/// A message in its words.
struct Parts<'a> {
    words: Vec<Word<'a>>,
    keys: Vec<u64>,
    leaf: u64,
}

impl<'a> Parts<'a> {
    fn of(process: &[u8], message: &'a [u8]) -> Self {
        let mut parts = Vec::new();
        words(message, |word| parts.push(word));
        let keys: Vec<u64> = parts.iter().map(|word| word.key().max(GAP + 1)).collect();
        let leaf = Hash::new(3).bytes(process).number(keys.len() as u64);
        let leaf = leaf.number(keys.first().copied().unwrap_or_default()).end();
        Self { words: parts, keys, leaf }
    }

    /// In how many words it differs from a template.
    fn gaps(&self, keys: &[u64]) -> usize {
        keys.iter().zip(&self.keys).filter(|(known, key)| **known != GAP && known != key).count()
    }

    /// Whether so few gaps leave enough in common: most of it, and not just one word.
    fn is_near(&self, gaps: usize) -> bool {
        let written = self.words.iter().filter(|word| word.kind == Kind::Word).count();
        gaps == 0 || (gaps * 4 <= self.words.len() && written >= gaps + 2)
    }

    /// How a template with these keys reads.
    fn pattern(&self, keys: &[u64]) -> Vec<u8> {
        let mut pattern = Vec::new();
        let mut is_bracketed = false;
        for (word, key) in self.words.iter().zip(keys) {
            // The brackets of a placeholder stand for those of `<value>`.
            let is_masked = *key == GAP || word.kind != Kind::Word;
            let glue = if is_bracketed { word.glue.strip_prefix(b">") } else { None };
            let glue = glue.unwrap_or(word.glue);
            let open = if is_masked { glue.strip_suffix(b"<") } else { None };
            is_bracketed = open.is_some();
            pattern.extend_from_slice(open.unwrap_or(glue));
            match (*key, word.kind) {
                (GAP, _) => pattern.extend_from_slice(b"<*>"),
                (_, Kind::Word) => pattern.extend_from_slice(word.body),
                (_, kind) => pattern.extend_from_slice(kind.placeholder().as_bytes()),
            }
        }
        pattern.truncate(PATTERN_BYTES_MAX);
        pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        Book::new(BookLimits::default())
    }

    fn pattern(book: &Book, found: Found) -> String {
        String::from_utf8_lossy(&book.template(found.template).pattern).into_owned()
    }

    #[test]
    fn the_same_words_are_the_same_template() {
        let mut book = book();
        let first = book.read(b"imap", b"Expunged 3 messages from user.glad");
        assert_eq!(first.news, News::Template);
        let second = book.read(b"imap", b"Expunged 17 messages from user.iris.Sent");
        assert_eq!((second.news, second.template), (News::None, first.template));
        assert_eq!(pattern(&book, second), "Expunged <n> messages from <mailbox>");
        assert_ne!(first.subject, second.subject);
        let other = book.read(b"pop3", b"Expunged 3 messages from user.glad");
        assert_ne!(other.template, first.template);
    }

    #[test]
    fn words_that_differ_become_gaps() {
        let mut book = book();
        let first = book.read(b"x", b"client of the brand Foxmail says good morning");
        let second = book.read(b"x", b"client of the brand Pine says good morning");
        assert_eq!((second.news, second.template), (News::Words, first.template));
        assert_eq!(pattern(&book, second), "client of the brand <*> says good morning");
        assert_eq!(book.read(b"x", b"client of the brand Elm says good morning").news, News::None);
        assert_eq!(book.read(b"x", b"client of no brand was seen here today").news, News::Template);
    }

    #[test]
    fn looking_changes_nothing() {
        let mut book = book();
        assert!(book.look(b"x", b"one two three").is_none());
        let made = book.read(b"x", b"one two three");
        let seen = book.look(b"x", b"one two three").expect("it is there");
        assert_eq!((seen.template, seen.news), (made.template, News::None));
        assert_eq!(book.templates().len(), 2);
    }

    #[test]
    fn a_book_is_bounded_whatever_is_said() {
        let limits = BookLimits { templates_max: 50, wordings_max: 100, leaf_max: 8 };
        let mut book = Book::new(limits);
        let letters = |n: u32| -> String {
            (0..6).map(|at| char::from(b'a' + (n.rotate_left(at * 5) % 26) as u8)).collect()
        };
        let mut overflows = 0;
        for n in 0..5000 {
            let [a, b, c] = [n, n * 7, n * 13].map(letters);
            let found = book.read(b"x", format!("{a} {b} {c}").as_bytes());
            overflows += u32::from(found.news == News::Overflow);
            assert!(book.wordings.len() <= 100 && book.templates().len() <= 50);
        }
        assert!(overflows > 1000, "{overflows}");
        let everyday = book.read(b"x", b"one two");
        assert_eq!(everyday.template, OVERFLOW);
    }

    #[test]
    fn a_book_that_was_kept_finds_the_same() {
        let mut first = book();
        let messages = [&b"a b c"[..], b"a b d e f g h i", b"a b d e f x h i", b"q"];
        let found: Vec<_> = messages.iter().map(|message| first.read(b"x", message)).collect();
        let mut second = Book::with(BookLimits::default(), first.templates().to_vec());
        for (message, found) in messages.iter().zip(found) {
            let again = second.read(b"x", message);
            assert_eq!((again.template, again.news), (found.template, News::None));
        }
    }
}
