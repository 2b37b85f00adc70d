//! Compare an account at two places: a spool, a server that speaks csync, a vault, an archive.
//!
//! Both are described in the words of the protocol, so that one comparison is enough for every pair.
//! Nothing is changed anywhere. What is in flight between two servers differs for a moment: whoever
//! compares them looks [again](Comparison::confirmed_by), and only what is still the same counts.

mod brief;
pub mod difference;
mod messages;

use std::collections::{BTreeMap, BTreeSet};

use csync::mailbox::{Contents, Mailbox};
use csync::meta::{Quota, Seen};
use model::state::MailboxKey;
use model::{Guid, MboxName, Modseq};
use peer::SessionError;
use thiserror::Error;

use crate::folder::is_deleted;
use crate::place::{Place, Sight};
use crate::ports::Monitor;
use crate::replicate::Trouble;
use difference::{Both, Difference, Side, What, seconds};

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Names, counters and checksums of mailboxes.
    Quick,
    /// Each record as well.
    Records,
    /// The bytes of each message as well.
    Full,
}

/// What a look at both places gave.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// What differs.
    pub differences: Vec<Difference>,
    /// What cannot be compared.
    pub unclear: Vec<Unclear>,
    /// Mailboxes that were compared.
    pub mailboxes: u64,
    /// Messages whose records were compared.
    pub messages: u64,
}

/// Something that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unclear {
    /// Where it is unclear; both, if it changes too fast.
    pub side: Option<Side>,
    /// The mailbox, or a file of the account.
    pub mailbox: MboxName,
    /// Why.
    pub why: String,
}

/// What can be said of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the same at both places.
    Equal,
    /// It is not.
    Differs,
    /// What can be compared is the same; not all can.
    CannotTell,
}

impl Unclear {
    fn new(side: Side, mailbox: &MboxName, trouble: &Trouble) -> Self {
        match trouble {
            // It was a moment ago.
            Trouble::NotHere => Self::moving(mailbox.clone()),
            trouble => {
                Self { side: Some(side), mailbox: mailbox.clone(), why: trouble.to_string() }
            }
        }
    }

    fn moving(mailbox: MboxName) -> Self {
        Self { side: None, mailbox, why: MOVING.to_owned() }
    }
}

impl Comparison {
    /// All in all.
    pub fn verdict(&self) -> Verdict {
        match (self.differences.is_empty(), self.unclear.is_empty()) {
            (false, _) => Verdict::Differs,
            (true, false) => Verdict::CannotTell,
            (true, true) => Verdict::Equal,
        }
    }

    /// What this look shows that a later one shows just so: what is left is no longer in flight.
    /// Mailboxes that the later look found otherwise different are told as unclear.
    #[must_use]
    pub fn confirmed_by(&self, later: &Self) -> Self {
        let before: BTreeSet<&Difference> = self.differences.iter().collect();
        let (lasting, moving): (Vec<Difference>, Vec<Difference>) =
            later.differences.iter().cloned().partition(|found| before.contains(found));
        let mut confirmed = Self { differences: lasting, ..later.clone() };
        let moving: BTreeSet<MboxName> =
            moving.into_iter().map(|moved| moved.mailbox.unwrap_or_default()).collect();
        confirmed.unclear.extend(moving.into_iter().map(Unclear::moving));
        confirmed
    }

    /// Whether neither place has the account.
    pub fn is_about_nothing(&self) -> bool {
        self.mailboxes == 0 && self.differences.is_empty() && self.unclear.is_empty()
    }

    /// Whether anything was still in flight.
    pub fn is_moving(&self) -> bool {
        self.unclear.iter().any(|unclear| unclear.side.is_none())
    }
}

/// A place that no longer answers.
#[derive(Debug, Error)]
#[error("{source}")]
pub struct Lost {
    /// Which.
    pub side: Side,
    /// Why.
    pub source: SessionError,
}

const MOVING: &str = "it changed each time while it was compared";

