//! What has to be said to a server so that it has again what is wanted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use csync::mailbox::{Contents, Mailbox, Records};
use csync::record::Record as Told;
use cyrus_format::mboxlist::MailboxType;
use model::state::MailboxKey;
use model::{Guid, MboxName, Partition, Record, Uid, UidValidity, UniqueId};

use super::journal::{Flagged, Flags};
use super::place::{Found, Site, Tree, free_id, ids as derived_ids, is_gone, levels_above};
use super::room::{Shortage, shortages};
use super::wanted::{Moment, Wanted, Wish};
use super::{Options, Past, Placement, Problem, RestoreError, Trouble};
use crate::replicate::local::is_below;
use crate::replicate::remote::Remote;

/// What the owner of a mailbox may do with one that is made for him (`imap/auth.h`, Cyrus 3.6).
const OWNERS_RIGHTS: &[u8] = b"lrswipkxtecdan";

/// The annotation that makes a folder the one for sent mail and so on: there is one of each.
const SPECIAL_USE: &[u8] = b"/specialuse";

/// The steps, parents before their children.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What is to be done.
    pub steps: Vec<Step>,
    /// What cannot be, and why.
    pub problems: Vec<Problem>,
    /// Why all of it needs consent.
    pub brakes: Vec<Brake>,
    /// Quotas that do not allow it.
    pub shortages: Vec<Shortage>,
    /// Mailboxes whose records have to be asked for before the plan can be relied on.
    pub unclear: BTreeSet<MailboxKey>,
}

/// What is to be done to a mailbox of the server.
#[derive(Clone, Debug)]
pub struct Step {
    /// The mailbox's place among those that are wanted; `None` for a level above one.
    pub wanted: Option<usize>,
    /// The mailbox as it is there, or is to be made.
    pub told: Mailbox,
    /// Whether it is to be made.
    pub is_new: bool,
    /// Whether its UIDs have nothing to do with those of the snapshot: then messages are known by what
    /// they are alone.
    pub other_uids: bool,
    /// Messages that come back, in the order of their new UIDs.
    pub back: Vec<Back>,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that get other flags, UIDs ascending, as the server has them.
    pub flags: Vec<(Told, Flagged)>,
}

/// A message that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Back {
    /// Its UID in the snapshot.
    pub uid: Uid,
    /// The UID that it gets.
    pub to: Uid,
}

/// Why a plan is not carried out as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brake {
    /// The mailbox of that name is another one, and has had messages.
    OtherIdentity {
        /// The name.
        mailbox: MboxName,
        /// The uniqueid in the snapshot.
        wanted: UniqueId,
        /// The uniqueid there.
        there: UniqueId,
    },
}

impl Plan {
    /// Whether it is not carried out, for want of consent or of room.
    pub fn is_stopped(&self, options: &Options) -> bool {
        !self.shortages.is_empty() || !self.brakes.is_empty() && !options.accept_mismatch
    }
}

impl Step {
    /// Which UIDs become which others, as ranges of the same length.
    pub fn renumbered(&self) -> Vec<[(Uid, Uid); 2]> {
        let mut ranges: Vec<[(Uid, Uid); 2]> = Vec::new();
        for Back { uid, to } in self.back.iter().filter(|back| back.uid != back.to) {
            match ranges.last_mut() {
                Some([from, there]) if from.1.0 + 1 == uid.0 && there.1.0 + 1 == to.0 => {
                    (from.1, there.1) = (*uid, *to);
                }
                _ => ranges.push([(*uid, *uid), (*to, *to)]),
            }
        }
        ranges
    }
}

/// The identities that are asked for besides the account's own mailboxes.
pub fn ids(wish: &Wish<'_>, options: &Options) -> Vec<UniqueId> {
    let mut ids = BTreeSet::new();
    for wanted in &wish.mailboxes {
        match &options.placement {
            Placement::InPlace => ids.extend(own_ids(wanted)),
            Placement::Tree { snapshot, tops } => {
                let trees = tops.iter().map(|top| Tree::new(snapshot, top, wish));
                ids.extend(trees.flat_map(|tree| tree.site(wanted).ids));
            }
        }
    }
    ids.into_iter().collect()
}