/// Looks at an account at both places.
///
/// # Errors
/// If one of them does not answer.
pub fn compare(
    a: &mut dyn Place,
    b: &mut dyn Place,
    depth: Depth,
    monitor: &dyn Monitor,
) -> Result<Comparison, Lost> {
    b.look_for(a.sight()).map_err(Side::B.lost())?;
    a.look_for(b.sight()).map_err(Side::A.lost())?;
    let mut comparison = Comparison::default();
    for (side, place) in [(Side::A, &*a), (Side::B, &*b)] {
        let troubles = place.sight().troubles.iter();
        let told = troubles.map(|problem| Unclear::new(side, &problem.mailbox, &problem.trouble));
        comparison.unclear.extend(told);
    }
    let is_there = [a.sight().is_absent(), b.sight().is_absent()];
    if let Some(side) = match is_there {
        [true, false] => Some(Side::B),
        [false, true] => Some(Side::A),
        _ => None,
    } {
        let what = What::OnlyAt(side, None);
        comparison.differences.push(Difference { mailbox: None, uid: None, what });
        return Ok(comparison);
    }
    comparison.account(a.sight(), b.sight());
    let shared = comparison.mailboxes(a.sight(), b.sight());
    if depth >= Depth::Records {
        for (key, name) in &shared {
            let places: [&mut dyn Place; 2] = [&mut *a, &mut *b];
            messages::records(&mut comparison, key, name, places)?;
        }
    }
    if depth == Depth::Full {
        for (key, name) in &shared {
            let places: [&mut dyn Place; 2] = [&mut *a, &mut *b];
            messages::content(&mut comparison, key, name, places, monitor)?;
        }
    }
    Ok(comparison)
}

impl Comparison {
    fn differs(&mut self, mailbox: Option<&MboxName>, what: What) {
        self.differences.push(Difference { mailbox: mailbox.cloned(), uid: None, what });
    }

    /// What belongs to no mailbox, as far as both tell of it.
    fn account(&mut self, a: &Sight, b: &Sight) {
        if let (Some(own), Some(other)) = (&a.subscriptions, &b.subscriptions) {
            for name in own.symmetric_difference(other) {
                let side = if own.contains(name) { Side::A } else { Side::B };
                self.differs(None, What::Subscribed(side, name.clone()));
            }
        }
        self.files(&seen(a), &seen(b));
        if let (Some(own), Some(other)) = (&a.quotas, &b.quotas) {
            self.files(&limits(own), &limits(other));
        }
        if let (Some(own), Some(other)) = (&a.scripts, &b.scripts) {
            self.files(&scripts(own), &scripts(other));
        }
    }

    fn files(&mut self, a: &Files, b: &Files) {
        for (name, text) in a {
            match b.get(name) {
                Some(other) if other == text => {}
                Some(_) => self.differs(None, What::File(name.clone(), None)),
                None => self.differs(None, What::File(name.clone(), Some(Side::A))),
            }
        }
        for name in b.keys().filter(|name| !a.contains_key(*name)) {
            self.differs(None, What::File(name.clone(), Some(Side::B)));
        }
    }

    /// Mailboxes by their identities; returns those that both have.
    fn mailboxes(&mut self, a: &Sight, b: &Sight) -> Vec<(MailboxKey, MboxName)> {
        let mut shared = Vec::new();
        let keys: BTreeSet<&MailboxKey> = a.mailboxes.keys().chain(b.mailboxes.keys()).collect();
        for key in keys {
            if a.unusable.contains(key) || b.unusable.contains(key) {
                continue;
            }
            let (own, other) = match (a.mailboxes.get(key), b.mailboxes.get(key)) {
                (Some(own), Some(other)) => (own, other),
                (Some(own), None) => {
                    self.alone(Side::A, own);
                    continue;
                }
                (None, Some(other)) => {
                    self.alone(Side::B, other);
                    continue;
                }
                (None, None) => continue,
            };
            self.mailboxes += 1;
            let annotations = a.tells_annotations && b.tells_annotations;
            if self.mailbox(own, other, annotations) {
                shared.push((key.clone(), own.mboxname.clone()));
            }
        }
        shared
    }

    /// Each side removes for good what was deleted when it likes.
    fn alone(&mut self, side: Side, mailbox: &Mailbox) {
        if !is_deleted(mailbox.mboxname.as_bytes()) {
            self.differs(Some(&mailbox.mboxname), What::OnlyAt(side, None));
        }
    }

    /// Whether its records can be compared.
    fn mailbox(&mut self, a: &Mailbox, b: &Mailbox, annotations: bool) -> bool {
        let name = &a.mboxname;
        let mut value = |what: &'static str, a: String, b: String| {
            if a != b {
                let what = What::Value(what, Both { a, b });
                self.differences.push(Difference { mailbox: Some(name.clone()), uid: None, what });
            }
        };
        value("mboxname", a.mboxname.to_string(), b.mboxname.to_string());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        value("mboxtype", text(&sorted(&a.mboxtype)), text(&sorted(&b.mboxtype)));
        let (Some(own), Some(other)) = (&a.contents, &b.contents) else { return false };
        value("uidvalidity", own.uidvalidity.to_string(), other.uidvalidity.to_string());
        value("acl", text(&own.acl), text(&other.acl));
        value("options", text(&sorted(&own.options)), text(&sorted(&other.options)));
        if annotations {
            value("annotations", notes(own), notes(other));
        }
        counters(a.highestmodseq, own, b.highestmodseq, other, &mut value);
        own.uidvalidity == other.uidvalidity
    }
}

/// Files of an account by their names in a snapshot, each with what must be equal.
type Files = BTreeMap<String, String>;

fn seen(sight: &Sight) -> Files {
    let states = sight.seen.values();
    let text = |seen: &Seen| format!("{} {}", seen.state.last_uid, seen.state.uids.write());
    states.map(|seen| (format!("seen/{}", seen.uniqueid), text(seen))).collect()
}

fn limits(quotas: &BTreeMap<MboxName, Quota>) -> Files {
    let quotas = quotas.values();
    quotas.map(|quota| (format!("quota/{}", quota.root), format!("{:?}", quota.limits))).collect()
}

fn scripts(scripts: &BTreeMap<Vec<u8>, Guid>) -> Files {
    let name = |name: &[u8]| format!("sieve/{}", String::from_utf8_lossy(name));
    scripts.iter().map(|(script, guid)| (name(script), guid.to_string())).collect()
}

/// What tells that messages differ, without a look at them.
fn counters(
    a_modseq: Modseq,
    a: &Contents,
    b_modseq: Modseq,
    b: &Contents,
    value: &mut dyn FnMut(&'static str, String, String),
) {
    value("highestmodseq", a_modseq.to_string(), b_modseq.to_string());
    value("last_uid", a.last_uid.to_string(), b.last_uid.to_string());
    value("recentuid", a.recentuid.to_string(), b.recentuid.to_string());
    value("pop3_last_login", seconds(a.pop3_last_login), seconds(b.pop3_last_login));
    // 0 is not to be compared.
    let crcs = [
        ("sync_crc", a.sync_crc, b.sync_crc),
        ("sync_crc_annot", a.sync_crc_annot, b.sync_crc_annot),
    ];
    for (name, a, b) in crcs {
        if let (Some(a), Some(b)) = (a.filter(|crc| *crc != 0), b.filter(|crc| *crc != 0)) {
            value(name, a.to_string(), b.to_string());
        }
    }
}

fn sorted(letters: &[u8]) -> Vec<u8> {
    let mut letters = letters.to_vec();
    letters.sort_unstable();
    letters
}

fn notes(contents: &Contents) -> String {
    let notes = contents.annotations.iter();
    let mut notes: Vec<String> = notes
        .map(|note| {
            let [entry, userid, value] =
                [&note.entry[..], note.userid.as_bytes(), &note.value].map(String::from_utf8_lossy);
            format!("{entry} {userid} {value}")
        })
        .collect();
    notes.sort();
    notes.join("; ")
}