/// The identities that a mailbox may have that is made again where it was.
fn own_ids(wanted: &Wanted<'_>) -> Vec<UniqueId> {
    let own = Some(wanted.uniqueid.clone()).filter(|id| !id.is_empty());
    let parts = [&b"in place"[..], wanted.name.as_bytes(), wanted.uniqueid.as_bytes()];
    own.into_iter().chain(derived_ids(&parts)).collect()
}

/// Compares what is wanted with what the server has.
///
/// # Errors
/// If nothing can be restored to it.
pub fn plan(
    wish: &Wish<'_>,
    remote: &Remote,
    past: &Past,
    options: &Options,
) -> Result<Plan, RestoreError> {
    let mut planner = Planner { wish, remote, past, options, plan: Plan::default(), at: 0 };
    let tree = match &options.placement {
        Placement::InPlace => None,
        Placement::Tree { snapshot, tops } => Tree::choose(snapshot, tops, wish, remote),
    };
    for (at, wanted) in wish.mailboxes.iter().enumerate() {
        planner.at = at;
        match &tree {
            Some(tree) => planner.tree(wanted, &tree.site(wanted)),
            None => planner.in_place(wanted),
        }
    }
    planner.levels(tree.as_ref());
    let steps = &mut planner.plan.steps;
    steps.sort_by(|a, b| a.told.mboxname.cmp(&b.told.mboxname));
    let makes_inbox = steps.first().is_some_and(|step| step.told.mboxname == wish.inbox);
    if remote.named(&wish.inbox).is_none() && !steps.is_empty() && !makes_inbox {
        return Err(RestoreError::NoInbox(wish.inbox.clone()));
    }
    let mut plan = planner.plan;
    if plan.unclear.is_empty() {
        (plan.shortages, plan.unclear) = shortages(&plan.steps, &wish.inbox, remote);
    }
    Ok(plan)
}

struct Planner<'p, 'a> {
    wish: &'p Wish<'a>,
    remote: &'p Remote,
    past: &'p Past,
    options: &'p Options,
    plan: Plan,
    /// The place of the mailbox at hand among those that are wanted.
    at: usize,
}

/// Which messages are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// One for one: it is the very mailbox that is being made.
    OneForOne,
    /// Whoever has the bytes has the message, however often it was there.
    ByContent,
}

impl Planner<'_, '_> {
    fn problem(&mut self, wanted: &Wanted<'_>, trouble: Trouble) {
        self.plan.problems.push(Problem::new(wanted.name, trouble));
    }

    fn tree(&mut self, wanted: &Wanted<'_>, site: &Site) {
        match site.find(self.remote, &self.past.spent) {
            Found::There(there) => self.fill(wanted, there, Presence::OneForOne),
            Found::Free(id) => {
                let mut annotations = wanted.annotations.clone();
                annotations.retain(|note| note.entry != SPECIAL_USE);
                let contents =
                    Contents { acl: self.owners_acl(wanted), annotations, ..self.fresh(wanted) };
                self.create(Some(wanted), &site.name, id, contents);
            }
            Found::Taken(other) => {
                let taken = Trouble::NameTaken(site.name.clone(), other.uniqueid.clone());
                self.problem(wanted, taken);
            }
            Found::Spent => {
                let why = "it was restored and deleted again too often; try --into".to_owned();
                self.problem(wanted, Trouble::Refused(why));
            }
        }
    }

    fn in_place(&mut self, wanted: &Wanted<'_>) {
        if is_gone_name(wanted.name) {
            return self.problem(wanted, Trouble::WasDeleted);
        }
        let is_own = |there: &&Mailbox| {
            let name = &there.mboxname;
            *name == self.wish.inbox || is_below(name, &self.wish.inbox)
        };
        // It may have been made again, and may have another name since.
        let ids = own_ids(wanted);
        let mut same = ids.iter().filter_map(|id| self.remote.of_id(id)).filter(is_own);
        if let Some(there) = same.next() {
            return self.fill(wanted, there, Presence::ByContent);
        }
        if let Some((_, other)) = self.remote.named(wanted.name) {
            if !is_untouched(other) {
                self.plan.brakes.push(Brake::OtherIdentity {
                    mailbox: wanted.name.clone(),
                    wanted: wanted.uniqueid.clone(),
                    there: other.uniqueid.clone(),
                });
            }
            return self.fill(wanted, other, Presence::ByContent);
        }
        if self.options.flags_only {
            return self.problem(wanted, Trouble::NotThere);
        }
        match free_id(&ids, self.remote, &self.past.spent) {
            Some(id) => {
                let acl = match wanted.acl.is_empty() {
                    true => self.owners_acl(wanted),
                    false => wanted.acl.clone(),
                };
                let options = wanted.options.clone();
                let annotations = wanted.annotations.clone();
                let contents = Contents { acl, options, annotations, ..self.fresh(wanted) };
                self.create(Some(wanted), wanted.name, id, contents);
            }
            None => {
                let why = "it was restored and deleted again too often".to_owned();
                self.problem(wanted, Trouble::Refused(why));
            }
        }
    }

    /// Adds the levels above what is made.
    fn levels(&mut self, tree: Option<&Tree<'_>>) {
        let made = self.plan.steps.iter().filter(|step| step.is_new);
        let names: BTreeSet<MboxName> = made.map(|step| step.told.mboxname.clone()).collect();
        for name in levels_above(&names, &self.wish.inbox) {
            let site = match tree {
                Some(tree) => tree.level(name),
                None => Site { ids: derived_ids(&[b"level", name.as_bytes()]), name },
            };
            let is_there =
                self.remote.levels.contains(&site.name) || self.remote.named(&site.name).is_some();
            // One that was made before may have another name by now.
            let id = free_id(&site.ids, self.remote, &self.past.spent);
            if let (false, Some(id), Some(first)) = (is_there, id, self.wish.mailboxes.first()) {
                let contents = Contents { acl: self.owners_acl(first), ..self.fresh(first) };
                self.create(None, &site.name, id, contents);
            }
        }
    }

    /// What all mailboxes have that are made.
    fn fresh(&self, wanted: &Wanted<'_>) -> Contents {
        let inbox =
            self.remote.named(&self.wish.inbox).and_then(|(_, inbox)| inbox.contents.as_ref());
        let partition = inbox.and_then(|inbox| inbox.partition.clone());
        let partition = self.options.partition.clone().or(partition);
        let now = u32::try_from(self.options.now.secs).unwrap_or(u32::MAX);
        Contents {
            partition: Some(partition.unwrap_or_else(|| Partition::new(wanted.partition))),
            // Cyrus counts on from the time, and may be ahead of it.
            uidvalidity: UidValidity(now.max(wanted.uidvalidity.0.saturating_add(1))),
            last_appenddate: self.options.now,
            records: Records::Listed,
            ..Contents::default()
        }
    }

    /// The owner's rights, as far as he has them in his INBOX.
    fn owners_acl(&self, wanted: &Wanted<'_>) -> Vec<u8> {
        let inbox =
            self.remote.named(&self.wish.inbox).and_then(|(_, inbox)| inbox.contents.as_ref());
        let acl = inbox.map_or(wanted.acl.as_slice(), |inbox| inbox.acl.as_slice());
        let words: Vec<&[u8]> = acl.split(|byte| *byte == b'\t').collect();
        let owner = self.wish.userid.as_bytes();
        let rights = words.chunks_exact(2).find(|pair| pair[0] == owner).map(|pair| pair[1]);
        [owner, b"\t", rights.unwrap_or(OWNERS_RIGHTS), b"\t"].concat()
    }

    fn create(
        &mut self,
        wanted: Option<&Wanted<'_>>,
        name: &MboxName,
        id: &UniqueId,
        contents: Contents,
    ) {
        if self.past.given_up.contains(&key_of(id)) {
            return;
        }
        let told = Mailbox {
            uniqueid: id.clone(),
            mboxname: name.clone(),
            contents: Some(contents),
            ..Mailbox::default()
        };
        let mut step = Step {
            wanted: wanted.map(|_| self.at),
            told,
            is_new: true,
            other_uids: false,
            back: Vec::new(),
            bytes: 0,
            flags: Vec::new(),
        };
        if let Some(wanted) = wanted {
            self.add(wanted, &mut step, &[], Presence::OneForOne);
        }
        self.plan.steps.push(step);
    }

    /// Restores to a mailbox that is there.
    fn fill(&mut self, wanted: &Wanted<'_>, there: &Mailbox, presence: Presence) {
        let key = key_of(&there.uniqueid);
        if self.past.given_up.contains(&key) {
            return;
        }
        let is_mail = MailboxType::from_letters(&there.mboxtype).kind == b'e';
        if there.contents.is_none() || !is_mail {
            return self.problem(wanted, Trouble::OtherKind);
        }
        let Some(records) = self.remote.records.get(&key) else {
            self.plan.unclear.insert(key);
            return;
        };
        let mut step = Step {
            wanted: Some(self.at),
            told: there.clone(),
            is_new: false,
            other_uids: presence == Presence::ByContent && !has_same_uids(wanted, there),
            back: Vec::new(),
            bytes: 0,
            flags: Vec::new(),
        };
        if self.options.flags_only {
            step.flags = flags(wanted, there, records);
        } else {
            self.add(wanted, &mut step, records, presence);
        }
        if !step.back.is_empty() || !step.flags.is_empty() {
            self.plan.steps.push(step);
        }
    }

    /// Finds the messages that are missing, and a lawful UID for each.
    fn add(&mut self, wanted: &Wanted<'_>, step: &mut Step, records: &[Told], presence: Presence) {
        let last = step.told.contents.as_ref().map_or(Uid(0), |contents| contents.last_uid);
        let missing = missing(wanted, records, presence);
        let is_lost = |record: &Record| self.past.lost.contains(&(wanted.at, record.uid));
        let missing: Vec<Record> = missing.into_iter().filter(|record| !is_lost(record)).collect();
        step.bytes = missing.iter().map(|record| record.size).sum();
        match numbers(&missing, last) {
            Some(back) => step.back = back,
            None => self.problem(wanted, Trouble::NoUids),
        }
    }
}

/// Whether a mailbox never had a message.
fn is_untouched(there: &Mailbox) -> bool {
    there.contents.as_ref().is_none_or(|contents| contents.last_uid == Uid(0))
}

fn is_gone_name(name: &MboxName) -> bool {
    is_gone(&Mailbox { mboxname: name.clone(), ..Mailbox::default() })
}

/// The key of a mailbox of this identity.
pub fn key_of(id: &UniqueId) -> MailboxKey {
    MailboxKey(id.as_bytes().to_vec())
}

/// The messages of a mailbox that the server's lacks, UIDs ascending.
fn missing(wanted: &Wanted<'_>, records: &[Told], presence: Presence) -> Vec<Record> {
    let alive = || records.iter().filter(|record| !record.is_expunged());
    let placed: HashSet<(Uid, Guid)> = alive().map(|record| (record.uid, record.guid)).collect();
    let is_placed = |record: &Record| placed.contains(&(record.uid, record.guid));
    let mut copies: HashMap<Guid, usize> = HashMap::new();
    alive().for_each(|record| *copies.entry(record.guid).or_default() += 1);
    if presence == Presence::OneForOne {
        for record in wanted.messages().filter(is_placed) {
            copies.entry(record.guid).and_modify(|copies| *copies -= 1);
        }
    }
    let is_missing = |record: &Record| {
        let copies = copies.entry(record.guid).or_default();
        match presence {
            Presence::OneForOne if *copies == 0 => true,
            Presence::OneForOne => {
                *copies -= 1;
                false
            }
            // Once is enough.
            Presence::ByContent => std::mem::replace(copies, 1) == 0,
        }
    };
    let elsewhere = wanted.messages().filter(|record| !is_placed(record));
    elsewhere.filter(is_missing).collect()
}

/// The UIDs that messages get. One that was never given out here stays; all others are counted on from
/// the highest, since clients have been told that their numbers are gone for good (RFC 9051, 2.3.1.1).
fn numbers(missing: &[Record], last: Uid) -> Option<Vec<Back>> {
    let stays = |record: &&Record| record.uid > last;
    let kept = missing.iter().filter(stays);
    let mut back: Vec<Back> = kept.map(|record| Back { uid: record.uid, to: record.uid }).collect();
    let mut next = back.last().map_or(last, |back| back.to);
    for record in missing.iter().filter(|record| !stays(record)) {
        next = Uid(next.0.checked_add(1)?);
        back.push(Back { uid: record.uid, to: next });
    }
    Some(back)
}

fn has_same_uids(wanted: &Wanted<'_>, there: &Mailbox) -> bool {
    there.contents.as_ref().is_some_and(|there| there.uidvalidity == wanted.uidvalidity)
}

/// The messages whose flags are others than they were.
fn flags(wanted: &Wanted<'_>, there: &Mailbox, records: &[Told]) -> Vec<(Told, Flagged)> {
    let same_uids = has_same_uids(wanted, there);
    let alive: Vec<&Told> = records.iter().filter(|record| !record.is_expunged()).collect();
    let mut by_guid: BTreeMap<Guid, Vec<&Told>> = BTreeMap::new();
    // In reverse, so that the first one is taken first.
    alive.iter().rev().for_each(|record| by_guid.entry(record.guid).or_default().push(record));
    let (mut pairs, mut others) = (Vec::new(), Vec::new());
    for record in wanted.messages() {
        let at = alive.binary_search_by_key(&record.uid, |told| told.uid).ok();
        let same = at.map(|at| alive[at]).filter(|told| same_uids && told.guid == record.guid);
        match same {
            Some(told) => {
                let copies = by_guid.entry(told.guid).or_default();
                copies.retain(|copy| copy.uid != told.uid);
                pairs.push((record, told));
            }
            None => others.push(record),
        }
    }
    for record in others {
        let copy = by_guid.get_mut(&record.guid).and_then(Vec::pop);
        pairs.extend(copy.map(|told| (record, told)));
    }
    pairs.sort_by_key(|(_, told)| told.uid);
    let changed = pairs.into_iter().filter_map(|(record, told)| {
        let before = Flags::of(told);
        let after = Flags::of(&wanted.tell(&record, told.uid, Moment::default()));
        let flagged = Flagged { uid: told.uid, guid: told.guid, before, after };
        (flagged.before != flagged.after).then(|| (told.clone(), flagged))
    });
    changed.collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_new { "create" } else { "update" };
        write!(f, "{what} {}", self.told.mboxname)?;
        if !self.flags.is_empty() {
            write!(f, ": other flags for {}", self.flags.len())?;
        }
        if self.wanted.is_some() && self.flags.is_empty() {
            write!(f, ": {} come back", self.back.len())?;
        }
        if self.other_uids {
            write!(f, ", known by content, for the UIDVALIDITY is another")?;
        }
        let renumbered = self.renumbered();
        for (at, [from, to]) in renumbered.iter().enumerate() {
            let lead = if at == 0 { ", with new UIDs " } else { ", " };
            write!(f, "{lead}{}->{}", range(*from), range(*to))?;
        }
        Ok(())
    }
}

fn range((first, last): (Uid, Uid)) -> String {
    if first == last { first.to_string() } else { format!("{first}:{last}") }
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Brake::OtherIdentity { mailbox, wanted, there } => write!(
                f,
                "{mailbox} is another mailbox there: uniqueid {there}, in the snapshot {wanted}"
            ),
        }
    }
}
